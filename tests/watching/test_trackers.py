from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from tests.run_folders import EMPTY, WARMUP, cut_log, entries, log, lost, new_run, picture

from labels4free.errors import ConfigError, RunError
from labels4free.watching.follower import LogFollower


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path / "run")


def follow(run, name):
    """Tell a tracker all that there is, as a process of its own would."""
    follower = LogFollower(run.path, [name])
    follower.catch_up()
    follower.close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tensorboard", r"pip install tensorboard"),
        ("wandb", r"pip install wandb"),
        ("abacus", "Unknown tracker 'abacus'; the trackers are tensorboard, wandb"),
    ],
)
def test_a_tracker_that_is_unknown_or_not_installed(name, said, tmp_path, monkeypatch):
    for module in ("torch.utils.tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=said):
        LogFollower(tmp_path, [name])


# TensorBoard


@pytest.fixture
def shown(run, monkeypatch):
    """What TensorBoard's own reader finds, by attempt."""
    pytest.importorskip("tensorboard", reason="needs the extra: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary.writer import event_file_writer

    seconds = itertools.count(int(time.time()))  # files are read in the order of theirs, which no two processes share
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: next(seconds)))

    def shown(folder="restart_0"):
        whole = {"scalars": 0, "images": 0, "tensors": 0}
        return EventAccumulator(str(run.path / "tensorboard" / folder), size_guidance=whole).Reload()

    return shown


def scalars(events, tag):
    return [(scalar.step, scalar.value) for scalar in events.Scalars(tag)]


def test_tensorboard_shows_the_numbers(run, shown):
    first, *others = entries(70)
    log(run, [{**first, "loss_discriminator": None}, *others])
    follow(run, "tensorboard")
    events = shown()
    (_, what_json_lacks), *finite = scalars(events, "loss/discriminator")
    assert math.isnan(what_json_lacks)
    assert finite == [(i, pytest.approx(i / 100)) for i in range(2, 71)]
    assert scalars(events, "check/inpainting_error") == [(45, pytest.approx(0.4)), (70, pytest.approx(0.4))]
    assert len(scalars(events, "train/accuracy")) == 70


def test_tensorboard_shows_pictures_and_words(run, shown):
    log(run, lost(0, 70))
    drawn = picture(run, 25)
    follow(run, "tensorboard")
    events = shown()
    (image,) = events.Images("masks")
    assert (image.step, image.width, image.height) == (WARMUP + 25, 4, 3)
    assert image.encoded_image_string == drawn.read_bytes()
    for word in ("problem", "lost"):
        (text,) = events.Tensors(f"{word}/text_summary")
        assert text.tensor_proto.string_val == [EMPTY.encode()]


# Each attempt at each member is a run of its own.
SEVERAL = [*lost(0, 70), *entries(30, restart=1), *({**entry, "member": 1} for entry in entries(20))]
LENGTHS = {"restart_0": 70, "restart_1": 30, "member_1/restart_0": 20}


def test_tensorboard_has_a_run_for_each_attempt(run, shown):
    log(run, SEVERAL)
    follow(run, "tensorboard")
    assert {name: len(scalars(shown(name), "train/accuracy")) for name in LENGTHS} == LENGTHS


def test_tensorboard_shows_no_step_twice_after_a_resumption(run, shown):
    log(run, entries(60))
    follow(run, "tensorboard")
    (run.path / "tensorboard" / "restart_0" / "events.out.tfevents.1.other").write_bytes(b"")
    cut_log(run, 50)
    log(run, entries(55, start=50))
    follow(run, "tensorboard")
    assert [step for step, _ in scalars(shown(), "train/accuracy")] == list(range(1, 56))
    assert (run.path / "tensorboard" / "restart_0" / "events.out.tfevents.1.other").exists()  # not ours


def test_a_tensorboard_that_was_open_forgets_what_was_cut_back(run, shown):
    follower = LogFollower(run.path, ["tensorboard"])
    log(run, entries(60))
    follower.catch_up()
    reader = shown()
    assert len(scalars(reader, "train/accuracy")) == 60  # before it is closed
    cut_log(run, 50)
    follower.catch_up()
    reader.Reload()
    assert [step for step, _ in scalars(reader, "train/accuracy")] == list(range(1, 51))
    follower.close()


# Weights & Biases


class FakeWandb:
    """What is used of the package, keeping what it is given."""

    def __init__(self):
        self.sessions = []
        self.server = {}  # steps that the service has, by run id
        self.Settings = dict
        self.Image = lambda path, caption: ("picture", caption)

    def init(self, **options):
        kept = self.server.setdefault(options["id"], [])
        session = SimpleNamespace(options=options, rows=[], summary={}, finished=False)
        session.starting_step = kept[-1] + 1 if kept and options["resume"] else 0

        def take(row, step):
            session.rows.append((step, row))
            kept.append(step)

        session.log = take
        session.finish = lambda: setattr(session, "finished", True)
        self.sessions.append(session)
        return session


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for variable in ("WANDB_PROJECT", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    return fake


def test_wandb_shows_numbers_pictures_and_words(run, wandb):
    log(run, lost(0, 70))
    picture(run, 25)
    follow(run, "wandb")
    (session,) = wandb.sessions
    steps = [step for step, _ in session.rows]
    assert steps == sorted(steps)
    assert set(steps) == set(range(1, 71))
    assert session.rows[0] == (1, {"loss/discriminator": 0.01, "train/accuracy": 0.75})
    assert (45, {"masks": ("picture", "restart_0_step_000025")}) in session.rows
    assert session.summary == {"problem": EMPTY, "lost": EMPTY}
    assert session.finished
    assert session.options["config"] == run.config()
    asked = {"project": "labels4free", "group": "run", "name": "run", "dir": str(run.path)}
    assert session.options.items() >= asked.items()


def test_wandb_has_a_run_for_each_attempt(run, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    log(run, SEVERAL)
    follow(run, "wandb")
    names = ["run", "run restart_1", "run member_1/restart_0"]
    assert [session.options["name"] for session in wandb.sessions] == names
    assert [sorted({step for step, _ in one.rows}) for one in wandb.sessions] == [
        [*range(1, n + 1)] for n in LENGTHS.values()
    ]
    assert all(session.finished for session in wandb.sessions)
    assert {(session.options["group"], session.options["project"]) for session in wandb.sessions} == {("run", "mine")}
    assert len({session.options["id"] for session in wandb.sessions}) == 3


@pytest.mark.parametrize("same_process", [True, False])
def test_wandb_is_shown_nothing_twice_after_a_resumption(run, wandb, same_process):
    log(run, entries(60))
    follower = LogFollower(run.path, ["wandb"])
    follower.catch_up()
    if not same_process:
        follower.close()
        follower = LogFollower(run.path, ["wandb"])
    cut_log(run, 50)
    follower.catch_up()
    log(run, entries(66, start=50))
    follower.catch_up()
    follower.close()
    assert [step for session in wandb.sessions for step, _ in session.rows] == list(range(1, 67))
    assert len({session.options["id"] for session in wandb.sessions}) == 1
    assert len(wandb.sessions) == (1 if same_process else 2)


def test_wandb_asks_the_server_what_it_has_after_a_kill(run, wandb):
    log(run, entries(60))
    follow(run, "wandb")
    note = run.path / "wandb" / "labels4free.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "seen": [0, 0, 40]}))  # killed before it was noted
    log(run, entries(66, start=60))
    follow(run, "wandb")
    assert [step for step, _ in wandb.sessions[1].rows] == list(range(61, 67))


def test_wandb_says_that_its_note_is_damaged(run, wandb):
    log(run, entries(1))
    (run.path / "wandb").mkdir()
    (run.path / "wandb" / "labels4free.json").write_text("{")
    with pytest.raises(RunError, match=r"^wandb failed \(.*\); the run itself is not concerned\.$"):
        follow(run, "wandb")


def test_wandb_begins_no_session_where_there_is_nothing_new(run, wandb):
    log(run, lost(0, 70))
    picture(run, 25)
    follow(run, "wandb")
    follow(run, "wandb")
    assert len(wandb.sessions) == 1


_OFFLINE = """
import sys
from pathlib import Path
for log in sys.argv[2:]:
    Path(log).replace(Path(sys.argv[1], "log.jsonl"))
    follower = LogFollower(Path(sys.argv[1]), ["wandb"])
    follower.catch_up()
    follower.close()
"""


def test_the_package_itself_without_a_network(run, tmp_path):
    pytest.importorskip("wandb", reason="needs the extra: pip install wandb")
    folders = {f"WANDB_{what}_DIR": str(tmp_path / what) for what in ("CONFIG", "CACHE", "DATA")}
    environment = {**os.environ, **folders, "WANDB_MODE": "offline"}
    picture(run, 25)
    logs = [str(tmp_path / name) for name in ("before", "resumed")]
    for path, stop in zip(logs, (60, 66), strict=True):
        log(run, entries(stop))
        run.log_path.rename(path)
    command = [sys.executable, "-c", _OFFLINE, str(run.path), *logs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps, names = [], set()
    for path in sorted(run.path.glob("wandb/offline-run-*/run-*.wandb")):
        rows = offline_rows(path)
        steps += [int(row["_step"]) for row in rows]
        names |= {name for row in rows for name in row}
    assert steps == list(range(1, 67))
    assert {"loss/discriminator", "train/accuracy", "check/inpainting_error", "masks/path"} <= names


def offline_rows(path):
    """The rows of a run's file: a log of LevelDB's kind (blocks of 32 KiB, records of one or more pieces)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, pieces, rows = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (rest := 32768 - at % 32768) < 7:
            at += rest
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        pieces += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            record = Record.FromString(pieces)
            if record.WhichOneof("record_type") == "history":
                rows.append({i.key or "/".join(i.nested_key): i.value_json for i in record.history.item})
            pieces = b""
    return rows
