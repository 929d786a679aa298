"""A step of a generator's training against rosinality's own numbers: losses, penalties, gradients, steps of Adam.

The numbers are those of ``benchmarks/generator_step_parity.py``, which is also what latents, noise and images are from.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from labels4free import losses
from labels4free.checkpoints.foreign.rosinality import convert
from labels4free.generators.base import mix_styles
from labels4free.training.discriminator_inputs.augmentation import AugmentationConfig
from labels4free.training.generator import trainer as trainer_module
from labels4free.training.generator.config import DiscriminatorSection, GeneratorConfig, GeneratorSection
from labels4free.training.generator.first_networks import FirstNetworks
from labels4free.training.generator.trainer import GeneratorTrainer, _adam

ROOT = Path(__file__).parents[3]
FIXTURE = ROOT / "tests" / "fixtures" / "generator_step.npz"
RELATIVE = 1e-4
"""Tolerance, in parts of the largest value of an array."""
PHASES = {"discriminator": "d", "r1": "d", "generator": "g", "paths": "g"}


def load_benchmark():
    spec = importlib.util.spec_from_file_location("parity", ROOT / "benchmarks" / "generator_step_parity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RULES = load_benchmark()


class Numbers:
    """The networks before the step, and what the original came to, under our names."""

    def __init__(self):
        with np.load(FIXTURE) as arrays:
            self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}

    def networks(self, when="before", replaced=None):
        """The networks whose weights the file has for ``when``, where ``replaced`` has none."""
        states = {"g": {}, "d": {}}
        for source in ("before", when):
            for network, state in states.items():
                state |= self.part(f"{source}/{network}/")
        for network, values in (replaced or {}).items():
            states[network] |= values
        data = {"g_ema": states["g"], "d": states["d"], "latent_avg": torch.zeros(RULES.STYLES)}
        checkpoint = convert(data, FIXTURE.name)
        return checkpoint.generator.unfreeze(), checkpoint.discriminator

    def part(self, begin):
        return {name[len(begin) :]: value for name, value in self.arrays.items() if name.startswith(begin)}

    def gradients(self, phase):
        """The gradients of a phase by our names: the converter renames them like the weights that they are of."""
        network = PHASES[phase]
        generator, discriminator = self.networks(replaced={network: self.part(f"gradient/{phase}/")})
        return dict((generator if network == "g" else discriminator).named_parameters())


@pytest.fixture(scope="module")
def numbers():
    return Numbers()


def close(found, expected, name="", rounding=0.0):
    largest = expected.detach().abs().max()
    difference = (found.detach() - expected.detach()).abs().max()
    assert difference <= RELATIVE * largest + rounding, f"{name}: {difference:.2e} of {largest:.2e}"


def draws(purpose, dtype=torch.float64):
    given = RULES.draws(purpose)
    return {key: _as(dtype, value) for key, value in given.items()}


def _as(dtype, value):
    if isinstance(value, list):
        return [tensor.to(dtype) for tensor in value]
    return value.to(dtype) if isinstance(value, torch.Tensor) else value


def styles_of(generator, given):
    first, second = (generator.map(z) for z in given["z"])
    return mix_styles(first, second, given["crossover"])


def render(generator, purpose):
    given = draws(purpose)
    ws = styles_of(generator, given)
    return generator.synthesize(ws, noise=given["noise"]).image, ws


class Step:
    """Our phases in the original's order, in float64 as it was; each does its step of Adam."""

    def __init__(self, numbers):
        self.generator, self.discriminator = (network.double() for network in numbers.networks())
        self.of_generator = _adam(self.generator.parameters(), RULES.RATE, RULES.PATHS_EVERY)
        self.of_discriminator = _adam(self.discriminator.parameters(), RULES.RATE, RULES.R1_EVERY)
        self.values, self.gradients = {}, {}

    def run(self):
        reals, judge = draws("discriminator")["image"], self.discriminator
        with torch.no_grad():
            fakes, _ = render(self.generator, "discriminator")
        loss = losses.discriminator_logistic(judge(reals), judge(fakes))
        self.move("discriminator", judge, self.of_discriminator, loss, loss)
        reals.requires_grad_()
        penalty = losses.r1_penalty(judge(reals), reals)
        self.move("r1", judge, self.of_discriminator, RULES.GAMMA / 2 * RULES.R1_EVERY * penalty, penalty)
        loss = losses.generator_nonsaturating(judge(render(self.generator, "generator")[0]))
        self.move("generator", self.generator, self.of_generator, loss, loss)
        image, ws = render(self.generator, "paths")
        self.lengths = losses.path_lengths(image, ws, draws("paths")["image"])
        mean = RULES.FIRST_MEAN + 0.01 * (self.lengths.mean() - RULES.FIRST_MEAN)
        penalty = (self.lengths - mean).square().mean()
        weighted = RULES.PATH_WEIGHT * RULES.PATHS_EVERY * penalty
        self.move("paths", self.generator, self.of_generator, weighted, penalty)
        return self

    def move(self, phase, network, adam, weighted, value):
        adam.zero_grad()
        self.generator.zero_grad()
        weighted.backward()
        self.values[phase] = value.detach()
        self.gradients[phase] = {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
            for name, weight in network.named_parameters()
        }
        adam.step()


@pytest.fixture(scope="module")
def step(numbers):
    return Step(numbers).run()


@pytest.mark.parametrize("phase", PHASES)
def test_losses_and_penalties_are_the_originals(numbers, step, phase):
    close(step.values[phase], numbers.arrays[f"loss/{phase}"])


def test_path_lengths_are_the_originals(numbers, step):
    close(step.lengths, numbers.arrays["lengths"])


@pytest.mark.parametrize("phase", PHASES)
def test_gradients_of_all_weights_are_the_originals(numbers, step, phase):
    expected = numbers.gradients(phase)
    assert set(step.gradients[phase]) == set(expected)
    for name, found in step.gradients[phase].items():
        close(found, expected[name], f"{phase} {name}")


def test_weights_behind_adams_steps_are_the_originals(numbers, step):
    moved_to, moved_from = numbers.networks("after"), numbers.networks()
    for network, after, before in zip((step.generator, step.discriminator), moved_to, moved_from, strict=True):
        for (name, found), wanted, first in zip(
            network.named_parameters(), after.parameters(), before.parameters(), strict=True
        ):
            rounding = float(torch.finfo(torch.float32).eps * first.detach().abs().max())  # of weights, in the file
            close(found - first, wanted - first, name, rounding)


class Reals:
    def take(self, _start, count):
        images = draws("discriminator", torch.float32)["image"]
        assert len(images) == count
        return images


class TestGeneratorTrainer:
    """The same by the trainer's own step, which is given the original's draws."""

    @pytest.fixture
    def trained(self, numbers, monkeypatch):
        config = GeneratorConfig(
            resolution=RULES.SIDE,
            batch_size=RULES.BATCH,
            generator=GeneratorSection(learning_rate=RULES.RATE, path_length=RULES.PATH_WEIGHT),
            discriminator=DiscriminatorSection(r1_gamma=RULES.GAMMA),
            augmentation=AugmentationConfig(mode="off"),
        )
        trainer = GeneratorTrainer(FirstNetworks(*numbers.networks()), config, Reals(), torch.zeros(2, 3, 1, 1))
        trainer.mean_path_length = RULES.FIRST_MEAN
        purposes, synthesize, lengths_of = iter(RULES.CROSSOVER), trainer.network.synthesize, losses.path_lengths
        drawn = []

        def styles(_rng, count):
            drawn.append(next(purposes))
            ws = styles_of(trainer.network, draws(drawn[-1], torch.float32))
            assert len(ws) == count
            return ws, None

        monkeypatch.setattr(trainer, "_styles", styles)
        monkeypatch.setattr(
            trainer.network,
            "synthesize",
            lambda ws, **_options: synthesize(ws, noise=draws(drawn[-1], torch.float32)["noise"]),
        )
        monkeypatch.setattr(
            trainer_module.losses,
            "path_lengths",
            lambda image, ws, _direction: lengths_of(image, ws, draws("paths", torch.float32)["image"]),
        )
        return trainer, trainer.step()

    def test_its_step_is_the_originals(self, numbers, trained):
        trainer, logs = trained
        close(torch.tensor(logs["loss_discriminator"]), numbers.arrays["loss/discriminator"])
        close(torch.tensor(logs["r1"]), numbers.arrays["loss/r1"])
        close(torch.tensor(logs["loss_adversarial"]), numbers.arrays["loss/generator"])
        close(torch.tensor(logs["path_length_penalty"]), numbers.arrays["loss/paths"])
        close(torch.tensor(logs["path_length"]), numbers.arrays["lengths"].mean())
        close(torch.tensor(trainer.mean_path_length), numbers.arrays["mean_path_length"])
        for network, after in zip((trainer.network, trainer.discriminator), numbers.networks("after"), strict=True):
            for (name, found), wanted in zip(network.named_parameters(), after.parameters(), strict=True):
                close(found, wanted, name)
