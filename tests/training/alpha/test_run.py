from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny import tiny_generator as build_tiny_generator
from tests.tiny_run import (
    RENDERED,
    SETTINGS,
    STEPS,
    TOTAL,
    WARMUP,
    assert_same,
    content,
    outcome,
    signalling,
    tiny_config,
)

from labels4free.checkpoints.loading import load_alpha_network
from labels4free.checkpoints.native import read_native_header, read_tensors
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import CheckpointError, ConfigError, DataError, RunError
from labels4free.generators.base import sample_z
from labels4free.layered import LayeredGenerator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha import run as alpha_run
from labels4free.training.alpha.feature_cache import PREVIEWS, build_cache
from labels4free.training_loop import loop
from labels4free.training_loop.run_dir import RunDir

# A whole run


def test_what_a_run_leaves(whole):
    result = whole["result"]
    assert whole["files"] == ["alpha.safetensors", "checkpoints", "config.json", "log.jsonl", "pictures"]
    assert sorted(whole["pictures"]) == [f"restart_0_step_{step:06d}.png" for step in (0, 4, 8)]
    assert whole["checkpoint"][0] == TOTAL
    assert (result.steps, result.total, result.restarts, result.interrupted) == (TOTAL, TOTAL, 0, None)
    run = result.file.parent
    checkpoints = run / "checkpoints" / "member_0" / "restart_0"
    assert sorted(p.name for p in checkpoints.iterdir()) == [f"step_{k:06d}.pt" for k in (5, 10, TOTAL)]


def test_config_of_the_run(whole, tiny_generator):
    config = json.loads((whole["result"].file.parent / "config.json").read_text())
    generator_hash = state_hash(tiny_generator)
    assert config == {
        "format": 2,
        "generator": {"name": "tiny", "family": "mobile_stylegan", "state_hash": generator_hash},
        "recipe": "replay",
        "train": SETTINGS.to_json(),
    }


def test_log_of_the_run(whole):
    log = [json.loads(line) for line in whole["log"].splitlines()]
    assert [entry["iteration"] for entry in log] == list(range(1, TOTAL + 1))
    assert [entry["step"] for entry in log] == list(range(1 - WARMUP, STEPS + 1))
    assert {entry["restart"] for entry in log} == {0}
    assert [entry["step"] for entry in log if "loss_adversarial" in entry] == list(range(1, STEPS + 1))
    assert [entry["step"] for entry in log if "check_center_bias" in entry] == [4, 8]
    numbers = [v for entry in log for v in entry.values()]
    assert all(math.isfinite(value) for value in numbers)
    health = whole["result"].check
    assert {f"check_{name}": value for name, value in health.numbers.items()}.items() <= log[-1].items()


def test_pictures_show_four_columns_of_every_preview(whole):
    run = whole["result"].file.parent
    for path in sorted((run / "pictures").iterdir()):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        cell = 64  # the previews of this generator
        assert pixels.shape[0] > PREVIEWS * cell
        assert pixels.shape[1] > 4 * cell
        assert pixels.std() > 20


def test_a_slow_run_draws_every_ten_minutes_between_its_pictures(train, tmp_path, monkeypatch):
    seconds = itertools.count(0, 250)  # between two looks at the clock: one a step, one a picture
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    train(config=tiny_config(picture_interval=100))
    steps = [int(path.stem[-6:]) for path in sorted((tmp_path / "run" / "pictures").iterdir())]
    assert steps == [0, 3, 6, 8]  # the first, every third, and the last


def test_progress_tells_of_samples_then_of_steps(train):
    seen = []
    train(progress=lambda *state: seen.append(state))
    rendered = [state for state in seen if len(state) == 2]
    steps = [state for state in seen if len(state) == 3]
    assert seen == rendered + steps
    assert [done for done, _ in rendered] == list(range(1, RENDERED + 1))
    assert [(done, total) for done, total, _ in steps] == [(k, TOTAL) for k in range(1, TOTAL + 1)]
    assert all("loss_discriminator" in numbers for *_, numbers in steps)


def test_the_generator_is_not_touched(train):
    generator = build_tiny_generator()
    before = state_hash(generator)
    train(generator=generator)
    assert state_hash(generator) == before
    assert list(generator.parameters()) == []
    assert all(buffer.grad is None for buffer in generator.buffers())


def test_the_average_is_what_is_saved(whole, tiny_generator, tmp_path):
    run = whole["result"].file.parent
    state = RunDir(run).latest_checkpoint().state
    levels = MergeNetwork(tiny_generator.feature_specs, 64).levels
    projection = build_cache(tiny_generator, levels, SETTINGS, tmp_path)[0].projection
    network = MergeNetwork(projection.specs(tiny_generator.feature_specs), 64, width=SETTINGS.alpha.width)
    saved = read_tensors(run / "alpha.safetensors", "alpha_network")
    folded = {}
    for name in ("average", "network"):
        network.load_state_dict(state[name])
        folded[name] = projection.fold(network, tiny_generator.feature_specs).state_dict()
    assert saved.keys() == folded["average"].keys()
    assert all(torch.equal(saved[name], value) for name, value in folded["average"].items())
    assert not all(torch.equal(saved[name], value) for name, value in folded["network"].items())


def test_the_finished_network_serves_the_generator(whole, tiny_generator):
    run = whole["result"].file.parent
    network = load_alpha_network(run)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    image = LayeredGenerator(tiny_generator, network)(tiny_generator.map(sample_z(8, 3, 0)[None]))
    assert image.alpha.shape == (1, 1, 64, 64)
    assert image.alpha.std() > 1e-4
    info = read_native_header(run / "alpha.safetensors").info
    assert info["generator"]["state_hash"] == state_hash(tiny_generator)
    assert info["generator"]["name"] == "tiny"
    assert info["train"] == SETTINGS.to_json()
    assert info["restarts"] == 0
    assert info["health"] == whole["result"].check.numbers


def test_the_same_run_twice_is_the_same_to_the_bit(train, whole, tmp_path):
    torch.manual_seed(12345)
    train()
    assert_same(tmp_path / "run", whole)


def test_another_seed_is_another_run(train, whole, tmp_path):
    train(config=dataclasses.replace(SETTINGS, seed=1))
    found = outcome(tmp_path / "run")
    assert found["log"] != whole["log"]
    assert found["alpha"] != whole["alpha"]


def test_a_shared_cache_stays_and_is_not_rendered_again(train, tmp_path, monkeypatch):
    generator = build_tiny_generator()
    shared = tiny_config(cache={"folder": str(tmp_path / "cache"), "seed": 0})
    train(config=shared, generator=generator)
    before = content(tmp_path / "cache")
    assert before
    assert not (tmp_path / "run" / "cache").exists()
    monkeypatch.setattr(generator, "synthesize", None)
    train("other", dataclasses.replace(shared, seed=7), generator)
    assert content(tmp_path / "cache") == before


# Real images


@pytest.fixture
def photos(tmp_path):
    """Five images, one that is damaged behind its header, one that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(5):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    data = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(data[: len(data) // 2])
    (folder / "none.jpg").write_text("no image")
    return folder


def test_a_folder_of_real_images(train, photos, tmp_path, whole, caplog, tiny_generator):
    config = dataclasses.replace(SETTINGS, data=str(photos))
    with caplog.at_level(logging.WARNING, "labels4free"):
        train(config=config)
    assert "Skipped 1 image file(s)" in caplog.text
    assert "none.jpg" in caplog.text
    assert "3.png" in caplog.text
    found = outcome(tmp_path / "run")
    assert found["alpha"] != whole["alpha"]
    train("stopped", config, progress=signalling(signal.SIGINT, iteration=6))
    train("stopped", None, resume=True)
    assert_same(tmp_path / "stopped", {"result": None, **found})


@pytest.mark.parametrize(("folder", "sentence"), [("none", "does not exist"), ("empty", "no image files in it")])
def test_no_real_images(train, tmp_path, folder, sentence):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=sentence):
        train(config=dataclasses.replace(SETTINGS, data=str(tmp_path / folder)))
    assert not (tmp_path / "run").exists()


# Refusals


def test_a_resumed_run_keeps_its_settings(train, tmp_path):
    train(progress=signalling(signal.SIGINT, iteration=2))
    before = content(tmp_path / "run")
    other = tiny_config(steps=9, loss={"coverage": 1.5})
    with pytest.raises(ConfigError) as caught:
        train(config=other, resume=True)
    assert str(caught.value) == (
        f"A resumed run keeps its settings; {tmp_path / 'run'} has steps=8 (asked for: 9), "
        f"loss.coverage={SETTINGS.loss.coverage} (asked for: 1.5). Start a new run to change them."
    )
    assert content(tmp_path / "run") == before


@pytest.mark.parametrize(("name", "shown"), [("tiny", "tiny"), (None, r"[0-9a-f]{64}")])
def test_a_run_of_another_generator(train, tmp_path, name, shown):
    train(generator_name=name, progress=signalling(signal.SIGINT, iteration=2))
    before = content(tmp_path / "run")
    with pytest.raises(ConfigError, match=rf"run was started on the generator {shown}, not on the one given\.$"):
        train(config=None, generator=build_tiny_generator(seed=1), resume=True)
    assert content(tmp_path / "run") == before


def test_resumed_without_a_name_the_generator_keeps_its_own(train, whole, tmp_path):
    train(progress=signalling(signal.SIGINT, iteration=2))
    train(config=None, resume=True, generator_name=None)
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_that_holds_another_run(train, tmp_path, finished):
    train(progress=None if finished else signalling(signal.SIGINT, iteration=2))
    before = content(tmp_path / "run")
    with pytest.raises(RunError, match=r"holds a run already: go on with it by --resume, or choose another folder"):
        train(config=dataclasses.replace(SETTINGS, seed=1))
    assert content(tmp_path / "run") == before


def test_a_folder_that_holds_anything_else(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty \(it holds thesis\.txt\) and is no run"):
        train()
    assert content(tmp_path / "run") == {"thesis.txt": b"mine"}


def test_nothing_to_resume(train, tmp_path):
    with pytest.raises(RunError, match="There is no run to resume at"):
        train(resume=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", ["train", "generator"])
def test_a_config_file_that_lacks_something(train, tmp_path, missing):
    train(progress=signalling(signal.SIGINT, iteration=2))
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config[missing]
    path.write_text(json.dumps(config))
    with pytest.raises(RunError, match=rf"config\.json lacks '{missing}'; restore it, or start a new run\."):
        train(config=None, resume=True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"resolution": 128, "discriminator": {"channel_base": 128}}, "choose a power of two of at most 64"),
        (
            {"resolution": 64},
            r"resolution of 64 needs .* reads maps of up to 32; choose a resolution of at most 32, or raise alpha\.",
        ),
        ({"alpha": {"max_resolution": 8}}, r"resolution of 16 .* maps of up to 8; .* alpha\.max_resolution \(now 8\)"),
        ({"alpha": {"min_resolution": 64}}, "No feature map lies between min_resolution=64 and max_resolution=256"),
        (
            {"background": {"mode": "black"}},
            r"background\.mode must be none or one of zero_first_conv, zero_constant, zero_first_block, got black\.",
        ),
    ],
)
def test_settings_that_the_generator_cannot_serve(train, tmp_path, changes, sentence):
    """They are found before anything is made, so that the same folder serves the next try."""
    with pytest.raises(ConfigError, match=sentence):
        train(config=tiny_config(**changes))
    assert not (tmp_path / "run").exists()


def test_a_shared_cache_of_other_settings_is_found_before_the_folder_is_made(train, tmp_path):
    shared = tiny_config(cache={"folder": str(tmp_path / "cache")})
    train(config=shared)
    with pytest.raises(ConfigError, match="of a run with another seed"):
        train("other", dataclasses.replace(shared, seed=1))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_every_resolution_that_the_maps_allow(train, resolution):
    config = tiny_config(resolution=resolution, steps=2, background={"blur": 8})
    assert train(config=config).file is not None


# Finished runs


def test_a_finished_run_is_resumed_at_once(train, whole, tmp_path, monkeypatch):
    train()
    generator = build_tiny_generator()
    monkeypatch.setattr(generator, "synthesize", None)  # calling it would be an error
    monkeypatch.setattr(alpha_run, "build_cache", None)
    before = content(tmp_path / "run")
    for config in (None, SETTINGS):
        again = train(config=config, generator=generator, resume=True)
        assert again == dataclasses.replace(whole["result"], file=tmp_path / "run" / "alpha.safetensors")
    assert content(tmp_path / "run") == before
    with pytest.raises(ConfigError, match="A resumed run keeps its settings"):
        train(config=tiny_config(steps=99), generator=generator, resume=True)


def test_a_finished_run_after_restarts_is_resumed_at_once(train, lost):
    lost.add(0)
    assert train(resume=False) == train(resume=True)


def test_a_finished_run_whose_network_was_deleted_makes_it_again(train, whole, tmp_path):
    train()
    (tmp_path / "run" / "alpha.safetensors").unlink()
    assert train(resume=True).check == whole["result"].check
    assert_same(tmp_path / "run", whole)


def test_a_finished_run_whose_network_is_damaged(train, tmp_path):
    train()
    path = tmp_path / "run" / "alpha.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"alpha\.safetensors is truncated"):
        train(resume=True)
