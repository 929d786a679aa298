from __future__ import annotations

import math

import pytest
import torch
from tests.metrics.path_stub import EPSILON, SIDE, WIDTH, features, mapping, synthesis

from labels4free.metrics.perceptual import great_circle, path_image, path_length, perceptual_distance

# Of NVlabs/stylegan2-ada-pytorch metrics/perceptual_path_length.py for the stub and 20 pairs of torch.manual_seed(5).
PUBLISHED = {
    "ppl_zfull": 657.8523492258762,
    "ppl_wfull": 471.4431672657077,
    "ppl_zend": 520.1153792536007,
    "ppl_wend": 233.2717962023509,
    "ppl2_wend": 1094.6847886408245,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_equal_to_nvidia(name):
    torch.manual_seed(5)
    t = torch.rand(20, dtype=torch.float64) * (1 if name.endswith("full") else 0)
    z0, z1 = torch.randn(40, WIDTH, dtype=torch.float64).chunk(2)
    if "_z" in name:
        w0, w1 = (mapping(great_circle(z0, z1, at)) for at in (t, t + EPSILON))
    else:
        w0, w1 = (torch.lerp(mapping(z0), mapping(z1), at[:, None]) for at in (t, t + EPSILON))
    seen = [path_image(synthesis(w), crop=name.startswith("ppl_")) for w in (w0, w1)]
    one, other = (features((image + 1) * 127.5) for image in seen)
    found = path_length((one - other).square().sum(dim=1), EPSILON)
    assert found == pytest.approx(PUBLISHED[name], rel=1e-9)


def test_great_circle_by_hand():
    a, b = torch.tensor([[2.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 5.0], [1.0, 1.0]])
    half = great_circle(a, b, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(half, torch.full((2, 2), math.sqrt(0.5)))
    torch.testing.assert_close(great_circle(a, b, torch.zeros(2)), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


def test_path_image_by_hand():
    image = torch.arange(SIDE, dtype=torch.float32).expand(1, 3, SIDE, SIDE)
    whole, middle = path_image(image, crop=False), path_image(image, crop=True)
    assert whole.shape == (1, 3, 256, 256)
    assert middle.shape == (1, 3, 128, 128)
    assert whole[0, 0, 0, :2].tolist() == [0.5, 2.5]
    assert middle[0, 0, 0, 0] == SIDE / 4 + 0.5
    rows = path_image(image.transpose(2, 3), crop=True)
    assert rows[0, 0, 0, 0] == SIDE * 3 / 8 + 0.5
    small = torch.zeros(1, 3, 64, 64)
    assert path_image(small, crop=False) is small


def test_path_length_leaves_out_the_extremes():
    distances = torch.full((300,), 4.0)
    distances[:2], distances[-2:] = 0.0, 1e9
    assert path_length(distances, 0.5) == 16
    assert path_length(torch.tensor([4.0]), 0.5) == 16
    distances[-5:] = 1e9  # more than a hundredth
    assert path_length(distances, 0.5) > 1000
    with pytest.raises(ValueError, match="at least one pair"):
        path_length(torch.zeros(0), 0.1)


def test_perceptual_distance_by_hand():
    along, across = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    along[:, 0], across[:, 1] = 5.0, 0.1
    assert perceptual_distance([along], [across]).tolist() == pytest.approx([2])
    assert perceptual_distance([along, along], [-along, across]).tolist() == pytest.approx([6])
    assert perceptual_distance([along], [3 * along]).tolist() == pytest.approx([0], abs=1e-6)


def test_perceptual_distance_takes_gradients_where_maps_are_zero():
    maps = torch.zeros(2, 3, 4, 4, requires_grad=True)
    distance = perceptual_distance([maps], [torch.ones(2, 3, 4, 4)])
    distance.sum().backward()
    assert distance.tolist() == pytest.approx([1, 1])
    assert bool(maps.grad.isfinite().all())
