from __future__ import annotations

import json
import math

import pytest
import torch
from tests.small_pictures import seeded
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from labels4free.errors import CheckpointError, ConfigError
from labels4free.layered import composite
from labels4free.training.discriminator_inputs import augmentation
from labels4free.training.discriminator_inputs.augmentation import AugmentationConfig, Augmenter, recolour, warp

EXACT = ("mirror", "rotate_90", "shift")
FRACTIONAL = ("scale", "rotate", "stretch", "subpixel_shift")
COLOUR = ("brightness", "contrast", "flip_luma", "hue", "saturation")
ALL = EXACT + FRACTIONAL + COLOUR
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()


def only(*names: str, probability: float = 1.0, **rest) -> Augmenter:
    switches = {name: name in names for name in ALL}
    return Augmenter(AugmentationConfig(**{"mode": "fixed", "probability": probability} | switches | rest))


def noise(n: int, size: int = 8, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=seeded(99), dtype=dtype)


def positions(n: int, size: int) -> torch.Tensor:
    """Images whose channels say where a pixel is, from the centre: x, y, and nothing."""
    line = torch.arange(size) - (size - 1) / 2
    x = line.expand(n, 1, size, size)
    return torch.cat([x, x.mT, torch.zeros_like(x)], 1)


def measured(moved: torch.Tensor) -> torch.Tensor:
    """[N, 2, 3] maps from what became of ``positions``, read off the four pixels in the middle."""
    h = moved.shape[-1] // 2
    p, right, below, across = (moved[:, :2, h - 1 + i, h - 1 + j] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    return torch.stack([right - p, below - p, (p + right + below + across) / 4], -1)


def shifted(image: torch.Tensor, dx: int, dy: int) -> torch.Tensor:
    """The content moved to the right and down, by the definition of reflection."""
    last = image.shape[-1] - 1

    def from_(d: int) -> list[int]:
        return [abs(v) if v <= last else 2 * last - v for v in range(-d, last + 1 - d)]

    return image[..., from_(dy), :][..., from_(dx)]


def draws(**amounts: float) -> dict[str, torch.Tensor]:
    return {name: torch.full((2, 1), amounts.get(name, 0.0), dtype=torch.float64) for name in augmentation._SLOTS}


def test_defaults_change_nothing_and_never_resample():
    config = AugmentationConfig()
    assert config.mode == "off"
    assert not any(getattr(config, name) for name in (*FRACTIONAL, "mirror"))
    assert all(getattr(config, name) for name in ("rotate_90", "shift", *COLOUR))
    assert (config.target, config.max_probability) == (0.6, 0.8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "on"}, "augmentation.mode must be one of off, fixed, adaptive, got 'on'"),
        ({"probability": 1.5}, r"augmentation.probability must lie in \[0, 1\], got 1.5"),
        ({"max_probability": -0.1}, r"augmentation.max_probability must lie in \[0, 1\], got -0.1"),
        ({"target": 1.0}, "augmentation.target must lie between -1 and 1, both excluded, got 1.0"),
        ({"length": 0}, "augmentation.length must be at least 1, got 0"),
        ({"interval": 0}, "augmentation.interval must be at least 1, got 0"),
        ({"hue": 1}, "augmentation.hue must be bool, got 1"),
        ({"mode": "fixed"} | dict.fromkeys(ALL, False), "every transform is off; switch on at least one of mirror, "),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        AugmentationConfig(**values)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 3, 8, 16)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"needs square images \[N, 3, R, R\], got \["):
        Augmenter(AugmentationConfig())(torch.zeros(shape), seeded(0))


def test_off_neither_changes_nor_draws_and_probability_0_draws_alone():
    images, rng = noise(2), seeded(0)
    before = rng.get_state()
    assert Augmenter(AugmentationConfig())(images, rng) is images
    assert torch.equal(rng.get_state(), before)
    assert only(*ALL, probability=0.0)(images, rng) is images
    assert only(*ALL, mode="adaptive")(images, rng) is images  # it begins there
    assert not torch.equal(rng.get_state(), before)


@pytest.mark.parametrize("names", [("brightness",), ("scale",), ("rotate",), (*FRACTIONAL, "contrast", "hue")])
def test_each_image_is_changed_with_the_probability_and_is_else_the_same_bit_for_bit(names):
    images = noise(4000, 4)
    same = (only(*names, probability=0.3)(images, seeded(0)) == images).flatten(1).all(1)
    assert same.float().mean().item() == pytest.approx(0.7 ** len(names), abs=0.03)


def test_a_shift_by_hand():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    moved = warp(image, torch.tensor([[[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]]))  # to the right by one
    assert moved[0, 0].tolist() == [[1, 0, 1], [4, 3, 4], [7, 6, 7]]
    far = warp(image, torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 5.0]]]))  # further than the image is high
    assert far[0, 0].tolist() == [[3, 4, 5], [6, 7, 8], [3, 4, 5]]


@pytest.mark.parametrize("size", [7, 8])
def test_mirroring_and_quarter_turns(size):
    images = noise(2000, size)
    turned = [torch.rot90(images, k, (2, 3)) for k in range(4)]
    for name, candidates in (("mirror", [images, images.flip(-1)]), ("rotate_90", turned)):
        out = only(name)(images, seeded(0))
        matches = torch.stack([(out == x).flatten(1).all(1) for x in candidates])
        assert (matches.sum(0) == 1).all()
        fraction = torch.full((len(candidates),), 1 / len(candidates))
        torch.testing.assert_close(matches.float().mean(1), fraction, rtol=0, atol=0.04)


@pytest.mark.slow
def test_whole_pixel_shifts():
    images = noise(600, 16)
    out = only("shift")(images, seeded(0))
    candidates = [(dx, dy) for dx in range(-2, 3) for dy in range(-2, 3)]
    matches = torch.stack([(out == shifted(images, *c)).flatten(1).all(1) for c in candidates])
    assert (matches.sum(0) == 1).all()
    fraction = matches.float().mean(1).view(5, 5)
    expected = torch.tensor([0.125, 0.25, 0.25, 0.25, 0.125]).expand(2, 5)
    torch.testing.assert_close(torch.stack([fraction.sum(0), fraction.sum(1)]), expected, rtol=0, atol=0.06)


@pytest.mark.parametrize("quarter", range(4))
def test_moves_are_done_in_order(quarter):
    image = noise(1, 16)
    drawn = draws(mirror=0.5, rotate_90=(quarter + 0.5) / 2 - 2 * (quarter > 1))
    drawn["shift"] = torch.tensor([[1.0], [-0.5]], dtype=torch.float64)  # 2 to the right, 1 up
    expected = shifted(torch.rot90(image.flip(-1), -quarter, (2, 3)), 2, -1)
    assert torch.equal(warp(image, augmentation._affine_maps(drawn, 16)), expected)


def test_the_kernel_by_hand():
    image = torch.tensor([0.0, 0.0, 0.0, 16.0, 0.0, 0.0, 0.0]).expand(1, 1, 7, 7)
    moved = warp(image, torch.tensor([[[1.0, 0.0, -0.5], [0.0, 1.0, 0.0]]]))
    torch.testing.assert_close(moved[0, 0, 2], torch.tensor([0.0, 0.0, -1.0, 9.0, 9.0, -1.0, 0.0]))


@pytest.mark.slow
def test_scaling_and_stretching():
    maps = measured(only("scale")(positions(1000, 32), seeded(0)))
    torch.testing.assert_close(maps, maps[:, :1, :1] * torch.eye(2, 3), rtol=0, atol=1e-4)
    zoom = -maps[:, 0, 0].log2()
    assert (zoom.mean().item(), zoom.std().item()) == pytest.approx((0, 0.2), abs=0.02)
    maps = measured(only("stretch")(positions(1000, 32), seeded(0)))
    torch.testing.assert_close(torch.det(maps[..., :2]), torch.ones(1000), rtol=0, atol=1e-3)
    assert maps[:, [0, 1], [1, 0]].abs().max() < 1e-4
    assert maps[:, 0, 0].log2().std().item() == pytest.approx(0.2, abs=0.02)


@pytest.mark.slow
def test_rotation_by_any_angle():
    maps = measured(only("rotate")(positions(2000, 32), seeded(0)))
    torch.testing.assert_close(maps[..., :2] @ maps[..., :2].mT, torch.eye(2).expand(2000, 2, 2), rtol=0, atol=1e-3)
    assert maps[..., 2].abs().max() < 1e-4
    fraction = torch.histc(torch.atan2(maps[:, 0, 1], maps[:, 0, 0]) / math.pi, 8, -1, 1) / 2000
    torch.testing.assert_close(fraction, torch.full((8,), 0.125), rtol=0, atol=0.03)
    stretched = measured(only("stretch", "rotate")(positions(500, 32), seeded(0)))
    oblique = stretched[..., :2] @ stretched[..., :2].mT  # rotation alone would leave the identity
    assert oblique[:, 0, 1].abs().median() > 0.1


def test_shifts_by_fractions():
    maps = measured(only("subpixel_shift")(positions(1000, 32), seeded(0)))
    near = maps[..., 2].abs().max(1).values < 8  # no edge is in sight there
    torch.testing.assert_close(maps[near][..., :2], torch.eye(2).expand(int(near.sum()), 2, 2), rtol=0, atol=1e-3)
    within = (maps[..., 2].abs() < 4).float().mean(0)  # one standard deviation
    torch.testing.assert_close(within, torch.full((2,), 0.683), rtol=0, atol=0.05)


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_any_size_and_no_image_at_all(size):
    out = only(*ALL)(noise(8, size), seeded(0))
    assert out.shape == (8, 3, size, size)
    assert torch.isfinite(out).all()
    assert only(*ALL)(noise(0, size), seeded(0)).shape == (0, 3, size, size)


def test_colours_by_hand():
    image = torch.tensor([0.5, -0.25, 0.0]).view(1, 3, 1, 1)

    def after(**amounts: float) -> list[float]:
        return recolour(image, augmentation._colour_matrices(draws(**amounts))).flatten().tolist()

    assert after() == [0.5, -0.25, 0.0]
    assert after(brightness=1.0) == pytest.approx([0.7, -0.05, 0.2])
    assert after(contrast=2.0) == pytest.approx([1.0, -0.5, 0.0])
    assert after(brightness=1.0, contrast=2.0) == pytest.approx([1.4, -0.1, 0.4])  # brightness comes first
    flipped = [0.7 - 17 / 30, -0.05 - 17 / 30, 0.2 - 17 / 30]  # mean 17/60 becomes -17/60
    assert after(brightness=1.0, flip_luma=0.5) == pytest.approx(flipped)
    assert after(flip_luma=0.5) == pytest.approx([0.5 - 1 / 6, -0.25 - 1 / 6, -1 / 6])  # mean 1/12 becomes -1/12
    assert after(hue=2 / 3) == pytest.approx([0.0, 0.5, -0.25], abs=1e-6)  # a third of the circle: red becomes green
    assert after(saturation=1.0) == pytest.approx([1 - 1 / 12, -0.5 - 1 / 12, -1 / 12])  # away from the grey 1/12


def test_strengths_of_colour_changes():
    images = noise(3000, 4)
    brighter, stronger, louder = (only(name)(images, seeded(0)) for name in ("brightness", "contrast", "saturation"))
    drawn = [
        ((brighter - images).mean((1, 2, 3)), 0.2),
        ((stronger / images)[:, 0, 0, 0].log2(), 0.5),
        (((louder - grey(louder)) / (images - grey(images)))[:, 0, 0, 0].log2(), 1.0),
    ]
    for amount, spread in drawn:
        assert (amount.mean().item(), amount.std().item()) == pytest.approx((0, spread), abs=0.06 * spread)


def grey(images: torch.Tensor) -> torch.Tensor:
    return images.mean(1, keepdim=True)


def test_luma_is_flipped_in_half_of_the_cases_and_hue_turned_by_any_angle():
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(4000, 3, 1, 1)
    flipped = only("flip_luma")(red, seeded(0))
    torch.testing.assert_close(flipped - grey(flipped), red - grey(red))
    torch.testing.assert_close(grey(flipped).abs(), grey(red))
    assert (grey(flipped) < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    turned = only("hue")(red, seeded(0))
    torch.testing.assert_close(grey(turned), grey(red))
    torch.testing.assert_close(turned.norm(dim=1), red.norm(dim=1))
    r, g, b = turned.flatten(1).T
    fraction = torch.histc(torch.atan2(math.sqrt(3) * (g - b), 2 * r - g - b), 8, -math.pi, math.pi) / 4000
    torch.testing.assert_close(fraction, torch.full((8,), 0.125), rtol=0, atol=0.03)


@pytest.mark.slow
def test_gradients_of_the_whole_of_it():
    images = noise(3, 5, torch.float64).requires_grad_()
    everything = only(*ALL)
    assert gradcheck(lambda x: everything(x, seeded(1)), (images,))
    assert gradgradcheck(lambda x: everything(x, seeded(1)).square(), (images,))  # as a penalty on gradients needs


def test_the_gradient_of_a_copied_pixel_goes_back_to_where_it_came_from():
    alpha = torch.rand(1, 1, 8, 8, generator=seeded(0)).requires_grad_()
    shown = composite(torch.ones(1, 3, 8, 8), -torch.ones(1, 3, 8, 8), alpha)
    moved = warp(shown, torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]]))
    moved[0, :, 0, 0].sum().backward()  # clockwise: this one was at the bottom left
    expected = torch.zeros(1, 1, 8, 8)
    expected[0, 0, 7, 0] = 6
    assert torch.equal(alpha.grad, expected)


@pytest.mark.parametrize("names", [EXACT, EXACT + FRACTIONAL])
def test_alpha_goes_where_its_image_goes(names):
    alpha = (torch.rand(4, 1, 4, 4, generator=seeded(0)) > 0.5).float().repeat_interleave(8, 2).repeat_interleave(8, 3)
    white = torch.ones(4, 3, 32, 32)
    augmenter = only(*names)
    shown = augmenter(composite(white, -white, alpha), seeded(5))
    maps = measured(augmenter(positions(4, 32), seeded(5)))  # where the same draws take another image
    assert (maps - torch.eye(2, 3)).abs().amax((1, 2)).min() > 0.5
    torch.testing.assert_close(shown, warp(2 * alpha - 1, maps).expand_as(shown), rtol=0, atol=0.01)
    if names == EXACT:  # copying pixels and putting layers together may change places
        front, behind = noise(4, 32), noise(4, 32).flip(0)
        together = augmenter(composite(front, behind, alpha), seeded(5))
        moved_alpha = augmenter(alpha.expand(-1, 3, -1, -1), seeded(5))
        assert torch.equal(together, composite(augmenter(front, seeded(5)), augmenter(behind, seeded(5)), moved_alpha))


def test_changed_images_still_tell_the_orientation_below_probability_1():
    image = torch.zeros(1, 3, 8, 8)
    image[..., :4, :4], image[..., :4, 4:] = 1.0, 0.4  # no quarter turn and no mirroring leaves it the same
    copies = image.expand(8000, -1, -1, -1)

    def corners(*names: str, probability: float) -> torch.Tensor:
        return F.avg_pool2d(only(*names, probability=probability)(copies, seeded(0)).mean((0, 1))[None], 4).flatten()

    # At 0.8 each turn but none has probability 0.2, mirroring 0.4. The corners, clockwise, begin as 1, 0.4, 0, 0.
    turned = 0.4 * torch.tensor([1, 0.4, 0, 0]) + 0.2 * torch.tensor([0.4, 1, 1.4, 1.4])
    expected = 0.6 * turned + 0.4 * turned[[1, 0, 3, 2]]
    kept = corners("rotate_90", "mirror", probability=0.8)
    torch.testing.assert_close(kept[[0, 1, 3, 2]], expected, rtol=0, atol=0.015)
    assert kept[0] > kept[1] + 0.015  # left and right can be told apart, not only above and below
    lost = corners("rotate_90", "mirror", probability=1.0)
    torch.testing.assert_close(lost, torch.full((4,), 0.35), rtol=0, atol=0.015)
    everything = corners(*ALL, probability=0.8)
    assert everything[0] > everything[1] + 0.01
    assert everything[1] > everything[2:].max()


def test_draws_come_from_the_given_source_alone():
    images, augmenter = noise(4), only(*ALL)
    before = torch.get_rng_state()
    rng = seeded(1)
    first, second = augmenter(images, rng), augmenter(images, rng)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, second)
    assert torch.equal(augmenter(images, seeded(1)), first)
    for other in (only("hue", probability=0.3), only("shift", probability=0.0)):  # they take as many draws
        one, another = seeded(1), seeded(1)
        augmenter(images, one)
        other(images, another)
        assert torch.equal(one.get_state(), another.get_state())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_types_and_devices(device, dtype):
    images = noise(8).to(device, dtype)
    for names, tolerance in ((EXACT, 0), (ALL, 0 if dtype == torch.float32 and device == "cpu" else 0.1)):
        out = only(*names)(images.clone().requires_grad_(), seeded(3))
        assert (out.dtype, out.device) == (dtype, images.device)
        expected = only(*names)(images.cpu().float(), seeded(3))
        torch.testing.assert_close(out.cpu().float(), expected, rtol=0, atol=tolerance)
        out.float().sum().backward()
        with torch.autocast(device, torch.bfloat16):
            assert torch.equal(only(*names)(images, seeded(3)), out)


def adaptive(**values) -> Augmenter:
    return Augmenter(AugmentationConfig(**{"mode": "adaptive", "length": 64, "interval": 2} | values))


def test_the_probability_follows_the_overfitting():
    augmenter = adaptive()
    sure, undecided = torch.ones(8, 1), torch.tensor([1.0, -1.0] * 4).view(8, 1)
    augmenter.update(sure)
    assert augmenter.probability == 0  # the interval is not over
    augmenter.update(sure)
    assert (augmenter.probability, augmenter.overfitting) == (0.25, 1.0)
    for logits in (sure, sure, sure, undecided):
        augmenter.update(logits)
    assert (augmenter.probability, augmenter.overfitting) == (0.25, 0.5)  # up with 1, down with 0.5 < 0.6
    for _ in range(6):
        augmenter.update(-sure)
    assert (augmenter.probability, augmenter.overfitting) == (0.0, -1.0)


@pytest.mark.parametrize("highest", [1.0, 0.8])
def test_the_probability_can_go_from_0_to_its_limit_in_the_length(highest):
    augmenter = adaptive(max_probability=highest)
    for _ in range(6):
        augmenter.update(torch.ones(8, 1))
    assert augmenter.probability == 0.75
    for _ in range(4):
        augmenter.update(torch.ones(8, 1))
        assert augmenter.probability <= highest
    assert augmenter.probability == highest


def test_what_is_on_target_moves_nothing_and_what_is_not_a_number_is_not_overfitting():
    augmenter = adaptive(target=0.5, interval=1)
    augmenter.load_state_dict(augmenter.state_dict() | {"probability": 0.4})
    augmenter.update(torch.tensor([1.0, 1.0, 1.0, -1.0]))
    assert (augmenter.probability, augmenter.overfitting) == (0.4, 0.5)
    augmenter.update(torch.full((2,), math.nan))
    assert augmenter.probability == 0.4 - 2 / 64
    fixed = only("hue", probability=0.3)
    for _ in range(8):
        fixed.update(torch.ones(8))
    assert fixed.probability == 0.3


def test_a_resumed_run_is_the_uninterrupted_one():
    whole, resumed, images = adaptive(length=1000), adaptive(length=1000), noise(4)
    logits = torch.randn(40, 4, generator=seeded(7)) + 1
    results = []
    for step in range(40):
        if step == 19:  # amid an interval
            resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
        for augmenter in (whole, resumed)[: 1 + (step >= 19)]:
            augmenter.update(logits[step])
            results.append(augmenter(images, seeded(step)))
    assert whole.state_dict() == resumed.state_dict()
    assert 0 < whole.probability < 1
    assert all(torch.equal(a, b) for a, b in zip(results[19::2], results[20::2], strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": 2.0}, r"must lie in \[0, 1\], got 2.0"),
        ({"signs": 0.5}, "needs 'signs' as int, got 0.5"),
        ({"steps": None}, "needs 'steps' as int, got None; resume from a checkpoint"),
    ],
)
def test_a_wrong_state_is_refused(change, message):
    augmenter = adaptive()
    before = augmenter.state_dict()
    with pytest.raises(CheckpointError, match=message):
        augmenter.load_state_dict(before | change)
    assert augmenter.state_dict() == before
