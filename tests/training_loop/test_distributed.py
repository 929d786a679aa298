"""What a group does with one process and with two, and what it says when the others do not come."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from tests.two_processes import Pair, results

from labels4free.errors import ConfigError, DataError, RunError
from labels4free.training_loop import distributed
from labels4free.training_loop.distributed import AlreadySaid, PeerLostError, ProcessGroup, device_of, joined_processes
from labels4free.training_loop.interrupts import Stopped

VARIABLES = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}


@pytest.fixture
def launched(monkeypatch):
    """Set a launcher's variables; None leaves one out."""

    def launched(**changes):
        for name, value in {**VARIABLES, **changes}.items():
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)

    return launched


# One process


def test_one_process_touches_nothing(monkeypatch):
    monkeypatch.setattr(distributed, "dist", None)
    group, x = ProcessGroup(), torch.tensor([1.0, 3.0], requires_grad=True)
    assert (group.rank, group.size, group.is_main, group.launched) == (0, 1, True, False)
    assert group.shard([1, 2, 3]) == [1, 2, 3]
    assert group.shard_batch(x) is x
    assert group.with_common_mean(x) is x
    x.grad = torch.ones(2)
    numbers = {"a": 0.1}
    assert group.average_gradients([x], numbers) == numbers
    assert torch.equal(x.grad, torch.ones(2))
    assert group.sum(3, 4) == (3, 4)
    assert [call(lambda: 5) for call in (group.in_all, group.on_main, group.local_main_first)] == [5, 5, 5]
    group.check_same("colour", "red")


def test_without_a_launcher_there_is_one(launched, monkeypatch):
    launched(WORLD_SIZE=None)
    with joined_processes() as group:
        assert group == ProcessGroup()


def test_a_launcher_of_one_process(launched):
    launched(WORLD_SIZE="1", RANK=None, MASTER_PORT=None)
    with joined_processes() as group:
        assert (group.size, group.launched) == (1, True)


# What a launcher should have set


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number from 1 to 1000000, got 'two'; start the processes "),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be a whole number from 1 to 1000000, got '0'"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE must be a whole number from 1 to 1000000, got '-1'"),
        ({"RANK": None}, "WORLD_SIZE=2 asks for several processes, but RANK is not set; start the processes with"),
        ({"RANK": "²"}, "RANK must be a whole number from 0 to 1000000, got '²'"),
        ({"RANK": "2"}, "RANK must be below WORLD_SIZE, got RANK=2 and WORLD_SIZE=2"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK must be a whole number"),
        ({"MASTER_ADDR": None}, "WORLD_SIZE=2 asks for 2 processes, but MASTER_ADDR is not set"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT must be a whole number from 1 to 65535, got '99999'"),
        ({"MASTER_PORT": None}, "WORLD_SIZE=2 asks for several processes, but MASTER_PORT is not set"),
    ],
)
def test_variables_that_cannot_be(launched, changes, sentence):
    launched(**changes)
    with pytest.raises(RunError) as caught, joined_processes():
        pass
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).endswith("or unset WORLD_SIZE to train in one.")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_others_do_not_come(launched, rank):
    launched(RANK=rank)
    with pytest.raises(RunError) as caught, joined_processes(seconds=1):
        pass
    said = str(caught.value)
    assert said.startswith(f"This is process {rank} of 2 (RANK, WORLD_SIZE), but the others did not come to 127.0.0.1:")
    assert "within 1 s" in said
    assert said.endswith("start all of them, or unset WORLD_SIZE to train in one.")
    assert not torch.distributed.is_initialized()


# Devices


def test_each_process_has_a_device_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    second, third = ProcessGroup(1, 4, 1), ProcessGroup(2, 4, 2)
    assert device_of("cuda", ProcessGroup()) == "cuda"
    assert device_of("cuda:1", ProcessGroup()) == "cuda:1"
    assert device_of("cpu", second) == "cpu"
    assert device_of("cuda", second) == "cuda:1"
    with pytest.raises(ConfigError, match=r"finds only 2 CUDA devices; start as many .*--nproc-per-node 2"):
        device_of("cuda", third)
    for shared in ("cuda:0", "mps"):
        with pytest.raises(ConfigError, match=f"4 processes cannot share the device {shared}: give --device cuda"):
            device_of(shared, second)


# Two processes


def averaged(group):
    weights = [torch.zeros(2, 2, requires_grad=True), torch.zeros(3, requires_grad=True), torch.zeros(1)]
    weights[0].grad = torch.full((2, 2), 1.0 + 2 * group.rank)
    weights[1].grad = torch.tensor([group.rank, 10.0, -group.rank])
    numbers = group.average_gradients(weights, {"loss": float(group.rank), "other": 4.0})
    return [w.grad for w in weights], numbers


def test_gradients_and_numbers_are_averaged(pair):
    for gradients, numbers in results(pair(averaged)):
        assert gradients[0].tolist() == [[2.0, 2.0], [2.0, 2.0]]
        assert gradients[1].tolist() == [0.5, 10.0, -0.5]
        assert gradients[2] is None
        assert numbers == {"loss": 0.5, "other": 4.0}


def of_the_mean(group, x):
    """A function of the mean that is no mean: value, and gradient after averaging."""
    part = group.shard_batch(x).requires_grad_()
    value = torch.relu(0.4 - group.with_common_mean(part).mean()).square()
    (gradient,) = torch.autograd.grad(value, part)
    return value.detach(), gradient / group.size


def test_functions_of_the_common_mean_have_its_gradient(pair):
    x = torch.tensor([0.9, 0.1, -0.3, 0.2])
    whole = x.clone().requires_grad_()
    expected = torch.relu(0.4 - whole.mean()).square()
    (gradient,) = torch.autograd.grad(expected, whole)
    outcomes = results(pair(of_the_mean, x))
    for rank, (value, part) in enumerate(outcomes):
        torch.testing.assert_close(value, expected.detach())
        torch.testing.assert_close(part, gradient[rank::2])


def words(group):
    stopped = group.sum(group.rank, 5)
    lead = group.on_main(lambda: os.environ["RANK"])
    one = group.local_main_first(lambda: f"{group.rank} was here")
    return list(group.shard(range(5))), group.shard_batch(torch.arange(6).view(2, 3), 1).tolist(), stopped, lead, one


def test_shares_sums_and_words(pair):
    first, second = results(pair(words))
    assert first == ([0, 2, 4], [[0, 2], [3, 5]], (1, 10), "0", "0 was here")
    assert second == ([1, 3], [[1], [4]], (1, 10), "0", "1 was here")


def fails_in_one(group, how, who, kind):
    def work():
        if group.rank == who:
            raise kind("the disk is full")

    getattr(group, how)(work)


@pytest.mark.parametrize("kind", [DataError, Stopped])
@pytest.mark.parametrize(("how", "who"), [("in_all", 0), ("in_all", 1), ("on_main", 0), ("local_main_first", 1)])
def test_what_fails_in_one_fails_in_all(pair, how, who, kind):
    outcomes = pair(fails_in_one, how, who, kind)
    assert [str(error) for error in outcomes] == ["the disk is full"] * 2
    kinds = {type(error) for error in outcomes}
    assert kinds == ({DataError, AlreadySaid} if kind is DataError else {Stopped})  # one of them says it


def differ(group):
    group.check_same("settings", "the same")
    group.check_same("generator", f"generator {group.rank}")


def test_processes_that_are_to_do_different_things(pair):
    for error in pair(differ):
        assert isinstance(error, ConfigError | AlreadySaid)
        assert str(error).startswith(
            "The processes of a run need the same generator, but process 1 of 2 has another one than process 0; start"
        )


def gives_up(group):
    if group.rank == 1:
        raise DataError("mine alone")
    group.sum(1)


def test_a_process_that_gives_up_ends_the_other(pair):
    lost, own = pair(gives_up)
    assert (type(own), str(own)) == (DataError, "mine alone")
    assert type(lost) is PeerLostError
    assert str(lost).startswith("Another process of this run has ended or cannot be reached any more (")
    assert str(lost).endswith("); the last checkpoint is good: go on with --resume auto.")


def dies(group):
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    weight = torch.zeros(1000, requires_grad=True)
    weight.grad = torch.ones(1000)
    group.average_gradients([weight], {})


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other():
    with Pair() as pair:
        lost, dead = pair(dies)
    assert dead is None
    assert type(lost) is PeerLostError
