"""What every generator family must do; each family's test class inherits this and gives a fixture ``generator``."""

from __future__ import annotations

import json

import pytest
import torch

from labels4free.errors import ConfigError
from labels4free.generators import FAMILIES
from labels4free.generators.base import Generator, sample_z

ACCURACY = {"rtol": 1e-4, "atol": 1e-5}


def some_z(generator: Generator, count: int = 2) -> torch.Tensor:
    return torch.stack([sample_z(generator.z_dim, seed=7, index=i) for i in range(count)])


def some_ws(generator: Generator, count: int = 2) -> torch.Tensor:
    return generator.map(some_z(generator, count)).clone()


class GeneratorContract:
    """Inherit it as ``Test<Family>`` and define the fixture ``generator``: small, filled with values that vary."""

    @pytest.fixture
    def generator(self) -> Generator:
        raise NotImplementedError

    # what it says of itself

    def test_is_in_the_family_table(self, generator):
        assert FAMILIES[generator.family] is type(generator)

    def test_feature_specs_have_unique_names_and_run_coarse_to_fine(self, generator):
        names = [spec.name for spec in generator.feature_specs]
        sizes = [spec.resolution for spec in generator.feature_specs]
        assert len(set(names)) == len(names) > 0
        assert sizes == sorted(sizes)
        assert sizes[-1] <= generator.resolution

    def test_background_modes_are_described_and_one_is_the_default(self, generator):
        assert generator.default_background in generator.background_modes
        assert all(generator.background_modes.values())

    def test_config_goes_through_json_and_builds_the_same_generator(self, generator):
        twin = type(generator).from_config(json.loads(json.dumps(generator.config())))
        twin.load_state_dict(generator.state_dict())
        assert twin.feature_specs == generator.feature_specs
        ws = some_ws(generator)
        assert torch.equal(twin.synthesize(ws).image, generator.synthesize(ws).image)

    # shapes

    @pytest.mark.parametrize("count", [1, 3])
    def test_shapes(self, generator, count):
        ws = generator.map(some_z(generator, count))
        assert ws.shape == (count, generator.num_ws, generator.w_dim)
        image, features = generator.synthesize(ws)
        assert image.shape == (count, 3, generator.resolution, generator.resolution)
        assert [tuple(f.shape) for f in features] == [
            (count, spec.channels, spec.resolution, spec.resolution) for spec in generator.feature_specs
        ]
        assert image.isfinite().all()
        assert all(f.isfinite().all() for f in features)

    def test_every_background_mode_has_the_shapes_of_the_image_and_its_own_content(self, generator):
        ws = some_ws(generator)
        whole = generator.synthesize(ws)
        seen = [whole.image]
        for mode in generator.background_modes:
            image, features = generator.synthesize(ws, background=mode)
            assert image.shape == whole.image.shape
            assert [f.shape for f in features] == [f.shape for f in whole.features]
            for other in seen:
                assert (image - other).abs().mean() > 1e-3 * whole.image.std()
            seen.append(image)

    # truncation

    def test_psi_1_is_the_default_and_psi_0_is_the_average(self, generator):
        z = some_z(generator)
        assert torch.equal(generator.map(z, 1.0), generator.map(z))
        average = generator.w_avg.expand(2, generator.num_ws, -1)
        torch.testing.assert_close(generator.map(z, 0.0), average)
        assert not torch.allclose(generator.map(z), average)

    def test_psi_moves_on_a_straight_line(self, generator):
        z = some_z(generator)
        torch.testing.assert_close(generator.map(z, 0.25), 0.75 * generator.map(z, 0.0) + 0.25 * generator.map(z))

    # frozen

    def test_has_no_parameter_and_no_tensor_that_wants_a_gradient(self, generator):
        assert list(generator.parameters()) == []
        assert not any(value.requires_grad for value in generator.state_dict(keep_vars=True).values())

    @pytest.mark.parametrize("count", [1, 2])
    def test_gradient_flows_to_every_row_of_ws_and_into_no_weight(self, generator, count):
        ws = some_ws(generator, count).requires_grad_()
        generator.synthesize(ws).image.square().mean().backward()
        assert ws.grad.isfinite().all()
        assert (ws.grad.abs().amax(dim=2) > 0).all()
        assert all(value.grad is None for value in generator.buffers())

    def test_gradient_flows_from_features_to_z(self, generator):
        z = some_z(generator).requires_grad_()
        sum(f.square().mean() for f in generator.synthesize(generator.map(z)).features).backward()
        assert (z.grad.abs().amax(dim=1) > 0).all()

    def test_synthesis_changes_neither_its_weights_nor_its_input(self, generator):
        ws = some_ws(generator)
        ws_before, before = ws.clone(), {name: value.clone() for name, value in generator.state_dict().items()}
        for background in (None, *generator.background_modes):
            generator.synthesize(ws, noise="random", background=background)
        assert torch.equal(ws, ws_before)
        assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())

    # determinism and noise

    @pytest.mark.parametrize("noise", ["fixed", "none"])
    def test_without_random_noise_it_is_deterministic_and_draws_no_random_number(self, generator, noise):
        ws = some_ws(generator)
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = generator.synthesize(ws, noise=noise)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        second = generator.synthesize(ws, noise=noise)
        assert torch.equal(first.image, second.image)
        assert all(torch.equal(a, b) for a, b in zip(first.features, second.features, strict=True))

    def test_fixed_noise_is_the_default(self, generator):
        ws = some_ws(generator)
        assert torch.equal(generator.synthesize(ws).image, generator.synthesize(ws, noise="fixed").image)

    def test_noise_modes_give_different_images(self, generator):
        ws = some_ws(generator)
        rng = torch.Generator().manual_seed(0)
        fixed, none, random = (generator.synthesize(ws, noise=n, rng=rng).image for n in ("fixed", "none", "random"))
        for a, b in ((fixed, none), (fixed, random), (none, random)):
            assert not torch.allclose(a, b, **ACCURACY)

    def test_random_noise_depends_on_its_rng_alone(self, generator):
        ws = some_ws(generator)
        torch.manual_seed(1)
        state = torch.get_rng_state()
        a, again, other = (
            generator.synthesize(ws, noise="random", rng=torch.Generator().manual_seed(seed)).image
            for seed in (0, 0, 1)
        )
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(a, again)
        assert not torch.allclose(a, other, **ACCURACY)

    def test_random_noise_is_fresh_for_every_sample_of_a_batch(self, generator):
        ws = some_ws(generator, 1).expand(2, -1, -1)
        first, second = generator.synthesize(ws, noise="random", rng=torch.Generator().manual_seed(0)).image
        assert not torch.allclose(first, second, **ACCURACY)

    # batches

    @pytest.mark.parametrize("with_background", [False, True])
    def test_a_batch_equals_its_samples_one_by_one(self, generator, with_background):
        background = generator.default_background if with_background else None
        ws = some_ws(generator, 3)
        batch = generator.synthesize(ws, background=background)
        for i in range(3):
            single = generator.synthesize(ws[i : i + 1], background=background)
            torch.testing.assert_close(single.image, batch.image[i : i + 1], **ACCURACY)
            for a, b in zip(single.features, batch.features, strict=True):
                torch.testing.assert_close(a, b[i : i + 1], **ACCURACY)

    # errors

    def test_wrong_z_is_refused_with_both_shapes(self, generator):
        with pytest.raises(ConfigError, match=rf"z must have shape \[N, {generator.z_dim}\], got \[2, 3\]"):
            generator.map(torch.zeros(2, 3))

    def test_wrong_ws_is_refused_with_both_shapes(self, generator):
        wanted = rf"ws must have shape \[N, {generator.num_ws}, {generator.w_dim}\], got \[2, {generator.w_dim}\]"
        with pytest.raises(ConfigError, match=wanted):
            generator.synthesize(torch.zeros(2, generator.w_dim))

    def test_unknown_noise_is_refused_with_the_known_ones(self, generator):
        with pytest.raises(ConfigError, match="noise must be fixed, random or none, got 'loud'"):
            generator.synthesize(some_ws(generator), noise="loud")

    def test_unknown_background_mode_is_refused_with_the_known_ones(self, generator):
        known = ", ".join(generator.background_modes)
        with pytest.raises(ConfigError, match=f"Unknown background mode 'sky'.*{known}"):
            generator.synthesize(some_ws(generator), background="sky")
