from __future__ import annotations

import logging
import math

import pytest
from tests.run_folders import EMPTY, STEPS, WARMUP, cut_log, entries, log, lost, new_run, picture
from tests.tiny_run import SETTINGS, any_masks_serve, assert_same

from labels4free.errors import RunError
from labels4free.training.alpha.run import train_alpha_network
from labels4free.watching import follower as log_follower
from labels4free.watching import trackers
from labels4free.watching.follower import LogFollower, tracking


class Recorder:
    """A tracker that keeps what it is told."""

    def __init__(self, into, run):
        self.into, self.run = into, run
        self.told, self.drawn, self.closed = [], [], 0
        self.fail_at = math.inf

    def log(self, entry):
        if entry.iteration >= self.fail_at:
            raise ConnectionError("the service is down")
        self.told.append(entry)

    def picture(self, entry, path):
        assert entry is self.told[-1] or self.told[-1].step is None
        self.drawn.append((entry.iteration, path.name))

    def close(self):
        self.closed += 1

    def places(self):
        return [(entry.restart, entry.iteration) for entry in self.told]


@pytest.fixture(autouse=True)
def recorders(monkeypatch):
    """Every recorder that was made, in order; they are the tracker `recorder`."""
    made = []

    def make(into, run):
        made.append(Recorder(into, run))
        return made[-1]

    monkeypatch.setitem(trackers.TRACKERS, "recorder", make)
    return made


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path / "run")


@pytest.fixture
def follower(run):
    return LogFollower(run.path, ["recorder"])


@pytest.fixture
def recorder(follower, recorders):
    return recorders[0]


def test_what_is_new_is_told_once(run, follower, recorder):
    follower.catch_up()
    assert recorder.told == []  # there is no log yet
    log(run, entries(30))
    follower.catch_up()
    log(run, entries(50, start=30))
    follower.catch_up()
    follower.catch_up()
    assert recorder.places() == [(0, i) for i in range(1, 51)]
    entry = recorder.told[44]
    assert (entry.member, entry.restart, entry.iteration, entry.problem, entry.lost) == (0, 0, 45, None, None)
    assert entry.numbers["loss_discriminator"] == 0.45
    assert entry.numbers["check_inpainting_error"] == 0.4
    assert "step" not in entry.numbers


@pytest.mark.parametrize(
    ("before", "kept", "after", "told"),
    [
        ([*lost(0, 70), *entries(20, restart=1)], 25, 33, [*range(1, 34)]),  # all of it once more
        (entries(40), 25, 45, [*range(41, 46)]),  # it came to the same place
    ],
)
def test_a_log_that_was_cut_back(run, follower, recorder, before, kept, after, told):
    log(run, before)
    follower.catch_up()
    recorder.told.clear()
    cut_log(run, kept)
    log(run, entries(after, start=kept))
    follower.catch_up()
    assert recorder.places() == [(0, i) for i in told]


def test_problems_and_losses_are_told_in_words(run, follower, recorder):
    log(run, lost(0, 70))
    follower.catch_up()
    assert [(entry.problem, entry.lost) for entry in recorder.told[-2:]] == [(EMPTY, None), (None, EMPTY)]


def test_pictures_come_after_their_entry(run, follower, recorder):
    for step in (0, 25, 50):
        picture(run, step)
    (run.pictures / "contact_sheet.png").write_bytes(b"")
    log(run, entries(WARMUP + 30))
    follower.catch_up()
    assert recorder.drawn == [(20, "restart_0_step_000000.png"), (45, "restart_0_step_000025.png")]
    log(run, entries(WARMUP + 60, start=WARMUP + 30))
    follower.catch_up()
    assert [iteration for iteration, _ in recorder.drawn] == [20, 45, 70]


def test_a_picture_may_come_later_than_its_entry(run, follower, recorder):
    log(run, entries(WARMUP + STEPS))
    follower.catch_up()
    assert recorder.drawn == []
    picture(run, STEPS)
    follower.catch_up()
    follower.catch_up()
    assert recorder.drawn == [(WARMUP + STEPS, f"restart_0_step_{STEPS:06d}.png")]


def test_pictures_of_each_attempt_come_with_it_or_not_at_all(run, follower, recorder):
    log(run, [*lost(0, 70), *entries(50, restart=1)])
    for restart in (0, 1):
        picture(run, 0, restart)
    follower.catch_up()
    picture(run, 25)  # of an attempt that is over
    follower.catch_up()
    assert recorder.drawn == [(20, "restart_0_step_000000.png"), (40, "restart_1_step_000000.png")]


def test_files_go_where_they_should(run, tmp_path, recorders):
    LogFollower(run.path, ["recorder"])
    LogFollower(run.path, ["recorder"], tmp_path / "other")
    assert [one.into for one in recorders] == [run.path, tmp_path / "other"]
    assert {one.run for one in recorders} == {run.path}


def test_a_tracker_that_fails_is_an_error(run, follower, recorder):
    log(run, entries(30))
    recorder.fail_at = 10
    with pytest.raises(RunError, match=r"^recorder failed \(the service is down\); the run itself is not concerned\.$"):
        follower.catch_up()


def test_or_it_is_left_out(run, recorders, monkeypatch, caplog):
    monkeypatch.setitem(trackers.TRACKERS, "other", trackers.TRACKERS["recorder"])
    follower = LogFollower(run.path, ["recorder", "other"], strict=False)
    recorders[0].fail_at = 10
    log(run, entries(30))
    follower.catch_up()
    follower.close()
    assert recorders[0].places()[-1] == (0, 9)
    assert recorders[1].places()[-1] == (0, 30)
    assert (recorders[0].closed, recorders[1].closed) == (0, 1)
    (said,) = caplog.messages
    assert said.startswith("recorder failed (the service is down) and is left out from here on; training goes on.")
    assert f"labels4free watch {run.path} --track recorder --into DIR" in said


# beside a training


def test_tracking_nothing_changes_nothing(tmp_path):
    def progress(*_):
        raise AssertionError

    with tracking(tmp_path, [], progress) as told:
        assert told is progress


def test_tracking_follows_a_training_and_does_not_change_it(tiny_generator, tmp_path, monkeypatch, recorders, whole):
    any_masks_serve(monkeypatch)
    heard = []
    with tracking(tmp_path / "run", ["recorder"], lambda *x: heard.append(x), interval=0) as progress:
        train_alpha_network(tiny_generator, tmp_path / "run", SETTINGS, generator_name="tiny", progress=progress)
        halfway = recorders[0].places()
    assert len(halfway) == sum(numbers is not None for *_, numbers in heard)
    assert recorders[0].places() == halfway
    assert len(recorders[0].drawn) == len(list((tmp_path / "run" / "pictures").iterdir()))
    assert recorders[0].closed == 1
    assert_same(tmp_path / "run", whole)


def test_an_error_of_the_training_passes_and_the_rest_is_told(run, recorders):
    log(run, entries(5))

    def train():
        with tracking(run.path, ["recorder"]) as progress:
            progress(5, 120, {})
            log(run, entries(7, start=5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert recorders[0].places()[-1] == (0, 7)
    assert recorders[0].closed == 1


def test_the_log_is_looked_at_from_time_to_time_and_not_while_rendering(run, recorders, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(log_follower.time, "monotonic", lambda: clock[0])
    log(run, entries(1))
    seen = []
    with tracking(run.path, ["recorder"], interval=2) as progress:
        progress(1, 1024)
        assert recorders[0].told == []
        for i, clock[0] in enumerate((100.0, 101.0, 102.0, 103.0), start=1):
            progress(1, 120, {})
            seen.append(len(recorders[0].told))
            log(run, entries(i + 1, start=i))
        assert seen == [1, 1, 3, 3]


def test_a_log_that_cannot_be_read_does_not_stop_a_training(run, caplog):
    run.log_path.mkdir()
    with tracking(run.path, ["recorder"]) as progress, caplog.at_level(logging.WARNING):
        progress(1, 120, {})
    assert "cannot be read" in caplog.messages[0]
