from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tests.small_pictures import seeded
from tests.small_segmenters import red_segmenter, tiny_segmenter
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.networks.segmenter import SegmenterNetwork


def images(*shape):
    return torch.rand(shape, generator=seeded(1)) * 2 - 1


def by_hand(network, x):
    """The formula of the class, from its weights by name."""
    w = network.state_dict()

    def norm(name, y):
        mean, var, weight, bias = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, mean, var, weight, bias)

    def block(name, y, stride):
        a = F.relu(norm(f"{name}.norm1", F.conv2d(y, w[f"{name}.conv1.weight"], stride=stride, padding=1)))
        a = norm(f"{name}.norm2", F.conv2d(a, w[f"{name}.conv2.weight"], padding=1))
        skip = F.conv2d(F.avg_pool2d(y, 2), w[f"{name}.skip.weight"]) if stride == 2 else y
        return F.relu(a + skip)

    def up(y, like):
        return F.interpolate(y, size=like.shape[2:], mode="bilinear")

    maps = [F.relu(norm("stem.1", F.conv2d(x, w["stem.0.weight"], stride=2, padding=1)))]
    for i in range(len(network.widths) - 1):
        maps.append(block(f"stages.{i}.1", block(f"stages.{i}.0", maps[-1], 2), 1))
    mean = F.adaptive_avg_pool2d(maps[-1], 1)
    d = 2 * torch.sigmoid(F.conv2d(mean, w["context.weight"], w["context.bias"])) * maps[-1]
    for i in reversed(range(len(network.widths) - 1)):
        d = up(F.conv2d(d, w[f"project.{i}.weight"]), maps[i]) + F.conv2d(maps[i], w[f"lateral.{i}.weight"])
        d = F.conv2d(F.relu(norm(f"fuse.{i}.0", d)), w[f"fuse.{i}.2.weight"], padding=1)
        d = F.relu(norm(f"fuse.{i}.3", d))
    detail = F.relu(F.conv2d(x, w["detail.weight"], w["detail.bias"], padding=1))
    y = torch.cat((up(d, x), detail), dim=1)
    y = F.relu(F.conv2d(y, w["head.0.weight"], w["head.0.bias"], padding=1))
    return F.conv2d(y, w["head.2.weight"], w["head.2.bias"], padding=1)


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 3, 8, 24)])
def test_logits_are_the_formula(shape):
    network, x = tiny_segmenter(), images(*shape)
    logits = network(x)
    assert logits.shape == (shape[0], 1, *shape[2:])
    assert logits.std() > 0.01
    torch.testing.assert_close(logits, by_hand(network, x), rtol=1e-5, atol=1e-5)


def test_the_default_is_small_and_its_sides_are_multiples_of_32():
    network = SegmenterNetwork()
    assert network.multiple == 32
    assert sum(p.numel() for p in network.parameters()) == 1_767_745


def test_its_configuration_rebuilds_it():
    network = tiny_segmenter()
    twin = SegmenterNetwork.from_config(json.loads(json.dumps(network.config())))
    twin.load_state_dict(network.state_dict())
    x = images(1, 3, 16, 16)
    torch.testing.assert_close(twin.eval()(x), network(x), rtol=0, atol=0)
    assert twin.config() == network.config()


@pytest.mark.slow
def test_gradients_reach_every_weight():
    network = tiny_segmenter().train().requires_grad_(True)
    network(images(2, 3, 32, 32)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("size", [(32, 32), (40, 100), (100, 40), (1, 1), (1, 50), (33, 31)])
def test_any_size_gives_alpha_of_that_size(size):
    alpha = tiny_segmenter().segment(images(2, 3, *size))
    assert alpha.shape == (2, 1, *size)
    assert alpha.min() >= 0
    assert alpha.max() <= 1


def test_a_picture_and_its_tensor_agree():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    network = tiny_segmenter()
    torch.testing.assert_close(network.segment(Image.fromarray(pixels)), network.segment(tensor), rtol=0, atol=1e-6)
    photo = Image.fromarray(pixels).resize((320, 240), Image.Resampling.BICUBIC)
    assert network.segment(photo).shape == (1, 1, 240, 320)


def test_the_object_is_where_it_was():
    image = -torch.ones(1, 3, 100, 160)
    image[:, 0, 20:60, 40:120] = 1
    alpha = red_segmenter().segment(image)
    truth = image[:, :1] > 0
    assert ((alpha > 0.5) == truth).float().mean() > 0.97


def test_mirrored_is_the_mean_of_both_views():
    network, image = tiny_segmenter(), images(1, 3, 32, 20)
    turned = network.segment(image.flip(-1), mirrored=True).flip(-1)
    torch.testing.assert_close(network.segment(image, mirrored=True), turned, rtol=1e-5, atol=1e-6)
    mean = (network.segment(image).logit() + network.segment(image.flip(-1)).flip(-1).logit()) / 2
    torch.testing.assert_close(network.segment(image, mirrored=True), mean.sigmoid(), rtol=0, atol=1e-3)
    assert not torch.allclose(network.segment(image), network.segment(image, mirrored=True), atol=1e-2)


@pytest.mark.parametrize(
    ("call", "message", "shapes"),
    [
        (
            "forward",
            r"multiples of 8, got \[.*segment\(\) takes any size",
            [(1, 3, 31, 32), (1, 1, 32, 32), (1, 3, 0, 32)],
        ),
        ("segment", r"takes images \[N, 3, H, W\], got", [(1, 4, 32, 32), (0, 3, 32, 32)]),
    ],
)
def test_images_of_another_shape_are_refused(call, shapes, message):
    for shape in ((3, 32, 32), *shapes):
        with pytest.raises(ConfigError, match=message):
            getattr(tiny_segmenter(), call)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (4, 0), "decoder_widths": (4,)}, "from 1 to 4096 channels, got .*0"),
        ({"widths": (4,), "decoder_widths": ()}, "2 to 7 widths and one decoder width fewer, got 1 and 0"),
        ({"widths": (4, 4), "decoder_widths": (4, 4)}, "got 2 and 2"),
        ({"working_size": 250}, "a multiple of 32 pixels, got 250"),
        ({"working_size": 0}, "a multiple of 32 pixels, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SegmenterNetwork(**options)
