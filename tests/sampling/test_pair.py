from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from tests.refusals import refuses
from tests.sampling.data_sets import ALL, discs
from tests.tiny import tiny_stylegan2
from torch.nn.functional import avg_pool2d

from labels4free.data.pairs.record import measure
from labels4free.errors import DataError
from labels4free.generators.base import mix_styles
from labels4free.layered import LayeredGenerator, composite
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.ops.refine import refine_alpha
from labels4free.pictures.pixels import to_uint8
from labels4free.sampling import pair as pair_module
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.discriminator_score import measure_discriminator_score
from labels4free.sampling.filters import FilterConfig
from labels4free.sampling.pair import PairRenderer, single_thread
from labels4free.sampling.uncertainty import UncertaintyConfig
from labels4free.seeds import MIXED_STYLES, draw, series


@pytest.fixture(scope="module")
def layered():
    return discs()


def render(layered, index, **settings):
    """A pair as any data set of these settings has it."""
    with single_thread():
        return PairRenderer(layered, SampleConfig(**settings)).render([index])[0].pair


def _same(one, other):
    assert one.pictures.keys() == other.pictures.keys()
    assert one.latents.keys() == other.latents.keys()
    arrays = [(one.pictures[k], other.pictures[k]) for k in one.pictures]
    arrays += [(one.latents[k], other.latents[k]) for k in one.latents]
    return one.record == other.record and all(np.array_equal(a, b) for a, b in arrays)


def test_draws_are_even_and_depend_on_all_of_their_arguments():
    draws = np.array([draw(1, index, "truncation") for index in range(2000)])
    assert 0 <= draws.min() < 0.005
    assert 0.995 < draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.02
    assert draw(0, 0, "x") == 0.47084721743134317  # on every machine
    assert len({draw(*arguments) for arguments in ((0, 1, "a"), (1, 0, "a"), (0, 1, "b"), (0, 11, "a"))}) == 4


@pytest.mark.slow
def test_threads_do_not_show():
    """A generator and a network whose sums are cut into as many parts as there are threads."""
    generator = tiny_stylegan2(channels={4: 32, 8: 32, 16: 32, 32: 32, 64: 32, 128: 16})
    torch.manual_seed(0)
    layered = LayeredGenerator(generator, MergeNetwork(generator.feature_specs, 128, width=8)).eval()
    before, pairs = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            pairs.append(render(layered, 3, parts=ALL, threshold=0.5))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(_same(pairs[0], pair) for pair in pairs[1:])


@pytest.mark.slow
def test_a_pickled_renderer_renders_the_same(layered):
    config = SampleConfig(parts=ALL, uncertainty=UncertaintyConfig(noise=1, mixing=1))
    renderer = PairRenderer(layered, config)
    again = pickle.loads(pickle.dumps(renderer))
    assert _same(renderer.render([2])[0].pair, again.render([2])[0].pair)


def test_cpu_renders_one_at_a_time_and_an_accelerator_full_batches(layered, monkeypatch):
    batches = []
    foreground = LayeredGenerator.foreground
    monkeypatch.setattr(
        LayeredGenerator, "foreground", lambda self, ws, **rest: (batches.append(len(ws)), foreground(self, ws))[1]
    )
    renderer = PairRenderer(layered, SampleConfig(batch_size=3))
    alone = renderer.render([4, 5])
    assert batches == [1, 1]
    monkeypatch.setattr(PairRenderer, "on_cpu", False)
    together = renderer.render([4, 5])
    assert batches[2:] == [3]
    assert [one.pair.record.index for one in together] == [4, 5]
    for one, other in zip(alone, together, strict=True):
        difference = one.pair.pictures["image"].astype(int) - other.pair.pictures["image"]
        assert np.abs(difference).max() <= 1


def test_nothing_is_rendered_that_is_not_asked_for(layered, monkeypatch):
    modes = []
    synthesize = type(layered.generator).synthesize
    monkeypatch.setattr(
        type(layered.generator),
        "synthesize",
        lambda self, ws, **rest: (modes.append(rest.get("background")), synthesize(self, ws, **rest))[1],
    )
    pair = render(layered, 0)
    assert (set(pair.pictures), dict(pair.latents)) == ({"image", "alpha", "mask"}, {})
    assert modes == [None]
    render(layered, 0, parts=("composite",), backgrounds="#ffffff")
    assert modes == [None, None]
    assert set(render(layered, 0, parts=("composite",)).pictures) == {"composite"}
    assert modes[2:] == [None, "zero_first_conv"]


def test_bits_of_alpha_and_the_cutout(layered):
    fine = render(layered, 1, parts=ALL, alpha_bits=16)
    coarse = render(layered, 1, parts=ALL)
    assert (fine.pictures["alpha"].dtype, coarse.pictures["alpha"].dtype) == (np.uint16, np.uint8)
    assert np.abs(fine.pictures["alpha"] / 65535 - coarse.pictures["alpha"] / 255).max() <= 0.51 / 255
    assert len(np.unique(fine.pictures["alpha"])) > 256
    cutout = fine.pictures["cutout"]
    assert (cutout.shape, cutout.dtype) == ((64, 64, 4), np.uint8)
    assert np.array_equal(cutout[..., :3], fine.pictures["image"])  # not premultiplied
    assert np.array_equal(cutout[..., 3], coarse.pictures["alpha"])


def test_size_is_a_box_filter_of_everything(layered):
    full, half = (render(layered, 0, parts=ALL, size=size) for size in (None, 32))
    alpha = full.pictures["alpha"].reshape(32, 2, 32, 2).mean((1, 3))
    assert np.abs(alpha - half.pictures["alpha"]).max() <= 1
    assert (half.pictures["mask"][half.pictures["alpha"] > 0.91 * 255] == 255).all()
    assert {picture.shape[:2] for picture in half.pictures.values()} == {(32, 32)}


def test_truncation_is_drawn_for_each_pair(layered):
    psi = {"min_truncation_psi": 0.4, "max_truncation_psi": 0.9}
    pairs = [render(layered, index, parts=("latents",), **psi) for index in range(6)]
    drawn = [pair.record.truncation_psi for pair in pairs]
    assert len(set(drawn)) == 6
    assert all(0.4 <= psi < 0.9 for psi in drawn)
    assert drawn[2] == round(0.4 + 0.5 * draw(0, 2, "truncation"), 6)
    expected = layered.generator.draw_ws(0, 4, drawn[2])[0].numpy()
    assert np.array_equal(pairs[2].latents["ws"], expected)


def test_style_mixing_takes_fine_rows_of_another_latent(layered):
    generator = layered.generator
    crossovers = set()
    for index in range(8):
        mixed = render(layered, index, style_mixing=1.0, parts=("latents",)).latents["ws"]
        own = generator.draw_ws(0, 2 * index, 0.7)
        crossover = 1 + int(draw(0, index, "crossover") * (generator.num_ws - 1))
        other = generator.draw_ws(series(0, MIXED_STYLES), index, 0.7)
        assert np.array_equal(mixed, mix_styles(own, other, crossover)[0].numpy())
        assert not np.array_equal(mixed, own[0].numpy())
        crossovers.add(crossover)
        some = render(layered, index, style_mixing=0.5, parts=("latents",)).latents["ws"]
        assert np.array_equal(some, own[0].numpy()) == (draw(0, index, "mixing") >= 0.5)
    assert len(crossovers) > 3
    assert all(1 <= crossover < generator.num_ws for crossover in crossovers)


# Backgrounds


def test_solid_background(layered):
    pair = render(layered, 0, parts=ALL, backgrounds="#20a0fF")
    assert (pair.pictures["background"] == (0x20, 0xA0, 0xFF)).all()
    assert set(pair.latents) == {"ws"}
    with single_thread(), torch.inference_mode():
        front = layered.foreground(layered.generator.draw_ws(0, 0, 0.7))
        colour = (torch.tensor([0x20, 0xA0, 0xFF]) / 127.5 - 1).view(1, 3, 1, 1)
        assert np.array_equal(pair.pictures["composite"], to_uint8(composite(front.image, colour, front.alpha))[0])


def _picture(path, colour, size=(90, 70)):
    Image.new("RGB", size, colour).save(path)


def test_backgrounds_of_a_folder_are_chosen_by_seed_and_index(layered, tmp_path):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    for number, colour in enumerate(colours):
        _picture(tmp_path / f"{number}.png", colour)
    for index in range(6):
        chosen = colours[int(draw(0, index, "background") * 3)]
        pair = render(layered, index, parts=("background",), backgrounds=str(tmp_path))
        assert (pair.pictures["background"] == chosen).all()


@pytest.mark.slow
def test_broken_backgrounds_are_passed_over_and_named_each_time(layered, tmp_path):
    _picture(tmp_path / "a.png", (250, 0, 0))
    _picture(tmp_path / "b.png", (0, 250, 0))
    whole = (tmp_path / "b.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:2000])
    assert len(whole) < 2000
    renderer = PairRenderer(layered, SampleConfig(parts=("background",), backgrounds=str(tmp_path)))
    second = [index for index in range(12) if draw(0, index, "background") >= 0.5]
    assert 2 < len(second) < 10
    for index, candidate in enumerate(renderer.render(range(12))):
        assert (candidate.pair.pictures["background"] == (250, 0, 0)).all()
        assert candidate.skipped == ((str(tmp_path / "b.png"),) if index in second else ())


def test_a_folder_without_a_picture_is_refused(layered, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    refuses(DataError, "image", PairRenderer, layered, SampleConfig(parts=("background",), backgrounds=str(tmp_path)))
    PairRenderer(layered, SampleConfig(backgrounds=str(tmp_path)))  # not needed, not opened


# What is measured


def test_uncertainty_and_discriminator_score_are_those_of_the_meter_and_the_discriminator(layered, monkeypatch):
    torch.manual_seed(0)
    discriminator = Discriminator(32, channel_base=64, channel_max=8).eval()
    asked = []
    monkeypatch.setattr(
        pair_module, "load_discriminator", lambda source, device: (asked.append(source), discriminator)[1]
    )
    filters, uncertainty = FilterConfig(min_discriminator_score_quantile=0.5), UncertaintyConfig(noise=2)
    record = render(layered, 1, discriminator="d.pt", filters=filters, uncertainty=uncertainty).record
    assert asked == ["d.pt"]
    assert record.uncertainty is not None
    assert 0 < record.uncertainty < 1
    with single_thread(), torch.inference_mode():
        image = layered.foreground(layered.generator.draw_ws(0, 2, 0.7)).image
        assert record.discriminator_score == pytest.approx(measure_discriminator_score(discriminator, image), abs=1e-6)
    plain = render(layered, 1).record
    assert (plain.uncertainty, plain.discriminator_score, plain.label) == (None, None, None)


def test_refined_alpha_follows_the_written_image(layered):
    """Alpha, mask, composite and cut-out are of the refined alpha; image, uncertainty and sharpness are not touched."""
    settings = {"size": 16, "threshold": 0.5, "alpha_bits": 16, "uncertainty": UncertaintyConfig(noise=1)}
    pair, before = (render(layered, 3, parts=ALL, refine=refine, **settings) for refine in ("guided", None))
    with single_thread(), torch.inference_mode():
        front = layered.foreground(torch.from_numpy(pair.latents["ws"])[None])
        behind = layered.background(torch.from_numpy(pair.latents["background_ws"])[None])
        image, behind, soft = (avg_pool2d(x, 4) for x in (front.image, behind, front.alpha))
        alpha = refine_alpha(image, soft, "guided")
    assert np.array_equal(pair.pictures["alpha"], (alpha[0, 0] * 65535).round().numpy())
    assert np.array_equal(pair.pictures["mask"] > 0, (alpha > 0.5)[0, 0].numpy())
    assert np.array_equal(pair.pictures["composite"], to_uint8(composite(image, behind, alpha))[0])
    assert np.array_equal(pair.pictures["cutout"][..., 3], (alpha[0, 0] * 255).round().numpy())
    assert not np.array_equal(pair.pictures["alpha"], before.pictures["alpha"])
    assert np.array_equal(pair.pictures["image"], before.pictures["image"])
    assert pair.record.uncertainty == before.record.uncertainty
    assert pair.record.sharpness == pytest.approx(before.record.sharpness, abs=1e-4)  # that is of 65,536 steps
    assert pair.record.sharpness != measure(3, pair.pictures["alpha"], pair.pictures["mask"]).sharpness
