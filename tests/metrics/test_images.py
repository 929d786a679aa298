from __future__ import annotations

import math

import pytest
import torch
from tests.small_pictures import seeded

from labels4free.metrics.images import _pyramid, diversity, psnr, sliced_wasserstein, ssim


def noise(count: int = 6, side: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=seeded(seed))


# Diversity


def test_diversity_by_hand() -> None:
    real = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8)  # variance 2 at every pixel
    assert diversity(real, real) == pytest.approx(1)
    assert diversity(real / 4, real) == pytest.approx(1 / 4)
    assert diversity(real / 4 + 0.5, real) == pytest.approx(1 / 4)  # where they vary around does not matter
    half = real.clone()
    half[..., :4] = 0.0  # half of the pixels do not vary: the mean variance is 1
    assert diversity(half, real) == pytest.approx(0.5**0.5)
    three = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1).expand(3, 3, 8, 8)  # variance 1
    assert diversity(three, real) == pytest.approx(0.5**0.5)  # sets need not be of a size


def test_images_that_are_all_the_same_have_no_diversity() -> None:
    real = noise()
    assert diversity(real[:1].expand(6, -1, -1, -1), real) == 0
    assert diversity(real, real) == 1
    assert diversity(real, torch.zeros(2, 3, 32, 32)) > 1e6  # and real ones without do not divide by 0


def test_diversity_is_of_what_is_seen_from_afar() -> None:
    """Pixels are averaged to 16x16 first: noise from pixel to pixel makes images no more diverse."""
    real = torch.nn.functional.interpolate(noise(8, 16), scale_factor=4)
    checks = torch.ones(64, 64)
    checks[::2, ::2] = checks[1::2, 1::2] = -1
    same = real[:1].expand(8, -1, -1, -1) + torch.tensor([-1.0, 1.0] * 4).view(8, 1, 1, 1) * checks
    assert same.var(dim=0).mean() > 0.5
    assert diversity(same, real) == pytest.approx(0, abs=1e-6)


# Sliced Wasserstein distance


@pytest.mark.parametrize(("side", "levels"), [(8, [8]), (16, [16]), (32, [32, 16]), (128, [128, 64, 32, 16])])
def test_the_pyramid(side: int, levels: list[int]) -> None:
    found = _pyramid(noise(2, side))
    assert [x.shape[-1] for x in found] == levels
    again = found[-1]
    for detail in reversed(found[:-1]):  # nothing is lost
        again = detail + torch.nn.functional.interpolate(again, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(again, noise(2, side))
    flat = _pyramid(torch.ones(1, 3, side, side))
    assert all(bool((detail.abs() < 1e-6).all()) for detail in flat[:-1])


def test_the_same_images_are_at_no_distance() -> None:
    images = noise()
    assert sliced_wasserstein(images, images) == 0
    assert sliced_wasserstein(images, images.clone(), seed=5) == 0


def test_the_order_of_images_hardly_matters() -> None:
    """Patches are drawn from other places of each image then, and no more."""
    images = noise(32)
    assert sliced_wasserstein(images, images.flip(0)) < 0.25 * sliced_wasserstein(images, checkered(32))


def checkered(count: int) -> torch.Tensor:
    """Squares of 4x4 pixels, shifted at random: nothing like noise."""
    line = (torch.arange(32) // 4) % 2 * 2.0 - 1
    image = (line[:, None] * line[None]).expand(3, -1, -1)
    shifts = torch.randint(8, (count, 2), generator=seeded(1)).tolist()
    return torch.stack([image.roll(tuple(shift), (1, 2)) for shift in shifts])


def test_brightness_and_contrast_do_not_matter() -> None:
    """Each channel of the patches is normalised by its own mean and deviation."""
    images, other = noise(), checkered(6)
    assert sliced_wasserstein(images + 0.3, images) == pytest.approx(0, abs=1e-5)
    assert sliced_wasserstein(3 * images, images) == pytest.approx(0, abs=1e-5)
    gains = torch.tensor([0.5, 1.0, 2.0]).view(1, 3, 1, 1)
    assert sliced_wasserstein(gains * images - gains, images) == pytest.approx(0, abs=1e-5)
    plain = sliced_wasserstein(other, images)
    assert sliced_wasserstein(0.2 * other + 0.1, images) == pytest.approx(plain, abs=1e-4)


def test_it_grows_with_what_differs() -> None:
    images = noise(8)
    mixed = [sliced_wasserstein(torch.cat([images[:keep], checkered(8)[keep:]]), images) for keep in (8, 6, 3, 0)]
    assert mixed[0] == 0
    assert mixed == sorted(mixed)
    assert mixed[-1] > 0.1
    assert sliced_wasserstein(noise(8, seed=1), images) < 0.5 * mixed[-1]  # other draws of the same


def test_it_is_the_same_from_both_sides_and_decided_by_the_seed() -> None:
    one, other = noise(), checkered(6)
    forth = sliced_wasserstein(one, other)
    assert sliced_wasserstein(other, one) == pytest.approx(forth, rel=1e-6)
    torch.manual_seed(1)
    assert sliced_wasserstein(one, other) == forth
    assert sliced_wasserstein(one, other, seed=1) != forth
    assert sliced_wasserstein(one, other, seed=1) == pytest.approx(forth, rel=0.2)


def test_it_sees_what_is_fine_and_what_is_coarse() -> None:
    images = noise(8, 64)
    blurred = torch.nn.functional.avg_pool2d(images, 5, 1, 2)
    coarse = torch.nn.functional.interpolate(noise(8, 4, seed=3), 64, mode="bilinear")
    assert sliced_wasserstein(blurred, images) > 0.05
    assert sliced_wasserstein(images + 2 * coarse, images) > 0.05


def test_flat_images_are_no_trouble() -> None:
    flat = torch.zeros(4, 3, 16, 16)
    assert sliced_wasserstein(flat, flat) == 0
    assert 0 < sliced_wasserstein(flat, noise(4, 16)) < 10


@pytest.mark.parametrize("shape", [(5, 3, 32, 32), (6, 3, 16, 16), (6, 1, 32, 32)])
def test_sets_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Two sets of one shape are needed, got \[6, 3, 32, 32\] and \["):
        sliced_wasserstein(noise(), torch.zeros(shape))


def test_psnr() -> None:
    one = torch.zeros(1, 3, 16, 16)
    assert psnr(one, one + 0.2) == pytest.approx(20)  # a tenth of the range
    assert psnr(one + 1, one + 5) == math.inf  # both are white


def test_ssim_is_that_of_a_loop_over_windows() -> None:
    a, b = (torch.rand(1, 3, 13, 12, generator=torch.Generator().manual_seed(k)) * 2 - 1 for k in (0, 1))
    b = 0.7 * a + 0.3 * b
    places = torch.arange(-5, 6, dtype=torch.float64)
    window = torch.exp(-(places[:, None] ** 2 + places**2) / 4.5)
    window /= window.sum()
    values = []
    for c in range(3):
        for y in range(3):
            for x in range(2):
                p, q = (((i[0, c, y : y + 11, x : x + 11] + 1) / 2).double() for i in (a, b))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                both = (window * (p - mp) * (q - mq)).sum()
                values.append((2 * mp * mq + 1e-4) * (2 * both + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    assert ssim(a, b) == pytest.approx(float(torch.stack(values).mean()))
    assert ssim(a, a) == pytest.approx(1)
    with pytest.raises(ValueError, match="11 pixels or more"):
        ssim(a[..., :10], b[..., :10])
