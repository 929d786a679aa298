from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from labels4free.errors import CheckpointError
from labels4free.training.alpha.config import MonitorConfig
from labels4free.training_loop.best import Best
from labels4free.training_loop.contracts import Check

CONFIG = MonitorConfig(interval=100, grace_steps=300, margin=0.01)


def health(score: float, problem: str | None = None) -> Check:
    return Check({"foreground_ratio": 0.4, "score": score}, problem)


def network(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(value)
    return layer


def after(scores: list[float], config: MonitorConfig = CONFIG) -> Best:
    """A check of this score every 100 steps; the network of step s holds s."""
    best = Best(config)
    for k, score in enumerate(scores, 1):
        best.offer(network(100.0 * k), 100 * k, health(score))
    return best


def kept(best: Best) -> float:
    target = network(-1.0)
    best.put_back(target)
    return target.weight.item()


def test_a_score_that_rises_keeps_the_last():
    best = after([0.1, 0.2, 0.3, 0.4, 0.5])
    assert (best.step, kept(best)) == (500, 500)
    assert best.numbers == health(0.5).numbers


def test_a_score_that_falls_by_more_than_the_margin_keeps_the_highest():
    assert after([0.1, 0.2, 0.3, 0.4, 0.3, 0.2]).step == 400
    assert after([0.1, 0.2, 0.3, 0.4, 0.395]).step == 400


def test_within_the_margin_of_the_highest_the_later_one_is_kept():
    assert after([0.1, 0.2, 0.3, 0.4, 0.397, 0.398]).step == 600
    assert after([0.1, 0.2, 0.3, 0.4, 0.397, 0.398], dataclasses.replace(CONFIG, margin=0)).step == 400


def test_many_small_steps_down_do_not_slip_through():
    """The margin counts from the highest score, not from that of the network remembered."""
    assert after([0.1, 0.2, 0.400, 0.397, 0.394, 0.391, 0.388]).step == 400


def test_before_the_grace_is_over_nothing_counts():
    best = after([0.9, 0.9, 0.3])
    assert best.step == 300
    assert after([0.9, 0.9]).step is None


def test_a_check_that_found_something_wrong_does_not_count():
    best = after([0.1, 0.1, 0.3])
    assert not best.offer(network(400.0), 400, health(0.9, "the masks are full"))
    assert (best.step, kept(best)) == (300, 300)
    assert best.offer(network(500.0), 500, health(0.31))


def test_without_any_check_a_network_stays_as_it_is():
    assert kept(Best(CONFIG)) == -1


def test_what_is_remembered_does_not_follow_the_network():
    best, layer = Best(CONFIG), network(3.0)
    best.offer(layer, 300, health(0.3))
    with torch.no_grad():
        layer.weight.fill_(7.0)
    assert kept(best) == 3


@pytest.mark.parametrize(
    ("scores", "exhausted"),
    [
        ([0.1, 0.2, 0.3, 0.3], False),
        ([0.1, 0.2, 0.3, 0.3, 0.3], True),
        ([0.1, 0.2, 0.3, 0.301, 0.302], True),  # better, but not by the margin
        ([0.1, 0.2, 0.3, 0.3, 0.31], False),
        ([0.1, 0.2, 0.3, 0.3, 0.31, 0.31, 0.2], True),
        ([0.5, 0.5], False),  # before the grace is over nothing counts
    ],
)
def test_patience(scores, exhausted):
    assert after(scores, dataclasses.replace(CONFIG, patience=200)).exhausted is exhausted
    assert not after(scores).exhausted


def test_patience_ends_with_a_check_and_not_between_two():
    best = after([0.1, 0.2, 0.3, 0.3], dataclasses.replace(CONFIG, patience=150))
    assert not best.exhausted
    best.offer(network(0.0), 500, health(0.3))
    assert best.exhausted


@pytest.mark.parametrize("count", range(7))
def test_restored_it_goes_on_as_if_it_had_never_stopped(count):
    scores = [0.1, 0.2, 0.3, 0.4, 0.35, 0.397]
    config = dataclasses.replace(CONFIG, patience=200)
    first = after(scores[:count], config)
    second = Best(config)
    second.load_state_dict(first.state_dict())
    for k in range(count, 6):
        second.offer(network(100.0 * (k + 1)), 100 * (k + 1), health(scores[k]))
    whole = after(scores, config)
    assert (second.step, second.numbers, second.exhausted) == (whole.step, whole.numbers, whole.exhausted)
    assert kept(second) == kept(whole)


def test_another_state_is_refused():
    with pytest.raises(CheckpointError, match=r"does not fit this run: its best network lacks 'numbers'\."):
        Best(CONFIG).load_state_dict({"step": 3})
