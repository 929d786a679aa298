from __future__ import annotations

import argparse
import errno
import os
from collections import OrderedDict

import numpy as np
import pytest
import torch

from labels4free.checkpoints.untrusted.inert_data import (
    MAX_DEPTH,
    PersistentObject,
    RefusedError,
    TensorflowNetwork,
    check_data,
    check_view,
    opened,
)
from labels4free.errors import CheckpointError


@pytest.mark.parametrize(
    ("elements", "offset", "shape", "stride"),
    [
        (6, 0, (2, 3), (3, 1)),
        (6, 0, (3, 2), (1, 3)),
        (6, 5, (), ()),
        (6, 2, [4], [1]),
        (6, 0, (0, 4), (4, 1)),
        (0, 0, (0,), (1,)),
        (6, 6, (0,), (1,)),
        (4, 0, (2, 2), (0, 1)),  # repeats elements, but has no more than the storage
    ],
)
def test_views_that_fit(elements, offset, shape, stride):
    found = check_view(elements, offset, shape, stride)
    assert found == (offset, tuple(shape), tuple(stride))
    torch.empty(0).set_(torch.zeros(elements).untyped_storage(), *found)  # PyTorch agrees


@pytest.mark.parametrize(
    ("elements", "offset", "shape", "stride"),
    [
        (6, 1, (2, 3), (3, 1)),
        (6, 0, (7,), (1,)),
        (6, 0, (2, 3), (4, 1)),
        (6, 6, (), ()),
        (6, 7, (0,), (1,)),
        (4, 0, (10**12,), (0,)),
        (4, 0, (5,), (0,)),
        (4, 0, (2,), (2**47,)),
        (4, 0, (2, 2), (1,)),
        (4, 0, (2,), (1, 1)),
        (4, -1, (2,), (1,)),
    ],
)
def test_views_that_do_not_fit(elements, offset, shape, stride):
    with pytest.raises(RefusedError, match=f"does not fit its storage of {elements} elements"):
        check_view(elements, offset, shape, stride)


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (-1,), (1,)),
        (0, (1,), (-1,)),
        (0, (2**48,), (0,)),
        (0, (1.0,), (1,)),
        (0, (True,), (1,)),
        (0.0, (1,), (1,)),
        (None, (1,), (1,)),
        (0, 1, 1),
        (0, "1", "1"),
        (0, (1,) * 17, (1,) * 17),
    ],
)
def test_views_that_are_none(offset, shape, stride):
    with pytest.raises(RefusedError, match="whose shape or stride is not a list of numbers"):
        check_view(4, offset, shape, stride)


def test_inert_data_pass():
    a, b, c = torch.zeros(1), torch.nn.Parameter(torch.zeros(2)), torch.zeros(3)
    shared = {"a": a, "n": [1, 2.5, "x", b"y", None, True, {"s"}, frozenset(), np.zeros(2)]}
    settings = argparse.Namespace(size=256, device=torch.device("cpu"), kind=torch.float16, shape=torch.Size([1]))
    data = OrderedDict(
        one=shared,
        two=(shared, b),
        net=PersistentObject("G", {"c": c}),
        tf=TensorflowNetwork({"a": a}),
        args=settings,
    )
    check_data(data)


@pytest.mark.parametrize("value", [print, int, object(), torch, lambda: 1, range(3), 1j, torch.nn.Linear(1, 1)])
def test_anything_else_is_refused(value):
    for data in (value, {"a": [value]}, PersistentObject("G", {"a": value}), argparse.Namespace(a=value)):
        with pytest.raises(RefusedError, match="it holds something that is neither a number"):
            check_data(data)


def test_a_subclass_is_not_its_parent():
    class Loud(dict):
        pass

    with pytest.raises(RefusedError):
        check_data([Loud()])


def test_bytes_of_the_file_are_refused():
    with pytest.raises(RefusedError, match="it holds raw bytes outside any tensor"):
        check_data({"a": memoryview(b"abc")})


def test_cycles_are_refused():
    loop: list = []
    loop.append({"a": (1, loop)})
    network = PersistentObject("G", {})
    network.state["self"] = network
    settings = argparse.Namespace()
    settings.me = [settings]
    for data in (loop, network, settings):
        with pytest.raises(RefusedError, match="a container that contains itself"):
            check_data(data)


def test_shared_is_no_cycle():
    part = [1]
    check_data({"a": part, "b": {"c": part, "d": [part, part]}, "e": part})


def test_depth():
    data: list = []
    for _ in range(MAX_DEPTH - 1):
        data = [data]
    check_data(data)
    with pytest.raises(RefusedError, match=f"nested deeper than {MAX_DEPTH} levels"):
        check_data([data])


def test_unfolded_size():
    data: object = 0
    for _ in range(19):
        data = [data, data]
    check_data(data)  # 2 ** 20 - 1 values
    with pytest.raises(RefusedError, match="unfolds to more than"):
        check_data([[data, data]])


def refusal(path):
    with pytest.raises(CheckpointError) as caught, opened(path):
        pass
    return str(caught.value)


def test_files_that_cannot_be_opened(tmp_path):
    assert refusal(tmp_path / "none.pt") == f"There is no checkpoint at {tmp_path / 'none.pt'}."
    assert refusal(tmp_path) == f"{tmp_path} is a folder, expected a checkpoint file."
    (tmp_path / "empty.pt").write_bytes(b"")
    assert refusal(tmp_path / "empty.pt") == f"{tmp_path / 'empty.pt'} is empty; fetch it again."
    os.mkfifo(tmp_path / "pipe.pt")
    assert "is no ordinary file" in refusal(tmp_path / "pipe.pt")
    assert "cannot be read: File name too long" in refusal(tmp_path / ("x" * 300))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def forbidden(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "secret.pt"
    path.write_bytes(b"x")
    monkeypatch.setattr("pathlib.Path.open", forbidden)
    assert refusal(path) == f"{path} cannot be read: Permission denied."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RefusedError("is odd."), "{} is odd."),
        (MemoryError(), "{} needs more memory than there is; use a machine that has more."),
        (OSError(5, "Input/output error"), "{} cannot be read: Input/output error."),
    ],
)
def test_errors_while_reading_name_the_file(tmp_path, error, message):
    path = tmp_path / "a.pt"
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError) as caught, opened(path):
        raise error
    assert str(caught.value) == message.format(path)
