"""The generators of 256, 512 and 1024 pixels against the numbers of the original implementations.

The comparisons are those of ``benchmarks/stylegan2_parity.py``, which prints the errors as a table.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from labels4free.networks.discriminator import Discriminator
from labels4free.types import GeneratorOutput

if TYPE_CHECKING:
    from labels4free.generators.stylegan2 import StyleGAN2

pytestmark = pytest.mark.slow

_PATH = Path(__file__).parents[2] / "benchmarks" / "stylegan2_parity.py"
ROWS_A_VARIANT = 1 + 4 + 12 * 3  # w, the image's arrays, those of each feature map


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("stylegan2_parity", _PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["stylegan2_parity"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["stylegan2_parity"]


@pytest.fixture(scope="module")
def fixtures(bench, shared):
    return bench.Fixtures(shared / "fixtures")


def beyond_tolerance(rows):
    return {row.quantity: row.error for row in rows if not row.passed}


@pytest.mark.parametrize("name", ["256_m2", "256_m1", "512_m2", "1024_m2"])
@torch.inference_mode()
def test_generator(bench, fixtures, name):
    """Both truncations, with and without the object, every map: every array of the fixture but its input."""
    rows = list(bench.compare_generator(fixtures, f"generator_{name}"))
    assert beyond_tolerance(rows) == {}
    assert len(rows) == 1 + 4 * ROWS_A_VARIANT


@pytest.mark.parametrize(("name", "layers"), [("ada_uncond", 9), ("ada_cond", 7), ("ada_fp16_clamp", 7)])
@torch.inference_mode()
def test_generators_of_nvidia(bench, fixtures, name, layers):
    """With labels, with a limit, with a cutoff; the network alone, apart from any reader of files."""
    rows = list(bench.compare_nvidia(fixtures, name))
    assert beyond_tolerance(rows) == {}
    assert len(rows) == (3 + 4 + layers) + (3 + 2)


@torch.inference_mode()
def test_mean_latent_mixing_and_a_row_for_each_layer(bench, fixtures):
    rows = list(bench.compare_latents(fixtures))
    assert beyond_tolerance(rows) == {}
    assert len(rows) == 10


@torch.inference_mode()
def test_discriminator(bench, fixtures):
    names = list(fixtures.state("rosinality/discriminator_256_m2"))
    assert list(Discriminator(256).state_dict()) == names  # in rosinality's order, too
    rows = list(bench.compare_discriminator(fixtures))
    assert beyond_tolerance(rows) == {}
    assert all(row.error < 2.5e-5 for row in rows)  # of 4 at most, in maps
    assert len(rows) == 4 + 3 + 2 * 7


@torch.inference_mode()
def test_from_latents_to_composites(bench, fixtures):
    rows = list(bench.compare_end_to_end(fixtures))
    assert beyond_tolerance(rows) == {}
    assert len(rows) == 8


@pytest.mark.parametrize(("name", "variant"), [("256_m1", "psi0.7_bg"), ("512_m2", "psi0.7_bg")])
@torch.no_grad()
def test_the_path_for_gradients(bench, fixtures, monkeypatch, name, variant):
    used = []

    def plain(generator, ws, *, noise="fixed", background=None):
        used.append(background)
        with torch.enable_grad():
            image, features = generator.synthesize_plainly(ws.detach().requires_grad_(), noise, background)
        return GeneratorOutput(image.detach(), tuple(f.detach() for f in features))

    monkeypatch.setattr("labels4free.generators.stylegan2.StyleGAN2.synthesize", plain)
    rows = list(bench.compare_generator(fixtures, f"generator_{name}", [variant]))
    assert beyond_tolerance(rows) == {}
    assert used == ["zero_constant" if name == "512_m2" else "zero_first_conv"]


# That the comparisons can fail


def spoiled(bench, monkeypatch, spoil):
    """Have the comparisons build a generator with a fault."""
    build = bench.build_generator

    def build_spoiled(fixtures, name):
        generator = build(fixtures, name)
        spoil(generator)
        return generator

    monkeypatch.setattr(bench, "build_generator", build_spoiled)


def noise_one_percent_stronger(generator: StyleGAN2) -> None:
    generator.blocks["b128"].conv0.noise_strength.mul_(1.01)


def one_weight_missing(generator: StyleGAN2) -> None:
    generator.blocks["b256"].conv1.weight[0, 0, 0, 0] = 0.0


def the_other_background(generator: StyleGAN2) -> None:
    generator.default_background = "zero_constant"


@pytest.mark.parametrize(
    ("spoil", "first"),
    [
        (noise_one_percent_stronger, "psi0.7_bg feature 08"),
        (one_weight_missing, "psi0.7_bg feature 11"),
        (the_other_background, "psi0.7_bg feature 00"),
    ],
)
@torch.inference_mode()
def test_faults_are_seen_where_they_are(bench, fixtures, monkeypatch, spoil, first):
    spoiled(bench, monkeypatch, spoil)
    rows = list(bench.compare_generator(fixtures, "generator_256_m1", ["psi0.7_bg"]))
    wrong = beyond_tolerance(rows)
    assert "psi0.7_bg image" in wrong
    assert min(name for name in wrong if "feature" in name).startswith(first)


def test_not_a_number_and_another_shape_are_beyond_every_tolerance(bench):
    assert bench.error_of(torch.tensor([1.0, 4.5]), torch.tensor([1.0, 5.0]).numpy()) == pytest.approx(0.1)
    assert bench.error_of(torch.tensor([1.0, 4.5]), torch.tensor([1.0, 5.0]).numpy(), relative=False) == 0.5
    nan = bench.error_of(torch.tensor([1.0, float("nan")]), torch.ones(2).numpy())
    rows = [bench.Row("image", 1e-5, 1e-4), bench.Row("image corner", nan, 1e-4), bench.Row("image", 9e-5, 1e-4)]
    assert beyond_tolerance(rows).keys() == {"image corner"}
    assert bench.summary(rows)["image"].quantity == "image corner"
    assert bench.error_of(torch.zeros(2, 1), torch.ones(2).numpy()) == float("inf")
