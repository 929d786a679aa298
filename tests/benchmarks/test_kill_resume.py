from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest
from tests.tiny_run import SETTINGS, whole_run

_PATH = Path(__file__).parents[2] / "benchmarks" / "kill_resume.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("kill_resume", _PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_resume"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["kill_resume"]


@pytest.fixture
def timeline(bench):
    """Ten seconds of rendering, a file a second, then ten of training, two steps a second."""
    rendering = [(float(k), bench.Position(k + 1, 0)) for k in range(10)]
    return rendering + [(10 + k / 2, bench.Position(10, k + 1)) for k in range(20)]


def test_moments_are_spread_over_the_whole_time(bench, timeline):
    moments = bench.draw_moments(timeline, 20, random.Random(0))
    marks = {position: seconds for seconds, position in timeline}
    times = [marks[moment.position] + moment.delay for moment in moments]
    length = 10 + 16 / 2  # the last steps are left out
    for part, at in enumerate(times):
        assert part * length / 20 <= at <= (part + 1) * length / 20
    assert {moment.position.phase for moment in moments} == {"rendering", "training"}
    assert all(0 <= moment.delay <= 1 for moment in moments)
    assert max(moment.position.lines for moment in moments) <= 20 - bench.MARGIN
    assert bench.draw_moments(timeline, 20, random.Random(0)) == moments
    assert bench.draw_moments(timeline, 20, random.Random(1)) != moments


@pytest.mark.slow
def test_runs_that_differ_in_anything_have_different_outcomes(bench, tiny_generator, tmp_path):
    run = tmp_path / "run"
    whole_run(tiny_generator, run, SETTINGS)
    before = bench.outcome(run)
    assert before == bench.outcome(run)
    for name in ("alpha.safetensors", "log.jsonl", "pictures/restart_0_step_000008.png"):
        data = (run / name).read_bytes()
        (run / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        after = bench.outcome(run)
        assert [before[key] == after[key] for key in before].count(False) == 1, name
        (run / name).write_bytes(data)
    newest = max((run / "checkpoints" / "member_0" / "restart_0").iterdir())
    newest.unlink()
    assert {key for key, digest in bench.outcome(run).items() if digest != before[key]} == {"final checkpoint"}


def test_positions_are_counted_from_the_files(bench, tmp_path):
    training = bench.Training([sys.executable, "-c", "pass"], tmp_path / "run", tmp_path / "errors")
    assert training.process.wait() == 0
    assert training.position() == bench.Position(0, 0)
    (tmp_path / "run" / "cache").mkdir(parents=True)
    for name in ("cache.json", "samples_000000.safetensors", ".samples_000032.safetensors.1-ab.tmp"):
        (tmp_path / "run" / "cache" / name).write_text("")
    assert training.position() == bench.Position(2, 0)
    (tmp_path / "run" / "log.jsonl").write_text("{}\n{}\n{")
    assert training.position() == bench.Position(2, 2)
    assert training.position().phase == "training"
    assert not training.wait_for_work()  # that process has ended
    assert not training.wait_for(bench.Position(99, 99))
