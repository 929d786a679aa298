"""What every generator family must do; each family's test class inherits this and gives a fixture ``generator``."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from labels4free.errors import ConfigError
from labels4free.generators import FAMILIES
from labels4free.generators.base import Generator, sample_label, sample_z
from labels4free.types import GeneratorOutput

ACCURACY = {"rtol": 1e-4, "atol": 1e-5}


def some_z(generator: Generator, count: int = 2) -> torch.Tensor:
    return torch.stack([sample_z(generator.z_dim, seed=7, index=i) for i in range(count)])


def some_labels(generator: Generator, count: int = 2) -> torch.Tensor | None:
    """One-hot labels of classes that differ, None for a generator without classes."""
    return torch.eye(generator.c_dim)[torch.arange(count) % generator.c_dim] if generator.c_dim else None


def some_ws(generator: Generator, count: int = 2) -> torch.Tensor:
    return generator.map(some_z(generator, count), labels=some_labels(generator, count)).clone()


def some_noise(generator: Generator, count: int = 1) -> list[torch.Tensor]:
    """Given noise: a map a sample for each layer."""
    rng = torch.Generator().manual_seed(11)
    sizes = [spec.resolution for spec in generator.feature_specs]
    return [torch.randn(count, 1, size, size, generator=rng) for size in sizes]


def assert_same(one: GeneratorOutput, other: GeneratorOutput, **accuracy: float) -> None:
    accuracy = accuracy or ACCURACY
    torch.testing.assert_close(one.image, other.image, **accuracy)
    assert len(one.features) == len(other.features)
    for a, b in zip(one.features, other.features, strict=True):
        torch.testing.assert_close(a, b, **accuracy)


def refused(message: str):
    return pytest.raises(ConfigError, match=message)


class GeneratorContract:
    """Inherit it as ``Test<Family>`` and define both: a small generator, filled with values that vary; its noise."""

    @pytest.fixture
    def generator(self) -> Generator:
        raise NotImplementedError

    def own_noise(self, generator: Generator) -> list[torch.Tensor]:
        """The maps that, given as noise, are what fixed noise is: [1, 1, R, R] a layer."""
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
        ws = generator.map(some_z(generator, count), labels=some_labels(generator, count))
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
        z, labels = some_z(generator), some_labels(generator)
        assert torch.equal(generator.map(z, 1.0, labels=labels), generator.map(z, labels=labels))
        average = generator.w_avg.expand(2, generator.num_ws, -1)
        torch.testing.assert_close(generator.map(z, 0.0, labels=labels), average)
        assert not torch.allclose(generator.map(z, labels=labels), average)

    def test_psi_moves_on_a_straight_line(self, generator):
        z, labels = some_z(generator), some_labels(generator)
        average, full = (generator.map(z, psi, labels=labels) for psi in (0.0, 1.0))
        for psi in (0.25, 1.5, -1.0):
            expected = (1 - psi) * average + psi * full
            torch.testing.assert_close(generator.map(z, psi, labels=labels), expected)

    def test_a_cutoff_truncates_the_rows_below_it_alone(self, generator):
        z, labels = some_z(generator, 3), some_labels(generator, 3)
        all_rows, no_row = generator.map(z, 0.3, labels=labels), generator.map(z, labels=labels)
        for cutoff in (0, 1, 3, generator.num_ws - 1, generator.num_ws):
            ws = generator.map(z, 0.3, truncation_cutoff=cutoff, labels=labels)
            assert ws.shape == no_row.shape
            assert torch.equal(ws[:, :cutoff], all_rows[:, :cutoff])
            assert torch.equal(ws[:, cutoff:], no_row[:, cutoff:])
        assert torch.equal(generator.map(z, 1.0, truncation_cutoff=2, labels=labels), no_row)

    # drawn styles

    def test_drawn_styles_depend_on_seed_and_index_alone(self, generator):
        state = torch.get_rng_state()
        for seed, index, psi, cutoff in ((0, 0, 1.0, None), (3, 5, 0.7, None), (3, 5, 0.7, 2)):
            ws = generator.draw_ws(seed, index, psi, truncation_cutoff=cutoff)
            labels = None
            if generator.c_dim:
                labels = torch.eye(generator.c_dim)[[sample_label(generator.c_dim, seed, index)]]
            z = sample_z(generator.z_dim, seed, index)[None]
            expected = generator.map(z, psi, truncation_cutoff=cutoff, labels=labels)
            assert ws.shape == (1, generator.num_ws, generator.w_dim)
            assert torch.equal(ws, expected)
        assert torch.equal(torch.get_rng_state(), state)

    def test_a_label_chooses_the_class_of_drawn_styles(self, generator):
        drawn = generator.draw_ws(1, 2)
        of_class = [generator.draw_ws(1, 2, label=label) for label in range(generator.c_dim)]
        for label, ws in enumerate(of_class):
            labels = torch.eye(generator.c_dim)[[label]]
            assert torch.equal(ws, generator.map(sample_z(generator.z_dim, 1, 2)[None], labels=labels))
            assert all(torch.allclose(ws, other) is (ws is other) for other in of_class)
        assert not of_class or torch.equal(drawn, of_class[sample_label(generator.c_dim, 1, 2)])
        has = f"classes 0 to {generator.c_dim - 1}" if generator.c_dim else "no classes"
        for label in (-1, generator.c_dim):
            with refused(f"This generator has {has}, got label {label}"):
                generator.draw_ws(0, 0, label=label)

    # styles

    def test_style_weights_are_all_that_a_row_of_ws_acts_by(self, generator):
        weights = generator.style_weights()
        assert {weight.row for weight in weights} == set(range(generator.num_ws))
        assert [weight.row for weight in weights] == sorted(weight.row for weight in weights)
        assert weights[-1].rgb_size == generator.resolution
        own = {value.data_ptr() for value in generator.state_dict().values()}
        assert all(w.weight.shape[1] == generator.w_dim and w.weight.data_ptr() in own for w in weights)
        twin, ws = copy.deepcopy(generator), some_ws(generator, 1)
        for row in range(generator.num_ws):
            moved = ws.clone()
            moved[:, row] += 1
            assert not torch.equal(twin.synthesize(moved).image, twin.synthesize(ws).image)
            for weight in twin.style_weights():
                if weight.row == row:
                    weight.weight.zero_()
            assert torch.equal(twin.synthesize(moved).image, twin.synthesize(ws).image)

    # labels

    def test_labels_are_asked_for_and_refused_by_shape(self, generator):
        z, c_dim = some_z(generator), generator.c_dim
        with refused(rf"This generator takes .*, got \[2, {c_dim + 1}\]"):
            generator.map(z, labels=torch.zeros(2, c_dim + 1))
        if not c_dim:
            with refused(r"no labels, since it has no classes, got \[2, 0\]"):
                generator.map(z, labels=torch.zeros(2, 0))
            return
        with refused(rf"has {c_dim} classes: give labels of shape \[N, {c_dim}\]"):
            generator.map(z)
        for shape in ((1, c_dim), (c_dim,), (2, c_dim, 1)):
            with refused(rf"takes labels of shape \[2, {c_dim}\], got \[{shape[0]}"):
                generator.map(z, labels=torch.zeros(shape))

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
        ws = generator.map(z, labels=some_labels(generator))
        sum(f.square().mean() for f in generator.synthesize(ws).features).backward()
        assert (z.grad.abs().amax(dim=1) > 0).all()

    def test_synthesis_changes_neither_its_weights_nor_its_input(self, generator):
        ws = some_ws(generator)
        ws_before, before = ws.clone(), {name: value.clone() for name, value in generator.state_dict().items()}
        for background in (None, *generator.background_modes):
            generator.synthesize(ws, noise="random", background=background)
        assert torch.equal(ws, ws_before)
        assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())

    @pytest.mark.slow
    def test_double_precision_agrees_with_single(self, generator):
        double, ws = copy.deepcopy(generator).double(), some_ws(generator)
        for background in (None, *generator.background_modes):
            expected = generator.synthesize(ws, background=background).image
            for given in (ws.double(), ws.double().requires_grad_()):
                image, features = double.synthesize(given, background=background)
                assert {image.dtype, *(f.dtype for f in features)} == {torch.float64}
                torch.testing.assert_close(image.float(), expected, **ACCURACY)
        assert double.synthesize(ws.double().requires_grad_(), noise="random").image.dtype == torch.float64

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

    def test_noise_modes_give_different_images_and_fixed_is_the_default(self, generator):
        ws = some_ws(generator)
        rng = torch.Generator().manual_seed(0)
        fixed, none, random = (generator.synthesize(ws, noise=n, rng=rng).image for n in ("fixed", "none", "random"))
        assert torch.equal(generator.synthesize(ws).image, fixed)
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

    # given noise

    def test_the_own_maps_given_are_the_fixed_noise(self, generator):
        ws, maps = some_ws(generator), self.own_noise(generator)
        for background in (None, generator.default_background):
            fixed = generator.synthesize(ws, background=background)
            assert_same(generator.synthesize(ws, noise=maps, background=background), fixed)
            repeated = tuple(m.expand(2, -1, -1, -1) for m in maps)
            assert_same(generator.synthesize(ws, noise=repeated, background=background), fixed)

    def test_zeros_given_are_no_noise(self, generator):
        ws = some_ws(generator)
        zeros = [torch.zeros_like(m) for m in some_noise(generator)]
        assert_same(generator.synthesize(ws, noise=zeros), generator.synthesize(ws, noise="none"))

    @pytest.mark.slow
    @pytest.mark.parametrize("with_gradient", [False, True])
    def test_each_sample_gets_the_map_that_is_given_for_it(self, generator, with_gradient):
        ws, maps = some_ws(generator, 3), some_noise(generator, 3)
        maps[1] = maps[1][:1]  # and here one for all
        batch = generator.synthesize(ws.clone().requires_grad_(with_gradient), noise=maps)
        for k in range(3):
            own = [m if len(m) == 1 else m[k : k + 1] for m in maps]
            single = generator.synthesize(ws[k : k + 1], noise=own)
            torch.testing.assert_close(batch.image[k : k + 1].detach(), single.image, **ACCURACY)
        swapped = generator.synthesize(ws, noise=[m.flip(0) for m in maps])
        assert not torch.allclose(swapped.image, batch.image.detach(), **ACCURACY)

    def test_every_map_of_the_given_noise_counts(self, generator):
        ws, maps = some_ws(generator, 1), some_noise(generator)
        before = generator.synthesize(ws, noise=maps)
        for layer in range(len(maps)):
            changed = [-m if k == layer else m for k, m in enumerate(maps)]
            after = generator.synthesize(ws, noise=changed)
            same = [torch.allclose(a, b, **ACCURACY) for a, b in zip(before.features, after.features, strict=True)]
            assert same == [k < layer for k in range(len(maps))]

    def test_given_noise_of_another_number_or_shape_is_refused(self, generator):
        ws, maps = some_ws(generator, 2), some_noise(generator)
        count, size = len(maps), generator.feature_specs[1].resolution
        for wrong in (maps[:-1], [*maps, maps[-1]], []):
            with refused(f"Noise maps are needed for {count} layers, got {len(wrong)}"):
                generator.synthesize(ws, noise=wrong)
        for shape in ((3, 1, size, size), (1, 2, size, size), (1, 1, size, size + 1), (1, size, size)):
            message = rf"layer 1 must have shape \[1 or 2, 1, {size}, {size}\], got \[{', '.join(map(str, shape))}\]"
            with refused(message):
                generator.synthesize(ws, noise=[maps[0], torch.zeros(shape), *maps[2:]])

    # batches

    @pytest.mark.slow
    @pytest.mark.parametrize("with_background", [False, True])
    def test_a_batch_equals_its_samples_one_by_one(self, generator, with_background):
        background = generator.default_background if with_background else None
        ws = some_ws(generator, 3)
        batch = generator.synthesize(ws, background=background)
        for i in range(3):
            single = generator.synthesize(ws[i : i + 1], background=background)
            one = GeneratorOutput(batch.image[i : i + 1], tuple(f[i : i + 1] for f in batch.features))
            assert_same(single, one)

    # errors

    def test_wrong_arguments_are_refused_with_what_is_right(self, generator):
        ws, w_dim, known = some_ws(generator), generator.w_dim, ", ".join(generator.background_modes)
        with refused(rf"z must have shape \[N, {generator.z_dim}\], got \[2, 3\]"):
            generator.map(torch.zeros(2, 3))
        with refused(rf"ws must have shape \[N, {generator.num_ws}, {w_dim}\], got \[2, {w_dim}\]"):
            generator.synthesize(torch.zeros(2, w_dim))
        with refused("noise must be fixed, random, none or a map for each layer, got 'loud'"):
            generator.synthesize(ws, noise="loud")
        with refused(f"Unknown background mode 'sky'.*{known}"):
            generator.synthesize(ws, background="sky")
