"""The members of a run: networks trained one after the other on the same cached features, and their consensus."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free.training.alpha.consensus import Consensus, distill, find_consensus
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
    """A member of an ensemble whose training has ended; in a checkpoint as a dict.

    Attributes:
        network: State of the network to keep of it, on the CPU.
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

    Args:
        config: Settings of the run.
        loop: Its loop, whose checkpoint says which members have ended.
    """

    def __init__(self, config: TrainConfig, loop: Loop[AlphaTrainer]) -> None:
        self.config, self.loop = config, loop
        self.ended = [Member(**member) for member in (loop.saved or {}).get("members", [])]
        loop.stage = self._stage()

    def trainers(self, start: Callable[[int, int], AlphaTrainer]) -> Iterator[AlphaTrainer]:
        """Yield the trainer before each of its steps, of one member after the other.

        Args:
            start: Makes the trainer of a member and restart, both from 0 on.
        """
        while True:
            yield from self.loop.trainers(partial(start, len(self.ended)))
            if len(self.ended) + 1 == self.config.members:
                return
            self.ended.append(self._left())
            self.loop.next_stage(self._stage())

    def joined(self) -> dict[str, Any]:
        """Put the consensus of the members in the place of the last one's network, check it; returns what to note."""
        loop, members = self.loop, [*self.ended, self._left()]
        found = _consensus(loop.trainer, members, self.config)
        kept = ", ".join(str(number) for number in found.kept)
        _log.info("Consensus of members %s, which agree by %.3f.", kept, found.agreement)
        loop.check = loop.trainer.check()
        noted: dict[str, Any] = {"consensus": list(found.kept), "agreements": list(found.agreements)}
        noted["agreement_members"] = found.agreement
        loop.run.append_log(loop.where() | noted | {"check_score": loop.check.score})
        loop.draw(CONSENSUS_PICTURE)
        checks = [{**m.numbers, "problem": m.problem, "restarts": m.restarts} for m in members]
        return {"kept_step": None, **noted, "kept_steps": [member.step for member in members], "members": checks}

    def _stage(self) -> Stage:
        config, ended = self.config, self.ended
        return Stage(
            member=len(ended) if config.members > 1 else None,
            steps=sum(member.steps for member in ended),
            restarts=sum(member.restarts for member in ended),
            steps_to_come=(config.members - len(ended) - 1) * config.total_steps(0),
            state={"members": [member._asdict() for member in ended]},
        )

    def _left(self) -> Member:
        """What the member whose training has come to its end leaves; its trainer then has the network to keep."""
        step, check = self.loop.keep()
        trainer = self.loop.trainer
        network = {name: value.detach().cpu().clone() for name, value in trainer.kept.state_dict().items()}
        return Member(network, step, trainer.iteration, trainer.restart, check.numbers, check.problem)


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
