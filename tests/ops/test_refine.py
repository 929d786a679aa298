from __future__ import annotations

import builtins
import sys

import pytest
import torch
from tests.small_pictures import seeded

from labels4free.errors import ConfigError
from labels4free.ops import refine
from labels4free.ops.refine import closed_form, guided_filter, refine_alpha


def _step(side: int, column: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """[1, 1, side, side]: low left of the column, high from it on."""
    return torch.where(torch.arange(side) >= column, high, low).expand(1, 1, side, side)


def _picture(side: int, column: int) -> torch.Tensor:
    """[1, 3, side, side] in [-1, 1], with one edge at the column."""
    colours = torch.tensor([0.5, -0.3, 0.8]).view(1, 3, 1, 1)
    return _step(side, column) * colours - 0.2


def _guided_by_hand(guide: torch.Tensor, alpha: torch.Tensor, radius: int, eps: float) -> torch.Tensor:
    """The definition, window by window: guide [3, H, W], alpha [H, W] -> [H, W]."""
    height, width = alpha.shape
    total, hits = torch.zeros(height, width).double(), torch.zeros(height, width).double()
    for y in range(height):
        for x in range(width):
            window = (slice(max(0, y - radius), y + radius + 1), slice(max(0, x - radius), x + radius + 1))
            colours = guide[(slice(None), *window)].double().flatten(1)
            values = alpha[window].double().flatten()
            centred = colours - colours.mean(1, keepdim=True)
            matrix = centred @ centred.T / len(values) + eps * torch.eye(3).double()
            slope = torch.linalg.solve(matrix, centred @ (values - values.mean()) / len(values))
            fit = slope @ (guide.double().flatten(1) - colours.mean(1, keepdim=True)) + values.mean()
            total[window] += fit.view(height, width)[window]
            hits[window] += 1
    return total / hits


def test_guided_filter_is_its_definition():
    guide, alpha = torch.rand(1, 3, 12, 12, generator=seeded(0)), torch.rand(1, 1, 12, 12, generator=seeded(1))
    expected = _guided_by_hand(guide[0], alpha[0, 0], 2, 0.01)
    found = guided_filter(guide, alpha, 2, 0.01)[0, 0]
    torch.testing.assert_close(found.double(), expected.clamp(0, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("radius", [1, 3, 20])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_constant_alpha_stays(radius, level):
    image = torch.rand(2, 3, 32, 32, generator=seeded(0)) * 2 - 1
    alpha = torch.full((2, 1, 32, 32), level)
    torch.testing.assert_close(refine_alpha(image, alpha, "guided", radius=radius), alpha, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("radius", "tolerance"), [(2, 1e-3), (4, 1e-3), (16, 0.02)])  # 16: fitted on pooled maps
def test_an_edge_that_is_the_images_is_kept(radius, tolerance):
    alpha = _step(64, 20)
    refined = refine_alpha(_picture(64, 20), alpha, radius=radius, eps=1e-6)
    torch.testing.assert_close(refined, alpha.expand_as(refined), rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["guided", "closed-form"])
def test_a_soft_border_becomes_the_images_edge(method):
    if method == "closed-form":
        pytest.importorskip("pymatting")
    blurred = ((torch.arange(64) - 28) / 8).clamp(0, 1).expand(1, 1, 64, 64)  # crosses 0.5 at the edge, eight wide
    refined = refine_alpha(_picture(64, 32), blurred, method, radius=4, eps=1e-6)
    assert (blurred - _step(64, 32)).abs().max() > 0.45
    assert (refined - _step(64, 32)).abs().max() < (0.3 if method == "guided" else 0.01)


def test_a_border_off_the_edge_moves_to_it():
    truth, off = _step(64, 32), _step(64, 30)
    refined = refine_alpha(_picture(64, 32), off, radius=8)
    assert torch.equal(refined > 0.5, truth > 0.5)


def test_far_from_the_border_nothing_changes():
    image = torch.rand(1, 3, 64, 64, generator=seeded(0)) * 2 - 1
    alpha = _step(64, 32)
    refined = refine_alpha(image, alpha, radius=4, eps=1e-4)
    far = (torch.arange(64) < 32 - 8) | (torch.arange(64) >= 32 + 8)
    torch.testing.assert_close(refined[..., far], alpha[..., far], rtol=0, atol=1e-5)
    assert (refined - alpha)[..., ~far].abs().max() > 0.1


@pytest.mark.slow
def test_results_lie_between_0_and_1_and_images_do_not_meet():
    image = torch.rand(2, 3, 32, 32, generator=seeded(0)) * 3 - 1.5
    alpha = (torch.rand(2, 1, 32, 32, generator=seeded(1)) > 0.5).float()
    refined = refine_alpha(image, alpha, radius=1, eps=1e-6)
    assert refined.min() >= 0
    assert refined.max() <= 1
    torch.testing.assert_close(refined[1:], refine_alpha(image[1:], alpha[1:], radius=1, eps=1e-6), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_large_windows_on_pooled_maps_give_nearly_the_same(monkeypatch):
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=seeded(0)), size=100, mode="bicubic")
    alpha = _step(100, 47)
    pooled = guided_filter(smooth, alpha, 16, 1e-3)
    monkeypatch.setattr(refine, "_FIT_RADIUS", 1000)
    whole = guided_filter(smooth, alpha, 16, 1e-3)
    assert not torch.equal(pooled, whole)
    assert (pooled - whole).abs().mean() < 0.01


@pytest.mark.slow
def test_the_radius_follows_the_width():
    image = torch.rand(1, 3, 128, 128, generator=seeded(0)) * 2 - 1
    alpha = _step(128, 64)
    assert torch.equal(refine_alpha(image, alpha), refine_alpha(image, alpha, radius=4))
    assert not torch.equal(refine_alpha(image, alpha), refine_alpha(image, alpha, radius=3))


@pytest.mark.slow
def test_closed_form_leaves_alone_what_has_no_two_sides():
    pytest.importorskip("pymatting")
    guide = torch.rand(3, 3, 16, 16, generator=seeded(0))
    alpha = torch.stack([torch.ones(1, 16, 16), torch.full((1, 16, 16), 0.5), _step(16, 8)[0]])
    refined = closed_form(guide, alpha, 2)
    assert torch.equal(refined[:2], alpha[:2])
    assert not torch.equal(refined[2], alpha[2])
    assert torch.equal(refined[2, 0, :, :6], alpha[2, 0, :, :6])  # further than the radius from the border: known


def test_the_library_is_announced_and_asked_for(monkeypatch, caplog):
    for name in [n for n in sys.modules if n.split(".")[0] == "pymatting"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pymatting":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install pymatting"):
        refine_alpha(_picture(16, 8), _step(16, 8), "closed-form")
    assert "compiles" in caplog.text


def test_bad_arguments_are_named():
    image, alpha = _picture(16, 8), _step(16, 8)
    with pytest.raises(ConfigError, match="guided or closed-form, got 'sharp'"):
        refine_alpha(image, alpha, "sharp")
    for bad in ({"radius": 0}, {"eps": 0.0}):
        with pytest.raises(ConfigError, match="at least 1 pixel and eps above 0"):
            refine_alpha(image, alpha, **bad)
    with pytest.raises(ConfigError, match=r"got \[1, 3, 16, 16\] and \[1, 1, 8, 8\]"):
        refine_alpha(image, alpha[..., :8, :8])
