"""Numbers of every kind of network, tiny and with weights from a seed: what no change may move, without any file.

They were taken where the networks agreed with the originals' numbers, which the parity tests compare with where those
files are. Of each result: mean, standard deviation, first, middle and last value.
"""

from __future__ import annotations

import pytest
import torch

from labels4free.generators import FAMILIES
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.losses import r1_penalty
from labels4free.networks import ALPHA_NETWORKS
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork
from tests.small_pictures import seeded
from tests.small_segmenters import tiny_segmenter
from tests.tiny import tiny_generator, tiny_stylegan2

LABELS = torch.eye(3)[[0, 2, 1, 0]]


def golden(result: torch.Tensor, expected: list[float]) -> None:
    values = result.detach().flatten().double()
    found = [values.mean(), values.std(), values[0], values[len(values) // 2], values[-1]]
    assert [float(x) for x in found] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def filled(network: torch.nn.Module, scale: float = 1.0) -> torch.nn.Module:
    """Fill with normal numbers of a seed, which no version of PyTorch draws otherwise."""
    rng = seeded(0)
    with torch.no_grad():
        for name, value in sorted(network.named_parameters()):
            stored = 100 if name.startswith("mapping.fc") else 1  # divided by its learning-rate multiplier
            value.copy_(torch.randn(value.shape, generator=rng) * scale * stored)
    return network.eval()


def rendered(generator, *, gradients: bool, **options):
    ws = torch.cat([generator.draw_ws(0, index, 0.8) for index in range(2)]).requires_grad_(gradients)
    return ws, generator.synthesize(ws, rng=seeded(3), **options)


GENERATORS = {
    "mobile_stylegan": tiny_generator,
    "stylegan2": tiny_stylegan2,
    "stylegan2 with classes, limited": lambda: tiny_stylegan2(c_dim=3, channels={4: 7, 8: 5, 16: 5}, conv_clamp=0.8),
    "stylegan2's first weights": lambda: StyleGAN2({4: 7, 8: 5, 16: 5}, z_dim=8, w_dim=8).reset_parameters(0),
}
GOLDEN_RENDERINGS = {
    "mobile_stylegan": {
        "image": [-0.106795, 0.384613, -0.081009, -0.10802, 0.025964],
        "background": [-0.033436, 0.106832, -0.048384, -0.069699, 0.027237],
        "random noise": [-0.109927, 0.397726, -0.088705, -0.077798, 0.088138],
        "last feature": [0.476859, 0.949864, 0.065188, 0.107356, 0.310939],
        "gradient": [0.055069, 0.683858, 0.084052, 0.131565, 1.305447],
    },
    "stylegan2": {
        "image": [-0.323428, 0.483885, 0.017531, -0.049792, -0.060338],
        "background": [-0.170134, 0.346774, 0.066719, 0.021221, 0.063454],
        "random noise": [-0.300425, 0.500132, -0.008218, -0.148197, -0.04552],
        "last feature": [0.189509, 0.305709, 0.135063, 0.158449, 0.574329],
        "gradient": [0.033337, 0.75491, 0.379331, 0.710123, -0.045184],
    },
    "stylegan2 with classes, limited": {
        "image": [-0.31138, 0.380953, -0.54059, -0.686472, -0.366024],
        "background": [-0.137369, 0.279191, -0.19297, -0.219538, -0.568973],
        "random noise": [-0.316504, 0.350986, -0.441509, -0.489173, 0.223624],
        "last feature": [0.129388, 0.274594, -0.041609, -0.027981, 0.35585],
        "gradient": [-0.006835, 0.777489, 0.355388, 0.250788, -2.450811],
    },
    "stylegan2's first weights": {
        "image": [2.699194, 8.760135, 0.132209, 6.09557, 1.205643],
        "last feature": [-0.174889, 0.66065, -0.063275, -0.131941, -0.067706],
        "gradient": [10.181271, 113.043629, 2.291005, -99.104042, -177.246826],
    },
}


def alpha_of(kind: type, scale: float) -> torch.Tensor:
    generator = tiny_stylegan2()
    network = filled(kind(generator.feature_specs, generator.resolution), scale)
    _, output = rendered(generator, gradients=False)
    with torch.no_grad():
        fast = network(output.features)
    plain = network(output.features)
    assert plain.requires_grad
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-6)
    return plain


def seeded_image(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=seeded(1))


def logits_of(**options) -> tuple[Discriminator, torch.Tensor, torch.Tensor]:
    network = filled(Discriminator(16, channel_base=64, channel_max=8, **options))
    images = seeded_image(16, 16, count=4).requires_grad_()
    return network, images, network(images, LABELS if options.get("c_dim") else None)


NETWORKS = {
    "merge": lambda: alpha_of(MergeNetwork, 0.3),
    "paper": lambda: alpha_of(PaperNetwork, 0.25),
    "discriminator": lambda: logits_of()[2],
    "discriminator's R1": lambda: 1000 * r1_penalty(*logits_of()[:0:-1]).expand(2),
    "discriminator with labels, limited": lambda: logits_of(c_dim=3, mapping_layers=2, conv_clamp=0.8)[2],
    "segmenter": lambda: tiny_segmenter()(seeded_image(32, 24, count=2)),
    "segmenter, any size": lambda: tiny_segmenter().segment(seeded_image(30, 50), mirrored=True),
}
GOLDEN_OUTPUTS = {
    "merge": [0.770384, 0.049703, 0.804176, 0.80707, 0.822251],
    "paper": [0.632289, 0.031574, 0.649711, 0.649703, 0.590225],
    "discriminator": [-2.441487, 0.056312, -2.441743, -2.42043, -2.518421],
    "discriminator's R1": [3.743582, 0.0, 3.743582, 3.743582, 3.743582],
    "discriminator with labels, limited": [-1.379689, 0.170284, -1.509516, -1.151134, -1.50975],
    "segmenter": [0.589763, 4.868391, 3.36909, 2.036841, -1.739901],
    "segmenter, any size": [0.578406, 0.227987, 0.752259, 0.510959, 0.501949],
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generators(name):
    generator, expected = GENERATORS[name](), GOLDEN_RENDERINGS[name]
    options = {
        "image": {},
        "background": {"background": generator.default_background},
        "random noise": {"noise": "random"},
    }
    for gradients in (False, True):  # both paths of a CPU
        for what in options.keys() & expected.keys():
            golden(rendered(generator, gradients=gradients, **options[what])[1].image, expected[what])
    ws, (image, features) = rendered(generator, gradients=True)
    golden(features[-1], expected["last feature"])
    (gradient,) = torch.autograd.grad(image.square().mean(), ws)
    golden(100 * gradient, expected["gradient"])


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    golden(NETWORKS[name](), GOLDEN_OUTPUTS[name])


def test_every_kind_of_network_has_its_numbers():
    kinds = {*ALPHA_NETWORKS, *FAMILIES, "discriminator", "segmenter"}
    assert kinds <= {*GOLDEN_OUTPUTS, *GOLDEN_RENDERINGS}
    assert GENERATORS.keys() | NETWORKS.keys() == GOLDEN_RENDERINGS.keys() | GOLDEN_OUTPUTS.keys()
