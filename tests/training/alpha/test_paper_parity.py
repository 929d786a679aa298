"""The paper's step against the numbers of the original: every loss term, the gradients of its phases, Adam's step."""

from __future__ import annotations

import json
import runpy

import numpy as np
import pytest
import torch

from labels4free import losses
from labels4free.checkpoints.foreign.original_alpha import original_keys
from labels4free.checkpoints.foreign.rosinality import convert_networks
from labels4free.networks.paper_network import PaperNetwork
from labels4free.training.alpha.paper_config import PaperConfig, PaperLossConfig, SamplesConfig
from labels4free.training.alpha.paper_trainer import PaperTrainer

RELATIVE = 1e-4
"""Tolerance of gradients, in parts of the largest; those of the original's own float32 are a tenth of it."""
LOGIT = 2e-5
R1 = 1e-3  # relative: a square of gradients
KEYS = original_keys("repro")
FAITHFUL = PaperConfig(
    batch_size=2,
    faithful=True,
    samples=SamplesConfig(truncation_psi=0.7),
    loss=PaperLossConfig(background_coverage=3.0, min_background_coverage=0.6),
)


class Fixture:
    """The networks, the inputs and the expected numbers."""

    def __init__(self, shared):
        self.folder = shared / "fixtures"
        self.fill = runpy.run_path(str(self.folder / "fill.py"))
        self.expected = json.loads((self.folder / "alpha" / "training_step_256.describe.json").read_text())
        with np.load(self.folder / "alpha" / "training_step_256.npz") as arrays:
            self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}

    def state(self, name):
        return {k: torch.from_numpy(v) for k, v in self.fill["state"](str(self.folder / name)).items()}

    def networks(self):
        data = {
            "g_ema": self.state("rosinality/generator_256_m2.describe.json"),
            "d": self.state("rosinality/discriminator_256_m2.describe.json"),
            "latent_avg": 0.5 * torch.from_numpy(self.fill["noise"]("truncation_latent", (1, 512)))[0],
        }
        found = convert_networks(data, "the fixture")
        alpha = PaperNetwork(found.generator.feature_specs, 256)
        theirs = self.state("alpha/bg_extractor_repro_256.describe.json")
        alpha.load_state_dict({ours: theirs[key] for ours, key in KEYS.items()})
        return found.generator, found.discriminator, alpha

    def trainer(self):
        """A faithful trainer whose draws are the fixture's."""
        generator, discriminator, alpha = self.networks()
        trainer = PaperTrainer(generator, alpha, FAITHFUL, pretrained=discriminator)
        trainer.network.load_state_dict(alpha.state_dict())
        drawn = trainer._draw_latents(torch.Generator())
        z = torch.from_numpy(self.fill["latents"](31, 2, 512))
        trainer._draw_latents = lambda rng: drawn._replace(coarse=z)
        synthesize = generator.synthesize
        generator.synthesize = lambda ws, noise, **options: synthesize(ws, noise="fixed", **options)
        return trainer


@pytest.fixture(scope="module")
def fixture(shared):
    return Fixture(shared)


@pytest.fixture(scope="module")
def trainer(fixture):
    return fixture.trainer()


@pytest.fixture(scope="module")
def reals(fixture):
    return torch.from_numpy(fixture.fill["images"]("losses/real", 2, 256))


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters()}


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= RELATIVE * expected.abs().max()


def assert_norms(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].double().norm().item() == pytest.approx(value, rel=RELATIVE), name


def test_loss_terms(fixture):
    noise = {k: torch.from_numpy(fixture.fill["noise"](f"losses/{k}", s)) for k, s in SHAPES.items()}
    mask = torch.sigmoid(3 * noise["mask"])
    mask[0] *= 0.2
    mask[2] = 1 - 0.2 * mask[2]
    real, fake = 2 * noise["real_logits"], 2 * noise["fake_logits"]
    expected = fixture.expected["scalar_losses"]
    means = expected.pop("mask_mean_per_sample")
    assert mask.mean(dim=(1, 2, 3)).tolist() == pytest.approx(means, rel=1e-6)
    assert {name: value.item() for name, value in scalars(mask, real, fake).items()} == pytest.approx(
        expected, rel=1e-6
    )


SHAPES = {"mask": (3, 1, 16, 16), "real_logits": (3, 1), "fake_logits": (3, 1)}


def scalars(mask, real, fake):
    return {
        "binarization": losses.binarization(mask),
        "fg_coverage_0.25": losses.foreground_coverage(mask, 0.25),
        "bg_coverage_0.75": losses.background_coverage(mask, 0.75),
        "bg_coverage_0.4": losses.background_coverage(mask, 0.4),
        "d_logistic": losses.discriminator_logistic(real, fake),
        "g_nonsaturating": losses.generator_nonsaturating(fake),
    }


def test_discriminator_phase(fixture, trainer, reals):
    expected = fixture.expected["discriminator_phase"]
    trainer.discriminator.zero_grad()
    loss, logs = trainer._discriminator_loss(0, reals)
    loss.backward()
    assert loss.item() == pytest.approx(expected["d_loss"], abs=LOGIT)
    assert logs["accuracy"] == 0.5  # the fixture's real logits are negative
    found = gradients(trainer.discriminator)
    assert_norms(found, expected["grad_norm"])
    for name in ("final_linear.1.weight", "convs.0.0.weight"):
        assert_close(found[name], fixture.arrays[f"d_grad/{name}"])
    assert all(p.grad is None for p in trainer.network.parameters())


def test_penalty_phase(fixture, trainer, reals):
    expected = fixture.expected["r1_phase"]
    trainer.discriminator.zero_grad()
    loss, logs = trainer._penalty(reals)
    loss.backward()
    assert logs["r1"] == pytest.approx(expected["r1"], rel=R1)
    assert loss.item() == pytest.approx(expected["backward_value"], abs=LOGIT)
    assert_norms(gradients(trainer.discriminator), expected["grad_norm"])


def test_alpha_phase_and_its_step(fixture, reals):
    trainer = fixture.trainer()
    expected = fixture.expected["alpha_phase"]
    loss, logs = trainer._alpha_loss(0)
    assert loss.item() == pytest.approx(expected["g_loss"], abs=LOGIT)
    assert logs["loss_adversarial"] == pytest.approx(expected["adversarial"], abs=LOGIT)
    assert logs["binarization"] == pytest.approx(expected["binarization"], abs=LOGIT)
    assert logs["loss_foreground_coverage"] == expected["fg_coverage"] == 0
    assert logs["loss_background_coverage"] == pytest.approx(expected["bg_coverage"], abs=LOGIT)
    assert logs["foreground_ratio"] == pytest.approx(np.mean(expected["mask_mean_per_sample"]), abs=LOGIT)

    trainer._move(trainer.alpha_update, "The loss", lambda m: (loss, logs))
    found, rate = gradients(trainer.network), 2e-4 * 4 / 5
    weights = dict(trainer.network.named_parameters())
    assert set(KEYS) == set(found)
    for ours, theirs in KEYS.items():
        gradient, after = fixture.arrays[f"alpha_grad/{theirs}"], fixture.arrays[f"alpha_after_step/{theirs}"]
        assert_close(found[ours], gradient)
        off = (weights[ours].detach() - after).abs()
        assert off.max() <= 2.01 * rate  # with beta1 = 0 the first step is the gradient's sign, and one of 0 can flip
        certain = gradient.abs() > 10 * RELATIVE * gradient.abs().max()
        assert off[certain].max() <= 0.01 * rate
        assert certain.float().mean() > 0.9
