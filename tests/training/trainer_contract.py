"""What every trainer keeps to: a step depends on state and seed alone, a check changes nothing, a state comes back."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from labels4free.errors import CheckpointError
from labels4free.training_loop.run_dir import state_digest


def advanced(trainer, steps):
    """The trainer, so many steps later."""
    for _ in range(steps):
        trainer.step()
    return trainer


def digests(trainer):
    """A digest of each part of its state."""
    return {name: state_digest(value) for name, value in trainer.state_dict().items()}


class TrainerContract:
    """Inherit it with the fixture ``make``, which starts a trainer: of a restart, and with other settings.

    Attributes:
        ENOUGH: Steps after which all parts have moved.
        VARIANTS: Settings under which a state must come back.
        OTHER: Settings whose state does not fit, and what is said then.
    """

    ENOUGH = 3
    VARIANTS = ({},)
    OTHER = ({}, "")

    def test_three_steps(self, make):
        trainer = make()
        logs = [trainer.step() for _ in range(3)]
        assert (trainer.restart, trainer.iteration) == (0, 3)
        assert trainer.iteration <= trainer.total
        assert all(math.isfinite(number) for numbers in logs for number in numbers.values())

    def test_a_step_depends_on_state_and_seed_alone(self, make):
        torch.manual_seed(1)
        one = make()
        before = torch.get_rng_state()
        advanced(one, self.ENOUGH)
        assert torch.equal(torch.get_rng_state(), before)  # neither drawn from nor seeded
        torch.manual_seed(2)
        assert digests(advanced(make(), self.ENOUGH)) == digests(one)
        for other in ({"seed": 1}, {"restart": 1}):
            changed = digests(advanced(make(**other), self.ENOUGH))
            assert changed["network"] != digests(one)["network"]
            assert changed["average"] != digests(one)["average"]

    def test_a_restored_trainer_goes_on_bit_for_bit(self, make):
        for variant in self.VARIANTS:
            whole = make(restart=1, **variant)
            states, logs = [], []
            for _ in range(whole.total):
                states.append(copy.deepcopy(whole.state_dict()))
                logs.append(whole.step())
            after = [*map(of, states[1:]), digests(whole)]
            for state, log, expected in zip(states, logs, after, strict=True):
                torch.manual_seed(99)
                again = make(restart=state["restart"], **variant)
                again.load_state_dict(state)
                assert digests(again) == of(state)
                assert again.step() == log
                assert digests(again) == expected
            assert again.check() == whole.check()

    def test_the_check_is_of_what_is_kept_and_changes_nothing(self, make):
        trainer = advanced(make(), self.ENOUGH)
        before, rng = digests(trainer), torch.get_rng_state()
        check = trainer.check()
        assert digests(trainer) == before
        assert torch.equal(torch.get_rng_state(), rng)
        assert trainer.check() == check
        assert 0 <= check.score <= 1
        for parameter in trainer.network.parameters():
            parameter.data.fill_(3.0)
        assert trainer.check() == check
        for parameter in trainer.kept.parameters():
            parameter.data.fill_(math.nan)
        assert trainer.check().hopeless

    def test_the_state_of_another_network_is_refused(self, make):
        settings, said = self.OTHER
        with pytest.raises(CheckpointError, match=rf"The checkpoint does not fit this run: .*{said}"):
            make(**settings).load_state_dict(make().state_dict())
        state = make().state_dict()
        state.pop("network")
        with pytest.raises(CheckpointError, match="The checkpoint does not fit this run: 'network'"):
            make().load_state_dict(state)


def of(state):
    """A digest of each part of a state."""
    return {name: state_digest(value) for name, value in state.items()}
