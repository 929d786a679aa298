from __future__ import annotations

import ast
import inspect
import math

import pytest
import torch
from torch.autograd import gradcheck

from labels4free import losses
from labels4free.losses import (
    background_coverage,
    binarization,
    discriminator_logistic,
    foreground_coverage,
    generator_nonsaturating,
    inpainting_error,
    path_lengths,
    r1_penalty,
    relativistic,
)
from tests.small_pictures import seeded, square

LOG2 = math.log(2)


def maps(*samples: list[float]) -> torch.Tensor:
    """Alphas [N, 1, 1, W]."""
    return torch.tensor(samples).view(len(samples), 1, 1, -1)


def test_imports_nothing_of_ours_but_tensor_operations():
    tree = ast.parse(inspect.getsource(losses))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    ours = [module for module in modules if module and module.startswith("labels4free")]
    assert all(module.startswith("labels4free.ops.") for module in ours)


def test_adversarial_by_hand():
    zero = torch.zeros(3, 1)
    assert float(generator_nonsaturating(zero)) == pytest.approx(LOG2)
    assert float(discriminator_logistic(zero, zero)) == pytest.approx(2 * LOG2)
    logits = torch.tensor([[math.log(3.0)], [0.0]])  # sigmoid 3/4 and 1/2
    assert float(generator_nonsaturating(logits)) == pytest.approx((math.log(4 / 3) + LOG2) / 2)
    assert float(discriminator_logistic(logits, -logits)) == pytest.approx(math.log(4 / 3) + LOG2)
    # batches of different sizes: each mean is over its own
    assert float(discriminator_logistic(logits[:1], zero)) == pytest.approx(math.log(4 / 3) + LOG2)


def test_adversarial_extremes_stay_finite():
    high = torch.full((2, 1), 1e4)
    assert float(generator_nonsaturating(high)) == 0
    assert float(generator_nonsaturating(-high)) == 1e4
    assert float(discriminator_logistic(high, -high)) == 0
    assert float(discriminator_logistic(-high, high)) == 2e4


def test_nonsaturating_gradient_does_not_vanish_for_bad_fakes():
    bad = torch.tensor([[-20.0]], requires_grad=True)
    generator_nonsaturating(bad).backward()
    assert bad.grad is not None
    assert float(bad.grad) == pytest.approx(-1, abs=1e-6)


def test_relativistic_by_hand():
    zero = torch.zeros(3, 1)
    assert float(relativistic(zero, zero)) == pytest.approx(LOG2)
    better = torch.tensor([[math.log(3.0)], [5.0]])
    worse = torch.tensor([[0.0], [5.0]])  # one is more real by log 3: log(1 + 1/3); the others are equal
    assert float(relativistic(better, worse)) == pytest.approx((math.log(4 / 3) + LOG2) / 2)
    assert float(relativistic(worse, better)) == pytest.approx((math.log(4) + LOG2) / 2)
    assert float(relativistic(better + 100, worse + 100)) == pytest.approx(float(relativistic(better, worse)), rel=1e-5)


def test_relativistic_extremes_stay_finite():
    high = torch.full((2, 1), 1e4)
    assert float(relativistic(high, -high)) == 0
    assert float(relativistic(-high, high)) == 2e4


def test_relativistic_gradients():
    better, worse = (torch.randn(4, 1, dtype=torch.double, generator=seeded(k), requires_grad=True) for k in range(2))
    assert gradcheck(relativistic, (better, worse))
    lost = torch.tensor([[-20.0]], requires_grad=True)
    relativistic(lost, torch.zeros(1, 1)).backward()
    assert lost.grad is not None
    assert float(lost.grad) == pytest.approx(-1, abs=1e-6)  # does not vanish where it is needed


def test_path_lengths_of_a_linear_map_by_hand():
    """Image = sum of A_r w_r: J^T y of row r is A_r^T y."""
    matrices = torch.randn(2, 3 * 4 * 4, 5, generator=seeded(0))  # two rows of styles, five numbers each
    ws = torch.randn(3, 2, 5, generator=seeded(1)).requires_grad_()
    image = torch.einsum("rpd,nrd->np", matrices, ws).view(3, 3, 4, 4)
    direction = torch.randn(3, 3, 4, 4, generator=seeded(2))
    found = path_lengths(image, ws, direction)
    assert found.shape == (3,)
    for n in range(3):
        y = direction[n].flatten() / 4  # sqrt(4 * 4)
        rows = [float((matrices[r].T @ y).square().sum()) for r in range(2)]
        assert float(found[n].detach()) == pytest.approx((sum(rows) / 2) ** 0.5, rel=1e-5)


def test_path_lengths_scale_with_the_map_and_not_with_the_side():
    ws = torch.randn(2, 3, 4, generator=seeded(0)).requires_grad_()
    bright = ws.sum(dim=(1, 2)).view(2, 1, 1, 1)
    lengths = [
        path_lengths(gain * bright.expand(2, 3, side, side), ws, torch.ones(2, 3, side, side)).detach() / side
        for gain, side in ((1, 4), (1, 16), (3, 4))
    ]
    torch.testing.assert_close(lengths[0], lengths[1])
    torch.testing.assert_close(lengths[2], 3 * lengths[0])
    # each of four numbers of a row: 3 side^2 ones, divided by the side
    torch.testing.assert_close(lengths[0], torch.full((2,), 3 * 4**0.5))


def test_path_lengths_of_an_image_that_does_not_move_are_next_to_0():
    ws = torch.ones(2, 3, 4, requires_grad=True)
    lengths = path_lengths((0 * ws).sum() + torch.ones(2, 3, 4, 4), ws, torch.ones(2, 3, 4, 4))
    assert lengths.tolist() == pytest.approx([1e-4] * 2)


def test_path_lengths_reach_the_weights():
    ws = torch.randn(2, 3, 4, dtype=torch.double, generator=seeded(0)).requires_grad_()
    direction = torch.randn(2, 3, 4, 4, dtype=torch.double, generator=seeded(1))
    weight = torch.randn(48, 12, dtype=torch.double, generator=seeded(2)).requires_grad_()

    def lengths(weight):
        image = torch.tanh(ws.flatten(1) @ weight.T).view(2, 3, 4, 4)
        return path_lengths(image, ws, direction)

    assert gradcheck(lengths, (weight,))


def test_r1_by_hand():
    images = torch.tensor([1.0, -2.0, 0.5, 3.0]).view(2, 1, 1, 2).requires_grad_()
    # D(x) = 3 a + b^2: gradients (3, 2b), squared norms 9 + 16 and 9 + 36
    logits = (3 * images[..., 0] + images[..., 1] ** 2).view(2, 1)
    assert float(r1_penalty(logits, images).detach()) == pytest.approx((25 + 45) / 2)


def test_r1_reaches_the_weights_and_is_zero_for_a_constant():
    weight = torch.tensor(2.0, requires_grad=True)
    images = torch.ones(3, 1, 2, 2, requires_grad=True)
    penalty = r1_penalty((weight * images).sum(dim=(1, 2, 3)), images)
    assert float(penalty.detach()) == 16  # 4 pixels, slope 2
    penalty.backward()
    assert weight.grad is not None
    assert float(weight.grad) == pytest.approx(16)  # d (4 w^2) / d w
    assert float(r1_penalty((0 * images).sum(dim=(1, 2, 3)), images).detach()) == 0


def test_r1_needs_a_gradient():
    images = torch.ones(1, 3, 2, 2)
    with pytest.raises(RuntimeError, match="grad"):
        r1_penalty(images.sum(), images)


def test_binarization_by_hand_and_extremes():
    assert float(binarization(maps([0.0, 0.2, 0.5, 0.9]))) == pytest.approx((0 + 0.2 + 0.5 + 0.1) / 4)
    assert float(binarization(maps([0.0, 1.0, 1.0, 0.0]))) == 0
    assert float(binarization(torch.full((2, 1, 4, 4), 0.5))) == 0.5
    alpha = maps([0.1, 0.9]).requires_grad_()
    binarization(alpha).backward()
    assert alpha.grad is not None
    assert alpha.grad.flatten().tolist() == [0.5, -0.5]  # downhill leads away from 1/2


def test_coverage_by_hand():
    alpha = maps([0.0, 0.2], [0.5, 0.7], [1.0, 1.0])  # means 0.1, 0.6, 1
    assert float(foreground_coverage(alpha, 0.25)) == pytest.approx(0.15 / 3)
    assert float(background_coverage(alpha, 0.5)) == pytest.approx((0 + 0.1 + 0.5) / 3)


def test_coverage_is_per_sample():
    """A sample with much foreground does not make up for one with none."""
    assert float(foreground_coverage(maps([0.0, 0.0], [1.0, 1.0]), 0.25)) == pytest.approx(0.125)


def test_coverage_extremes():
    ones, zeros = torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    assert float(foreground_coverage(ones, 1.0)) == float(background_coverage(zeros, 1.0)) == 0
    assert float(foreground_coverage(zeros, 0.25)) == float(background_coverage(ones, 0.25)) == 0.25
    assert float(foreground_coverage(zeros, 0.0)) == 0


@pytest.mark.parametrize(
    "loss",
    [
        binarization,
        lambda a: foreground_coverage(a, 0.9),
        lambda a: background_coverage(a, 0.9),
        generator_nonsaturating,
    ],
)
def test_gradients(loss):
    alpha = (
        torch.rand(3, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.05
    ).requires_grad_()
    assert gradcheck(loss, (alpha,))
    assert loss(alpha).shape == ()


def test_gradients_of_two_arguments():
    real, fake = (torch.randn(3, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradcheck(discriminator_logistic, (real, fake))
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    images = torch.randn(2, 6, 1, 1, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda w: r1_penalty((images.flatten(1) @ w.T).tanh().sum(dim=1), images), (weight,))


def scene(size: int = 16) -> torch.Tensor:
    """A bright textured square on a dark textured ground."""
    texture = 0.05 * torch.randn(1, 3, size, size, generator=seeded(0))
    return 2 * square(4, 12, size) - 1 + texture


def test_inpainting_error_is_highest_for_the_right_mask():
    image = scene()
    right = inpainting_error(image, square(4, 12))
    wrong = [square(2, 14), square(6, 10), square(0, 8), torch.full((1, 1, 16, 16), 0.5)]
    assert all(inpainting_error(image, mask) < right for mask in wrong)
    torch.testing.assert_close(inpainting_error(image, 1 - square(4, 12)), right)  # it does not tell the sides apart


def test_inpainting_error_by_hand():
    # one side is white, the other black: each is filled with the other's colour, an error of 2^2 on each side
    halves = torch.ones(1, 3, 16, 16)
    halves[..., 8:] = -1
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    assert inpainting_error(halves, mask).item() == pytest.approx(8, rel=1e-3)
    assert inpainting_error(torch.ones(1, 3, 16, 16), mask).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("alpha", [torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)])
def test_inpainting_error_of_an_empty_or_full_mask_is_finite(alpha):
    assert torch.isfinite(inpainting_error(scene(), alpha))


def test_gradients_of_the_inpainting_error():
    image = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=seeded(0))
    alpha = (0.1 + 0.8 * torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=seeded(1))).requires_grad_()
    assert gradcheck(lambda a: inpainting_error(image, a), (alpha,))


# Segmenters


def test_border_emphasis_by_hand():
    alpha = torch.tensor([0.0, 0.0, 0.0, 0.25, 1.0, 1.0]).view(1, 1, 1, 6).expand(1, 1, 3, 6)
    found = losses.border_emphasis(alpha, 3)
    assert found[0, 0, 1].tolist() == [0, 0, 0.25, 1, 0.75, 0]
    assert losses.border_emphasis(alpha, 1).abs().max() == 0


def test_soft_iou_by_hand():
    alpha = torch.tensor([[1.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0]]).view(2, 1, 2, 2)
    target = torch.tensor([[1.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]]).view(2, 1, 2, 2)
    ones = torch.ones_like(alpha)
    first = 1 - (1 + 1.25) / (1 + 1 + 1 + 0.75 + 1)
    assert float(losses.soft_iou_loss(alpha, target, ones)) == pytest.approx(first / 2)  # empty masks agree
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2).expand_as(alpha)
    assert float(losses.soft_iou_loss(alpha, target, weight)) == pytest.approx(0)


def test_weighted_mean():
    values, weight = torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0])
    assert float(losses.weighted_mean(values, weight)) == 2
    assert float(losses.weighted_mean(values, torch.zeros(2))) == 0


def test_segmenter_terms_have_right_gradients():
    rng = torch.Generator().manual_seed(3)
    alpha, target, weight = (torch.rand(2, 1, 3, 3, generator=rng, dtype=torch.float64) for _ in range(3))
    assert torch.autograd.gradcheck(lambda a: losses.soft_iou_loss(a, target, weight), alpha.requires_grad_())
