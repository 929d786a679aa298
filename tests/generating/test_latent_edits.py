from __future__ import annotations

import sys

import pytest
import torch
from tests.refusals import refuses
from tests.tiny import tiny_stylegan2

from labels4free.errors import ConfigError
from labels4free.generating import latent_edits
from labels4free.generating.latent_edits import edit_latents
from labels4free.generators.base import sample_z
from labels4free.layered import Foreground, LayeredGenerator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.ops.inpainting import widened

pytestmark = pytest.mark.slow


class Bar(LayeredGenerator):
    """A generator whose alpha is a bar that stands further right the larger the first number of ws is."""

    def foreground(self, ws, *, noise="fixed", rng=None):
        image, features = self.generator.synthesize(ws, noise=noise, rng=rng)
        alpha = torch.zeros_like(image[:, :1])
        for layer, w in zip(alpha, ws, strict=True):
            left = 10 if w[0, 0] < 0 else 20
            layer[:, 16:, left : left + 24] = 1
            layer[:, 16:, [left - 1, left + 24]] = 0.5
        return Foreground(image, alpha, features)


def bar(generator):
    network = MergeNetwork(generator.feature_specs, generator.resolution, width=2)
    return Bar(generator, network).requires_grad_(False)


@pytest.fixture(scope="module")
def layered(tiny_generator):
    return bar(tiny_generator)


@pytest.fixture(scope="module")
def latents(tiny_generator):
    """Three samples' styles, and edited ones."""
    ws = tiny_generator.map(torch.stack([sample_z(8, 0, i) for i in range(3)])).clone()
    edited = tiny_generator.map(torch.stack([sample_z(8, 1, i) for i in range(3)])).clone()
    ws[:, 0, 0], edited[:, 0, 0] = -1, 1
    return ws, edited


@pytest.mark.parametrize("fill", ["patches", "smooth"])
def test_the_original_stays_where_neither_object_is_and_the_edit_where_its_object_is(layered, latents, fill):
    ws, edited = latents
    original, new = layered.foreground(ws), layered.foreground(edited)
    result = edit_latents(layered, ws, edited, fill=fill, margin=2)
    assert result.shape == (3, 3, 64, 64)
    covered = torch.from_numpy(widened((original.alpha[0, 0] > 0).numpy(), 2)).expand(3, 1, 64, 64)
    outside = ((new.alpha == 0) & ~covered).expand_as(result)
    assert torch.equal(result[outside], original.image[outside])
    inside = (new.alpha == 1).expand_as(result)
    assert torch.equal(result[inside], new.image[inside])
    hole = ((new.alpha == 0) & covered).expand_as(result)
    assert (result[hole] - original.image[hole]).abs().mean() > 0.1
    assert (result[hole] - new.image[hole]).abs().mean() > 0.1


def test_what_is_filled_knows_nothing_of_the_old_object(layered, latents, monkeypatch):
    """A bar of pure red in the original leaves no red."""
    ws, edited = latents
    plain = layered.foreground

    def red(styles, **options):
        image, alpha, features = plain(styles, **options)
        image = image.clone()
        if styles is ws:
            image[:] = torch.where(alpha > 0, torch.tensor([1.0, -1, -1]).view(3, 1, 1), image.mean(1, keepdim=True))
        return Foreground(image, alpha, features)

    monkeypatch.setattr(layered, "foreground", red)
    behind = (plain(edited).alpha == 0)[:, 0]
    for fill in ("patches", "smooth"):
        shown = edit_latents(layered, ws, edited, fill=fill, margin=1).permute(0, 2, 3, 1)[behind]
        assert (shown.amax(dim=1) - shown.amin(dim=1)).max() < 0.02, fill


def test_the_border_carries_nothing_of_the_background_that_the_edit_made(layered, latents, monkeypatch):
    """A blue bar over white, laid over grey: halfway between blue and grey at its sides, without white."""
    ws, edited = latents
    plain = layered.foreground

    def flat(styles, **options):
        alpha = plain(styles, **options).alpha
        blue = torch.tensor([-1.0, -1, 1]).view(3, 1, 1)
        return Foreground(alpha * blue + (1 - alpha) * (0.0 if styles is ws else 1.0), alpha, ())

    monkeypatch.setattr(layered, "foreground", flat)
    sides = edit_latents(layered, ws, edited, fill="smooth")[:, :, 30:60, [19, 44]]
    assert (sides - torch.tensor([-0.5, -0.5, 0.5]).view(3, 1, 1)).abs().max() < 0.1


def test_without_an_edit_nothing_changes(layered, latents):
    ws, _ = latents
    assert torch.equal(edit_latents(layered, ws, ws.clone()), layered.foreground(ws).image)


def test_random_noise_is_drawn_once(layered, latents):
    ws, edited = latents
    drawn = [
        edit_latents(layered, ws, edited, noise="random", fill="smooth", rng=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    rng = torch.Generator().manual_seed(3)
    nothing = edit_latents(layered, ws, ws.clone(), noise="random", rng=rng)
    maps = latent_edits._draw(layered, ws, torch.Generator().manual_seed(3))
    assert torch.equal(nothing, layered.foreground(ws, noise=maps).image)


def test_another_family_takes_random_noise(latents):
    generator = tiny_stylegan2()
    ws = generator.map(torch.stack([sample_z(8, 0, i) for i in range(2)])).clone()
    ws[:, 0, 0] = torch.tensor([-1.0, 1.0])
    result = edit_latents(bar(generator), ws[:1], ws[1:], noise="random", fill="smooth")
    assert result.shape == (1, 3, 64, 64)
    assert result.isfinite().all()


def test_gradients_reach_both_latents(layered, latents):
    ws, edited = (x.clone().requires_grad_() for x in latents)
    edit_latents(layered, ws, edited, fill="smooth").square().sum().backward()
    for gradient in (ws.grad, edited.grad):
        assert gradient.isfinite().all()
        assert (gradient.abs().sum(dim=(1, 2)) > 0).all()


def test_a_batch_is_its_samples(layered, latents):
    ws, edited = latents
    whole = edit_latents(layered, ws, edited)
    for i in range(3):
        torch.testing.assert_close(edit_latents(layered, ws[i : i + 1], edited[i : i + 1])[0], whole[i])


def test_bad_input_is_one_sentence(layered, latents, monkeypatch):
    ws, edited = latents
    refuses(ConfigError, r"one shape, got \[3, \d+, 8\] and \[2, \d+, 8\]", edit_latents, layered, ws, edited[:2])
    refuses(ConfigError, "patches or smooth; got 'generator'", edit_latents, layered, ws, edited, fill="generator")
    refuses(ConfigError, "0 pixels or more, got -1", edit_latents, layered, ws, edited, margin=-1)
    monkeypatch.setitem(sys.modules, "patchmatch", None)
    refuses(ConfigError, r"pip install PyPatchMatch", edit_latents, layered, ws, edited)
