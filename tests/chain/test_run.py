from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file
from tests.chain.tiny_chain import RESOLUTION, SETTINGS, write_photos
from tests.folders import content
from tests.refusals import refuses

from labels4free.chain import run as chain_run
from labels4free.chain import stages as chain_stages
from labels4free.chain.budget import Costs
from labels4free.chain.run import Asked, ChainResult, run_chain
from labels4free.chain.stages import STAGES
from labels4free.errors import ConfigError, DataError, RunError
from labels4free.sampling.filters import NO_FILTERS
from labels4free.training.alpha import monitor
from labels4free.training.generator import trainer as generator_trainer
from labels4free.training.segmenter import check as segmenter_check
from labels4free.training.segmenter.rendered_pairs import pair_settings
from labels4free.training_loop.contracts import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMES = [stage.name for stage in STAGES]
COSTS = Costs(**dict.fromkeys(Costs.__dataclass_fields__, 0.001))
ASKED = Asked(RESOLUTION, "10m", settings=SETTINGS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_photos(tmp_path_factory.mktemp("chain") / "photos")
    (folder / "broken.png").write_bytes((folder / "000.png").read_bytes()[:200])  # its header is good
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured, and any masks serve: so few steps make no good ones."""
    monkeypatch.setattr(chain_run, "measure", lambda *_: COSTS)
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: None)
    monkeypatch.setattr(segmenter_check, "_problem", lambda numbers: None)

    def unfiltered(*arguments: Any) -> Any:
        return replace(pair_settings(*arguments), filters=NO_FILTERS)

    monkeypatch.setattr(chain_stages, "pair_settings", unfiltered)


class Recorder:
    """Remembers what was said, and does something when a stage is announced, or its bar first moves."""

    def __init__(self, stage: str = "", act: Callable[[], None] | None = None, *, at_bar: bool = True) -> None:
        self.said: list[str] = []
        self._stage, self._act, self._at_bar = stage, act, at_bar
        self._now = ""

    def say(self, sentence: str, /) -> None:
        self.said.append(sentence)
        if sentence.startswith("["):
            self._now = sentence.split()[1].rstrip(":")
            self._react(at_bar=False)

    @contextmanager
    def bar(self, label: str, before: str | None = None, /) -> Iterator[Any]:
        def update(done: int, total: int, numbers: Any = None, /) -> None:
            if done >= 2:
                self._react(at_bar=True)

        yield update

    def _react(self, *, at_bar: bool) -> None:
        if self._act and self._now == self._stage and at_bar == self._at_bar:
            act, self._act = self._act, None
            act()

    @property
    def stages(self) -> list[str]:
        return [sentence.split()[1].rstrip(":") for sentence in self.said if sentence.startswith("[")]


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def networks(out: Path) -> dict[str, Any]:
    """The weights of what a chain has made, without where they lie."""
    files = [out / f"{name}.safetensors" for name in ("generator/generator", "alpha/alpha", "segmenter")]
    return {file.name: {name: value.numpy().tobytes() for name, value in load_file(file).items()} for file in files}


@pytest.mark.slow
def test_a_chain_goes_on_after_an_interrupt_in_each_stage(photos: Path, tmp_path: Path, quick: None) -> None:
    whole, out = tmp_path / "whole", tmp_path / "a class"
    recorder = Recorder()
    plans: list[Any] = []
    result = run_chain(photos, whole, ASKED, watch=recorder, planned=lambda *told: plans.append(told))
    assert (result.segmenter, result.page) == (whole / "segmenter.safetensors", whole / "index.html")
    assert recorder.stages == NAMES
    assert len(plans) == 1
    assert any("Skipped: " in sentence and "broken.png" in sentence for sentence in recorder.said)
    assert any("images are few for a generator that begins from nothing" in sentence for sentence in recorder.said)

    for number, stage in enumerate(NAMES):
        recorder = Recorder(stage, interrupt, at_bar=stage != "check")
        stopped = run_chain(photos, out, ASKED if number == 0 else None, watch=recorder)
        assert stopped == ChainResult(None, None, stopped.seconds, "SIGINT"), stage
        assert recorder.stages == NAMES[max(0, number - 1) : number + 1], stage
        assert not (out / "index.html").exists()
    recorder = Recorder()
    assert run_chain(photos, out, ASKED, watch=recorder).segmenter == out / "segmenter.safetensors"
    assert recorder.stages == NAMES[-1:]
    assert networks(out) == networks(whole)
    for folder in (
        "pairs/images",
        "pairs/alpha",
        "check",
        "generator/pictures",
        "alpha/pictures",
        "segmenter/pictures",
    ):
        assert content(out / folder) == content(whole / folder), folder
    assert (out / "photos.jpg").read_bytes() == (whole / "photos.jpg").read_bytes()

    # What is done is not done again; what is removed is made again only where something needs it.
    for path in (out / "pairs").rglob("*"):
        if path.is_file():
            path.unlink()
    recorder = Recorder()
    run_chain(photos, out, watch=recorder)
    assert recorder.stages == []
    page = (out / "index.html").read_text()
    words = "Your photos|The generator|The alpha network|The check|The segmenter|Time|How to go on|labels4free segment"
    assert [word for word in words.split("|") if word not in page] == []
    assert page.count("<img ") >= 8


@pytest.mark.slow
def test_measures_and_plans_with_the_networks_that_are_trained(photos: Path, tmp_path: Path) -> None:
    refuses(
        ConfigError,
        r"A budget of 10s is too small.*generator \d+",
        run_chain,
        photos,
        tmp_path / "out",
        Asked(RESOLUTION, "5s", settings=SETTINGS),
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_masks_that_cannot_be_right_stop_the_chain_and_the_page_says_why(
    photos: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: "the masks are empty")
    said = "stops at the stage check: the masks are empty. A new chain .*index.html"
    asked = Asked(RESOLUTION, "10m", settings=[*SETTINGS, "alpha.monitor.grace_steps=99"])
    recorder = Recorder()
    refuses(RunError, said, run_chain, photos, tmp_path / "out", asked, watch=recorder)
    assert recorder.stages == NAMES[:4]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "It has stopped: the masks are empty" in page
    assert "The check" in page
    assert "How to go on" not in page
    recorder = Recorder()
    refuses(RunError, said, run_chain, photos, tmp_path / "out", watch=recorder)
    assert recorder.stages == []


@pytest.mark.slow
def test_a_collapsed_generator_stops_the_chain(
    photos: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    collapsed = Check({"diversity": 0.01, "swd": 1.0, "score": 0.5}, "the generator has collapsed")
    monkeypatch.setattr(generator_trainer, "check_images", lambda *_: collapsed)
    recorder = Recorder()
    said = "stops at the stage generator: the generator has collapsed.*--pretrained"
    refuses(RunError, said, run_chain, photos, tmp_path / "out", ASKED, watch=recorder)
    assert recorder.stages == NAMES[:2]
    assert "The generator" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.slow
def test_an_error_in_a_stage_is_no_end(
    photos: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(chain_run, "STAGES", (STAGES[0], failing(STAGES[1]), *STAGES[2:]))
        refuses(RunError, "stage generator: The disk is full. .*index.html", run_chain, photos, tmp_path / "out", ASKED)
        assert "The disk is full" in (tmp_path / "out" / "index.html").read_text()
    note = json.loads((tmp_path / "out" / "chain.json").read_text())
    assert note["stages"]["prepare"]["done"]
    assert note["stages"]["generator"] | {"seconds": 0, "plan": 0} == {
        "done": False, "problem": None, "seconds": 0, "plan": 0,
    }  # fmt: skip


def failing(stage: Any) -> Any:
    def fail(work: Any) -> Any:
        raise DataError("The disk is full.")

    return chain_run.Stage(stage.name, stage.words, stage.product, stage.needs, fail)


@pytest.fixture
def begun(photos: Path, tmp_path: Path, quick: None) -> Path:
    """A chain that was stopped in its first stage."""
    run_chain(photos, tmp_path / "begun", ASKED, watch=Recorder("prepare", interrupt, at_bar=False))
    return tmp_path / "begun"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(seed=1), "was begun with seed 0, asked for was 1: a chain keeps its plan"),
        (Asked(resolution=32), "with resolution 16, asked for was 32"),
        (Asked(budget="1h"), "with budget 10m, asked for was 1h"),
        (Asked(mirror=True), "with mirror False, asked for was True"),
        (Asked(pretrained="cats.pkl"), "with pretrained none, asked for was cats.pkl"),
        (Asked(settings=["alpha.steps=9"]), "with settings generator.images=32 .*asked for was alpha.steps=9"),
    ],
)
def test_refuses_other_settings_for_a_chain_that_goes_on(photos: Path, begun: Path, asked: Asked, said: str) -> None:
    refuses(RunError, said, run_chain, photos, begun, asked)


def test_refuses_other_photos_for_a_chain_that_goes_on(begun: Path, tmp_path: Path) -> None:
    refuses(RunError, "was begun with photos .*asked for was", run_chain, write_photos(tmp_path / "new"), begun)


def test_the_seeds_and_lengths_are_noted(begun: Path) -> None:
    note = json.loads((begun / "chain.json").read_text())
    assert note["asked"]["seed"] == 0
    assert note["config"]["generator"]["images"] == 32
    assert note["config"]["alpha"]["seed"] != note["config"]["segmenter"]["seed"]
    assert note["stages"]["generator"]["plan"]["words"].startswith("32 images in batches of 4")
    assert note["measured"]["generator_step"] == 0.001


def test_refuses_a_folder_that_is_something_else(photos: Path, tmp_path: Path, quick: None) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    refuses(RunError, "holds no earlier chains from photos", run_chain, photos, tmp_path, ASKED)
    refuses(RunError, "is a file", run_chain, photos, tmp_path / "notes.txt", ASKED)
    for out in (photos, photos / "class"):
        refuses(ConfigError, "where its pictures would count as photos", run_chain, photos, out, ASKED)
    for text in ("{", '{"stages": {}}', "[]"):
        (tmp_path / "chain.json").write_text(text)
        refuses(RunError, "damaged|cannot be read|is not a manifest", run_chain, photos, tmp_path, ASKED)


def test_refuses_before_anything_is_made(photos: Path, tmp_path: Path, quick: None) -> None:
    out = tmp_path / "out"
    few = write_photos(tmp_path / "few", 1)
    refuses(DataError, "has 1 image;", run_chain, few, out, Asked(RESOLUTION))
    refuses(ConfigError, "power of two", run_chain, photos, out, Asked(48))
    refuses(ConfigError, "larger than", run_chain, photos, out, Asked(64))
    refuses(ConfigError, "budget must be a time", run_chain, photos, out, Asked(RESOLUTION, "soon"))
    refuses(ConfigError, "is too small on this machine", run_chain, photos, out, Asked(RESOLUTION, "10s"))
    refuses(ConfigError, "Unknown setting", run_chain, photos, out, Asked(settings=["generator.size=3"]))
    refuses(ConfigError, "Unknown device", run_chain, photos, out, ASKED, device="tpu")
    assert not out.exists()
