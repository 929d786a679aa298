"""Run a chain in its folder: plan it once, do the stages that are not done, write the page."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from labels4free.chain.budget import ENOUGH_IMAGES, divide, parse_duration
from labels4free.chain.config import ChainConfig, chain_config, chosen_names
from labels4free.chain.measure import measure
from labels4free.chain.photos import open_photos_of_class
from labels4free.chain.stages import STAGES, Silence, Stage, Watch, Work
from labels4free.checkpoints.loading import resolve_device
from labels4free.errors import ConfigError, Labels4FreeError, RunError
from labels4free.files import in_full
from labels4free.folders import check_unused, read_json, write_json
from labels4free.pages.from_photos import StageRow, from_photos_report
from labels4free.pages.html import write_report
from labels4free.settings_fields import as_json, build
from labels4free.training_loop.contracts import SEGMENTER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from labels4free.chain.budget import Plan

NOTE, PAGE = "chain.json", "index.html"
FORMAT = 1

_WHAT = "chains from photos"
_DEFAULTS = {"resolution": 64, "budget": "3h", "mirror": False, "pretrained": None, "seed": 0, "settings": []}


@dataclass(frozen=True)
class Asked:
    """What a user asks of a chain; None where a chain that goes on keeps what it has, and a new one has the default.

    Attributes:
        resolution: Side of the generator's images, in pixels; 64.
        budget: Time for everything, such as ``3h``.
        mirror: Mirror every second photo by chance.
        pretrained: Generator to begin with.
        seed: The seeds of all stages follow from it.
        settings: ``STAGE.SECTION.FIELD=VALUE`` strings.
    """

    resolution: int | None = None
    budget: str | None = None
    mirror: bool | None = None
    pretrained: str | None = None
    seed: int | None = None
    settings: Sequence[str] | None = None

    def values(self) -> dict[str, Any]:
        """What was asked for, by name, as JSON values."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return given | ({"pretrained": in_full(self.pretrained)} if self.pretrained else {})


class ChainResult(NamedTuple):
    """How a chain ended.

    Attributes:
        segmenter: File of the segmenter; None if it was interrupted.
        page: The page; None likewise.
        seconds: What it has taken, over all calls.
        interrupted: Name of the signal that stopped it, or None.
    """

    segmenter: Path | None
    page: Path | None
    seconds: float
    interrupted: str | None = None


def run_chain(
    photos: str | Path,
    out: str | Path,
    asked: Asked | None = None,
    *,
    device: str = "cpu",
    watch: Watch | None = None,
    planned: Callable[[Plan, str], None] | None = None,
) -> ChainResult:
    """Go from photos of one class to a segmenter that cuts it out, without any label.

    ``out`` then holds ``chain.json`` (the plan, and what is done), a folder for each stage, ``segmenter.safetensors``
    and ``index.html``. The same call goes on where an earlier one stopped, with the plan of the first one.

    Args:
        photos: A folder of photos of one class, a zip file, an LMDB or WebDataset shards.
        out: The chain's folder: new or empty, or that of an earlier call.
        asked: What the chain shall be like; None for the defaults.
        device: cpu, cuda, cuda:N or mps.
        watch: Told what goes on.
        planned: Called with the plan and the budget's words before anything is made; not when an earlier call goes on.

    Returns:
        How it ended.

    Raises:
        ConfigError: If a setting is out of range, the budget or the photos are too small, or ``out`` lies in them.
        DataError: If there are too few photos, or none that can be read.
        RunError: If the folder holds something else or a chain of other settings, or a stage has failed or made
            something that is of no use; the page is then written with what there is.
    """
    photos, out = Path(photos), Path(out)
    resolve_device(device)
    if photos.resolve() in (out.resolve(), *out.resolve().parents):
        raise ConfigError(f"{out} lies in {photos}, where its pictures would count as photos: choose another folder.")
    state = _State.opened(photos, out, (asked or Asked()).values())
    watch = watch or Silence()
    if state is None:
        state = _State.planned(photos, out, (asked or Asked()).values(), device, watch, planned)
    work = Work(photos, out, state.config, device, watch)
    try:
        to_do = state.to_do()
        for number, stage in enumerate(STAGES, start=1):
            if stage in to_do:
                watch.say(f"[{number}/{len(STAGES)}] {stage.name}: {stage.words}")
                if interrupted := state.do(stage, work):
                    return ChainResult(None, None, state.seconds, interrupted)
            state.check(stage)
        page = state.write_page()
    except KeyboardInterrupt:
        return ChainResult(None, None, state.seconds, "SIGINT")
    return ChainResult(out / SEGMENTER.file, page, state.seconds)


class _State:
    """What a chain remembers in its folder between two calls: what was asked, its plan, what is done."""

    def __init__(self, out: Path, values: dict[str, Any]) -> None:
        self.out, self.values = out, values
        self.config = build(ChainConfig, values["config"])

    @classmethod
    def opened(cls, photos: Path, out: Path, asked: Mapping[str, Any]) -> Self | None:
        """The state of an earlier call; None if there was none."""
        path = out / NOTE
        if not path.exists():
            check_unused(out, _WHAT)
            return None
        values = read_json(path, _WHAT)
        try:
            state = cls(out, values)
            earlier = {"photos": values["photos"], **values["asked"]}
            _ = [values["stages"][stage.name]["seconds"] for stage in STAGES]
        except (KeyError, TypeError, Labels4FreeError) as error:
            raise RunError(
                f"{path} is damaged ({error!r}), or of another version: choose another folder with --out."
            ) from error
        for name, value in {"photos": str(photos.resolve()), **asked}.items():
            if value != earlier.get(name):
                raise RunError(
                    f"{out} was begun with {name} {_shown(earlier.get(name))}, asked for was {_shown(value)}: a chain "
                    "keeps its plan; leave that away to go on with it, or choose another folder with --out."
                )
        return state

    @classmethod
    def planned(
        cls,
        photos: Path,
        out: Path,
        asked: Mapping[str, Any],
        device: str,
        watch: Watch,
        told: Callable[[Plan, str], None] | None,
    ) -> Self:
        """Measure, and divide the budget; the folder is made at the end."""
        own: dict[str, Any] = {**_DEFAULTS, **asked}
        budget, settings = parse_duration(own["budget"]), own["settings"]
        narrow = resolve_device(device).type != "cuda"
        names = ("resolution", "mirror", "pretrained", "seed")
        config = chain_config(**{name: own[name] for name in names}, narrow=narrow, settings=settings)
        store = open_photos_of_class(photos, config.generator.resolution)
        watch.say(f"{len(store):,} photos. Measuring what a few steps of each training take on this machine ...")
        costs = measure(store, config, device)
        shares = {stage.name: stage.share for stage in STAGES if stage.share is not None}
        plan = divide(budget, costs, config, len(store), shares, chosen_names(settings))
        if told:
            told(plan, own["budget"])
        images = plan.config.generator.images
        if config.generator.pretrained is None and images < ENOUGH_IMAGES:
            watch.say(
                f"{images:,} images are few for a generator that begins from nothing: it may have no outlines to cut "
                f"along. From {ENOUGH_IMAGES:,} on it had; give a larger --budget, or --pretrained."
            )
        stages: dict[str, Any] = {stage.name: {"done": False, "seconds": 0.0, "problem": None} for stage in STAGES}
        for name, part in plan.stages.items():
            stages[name]["plan"] = part._asdict()
        values = {
            "format": FORMAT,
            "photos": str(photos.resolve()),
            "asked": {**own, "settings": list(settings)},
            "measured": asdict(costs),
            "config": as_json(plan.config),
            "stages": stages,
        }
        state = cls(out, values)
        state.save()
        return state

    @property
    def seconds(self) -> float:
        """What all calls together have taken, measuring included."""
        spent = sum(stage["seconds"] for stage in self.values["stages"].values())
        return float(spent + self.values["measured"]["measuring"])

    def save(self) -> None:
        """Write the note."""
        write_json(self.out / NOTE, self.values)

    def to_do(self) -> list[Stage]:
        """The stages that are left, in order: what is done and removed since counts only where something needs it."""
        left: list[Stage] = []
        for stage in reversed(STAGES):
            own = self.values["stages"][stage.name]
            wanted = not own["done"] or any(stage.name in later.needs for later in left) or stage is STAGES[-1]
            if wanted and not (own["done"] and (self.out / stage.product).exists()):
                left.append(stage)
        return left[::-1]

    def do(self, stage: Stage, work: Work) -> str | None:
        """Do a stage; its time counts over all calls.

        Returns:
            Name of the signal that stopped it, if one did.

        Raises:
            RunError: If it fails.
        """
        own, start = self.values["stages"][stage.name], time.monotonic()
        try:
            ended = stage.work(work)
        except Labels4FreeError as error:
            self.write_page(str(error))
            raise self._error(stage, str(error)) from error
        finally:
            own["seconds"] += time.monotonic() - start
            self.save()
        if ended.interrupted is None:
            own |= {"done": True, "problem": ended.problem}
            self.save()
        return ended.interrupted

    def check(self, stage: Stage) -> None:
        """See that nothing is wrong with what a stage made.

        Raises:
            RunError: If nothing can be made of it.
        """
        if problem := self.values["stages"][stage.name]["problem"]:
            self.write_page()
            raise self._error(stage, problem)

    def write_page(self, problem: str | None = None) -> Path:
        """Write the page of all that there is."""
        measuring = self.values["measured"]["measuring"]
        rows = [StageRow("measure", "what some steps take on this machine", None, measuring)]
        for stage in STAGES:
            own = self.values["stages"][stage.name]
            plan = own.get("plan", {"words": stage.words, "seconds": None})
            rows.append(StageRow(stage.name, plan["words"], plan["seconds"], own["seconds"]))
            problem = problem or own["problem"]
        return write_report(self.out / PAGE, from_photos_report(self.out, rows, self.values["photos"], problem))

    def _error(self, stage: Stage, problem: str) -> RunError:
        return RunError(
            f"The chain stops at the stage {stage.name}: {problem.rstrip('.')}. {_ADVICE.get(stage.name, '')}"
            f"What there is so far: {self.out / PAGE}"
        )


_ADVICE = {
    "generator": "A new chain with a larger --budget, another --seed or --pretrained may do better. ",
    "check": "A new chain with a larger --budget or another --seed may do better; or train alpha networks with other "
    'settings on its generator, by "labels4free train". ',
}


def _shown(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
