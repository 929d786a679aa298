from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tests.evaluation.generators.small_nets import SmallNet
from tests.tiny import tiny_stylegan2

from labels4free.errors import CheckpointError, ConfigError, DataError
from labels4free.evaluation.generators.feature_nets import DiscriminatorFeatures
from labels4free.generating.projection.config import PRESETS, ProjectionConfig
from labels4free.generating.projection.projector import Projector, Start, learning_rate_at
from labels4free.networks.discriminator import Discriminator

QUICK = {"steps": 60, "mean_samples": 200}


@pytest.fixture(params=["stylegan2", "mobile"])
def generator(request, tiny_generator):
    return tiny_stylegan2() if request.param == "stylegan2" else tiny_generator


def picture(generator, seed=3):
    ws = generator.draw_ws(seed, 0)
    with torch.no_grad():
        return ws, generator.synthesize(ws).image  # also beyond white and black, so that it can come back exactly


@pytest.mark.parametrize("space", ["w", "w+"])
@pytest.mark.slow
def test_a_generated_picture_comes_back(generator, space):
    ws, image = picture(generator)
    projector = Projector(generator, ProjectionConfig(space=space, **QUICK), SmallNet())
    seen = []
    found = projector.project(image, progress=lambda *args: seen.append(args))
    assert found.losses[-1] < found.losses[0] / (100 if space == "w" and generator.family == "stylegan2" else 10)
    assert found.steps == 60
    assert seen[-1] == (60, found.losses[-2])
    assert found.noise == "fixed"
    assert torch.equal(found.image, generator.synthesize(found.ws).image)
    rows = found.ws[0]
    assert (rows == rows[:1]).all() == (space == "w")
    if space == "w" and generator.family == "stylegan2":  # the other's pictures look alike along some directions
        start = (projector.project(image, stopped=lambda: True).ws - ws).norm()
        assert (found.ws - ws).norm() < start / 2


def test_the_result_depends_on_the_arguments_alone(generator):
    _, image = picture(generator)
    config = ProjectionConfig(steps=3, mean_samples=20, latent_noise=0.05)
    first, again, other = (
        Projector(generator, dataclasses.replace(config, seed=seed), SmallNet()).project(image) for seed in (0, 0, 1)
    )
    assert torch.equal(first.ws, again.ws)
    assert not torch.equal(first.ws, other.ws)


def test_the_generator_stays_as_it_was(generator):
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    Projector(generator, ProjectionConfig(steps=3, noise_maps=True), SmallNet()).project(picture(generator)[1])
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


@pytest.mark.slow
def test_noise_maps_are_optimised_and_stay_noise(generator):
    _, image = picture(generator)
    projector = Projector(generator, ProjectionConfig(steps=20, noise_maps=True, mean_samples=20), SmallNet())
    found = projector.project(image)
    first = projector.project(image, stopped=lambda: True)
    assert len(found.noise) == len(generator.feature_specs)
    for one, other in zip(found.noise, first.noise, strict=True):
        assert not torch.equal(one, other)
        assert float(one.mean()) == pytest.approx(0, abs=1e-5)
        assert float(one.square().mean()) == pytest.approx(1, abs=1e-4)
        assert not one.requires_grad


def test_it_goes_on_where_it_is_told_to(generator):
    ws, image = picture(generator)
    noise = [torch.randn(1, 1, s.resolution, s.resolution) for s in generator.feature_specs]
    config = ProjectionConfig(steps=1, noise_maps=True, mean_samples=20, rampup=0.05)  # at the first step the rate is 0
    found = Projector(generator, config, SmallNet()).project(image, Start(ws, noise))
    torch.testing.assert_close(found.ws, ws.contiguous())
    for one, given in zip(found.noise, noise, strict=True):
        torch.testing.assert_close(one, (given - given.mean()) / (given - given.mean()).square().mean().sqrt())


def test_stopping_keeps_what_there_is(generator):
    asked = []
    found = Projector(generator, ProjectionConfig(**QUICK), SmallNet()).project(
        picture(generator)[1], stopped=lambda: asked.append(1) or len(asked) == 4
    )
    assert (found.steps, len(found.losses), len(found.frames)) == (4, 5, 5)
    assert found.frames[0].shape == (64, 64, 3)


@pytest.mark.slow
def test_films_have_about_sixty_pictures(generator):
    config = ProjectionConfig(steps=61, mean_samples=20)
    assert len(Projector(generator, config, SmallNet()).project(picture(generator)[1]).frames) == 32


def test_the_discriminator_takes_part():
    generator = tiny_stylegan2()
    _, image = picture(generator)
    torch.manual_seed(0)
    judge = DiscriminatorFeatures(Discriminator(64, channel_base=512, channel_max=16).requires_grad_(False))
    config = ProjectionConfig(steps=1, mean_samples=20)
    with_it, without = (Projector(generator, config, SmallNet(), net) for net in (judge, None))
    assert (with_it.has_discriminator, without.has_discriminator) == (True, False)
    assert with_it.project(image).losses[0] > without.project(image).losses[0]
    off = Projector(generator, ProjectionConfig(steps=1, mean_samples=20, discriminator=0.0), SmallNet(), judge)
    assert not off.has_discriminator
    assert off.project(image).losses == without.project(image).losses


def test_learning_rate():
    config = ProjectionConfig(learning_rate=2.0)
    rates = [learning_rate_at(t, config) for t in (0, 0.025, 0.05, 0.75, 0.875, 1)]
    assert rates == pytest.approx([0, 1, 2, 2, 1, 0])
    flat = ProjectionConfig(learning_rate=2.0, rampup=0.0, rampdown=0.0)
    assert [learning_rate_at(t, flat) for t in (0, 1)] == [2, 2]


def test_noise_on_the_latents_falls_as_a_square(generator):
    projector = Projector(generator, ProjectionConfig(mean_samples=500, latent_noise=0.05), SmallNet())
    w = generator.map(torch.randn(5000, generator.z_dim))[:, 0]
    deviation = math.sqrt(float((w - w.mean(0)).square().sum(1).mean()))
    assert projector._noise_at(0) == pytest.approx(0.05 * deviation, rel=0.1)
    assert projector._noise_at(0.375) == pytest.approx(projector._noise_at(0) / 4)
    assert projector._noise_at(0.75) == projector._noise_at(1) == 0


def test_presets_have_the_published_numbers():
    config = PRESETS["stylegan2"]
    assert (config.space, config.steps, config.learning_rate, config.mean_samples) == ("w", 1000, 0.1, 10_000)
    assert (config.rampup, config.rampdown) == (0.05, 0.25)
    assert (config.latent_noise, config.latent_noise_ramp) == (0.05, 0.75)
    assert (config.noise_maps, config.noise_regularizer, config.pixels, config.side) == (True, 1e5, 0, 256)


TUNED = {"steps": 5, "tune_steps": 40, "tune_learning_rate": 1e-3, "mean_samples": 200}


@pytest.mark.slow
def test_tuning_meets_the_picture_with_the_latents_fixed(generator):
    _, image = picture(generator)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    alone = Projector(generator, ProjectionConfig(**TUNED | {"tune_steps": 0}), SmallNet()).project(image)
    found = Projector(generator, ProjectionConfig(**TUNED), SmallNet()).project(image)
    assert (alone.tuned, found.tuned, alone.generator is generator) == (False, True, True)
    assert torch.equal(found.ws, alone.ws)
    assert (found.steps, found.losses[:5]) == (45, alone.losses[:5])
    assert found.losses[-1] < alone.losses[-1] / 5
    state = found.generator.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    changed = {name for name, value in state.items() if not torch.equal(value, before[name])}
    assert "constant" in changed
    assert not any(name.startswith("mapping") or name.endswith(("noise", "w_avg")) for name in changed)
    assert not any(value.requires_grad for value in state.values())
    assert list(found.generator.parameters()) == []
    assert torch.equal(found.image, found.generator.synthesize(found.ws).image)


@pytest.mark.slow
def test_locality_keeps_what_lies_beside(generator):
    _, image = picture(generator)
    others = [generator.draw_ws(seed, 0) for seed in range(20, 28)]
    moved = []
    for locality in (0.0, 10.0):
        config = ProjectionConfig(**TUNED, locality=locality)
        tuned = Projector(generator, config, SmallNet()).project(image).generator
        differences = [tuned.synthesize(ws).image - generator.synthesize(ws).image for ws in others]
        moved.append(float(torch.cat(differences).square().mean()))
    assert moved[1] < 0.2 * moved[0]


def test_a_place_beside_is_at_the_set_distance(generator):
    ws, _ = picture(generator)
    projector = Projector(generator, ProjectionConfig(mean_samples=50, locality_distance=0.5), SmallNet())
    near = projector._beside(ws, torch.Generator().manual_seed(0))
    deviation = float((projector._mapped - projector._mapped.mean(0)).square().sum(1).mean().sqrt())
    assert float((near - ws).norm()) == pytest.approx(0.5 * deviation * generator.num_ws**0.5, rel=1e-4)


def test_tuning_depends_on_the_arguments_alone_and_can_be_stopped(generator):
    _, image = picture(generator)
    projector = Projector(generator, ProjectionConfig(steps=2, tune_steps=3, mean_samples=20), SmallNet())
    first, again = (projector.project(image).generator.state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    for limit, tuned in ((1, False), (2, False), (4, True)):
        asked = []
        found = projector.project(
            image, stopped=lambda asked=asked, limit=limit: asked.append(1) or len(asked) >= limit
        )
        assert (found.steps, found.tuned) == (limit, tuned)


def test_the_optimised_noise_maps_end_with_the_first_stage(generator):
    _, image = picture(generator)
    config = ProjectionConfig(steps=2, tune_steps=1, noise_maps=True, mean_samples=20)
    found = Projector(generator, config, SmallNet()).project(image)
    assert found.noise == "fixed"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": math.nan}, "learning_rate must be float, got nan"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"rampdown": 1.5}, "rampdown must lie in"),
        ({"space": "z"}, "space must be one of w, w[+], got 'z'"),
        ({"pixels": 0.0, "perceptual": 0.0}, "Nothing compares the pictures"),
        ({"side": 16}, "side must be at least 32"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ConfigError, match=message):
        ProjectionConfig(**values)


def test_bad_input(generator):
    ws, image = picture(generator)
    projector = Projector(generator, ProjectionConfig(space="w", steps=2, mean_samples=20), SmallNet())
    with pytest.raises(ConfigError, match=r"A photo .* is needed, got"):
        projector.project(image[:, :, :32])
    with pytest.raises(ConfigError, match="differ from layer to layer"):
        projector.project(image, Start(torch.randn_like(ws)))
    with pytest.raises(DataError, match=r"The loss of a\.png is no number at step 0"):
        projector.project(image * math.nan, name="a.png")
    broken = tiny_stylegan2()
    broken.mapping[0].bias.fill_(math.nan)
    with pytest.raises(CheckpointError, match="not all finite"):
        Projector(broken, ProjectionConfig(mean_samples=20), SmallNet())
