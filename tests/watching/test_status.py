from __future__ import annotations

import dataclasses
import json
import os
import time

import pytest
from tests import run_folders
from tests.run_folders import EMPTY, STEPS, WARMUP, checkpoint, cut_log, entries, log, look, lost, new_run, picture
from tests.tiny_run import content

from labels4free.errors import RunError
from labels4free.training.alpha.config import CacheConfig
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.watching import status as watching
from labels4free.watching.status import RunWatcher, State, runs_in
from labels4free.watching.verdicts import Verdict


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path / "run")


def age(run, seconds):
    """Make every file so much older."""
    for path in run.path.rglob("*"):
        if path.is_file():
            written = path.stat().st_mtime - seconds
            os.utime(path, (written, written))


def cache(run, *starts, folder=None):
    folder = folder or run.path / "cache"
    folder.mkdir(exist_ok=True)
    for start in starts:
        (folder / f"samples_{start:06d}.safetensors").write_bytes(b"")


# what it does


def test_a_run_that_has_just_begun(run):
    status = look(run)
    assert (status.state, status.generator, status.verdict) == (State.RENDERING, "tiny", Verdict.OPEN)
    assert status.progress == (0, 1, 0, 2, 0, WARMUP + STEPS, WARMUP)
    assert (status.checked, status.checks, status.steps, status.files) == (None, (), (), {})
    assert status.rendered == (0, 1024)
    cache(run, 0, 32, 64)
    assert look(run).rendered == (96, 1024)


def test_the_last_chunk_may_be_smaller_and_the_folder_another(tmp_path):
    config = dataclasses.replace(run_folders.SETTINGS, cache=CacheConfig(size=70, folder=str(tmp_path / "shared")))
    run = new_run(tmp_path / "run", config)
    cache(run, 0, 32, 64, folder=tmp_path / "shared")
    status = look(run)
    assert status.rendered == (70, 70)
    assert status.state is State.STARTING


@pytest.mark.parametrize(("done", "state"), [(1, State.WARM_UP), (19, State.WARM_UP), (20, State.TRAINING)])
def test_warm_up_and_training(run, done, state):
    log(run, entries(done))
    status = look(run)
    assert (status.state, status.progress.done, status.rendered) == (state, done, None)


def test_numbers_of_a_run_that_goes_on(run):
    log(run, entries(70))
    drawn, saved = picture(run, 50), checkpoint(run, 50)
    status = look(run)
    assert status.checked == 50
    assert {one.name: one.value for one in status.checks}["inpainting_error"] == 0.4
    assert status.steps[0].name == "accuracy"
    assert {kind: note.path for kind, note in status.files.items()} == {"picture": drawn, "checkpoint": saved}
    assert status.verdict is Verdict.GOOD
    assert not status.over


def test_a_finished_run(run):
    log(run, entries(WARMUP + STEPS))
    (run.path / "alpha.safetensors").write_bytes(b"")
    age(run, 1e6)
    status = look(run)
    assert (status.state, status.over) == (State.FINISHED, True)
    assert (status.speed, status.seconds_left) == (None, None)
    assert status.files["network"].path == run.path / "alpha.safetensors"
    assert status.files["network"].age == pytest.approx(1e6, abs=60)


def test_a_problem_that_the_last_check_found(run):
    log(run, [*entries(44), {**entries(45, foreground_ratio=0.01)[-1], "problem": "the masks are empty"}])
    status = look(run)
    assert (status.problem, status.checked, status.verdict) == ("the masks are empty", 25, Verdict.BAD)
    log(run, entries(70, start=45))
    assert look(run).problem is None


def test_a_run_that_starts_over(run):
    log(run, [*lost(0, 70), *entries(10, restart=1)])
    status = look(run)
    assert status.state is State.WARM_UP
    assert status.progress == (0, 1, 1, 2, 10, 2 * WARMUP + STEPS, 2 * WARMUP)
    assert status.losses == (f"Attempt 1 lost after 70 steps: {EMPTY}",)
    assert (status.problem, status.checked) == (None, None)  # of the attempt before
    assert status.steps[1].history[0] == 0.01


def test_a_run_that_is_lost(run):
    log(run, lost(0, 70))
    status = look(run)  # another attempt is to come
    assert (status.state, status.over) == (State.TRAINING, False)
    log(run, lost(1, 90))
    status = look(run)
    assert (status.state, status.reason, status.over) == (State.LOST, EMPTY, True)
    assert (len(status.losses), status.verdict) == (2, Verdict.BAD)


AGAIN = [*lost(0, 70), *entries(33, restart=1)]


@pytest.mark.parametrize(
    ("logged", "saved", "state"),
    [
        (entries(33), (25, 0), State.TRAINING),
        (entries(33), (33, 0), State.STOPPED),
        (entries(34), (33, 0), State.TRAINING),  # resumed
        (entries(50), (50, 0), State.TRAINING),  # where one is due
        (AGAIN, (33, 0), State.WARM_UP),  # of another attempt
        (AGAIN, (33, 1), State.STOPPED),
    ],
)
def test_an_interrupted_run_leaves_a_checkpoint_between(run, logged, saved, state):
    log(run, logged)
    checkpoint(run, *saved)
    status = look(run)
    assert status.state is state
    assert ("--resume" in (status.reason or "")) == (state is State.STOPPED)


def test_a_silent_run(run):
    log(run, entries(60))
    age(run, 800)
    assert look(run).state is State.TRAINING  # nobody knows how long a step takes
    age(run, 200)
    status = look(run)
    assert (status.state, status.verdict) == (State.SILENT, Verdict.DOUBTFUL)
    assert status.quiet == pytest.approx(1000, abs=30)


def test_silence_is_measured_in_steps(run):
    now = time.time()
    log(run, entries(60))
    checkpoint(run, 50, written=now - 1)  # ten steps a second
    age(run, 150)
    assert look(run).state is State.SILENT
    checkpoint(run, 50, written=now - 150 - 1000)  # a hundred seconds a step
    assert look(run).state is State.TRAINING


def test_rendering_is_a_sign_of_life(run):
    age(run, 1e5)
    assert look(run).state is State.SILENT
    cache(run, 0)
    assert look(run).state is State.RENDERING


def test_a_resumed_run_may_have_to_render_again(run):
    log(run, entries(60))
    age(run, 1e5)
    cache(run, 0, 32)
    status = look(run)
    assert (status.state, status.rendered) == (State.RENDERING, (64, 1024))


# how fast


@pytest.fixture
def clock(monkeypatch):
    """What the watcher's clock shows, as its only element."""
    shown = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: shown[0])
    return shown


def test_speed_at_the_first_look_comes_from_file_times(run):
    now = time.time()
    log(run, entries(60))
    os.utime(run.log_path, (now, now))
    for iteration, before in ((25, 1000), (50, 5)):  # a long pause between them
        checkpoint(run, iteration, written=now - before)
    os.utime(picture(run, 25), (now - 7.5, now - 7.5))  # iteration 45
    status = look(run)
    assert status.speed == pytest.approx(2)
    assert status.seconds_left == pytest.approx(30)


def test_speed_between_two_looks(run, clock):
    watcher = RunWatcher(run.path)
    log(run, entries(30))
    watcher.look()
    clock[0] += 4
    log(run, entries(50, start=30))
    status = watcher.look()
    assert status.speed == pytest.approx(5)
    assert status.seconds_left == pytest.approx(14)
    clock[0] += 1000  # the looks before are too old
    log(run, entries(51, start=50))
    assert watcher.look().speed is None


def test_speed_is_that_of_one_attempt(run, clock):
    watcher = RunWatcher(run.path)
    log(run, entries(3))
    watcher.look()
    clock[0] += 4
    log(run, [*lost(0, 70)[3:], *entries(30, restart=1)])
    assert watcher.look().speed is None


def test_a_growing_log_is_no_silence_whatever_the_clocks_say(run):
    watcher = RunWatcher(run.path)
    log(run, entries(30))
    watcher.look()
    log(run, entries(31, start=30))
    age(run, 1e6)
    status = watcher.look()
    assert status.state is State.TRAINING
    assert status.quiet < 60


def test_file_times_ahead_of_the_clock(run):
    log(run, entries(30))
    picture(run, 0)
    age(run, -5000)
    status = look(run)
    assert status.quiet == status.files["picture"].age == 0


# again and again


def test_looks_go_on_where_the_last_one_ended(run):
    watcher = RunWatcher(run.path)
    log(run, entries(30))
    watcher.look()
    with run.log_path.open("a") as file:
        file.write('{"restart": 0, "itera')
    log_before = run.log_path.read_bytes()
    assert watcher.look().progress.done == 30
    run.log_path.write_bytes(log_before[: log_before.rindex(b"{")])
    log(run, entries(45, start=30))
    _assert_as_at_the_first_look(watcher.look())


def test_a_log_that_was_cut_back(run):
    watcher = RunWatcher(run.path)
    log(run, [*lost(0, 70), *entries(30, restart=1)])
    assert watcher.look().losses
    cut_log(run, 25)
    status = watcher.look()
    assert (status.progress.restart, status.progress.done, status.losses, status.checked) == (0, 25, (), None)
    log(run, entries(26, start=25))
    _assert_as_at_the_first_look(watcher.look())


def _assert_as_at_the_first_look(status):
    """Compare with what a new watcher sees, except for what depends on when one looks."""
    names = ("speed", "seconds_left", "quiet", "files")
    assert status == dataclasses.replace(
        RunWatcher(status.path).look(), **{name: getattr(status, name) for name in names}
    )


def test_nothing_is_ever_written(run, tmp_path):
    log(run, entries(30))
    with run.log_path.open("a") as file:
        file.write("{")
    (run.path / "checkpoints" / ".step_000025.pt.1-ab.tmp").write_bytes(b"")
    before = content(tmp_path)
    for path in (run.path, run.checkpoints):
        path.chmod(0o500)
    try:
        look(run)
    finally:
        for path in (run.path, run.checkpoints):
            path.chmod(0o700)
    assert content(tmp_path) == before


def test_the_published_recipe(tmp_path):
    run = new_run(tmp_path / "run", PaperConfig(steps=50, checkpoint_interval=10), name=None)
    status = look(run)
    assert (status.recipe, status.state, status.progress.total, status.rendered) == (
        "paper",
        State.STARTING,
        50,
        None,
    )
    assert status.generator == "ab" * 6
    log(run, [{**entry, "step": entry["iteration"]} for entry in entries(45)])
    (foreground_ratio,) = [one for one in look(run).checks if one.name == "foreground_ratio"]
    assert foreground_ratio.expected == "at least 0.25 of the picture"


# what is no run


@pytest.mark.parametrize(
    ("first_look", "name", "said"),
    [
        (runs_in, "nowhere", r"There is no run at .*nowhere: no such folder\.$"),
        (runs_in, "file", r"There is no run at .*file: it is a file\.$"),
        (runs_in, "", r"neither a config\.json in it, nor in a folder below it"),
        (RunWatcher, "", r"no config\.json in it"),
    ],
)
def test_no_run_at_all(tmp_path, first_look, name, said):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=said):
        first_look(tmp_path / name)


def test_a_folder_of_runs(tmp_path):
    for name in ("b", "a"):
        new_run(tmp_path / name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    assert runs_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert runs_in(tmp_path / "a") == [tmp_path / "a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 2}', r"config\.json lacks 'recipe'"),
        ('{"format": 2, "recipe": "replay"}', r"config\.json lacks 'train'"),
        ('{"format": 2, "recipe": "replay", "train": {}}', "it lacks 'generator'"),
        ('{"format": 2, "recipe": "replay", "generator": 3, "train": {}}', "is damaged or of a later labels4free"),
        ('{"format": 2, "recipe": "replay", "train": {"stepz": 3}}', "stepz"),
        ('{"format": 2, "recipe": "new", "train": {}}', "recipe must be one of"),
    ],
)
def test_a_damaged_configuration(run, text, said):
    (run.path / "config.json").write_text(text)
    with pytest.raises(RunError, match=said) as error:
        RunWatcher(run.path)
    assert "config.json" in str(error.value)


def test_a_run_of_the_version_before(run):
    (run.path / "config.json").write_text('{"train": {}}')
    with pytest.raises(RunError, match=r"is a run of labels4free 0\.1\.0, which this version cannot go on with"):
        RunWatcher(run.path)


def test_a_damaged_log(run):
    log(run, [{"restart": 0}])
    with pytest.raises(RunError, match=r"Line 1 of .* is no entry of a training log"):
        look(run)


def test_an_older_run_without_settings_that_came_later(run):
    stored = json.loads((run.path / "config.json").read_text())
    del stored["train"]["augmentation"]
    (run.path / "config.json").write_text(json.dumps(stored))
    assert look(run).progress.total == WARMUP + STEPS
