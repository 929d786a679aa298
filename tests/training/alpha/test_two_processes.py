"""Two processes train what one process trains: the same batches, losses and weights, and restarts and resumes alike."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from tests.tiny import tiny_generator, tiny_stylegan2
from tests.tiny_paper import CHANNELS, paper_config, paper_trainer
from tests.tiny_run import STEPS, TOTAL, WARMUP, any_masks_serve, assert_same, outcome, tiny_config
from tests.two_processes import Pair, results

from labels4free.errors import ConfigError
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha import feature_cache as cache_module
from labels4free.training.alpha.feature_cache import build_cache
from labels4free.training.alpha.paper_recipe import PaperRecipe
from labels4free.training.alpha.run import CachedRecipe, train_alpha_network
from labels4free.training.alpha.trainer import AlphaTrainer
from labels4free.training_loop import distributed
from labels4free.training_loop.distributed import PeerLostError, ProcessGroup
from labels4free.training_loop.run_dir import RunDir

ALONE = ProcessGroup()
AUGMENTATION = {"mode": "adaptive", "target": -0.9, "length": 200, "interval": 1, "rotate": True}  # rises at once
CONFIG = tiny_config(batch_size=8)  # two groups of four: a process has one of them
ADAPTIVE = dataclasses.replace(
    CONFIG, augmentation=dataclasses.replace(CONFIG.augmentation, **AUGMENTATION), monitor=CONFIG.monitor
)
NEAR = {"rtol": 1e-3, "atol": 1e-4}


# Trainers


def replay(group, folder, config):
    generator = tiny_generator()
    network = MergeNetwork(generator.feature_specs, 64, width=config.alpha.width)
    cache, _ = build_cache(generator, network.levels, config, Path(folder))
    return AlphaTrainer(cache, cache.projection.network_like(network), config)


def replay_steps(group, folder, config, steps):
    trainer = replay(group, folder, config)
    logs = [trainer.step() for _ in range(steps)]
    return logs, copy.deepcopy(trainer.state_dict())


def paper_steps(group, changes, steps):
    trainer = paper_trainer(tiny_stylegan2(channels=CHANNELS), **changes)
    logs = [trainer.step() for _ in range(steps)]
    return logs, copy.deepcopy(trainer.state_dict())


def assert_near(found, expected):
    logs, state = found
    assert [entry.keys() for entry in logs] == [entry.keys() for entry in expected[0]]
    for ours, theirs in zip(logs, expected[0], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    for part in ("network", "average", "discriminator"):
        torch.testing.assert_close(state[part], expected[1][part], **NEAR)
    assert state.get("augmenter") == expected[1].get("augmenter")


@pytest.mark.parametrize("config", [CONFIG, ADAPTIVE], ids=["plain", "augmented"])
def test_the_replay_recipe(pair, tmp_path, monkeypatch, config):
    monkeypatch.setattr(cache_module, "_CHUNK", 5)
    expected = replay_steps(ALONE, tmp_path / "one", config, WARMUP + 5)
    first, second = results(pair(replay_steps, tmp_path / "two", config, WARMUP + 5))
    assert_near(first, expected)
    assert "r1" in first[0][-2] or "r1" in first[0][-1]
    assert first[0] == second[0]
    for part in ("network", "average", "discriminator"):
        torch.testing.assert_close(first[1][part], second[1][part], rtol=0, atol=0)


def test_the_batch_has_one_coverage(pair, tmp_path):
    """Just enough foreground in the whole batch, not in each half of it: the term must not pull in either process."""
    logs, _ = replay_steps(ALONE, tmp_path, CONFIG, WARMUP + 1)
    loss = dataclasses.replace(
        CONFIG.loss, min_foreground_coverage=logs[-1]["foreground_ratio"] - 1e-6, coverage=1000.0
    )
    config = dataclasses.replace(CONFIG, loss=loss)
    expected = replay_steps(ALONE, tmp_path, config, WARMUP + 1)
    first, _ = results(pair(replay_steps, tmp_path, config, WARMUP + 1))
    assert_near(first, expected)


@pytest.mark.parametrize(
    "changes", [{}, {"augmentation": AUGMENTATION, "faithful": True}], ids=["plain", "augmented and faithful"]
)
def test_the_published_recipe(pair, changes):
    changes = changes | {"accumulation": 4}
    expected = paper_steps(ALONE, changes, 4)
    first, second = results(pair(paper_steps, changes, 4))
    assert_near(first, expected)
    assert [("r1" in entry) for entry in first[0]] == [True, False, True, False]
    assert first[0] == second[0]


def breaks_in_one(group, folder, recipe):
    if recipe == "replay":
        trainer = replay(group, folder, CONFIG)
        broken = trainer.cache.images
    else:
        trainer = paper_trainer(tiny_stylegan2(channels=CHANNELS))
        broken = trainer.generator.constant
    trainer.step()
    before = {name: copy.deepcopy(value) for name, value in trainer.discriminator.state_dict().items()}
    if group.rank == 1:
        broken.fill_(math.nan)
    try:
        trainer.step()
    except FloatingPointError as error:
        untouched = all(torch.equal(x, before[name]) for name, x in trainer.discriminator.state_dict().items())
        return str(error), untouched
    return "nothing", False


@pytest.mark.parametrize("recipe", ["replay", "paper"])
def test_a_loss_that_is_no_number_in_one_stops_both_before_they_move(pair, tmp_path, recipe):
    sentence = "The discriminator's loss is not finite (nan)"
    assert results(pair(breaks_in_one, tmp_path, recipe)) == [(sentence, True)] * 2


# Runs


def trained(group, out, config=None, stop=None, lost=(), **options):
    """Train; ``stop`` is (rank, iteration, signal): it comes there, while that step is done."""
    step, check = AlphaTrainer.step, AlphaTrainer.check

    def stepping(self):
        if stop and (group.rank, self.iteration) == stop[:2]:
            os.kill(os.getpid(), stop[2])
        return step(self)

    def checking(self, *args):
        assert group.is_main
        health = check(self, *args)
        wrong = self.restart in lost and self.alpha_step == 4
        return dataclasses.replace(health, problem="the masks are empty") if wrong else health

    with pytest.MonkeyPatch.context() as patch:
        any_masks_serve(patch)
        patch.setattr(AlphaTrainer, "step", stepping)
        patch.setattr(AlphaTrainer, "check", checking)
        patch.setattr(cache_module, "_CHUNK", 5)
        return train_alpha_network(tiny_generator(), out, config, generator_name="tiny", **options)


@pytest.fixture(scope="module")
def whole(pair, tmp_path_factory):
    """What an uninterrupted run of two processes leaves."""
    out = tmp_path_factory.mktemp("whole") / "run"
    first, second = results(pair(trained, out, CONFIG))
    assert (first.steps, second.steps) == (TOTAL, TOTAL)
    return {"result": first, **outcome(out)}


def test_a_run_of_two_is_that_of_one(whole, tmp_path):
    alone = trained(ALONE, tmp_path / "run", CONFIG)
    log, ours = (RunDir(result.file.parent).read_log() for result in (alone, whole["result"]))
    assert [entry.keys() for entry in ours] == [entry.keys() for entry in log]
    for one, two in zip(log, ours, strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4)
    assert whole["result"].check.numbers["foreground_ratio"] == pytest.approx(
        alone.check.numbers["foreground_ratio"], abs=1e-4
    )
    assert set(whole["pictures"]) == set(outcome(tmp_path / "run")["pictures"])


@pytest.mark.parametrize(("rank", "iteration"), [(0, 1), (1, WARMUP + 2)])
def test_a_signal_to_one_stops_both_after_the_same_step(pair, whole, tmp_path, rank, iteration):
    out = tmp_path / "run"
    stopped = results(pair(trained, out, CONFIG, (rank, iteration, signal.SIGTERM)))
    assert [(r.interrupted, r.steps) for r in stopped] == [("SIGTERM", iteration + 1)] * 2
    assert RunDir(out).latest_checkpoint().step == iteration + 1
    finished = results(pair(resumed, out))
    assert [r.steps for r in finished] == [TOTAL] * 2
    assert_same(out, whole)
    again = results(pair(resumed, out))
    assert [r.file for r in again] == [out / "alpha.safetensors"] * 2


def resumed(group, out, resume="auto"):
    return trained(group, out, resume=resume)


def test_a_process_that_is_killed_ends_the_run_and_it_goes_on_the_same(pair, whole, tmp_path):
    out = tmp_path / "run"
    with Pair() as doomed:
        lost, dead = doomed(trained, out, CONFIG, (1, WARMUP + 4, signal.SIGKILL))
    assert dead is None
    assert type(lost) is PeerLostError
    assert RunDir(out).latest_checkpoint().step == 5
    results(pair(resumed, out))
    assert_same(out, whole)


def stopped_while_rendering(group, out, rank):
    render = cache_module._render

    def rendering(*args):
        if group.rank == rank:
            signal.raise_signal(signal.SIGTERM)
        return render(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_module, "_render", rendering)
        return trained(group, out, CONFIG)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_while_rendering_stops_both(pair, whole, tmp_path, rank):
    out = tmp_path / "run"
    for stopped in results(pair(stopped_while_rendering, out, rank)):
        assert (stopped.interrupted, stopped.steps, stopped.total) == ("SIGTERM", 0, TOTAL)
    results(pair(resumed, out))
    assert_same(out, whole)


def lost_once(group, out):
    return trained(group, out, CONFIG, lost=(0,))


def test_both_start_over_together(pair, tmp_path):
    out = tmp_path / "run"
    for result in results(pair(lost_once, out)):
        assert result.restarts == 1
    log = RunDir(out).read_log()
    assert [entry["iteration"] for entry in log if "lost" in entry] == [WARMUP + 4]
    assert log[-1]["step"] == STEPS


# The cache


def rendered(group, folder, own):
    """Which samples this process rendered, and a digest of what it has then."""
    seen = []
    render = cache_module._render

    def rendering(*args):
        seen.append(args[4])
        return render(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_module, "_render", rendering)
        patch.setattr(cache_module, "_CHUNK", 5)
        trainer = replay(group, f"{folder}/{group.rank}" if own else folder, CONFIG)
    return seen, trainer.cache.images, trainer.cache.levels


def test_rendering_is_shared(pair, tmp_path):
    (first, *ours), (second, *theirs) = results(pair(rendered, tmp_path, False))
    assert first == [*range(12, 20), *range(5, 10)]  # the previews, and every second chunk of five
    assert second == [*range(5), *range(10, 12)]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    _, *alone = rendered(ALONE, tmp_path / "alone", False)
    torch.testing.assert_close(ours, alone, rtol=0, atol=0)


def test_processes_that_see_different_folders_render_what_they_miss(pair, tmp_path):
    (first, *ours), (second, *theirs) = results(pair(rendered, tmp_path, True))
    assert sorted(first) == sorted(second) == list(range(20))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


# What cannot be shared


@pytest.fixture
def processes(monkeypatch):
    """Have this process be the first of so many."""
    return lambda count: monkeypatch.setattr(distributed, "_group", ProcessGroup(0, count))


def test_batches_that_cannot_be_shared(tiny_generator, processes):
    processes(3)
    with pytest.raises(ConfigError, match="A batch of 8 images cannot be shared evenly by 3 processes; set batch_size"):
        CachedRecipe(tiny_generator, CONFIG)


@pytest.mark.slow
def test_micro_batches_that_cannot_be_shared(processes):
    generator = tiny_stylegan2(channels=CHANNELS)
    processes(3)
    with pytest.raises(ConfigError, match="The 4 micro-batches of a step cannot be shared evenly by 3 processes; set "):
        PaperRecipe(generator, paper_config(accumulation=4))


def test_batches_too_small_for_the_same_groups_are_warned_of(tiny_generator, caplog, processes):
    processes(2)
    CachedRecipe(tiny_generator, CONFIG)
    assert caplog.messages == []
    processes(4)
    CachedRecipe(tiny_generator, CONFIG)
    (said,) = caplog.messages
    assert said.startswith("With 2 images a process the discriminator compares 2 at a time, and in a single process 4")
    assert said.endswith("with a batch_size of 16 it would not.")
