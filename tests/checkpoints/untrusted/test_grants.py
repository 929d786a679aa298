from __future__ import annotations

import pytest
import torch

from labels4free.checkpoints.untrusted.grants import (
    MAX_ITEMS,
    MAX_TENSORS,
    Allowance,
    empty_dict,
    is_absent,
    plain_tensor_arguments,
)
from labels4free.checkpoints.untrusted.inert_data import RefusedError


@pytest.mark.parametrize(("kind", "most"), [("data", 1_000_200), ("items", MAX_ITEMS), ("tensors", MAX_TENSORS)])
def test_the_allowance_is_used_up(kind, most):
    allowance = Allowance(100)
    allowance.take(**{kind: most - 1})
    allowance.take(**{kind: 1})
    with pytest.raises(RefusedError, match="far more memory or work than a network of its size needs"):
        allowance.take(**{kind: 1})


def test_attributes():
    state = {"a": 1}
    assert Allowance(0).attributes(state) is state
    for wrong in ({1: "a"}, {"a": 1, None: 2}, [("a", 1)], None):
        with pytest.raises(TypeError):
            Allowance(0).attributes(wrong)


def test_looking_at_the_same_attributes_again_and_again_is_refused():
    allowance, state = Allowance(0), dict.fromkeys(map(str, range(MAX_ITEMS // 4)))
    for _ in range(4):
        allowance.ignore_attributes({}, state)
    with pytest.raises(RefusedError):
        allowance.ignore_attributes({}, state)


def call(name, *arguments):
    return Allowance(0).common_names()[name].call(*arguments)


def test_common_names():
    assert call(("collections", "OrderedDict")) == {}
    assert empty_dict() is not empty_dict()
    assert call(("torch", "Size"), (1, 2)) == (1, 2)
    assert call(("torch", "device"), "cuda", 1) == "cuda:1"
    assert Allowance(0).common_names()["torch", "float16"] is torch.float16


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Size", ((1.0,),)),
        ("Size", ((0,) * 17,)),
        ("Size", ([1],)),
        ("Size", ((True,),)),
        ("device", (1,)),
        ("device", ("cuda", "1")),
    ],
)
def test_wrong_arguments(name, arguments):
    with pytest.raises(TypeError):
        call(("torch", name), *arguments)


def test_absent():
    assert is_absent(None)
    assert is_absent({})
    assert not any(is_absent(value) for value in ({"a": 1}, [], 0, False, torch.zeros(2)))


def test_plain_tensor_arguments():
    plain_tensor_arguments(True, {}, (None,))
    for wrong in ((1, {}, ()), (True, {1: 2}, ()), (True, {}, ({"a": 1},)), (torch.zeros(2), torch.zeros(2), ())):
        with pytest.raises(TypeError):
            plain_tensor_arguments(*wrong)
