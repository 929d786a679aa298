from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from labels4free.training.alpha.monitor import check_masks, find_problem, label_free_score


class Brightness(nn.Module):
    """A discriminator that finds an image as real as its middle is brighter than its corner."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image[..., 6:10, 6:10].mean(dim=(1, 2, 3)) - image[..., :4, :4].mean(dim=(1, 2, 3)))[:, None]


def disc(radius: float = 0.5, inside: float = 1.0, outside: float = 0.0, n: int = 2, size: int = 16) -> torch.Tensor:
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    mask = at.square()[:, None] + at.square() < radius**2
    return torch.where(mask, inside, outside).expand(n, 1, size, size)


def check(alpha: torch.Tensor, bright: float = 1.0) -> Any:
    """The foreground is bright, the background dark, and the discriminator wants a bright middle (or a dark one)."""
    n, size = len(alpha), alpha.shape[-1]
    white = torch.full((n, 3, size, size), bright)
    return check_masks(white, -white, alpha, Brightness())


def test_good():
    health = check(disc(0.7))
    assert health.problem is None
    assert health.numbers["center_bias"] == pytest.approx(1)
    assert health.numbers["sharpness"] == 1
    assert health.numbers["foreground_ratio_sd"] == 0
    assert health.numbers["foreground_ratio"] == pytest.approx(0.385, abs=0.02)  # pi / 4 * 0.7^2
    covered = health.numbers["foreground_ratio"]
    assert health.numbers["contrast"] == pytest.approx((covered * (1 - covered)) ** 0.5, rel=1e-4)
    assert health.numbers["swap_gain"] == pytest.approx(4)
    assert not health.hopeless


def test_empty():
    assert check(disc(0.1)).problem == "the masks are empty (mean alpha 0.016)"
    assert "are empty" in check(torch.zeros(2, 1, 16, 16)).problem


def test_full():
    assert check(1 - disc(0.1)).problem == "the masks are full (mean alpha 0.984)"
    assert "are full" in check(torch.ones(2, 1, 16, 16)).problem


def test_flat():
    problem = check(torch.full((2, 1, 16, 16), 0.5)).problem
    assert problem == "alpha is nearly the same everywhere (deviation 0.000 within an image)"
    assert "nearly the same everywhere" in check(disc(0.7, 0.52, 0.48)).problem
    assert check(disc(0.7, 0.7, 0.3)).problem is None


def test_flat_is_within_an_image_not_from_one_to_the_next():
    alpha = torch.stack([torch.full((1, 16, 16), 0.1), torch.full((1, 16, 16), 0.9)])
    health = check(alpha)
    assert health.numbers["foreground_ratio_sd"] == pytest.approx(0.4)
    assert "nearly the same everywhere" in health.problem


def test_inverted():
    health = check(1 - disc(0.7))
    assert health.numbers["center_bias"] == pytest.approx(-1)
    assert health.numbers["swap_gain"] == pytest.approx(-4)
    assert health.problem == (
        "the masks are the wrong way round (alpha is 1.00 higher at the border than in the middle, and swapped layers "
        "look more real)"
    )


def test_slightly_inverted_is_one_only_where_the_discriminator_agrees():
    slightly = disc(0.7, 0.4, 0.6)
    assert "alpha is 0.20 higher at the border" in check(slightly).problem
    assert check(slightly, bright=-1.0).problem is None  # the discriminator finds them right as they are
    strongly = check(disc(0.7, 0.1, 0.9), bright=-1.0).problem
    assert strongly == "the masks are the wrong way round (alpha is 0.80 higher at the border than in the middle)"


def test_numbers_by_hand():
    alpha = torch.zeros(2, 1, 8, 8)
    alpha[0] = 0.25
    alpha[1, :, 2:6, 2:6] = 1  # the disc of the middle: all of it
    health = check(alpha)
    assert health.numbers["foreground_ratio"] == 0.25
    assert health.numbers["foreground_ratio_sd"] == 0
    assert health.numbers["sharpness"] == pytest.approx(1 - 2 * (0.25 + 0) / 2)
    assert health.numbers["center_bias"] == pytest.approx((0.25 + 1) / 2 - 0.25 / 2)
    assert health.numbers["contrast"] == pytest.approx((0 + (0.25 * 0.75) ** 0.5) / 2)
    names = {
        "foreground_ratio",
        "foreground_ratio_sd",
        "foreground_ratio_min",
        "foreground_ratio_max",
        "sharpness",
        "contrast",
        "center_bias",
        "swap_gain",
    }
    assert set(health.numbers) == names | {"inpainting_error", "score"}
    assert (health.numbers["foreground_ratio_min"], health.numbers["foreground_ratio_max"]) == (0.25, 0.25)
    assert health.numbers["foreground_ratio"] == 0.25


def test_inpainting_error_is_largest_for_the_mask_that_follows_the_border():
    white = torch.full((2, 3, 16, 16), 1.0)
    image = torch.where(disc(0.6) > 0, white, -white)
    found = {r: check_masks(image, -image, disc(r), Brightness()).numbers["inpainting_error"] for r in (0.3, 0.6, 0.9)}
    assert max(found, key=found.get) == 0.6
    soft = check_masks(image, -image, disc(0.6, inside=0.7, outside=0.2), Brightness())
    assert soft.numbers["inpainting_error"] == found[0.6]  # hard masks are what it is about


def test_coverage_of_the_images_that_have_least_and_most():
    alpha = torch.stack([torch.full((1, 16, 16), value) for value in (0.5, 0.125, 0.75)])
    health = check(alpha)
    assert (health.numbers["foreground_ratio_min"], health.numbers["foreground_ratio_max"]) == (0.125, 0.75)


def test_agreement_with_what_was_rendered_again():
    white = torch.full((3, 3, 16, 16), 1.0)
    alpha = disc(0.7, n=3)
    again = {"noise": alpha[:2], "mixing": 1 - alpha[:1]}
    health = check_masks(white, -white, alpha, Brightness(), again)
    assert (health.numbers["agreement_noise"], health.numbers["agreement_mixing"]) == (1, 0)
    assert {"agreement_noise", "agreement_mixing"} < set(health.numbers)
    half = torch.full((3, 1, 16, 16), 0.5)
    agreement = check_masks(white, -white, half, Brightness(), {"mixing": half / 2}).numbers["agreement_mixing"]
    assert agreement == pytest.approx((0.5 + 0.5 / 0.75) / 2)


def test_only_the_samples_rendered_again_are_compared():
    alpha = torch.cat([disc(0.7, n=1), 1 - disc(0.7, n=1)])
    white = torch.full((2, 3, 16, 16), 1.0)
    assert check_masks(white, -white, alpha, Brightness(), {"noise": disc(0.7, n=1)}).numbers["agreement_noise"] == 1


def test_score_by_hand():
    assert label_free_score(0.5, None) == 0.5
    assert label_free_score(0.5, 1.0) == 0.5
    assert label_free_score(0.5, 0.99) == pytest.approx(0.5 * 0.99**10)
    assert label_free_score(0.5, 0.0) == 0
    assert label_free_score(-0.1, 0.9) == 0


def test_the_score_of_a_check_is_of_its_own_numbers():
    white = torch.full((2, 3, 16, 16), 1.0)
    image, alpha = torch.where(disc(0.6) > 0, white, -white), disc(0.55)
    plain = check_masks(image, -image, alpha, Brightness())
    assert plain.score == plain.numbers["inpainting_error"] > 0
    moved = check_masks(image, -image, alpha, Brightness(), {"noise": disc(0.2), "mixing": disc(0.5)})
    assert (
        moved.score
        == label_free_score(moved.numbers["inpainting_error"], moved.numbers["agreement_mixing"])
        < plain.score
    )


def test_takes_no_gradient():
    alpha = disc(0.7).clone().requires_grad_()
    check(alpha)
    assert alpha.grad is None


@pytest.mark.parametrize("name", ["foreground_ratio", "contrast", "center_bias", "swap_gain"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_a_problem(name, value):
    good = {"foreground_ratio": 0.4, "contrast": 0.4, "center_bias": 0.8, "swap_gain": 1.0}
    assert find_problem(**good) is None
    assert "not finite" in find_problem(**{**good, name: value})


def test_broken_masks_are_hopeless():
    alpha = disc(0.7).clone()
    alpha[1, 0, 3, 3] = math.nan
    health = check(alpha)
    assert health.hopeless
    assert "not finite" in health.problem
    assert not check(torch.zeros(2, 1, 16, 16)).hopeless
