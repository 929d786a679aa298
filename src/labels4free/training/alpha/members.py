"""The members of a run: networks trained one after the other on the same cached features, and their consensus."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free.training.alpha.consensus import Consensus, distill, find_consensus
from labels4free.training_loop.contracts import Check
from labels4free.training_loop.loop import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from labels4free.training.alpha.config import TrainConfig
    from labels4free.training.alpha.trainer import AlphaTrainer
    from labels4free.training_loop.loop import Loop

CONSENSUS_PICTURE = "consensus.png"
"""The last picture, where there are several members."""

_log = logging.getLogger(__name__)


class Member(NamedTuple):
    """A network whose training has ended: a member of the ensemble, or a trial; in a checkpoint as a dict.

    Attributes:
        network: State of the network to keep of it, on the CPU; empty where it was given up.
        step: Step of the alpha network that it is of.
        steps: Steps done since its last restart, the warm-up included.
        restarts: How often it was started over.
        numbers: What its check measured.
        problem: What is wrong with it; None if nothing is.
    """

    network: dict[str, Tensor]
    step: int
    steps: int
    restarts: int
    numbers: dict[str, float]
    problem: str | None


class Members:
    """The loop over the members of a run, around the loop over the steps of each.

    Where bounds of coverage are to be tried (:attr:`LossConfig.bounds`), the first networks are trials: one for each
    pair of bounds, with the seed of the first member. That with the highest score is the first member, and its bounds
    are those of the others. A trial that is lost is given up.

    Args:
        config: Settings of the run.
        loop: Its loop, whose checkpoint says which members have ended.
    """

    def __init__(self, config: TrainConfig, loop: Loop[AlphaTrainer]) -> None:
        self.config, self.loop = config, loop
        self.bounds = config.loss.bounds
        self.trials = len(self.bounds) if len(self.bounds) > 1 else 0
        self.ended = [Member(**member) for member in (loop.saved or {}).get("members", [])]
        loop.stage = self._stage()

    def trainers(self, start: Callable[[TrainConfig, int], AlphaTrainer]) -> Iterator[AlphaTrainer]:
        """Yield the trainer before each of its steps, of one member after the other.

        Args:
            start: Makes the trainer of a member, by its settings, and of its restart, from 0 on.
        """
        while True:
            yield from self.loop.trainers(partial(start, self._settings()))
            if self._to_come([*self.ended, self._left({})]) == 0:
                return  # the checkpoint before the end is of the network that moved last
            self.ended.append(self._kept())
            self.loop.next_stage(self._stage())

    def joined(self) -> dict[str, Any]:
        """Put the one member's network in the place of the last one's, or the consensus; returns what to note."""
        loop, ended = self.loop, [*self.ended, self._kept()]
        members = self._members(ended)
        noted: dict[str, Any] = {}
        if self.trials:
            tried = [{"score": m.numbers.get("score"), "problem": m.problem} for m in ended[: self.trials]]
            noted = {"bounds": list(self._bounds(ended)), "trials": tried}
        if len(members) == 1:
            loop.trainer.kept.load_state_dict(members[0].network)
            loop.check = Check(members[0].numbers, members[0].problem)
            return {"kept_step": members[0].step, **noted}
        found = _consensus(loop.trainer, members, self.config)
        kept = ", ".join(str(number) for number in found.kept)
        _log.info("Consensus of members %s, which agree by %.3f.", kept, found.agreement)
        loop.check = loop.trainer.check()
        noted |= {"consensus": list(found.kept), "agreements": list(found.agreements)}
        noted["agreement_members"] = found.agreement
        loop.run.append_log(loop.where() | noted | {"check_score": loop.check.score})
        loop.draw(CONSENSUS_PICTURE)
        checks = [{**m.numbers, "problem": m.problem, "restarts": m.restarts} for m in members]
        return {"kept_step": None, **noted, "kept_steps": [member.step for member in members], "members": checks}

    def _best_trial(self, ended: Sequence[Member]) -> int | None:
        """Number of the trial whose masks score highest; None where all are wrong."""
        sound = [k for k, trial in enumerate(ended[: self.trials]) if trial.problem is None]
        return max(sound, key=lambda k: ended[k].numbers["score"], default=None)

    def _members(self, ended: Sequence[Member]) -> list[Member]:
        """Those of the trained networks that are the run's members: of the trials the best one alone."""
        best = self._best_trial(ended)
        return [*([] if best is None else [ended[best]]), *ended[self.trials :]]

    def _bounds(self, ended: Sequence[Member]) -> tuple[float, float]:
        """Bounds of coverage of the network that comes after these."""
        return self.bounds[len(ended) if len(ended) < self.trials else self._best_trial(ended) or 0]

    def _settings(self) -> TrainConfig:
        """Settings of the network that is trained next."""
        number = 0 if len(self.ended) < self.trials else len(self._members(self.ended))
        return self.config.of_member(number, self._bounds(self.ended))

    def _to_come(self, ended: Sequence[Member]) -> int:
        """How many networks are still to be trained after these."""
        if len(ended) < self.trials:
            return self.config.trainings - len(ended)
        return self.config.members - len(self._members(ended))

    def _stage(self) -> Stage:
        ended = self.ended
        if self.trials and len(ended) == self.trials:
            scores = ", ".join(
                f"{foreground:g} and {background:g}: {trial.problem or format(trial.numbers['score'], '.3f')}"
                for (foreground, background), trial in zip(self.bounds, ended, strict=True)
            )
            _log.info("Scores by the bounds of coverage (foreground and background): %s.", scores)
        return Stage(
            member=len(ended) if self.config.trainings > 1 else None,
            steps=sum(member.steps for member in ended),
            restarts=sum(member.restarts for member in ended),
            steps_to_come=(self._to_come(ended) - 1) * self.config.total_steps(0),
            state={"members": [member._asdict() for member in ended]},
            trial=len(ended) < self.trials,
        )

    def _kept(self) -> Member:
        """What the network whose training has come to its end leaves; its trainer then has that to keep."""
        self.loop.keep()
        state = self.loop.trainer.kept.state_dict()
        return self._left({name: value.detach().cpu().clone() for name, value in state.items()})

    def _left(self, network: dict[str, Tensor]) -> Member:
        trainer, given_up = self.loop.trainer, self.loop.given_up
        step, check = self.loop.to_keep()
        return Member(network, step, trainer.iteration, trainer.restart, check.numbers, given_up or check.problem)


def _consensus(trainer: AlphaTrainer, members: Sequence[Member], config: TrainConfig) -> Consensus:
    """Put the consensus of members in the place of a trainer's average."""
    networks = []
    for member in members:
        networks.append(copy.deepcopy(trainer.kept))
        networks[-1].load_state_dict(member.network)
    alphas = [trainer.held_out_alpha(network) for network in networks]
    consensus = find_consensus(alphas, [member.problem is None for member in members])
    agreed = sorted(consensus.kept, key=lambda k: -consensus.agreements[k])  # the first one is what it begins as
    trainer.average.module = distill([networks[k] for k in agreed], trainer.cache, config)
    return consensus
