from __future__ import annotations

import errno
import logging
import os

import pytest
import torch
from safetensors.torch import save_file
from tests.tiny import tiny_generator as build_tiny_generator
from tests.tiny_run import content, tiny_config
from torch.nn import functional as F

from labels4free.errors import ConfigError, RunError
from labels4free.generators import base as base_module
from labels4free.generators.base import sample_z
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha import feature_cache as cache_module
from labels4free.training.alpha.feature_cache import (
    PREVIEWS,
    FeatureCache,
    build_cache,
    claim_folder,
    mirrored,
    sample_truncation_psi,
)
from labels4free.training_loop import chunks

pytestmark = pytest.mark.slow

CONFIG = tiny_config()
CALIBRATION, SIZE = CONFIG.cache.calibration_samples, CONFIG.cache.size


@pytest.fixture
def generator(monkeypatch):
    """A generator of the test's own, which counts its renderings in ``calls``."""
    made = build_tiny_generator()
    plain, made.calls = made.synthesize, []

    def synthesize(ws, **options):
        made.calls.append(options.get("background"))
        return plain(ws, **options)

    monkeypatch.setattr(made, "synthesize", synthesize)
    return made


@pytest.fixture
def levels(tiny_generator):
    return MergeNetwork(tiny_generator.feature_specs, 64).levels


@pytest.fixture
def chunks_of_5(monkeypatch):
    monkeypatch.setattr(cache_module, "_CHUNK", 5)


def assert_equal(one: FeatureCache, other: FeatureCache) -> None:
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.backgrounds, other.backgrounds)
    assert len(one.levels) == len(other.levels)
    assert all(torch.equal(a, b) for a, b in zip(one.levels, other.levels, strict=True))
    for a, b in zip(one.projection, other.projection, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# What is in it


def test_entries_by_hand(generator, levels, tmp_path):
    cache, previews = build_cache(generator, levels, CONFIG, tmp_path)
    assert len(cache) == SIZE
    assert len(previews) == PREVIEWS
    assert cache.images.dtype == cache.backgrounds.dtype == torch.float16
    for i in (0, 7, SIZE - 1):
        ws = generator.map(sample_z(8, CONFIG.seed, i)[None], sample_truncation_psi(CONFIG, i))
        output = generator.synthesize(ws)
        behind = generator.synthesize(ws, background=generator.default_background).image
        assert torch.equal(cache.images[i], F.avg_pool2d(output.image, 4)[0].half())
        assert torch.equal(cache.backgrounds[i], F.avg_pool2d(behind, 4)[0].half())
        for level, x in zip(cache.levels, cache.projection.levels(output.features, levels, 16), strict=True):
            assert torch.equal(level[i], x[0].half())
    assert [tuple(x.shape[1:]) for x in cache.levels] == [(16, 8, 8), (16, 16, 16), (16, 16, 16)]


def test_previews_are_further_samples_at_a_larger_size(generator, levels, tmp_path):
    cache, previews = build_cache(generator, levels, CONFIG, tmp_path)
    assert previews.images.shape == (PREVIEWS, 3, 64, 64)  # as large as this generator makes them
    ws = generator.map(sample_z(8, CONFIG.seed, SIZE)[None], sample_truncation_psi(CONFIG, SIZE))
    assert torch.equal(previews.images[0], generator.synthesize(ws).image[0].half())
    assert previews.projection is cache.projection


def test_calibration_latents_are_none_of_the_cache(generator, levels, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(base_module, "sample_z", lambda *key: seen.append(key) or sample_z(*key))
    build_cache(generator, levels, CONFIG, tmp_path)
    assert len(set(seen)) == CALIBRATION + SIZE + PREVIEWS
    assert len({(seed, index) for _, seed, index in seen if seed == CONFIG.seed}) == SIZE + PREVIEWS


def test_entries_depend_on_seed_and_background_mode(generator, levels, tmp_path):
    plain, _ = build_cache(generator, levels, CONFIG, tmp_path / "0")
    seeded, _ = build_cache(generator, levels, tiny_config(seed=1), tmp_path / "1")
    assert not torch.equal(plain.images, seeded.images)
    mode = "zero_first_block"
    other, _ = build_cache(generator, levels, tiny_config(background={"mode": mode}), tmp_path / "2")
    assert torch.equal(plain.images, other.images)
    assert not torch.equal(plain.backgrounds, other.backgrounds)
    assert set(generator.calls) == {None, mode, generator.default_background}


def test_an_entry_depends_neither_on_chunks_nor_on_the_size(generator, levels, tmp_path, monkeypatch):
    cache, previews = build_cache(generator, levels, CONFIG, tmp_path / "one")
    for chunk in (1, 5):
        monkeypatch.setattr(cache_module, "_CHUNK", chunk)
        again = build_cache(generator, levels, CONFIG, tmp_path / str(chunk))
        assert_equal(again[0], cache)
        assert_equal(again[1], previews)
    smaller, _ = build_cache(generator, levels, tiny_config(cache={"size": 9}), tmp_path / "small")
    assert torch.equal(smaller.images, cache.images[:9])
    assert all(torch.equal(a, b[:9]) for a, b in zip(smaller.levels, cache.levels, strict=True))


def test_truncation_is_spread_evenly_between_its_bounds():
    config = tiny_config(cache={"min_truncation_psi": 0.4, "max_truncation_psi": 0.8})
    psi = torch.tensor([sample_truncation_psi(config, i) for i in range(400)])
    assert 0.4 <= psi.min() < 0.402
    assert 0.798 < psi.max() <= 0.8
    for stretch in psi.split(40):  # in every stretch of samples
        assert [((stretch >= low) & (stretch < low + 0.1)).sum() for low in (0.4, 0.5, 0.6, 0.7)] == pytest.approx(
            [10] * 4, abs=2
        )
    constant = tiny_config(cache={"min_truncation_psi": 0.7, "max_truncation_psi": 0.7})
    assert {sample_truncation_psi(constant, i) for i in range(50)} == {0.7}


# Going on


def test_a_finished_cache_is_read_not_rendered(generator, levels, tmp_path, chunks_of_5):
    built = build_cache(generator, levels, CONFIG, tmp_path)
    assert len(generator.calls) == CALIBRATION + 2 * (SIZE + PREVIEWS)
    generator.calls.clear()
    again = build_cache(generator, levels, CONFIG, tmp_path)
    assert generator.calls == []
    assert_equal(again[0], built[0])
    assert_equal(again[1], built[1])


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("killed_after", "kept"),
    [
        (2, 0),  # while calibrating: that is done again
        (CALIBRATION + 3, CALIBRATION),  # in the previews
        (CALIBRATION + PREVIEWS + 7, CALIBRATION + PREVIEWS + 5),  # in the second chunk
        (CALIBRATION + PREVIEWS + SIZE, CALIBRATION + PREVIEWS + 10),  # with the last sample
    ],
)
def test_only_what_is_missing_is_rendered(generator, levels, tmp_path, chunks_of_5, killed_after, kept):
    def progress(done, total):
        if done == killed_after:
            raise Killed

    expected = build_cache(generator, levels, CONFIG, tmp_path / "whole")
    with pytest.raises(Killed):
        build_cache(generator, levels, CONFIG, tmp_path / "killed", progress)
    generator.calls.clear()
    again = build_cache(generator, levels, CONFIG, tmp_path / "killed")
    calibrations, samples = max(0, CALIBRATION - kept), SIZE + PREVIEWS - max(0, kept - CALIBRATION)
    assert len(generator.calls) == calibrations + 2 * samples
    assert_equal(again[0], expected[0])
    assert_equal(again[1], expected[1])
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def damage(path, how) -> None:
    data = path.read_bytes()
    if how == "flipped":
        middle = len(data) - 100
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif how == "foreign":
        save_file({"image": torch.zeros(1)}, path)
    else:
        path.write_bytes({"short": data[:-10], "empty": b"", "text": b"not a chunk"}[how])


@pytest.mark.parametrize("how", ["flipped", "foreign", "short", "empty", "text"])
def test_a_damaged_chunk_is_rendered_again(generator, levels, tmp_path, chunks_of_5, caplog, how):
    expected, _ = build_cache(generator, levels, CONFIG, tmp_path)
    before = content(tmp_path)
    path = tmp_path / "samples_000005.safetensors"
    damage(path, how)
    generator.calls.clear()
    with caplog.at_level(logging.WARNING, "labels4free"):
        again, _ = build_cache(generator, levels, CONFIG, tmp_path)
    assert len(generator.calls) == 2 * 5
    assert_equal(again, expected)
    assert content(tmp_path) == before
    (warning,) = caplog.messages
    assert warning.startswith(f"{path} is damaged (")
    assert warning.endswith("and is rendered again.")


def test_a_damaged_projection_is_computed_again(generator, levels, tmp_path, caplog):
    expected, _ = build_cache(generator, levels, CONFIG, tmp_path)
    damage(tmp_path / "projection.safetensors", "flipped")
    generator.calls.clear()
    again, _ = build_cache(generator, levels, CONFIG, tmp_path)
    assert generator.calls == [None] * CALIBRATION
    assert_equal(again, expected)
    assert "projection.safetensors is damaged" in caplog.text


def test_progress_counts_every_sample_whether_rendered_or_read(generator, levels, tmp_path, chunks_of_5):
    rendered, read = [], []
    for seen in (rendered, read):
        build_cache(generator, levels, CONFIG, tmp_path, lambda *state, seen=seen: seen.append(state))
    total = CALIBRATION + PREVIEWS + SIZE
    assert rendered == [(k, total) for k in range(1, total + 1)]
    assert read == [(k, total) for k in (CALIBRATION, CALIBRATION + PREVIEWS, total - 7, total - 2, total)]  # by files


# Sharing


def test_runs_of_other_seeds_can_share_a_cache(generator, levels, tmp_path):
    cache, _ = build_cache(generator, levels, tiny_config(seed=1, cache={"seed": 5}), tmp_path)
    rendered = len(generator.calls)
    other = tiny_config(seed=2, cache={"seed": 5, "folder": str(tmp_path)}, steps=99, alpha={"width": 2})
    assert_equal(build_cache(generator, levels, other, tmp_path)[0], cache)
    assert len(generator.calls) == rendered
    assert_equal(build_cache(generator, levels, tiny_config(seed=5), tmp_path)[0], cache)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"seed": 1}, "seed"),
        ({"cache": {"seed": 1}}, "seed"),
        ({"cache": {"size": 13, "min_truncation_psi": 0.6}}, "size, min_truncation_psi"),
        ({"resolution": 32}, "resolution"),
        ({"background": {"mode": "zero_constant"}}, "background"),
    ],
)
def test_a_folder_that_holds_another_cache(generator, levels, tmp_path, changes, names):
    build_cache(generator, levels, CONFIG, tmp_path)
    before = content(tmp_path)
    generator.calls.clear()
    with pytest.raises(ConfigError) as caught:
        build_cache(generator, levels, tiny_config(**changes), tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds samples of a run with another {names}; choose another cache.folder."
    )
    assert generator.calls == []
    assert content(tmp_path) == before


def test_a_folder_that_another_run_only_claimed(generator, levels, tmp_path):
    claim_folder(generator, levels, tiny_config(seed=1), tmp_path)
    build_cache(generator, levels, CONFIG, tmp_path)
    with pytest.raises(ConfigError, match="of a run with another seed"):
        claim_folder(generator, levels, tiny_config(seed=1), tmp_path)


def test_a_folder_with_the_cache_of_another_generator_or_of_other_levels(generator, levels, tmp_path):
    build_cache(generator, levels, CONFIG, tmp_path)
    with pytest.raises(ConfigError, match="of a run with another generator;"):
        build_cache(build_tiny_generator(seed=1), levels, CONFIG, tmp_path)
    with pytest.raises(ConfigError, match="of a run with another levels;"):
        build_cache(generator, levels[1:], CONFIG, tmp_path)


@pytest.mark.parametrize("text", ["", '{"seed"', "\udcff"])
def test_a_folder_whose_note_is_damaged(generator, levels, tmp_path, text):
    build_cache(generator, levels, CONFIG, tmp_path)
    (tmp_path / "cache.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=r"cache\.json is damaged \(.*\); delete .* to render its samples again\."):
        build_cache(generator, levels, CONFIG, tmp_path)


# Refusals


@pytest.mark.parametrize("resolution", [128, 1024])
def test_a_resolution_the_generator_cannot_serve(generator, levels, tmp_path, resolution):
    with pytest.raises(ConfigError) as caught:
        build_cache(
            generator, levels, tiny_config(resolution=resolution, discriminator={"channel_base": 1024}), tmp_path
        )
    assert str(caught.value) == (
        "The generator makes images of 64 pixels, which cannot be averaged to a training resolution of "
        f"{resolution}; choose a power of two of at most 64."
    )
    assert generator.calls == []
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_background_mode(generator, levels, tmp_path):
    with pytest.raises(ConfigError, match="Unknown background mode 'black'; mobile_stylegan has zero_first_conv"):
        build_cache(generator, levels, tiny_config(background={"mode": "black"}), tmp_path)


def test_no_space_left(generator, levels, tmp_path, monkeypatch, chunks_of_5):
    expected, _ = build_cache(generator, levels, CONFIG, tmp_path / "whole")
    write = chunks.write_atomically

    def write_until_full(path, data):
        if path.name == "samples_000005.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "write_atomically", write_until_full)
        with pytest.raises(RunError, match=r"There is no space left to write .*samples_000005\.safetensors; free some"):
            build_cache(generator, levels, CONFIG, tmp_path / "full")
    names = sorted(p.name for p in (tmp_path / "full").iterdir())
    assert names == ["cache.json", "previews.safetensors", "projection.safetensors", "samples_000000.safetensors"]
    assert_equal(build_cache(generator, levels, CONFIG, tmp_path / "full")[0], expected)


# Drawing


def test_take_mirrors_images_and_levels_alike(generator, levels, tmp_path):
    cache, _ = build_cache(generator, levels, CONFIG, tmp_path)
    indices = torch.tensor([3, 0, 3])
    plain = cache.take(indices)
    assert plain.images.dtype == torch.float32
    assert torch.equal(plain.images, cache.images[indices].float())
    flipped = cache.take(indices, torch.tensor([True, False, False]))
    for before, after in zip((plain.images, *plain.levels), (flipped.images, *flipped.levels), strict=True):
        assert before.dtype == torch.float32
        assert torch.equal(after[0], before[0].flip(-1))
        assert torch.equal(after[1:], before[1:])
        assert not torch.equal(after[0], before[0])


def test_mirrored_by_hand():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(2, 1, 2, 2)
    assert mirrored(x, torch.tensor([False, True])).tolist() == [[[[1, 2], [3, 4]]], [[[2, 1], [4, 3]]]]
    assert mirrored(x, None) is x
