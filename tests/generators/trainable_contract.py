"""What the trainable form of a generator family must do; a test class inherits this and gives a fixture ``frozen``."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from tests.generators.contract import assert_same, some_labels, some_noise, some_ws, some_z
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.nn import functional as F

if TYPE_CHECKING:
    from labels4free.generators.base import Generator


class _WholeNetwork(torch.nn.Module):
    """A generator as one function of z, for :func:`functional_call`."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z, **options):
        labels = some_labels(self.generator, len(z))
        ws = self.generator.map(z, labels=None if labels is None else labels.to(z.dtype)).contiguous()
        return self.generator.synthesize(ws, **options).image, ws


class TrainableContract:
    """Inherit it as ``TestTrainable<Family>`` and define a small frozen generator, filled with values that vary."""

    @pytest.fixture
    def frozen(self) -> Generator:
        raise NotImplementedError

    @pytest.fixture
    def generator(self, frozen) -> Generator:
        return copy.deepcopy(frozen).unfreeze()

    # the two forms

    def test_both_forms_have_the_same_names_and_the_very_same_values(self, frozen, generator):
        expected = frozen.state_dict()
        for again in (generator, generator.unfreeze(), copy.deepcopy(generator).freeze()):
            state = again.state_dict()
            assert state.keys() == expected.keys()
            assert all(torch.equal(state[name], value) for name, value in expected.items())
        memory = {name: value.data_ptr() for name, value in generator.state_dict().items()}
        back = generator.freeze()
        assert {name: value.data_ptr() for name, value in back.state_dict().items()} == memory
        assert list(back.parameters()) == []
        assert not any(value.requires_grad for value in back.buffers())

    def test_each_form_loads_the_state_of_the_other(self, frozen, generator):
        other = copy.deepcopy(frozen).reset_parameters(5)
        generator.load_state_dict(other.state_dict())
        frozen.load_state_dict(generator.state_dict())
        ws = some_ws(other)
        assert torch.equal(frozen.synthesize(ws).image, other.synthesize(ws).image)

    @pytest.mark.slow
    def test_both_forms_give_the_same(self, frozen, generator):
        ws, rng = some_ws(frozen), torch.Generator
        for background in (None, *frozen.background_modes):
            for noise in ("fixed", "none", "random", some_noise(frozen)):
                expected = frozen.synthesize(ws, noise=noise, background=background, rng=rng().manual_seed(1))
                found = generator.synthesize(ws, noise=noise, background=background, rng=rng().manual_seed(1))
                assert found.image.requires_grad
                assert_same(found, expected)
        with torch.no_grad():  # the fast path of a CPU
            assert torch.equal(generator.map(some_z(generator), labels=some_labels(generator)), ws)
            assert torch.equal(generator.synthesize(ws).image, frozen.synthesize(ws).image)
        assert not generator.requires_grad_(False).synthesize(ws).image.requires_grad

    def test_an_optimiser_sees_every_learned_tensor_once_and_no_other(self, generator):
        parameters, buffers = dict(generator.named_parameters()), dict(generator.named_buffers())
        assert len({id(value) for value in generator.parameters()}) == len(parameters)
        assert parameters.keys() | buffers.keys() == generator.state_dict().keys()
        assert {name.rpartition(".")[2] for name in buffers} == {"w_avg", "noise"}
        unchanged = {name: value.clone() for name, value in buffers.items()}
        before = {name: value.detach().clone() for name, value in parameters.items()}
        optimiser = torch.optim.Adam(generator.parameters(), lr=0.01, betas=(0.0, 0.99))
        image, _ = _WholeNetwork(generator)(some_z(generator), noise="random")
        image.square().mean().backward()
        optimiser.step()
        assert all(not torch.equal(value, before[name]) for name, value in parameters.items())
        assert all(torch.equal(value, unchanged[name]) for name, value in buffers.items())

    # gradients

    @pytest.mark.parametrize("noise", ["random", "fixed"])
    def test_gradients_reach_every_learned_tensor(self, generator, noise):
        image, _ = _WholeNetwork(generator)(some_z(generator), noise=noise)
        image.square().mean().backward()
        for name, value in generator.named_parameters():
            assert value.grad is not None, name
            assert value.grad.isfinite().all(), name
            assert value.grad.any(), name

    @pytest.mark.slow
    def test_gradients_of_first_and_second_order_in_every_learned_tensor(self, generator):
        """Of an image, and of the penalty on a gradient that is path-length regularisation, by finite differences."""
        network, z = _WholeNetwork(generator).double(), some_z(generator).double()
        names, values = zip(*network.named_parameters(), strict=True)
        maps = [m.double() for m in some_noise(generator, 2)]

        def call(*weights):
            return functional_call(network, dict(zip(names, weights, strict=True)), (z,), {"noise": maps})

        image, _ = call(*values)
        y = torch.randn(image.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(0)) / image.shape[-1]

        def penalty(*weights):
            image, ws = call(*weights)
            (gradient,) = torch.autograd.grad((image * y).sum(), ws, create_graph=True)
            return (gradient.square().sum(dim=2).mean(dim=1).sqrt() - 0.1).square().mean()

        assert gradcheck(lambda *weights: call(*weights)[0], values, fast_mode=True)
        assert gradcheck(penalty, values, fast_mode=True)
        gradients = torch.autograd.grad(penalty(*values), values, allow_unused=True, materialize_grads=True)
        unmoved = {name for name, gradient in zip(names, gradients, strict=True) if not gradient.any()}
        assert not any(name.endswith("weight") for name in unmoved)

    # training

    def test_first_weights_depend_on_the_seed_alone(self, frozen, generator):
        state = torch.get_rng_state()
        first = frozen.reset_parameters(3).state_dict()
        assert torch.equal(torch.get_rng_state(), state)
        again = generator.reset_parameters(3).state_dict()
        assert all(torch.equal(again[name], value) for name, value in first.items())
        other = copy.deepcopy(generator).reset_parameters(4).state_dict()
        drawn = {name for name, value in first.items() if value.any() and not (value == value.flatten()[0]).all()}
        assert all(torch.equal(other[name], again[name]) is (name not in drawn) for name in other)

    @pytest.mark.slow
    def test_it_learns(self, generator):
        """From first weights towards one image of two halves: the loss falls, noise strengths leave zero."""
        generator.reset_parameters(0)
        optimiser = torch.optim.Adam(generator.parameters(), lr=0.02, betas=(0.0, 0.99))
        target = torch.ones(1, 3, generator.resolution, generator.resolution)
        target[..., : generator.resolution // 2] = -1
        rng, losses = torch.Generator().manual_seed(0), []
        for _ in range(20):
            image, _ = _WholeNetwork(generator)(some_z(generator, 2), noise="random", rng=rng)
            loss = F.mse_loss(image, target.expand_as(image))
            losses.append(float(loss.detach()))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert losses[-1] < 0.7 * losses[0]
        strengths = [value for name, value in generator.named_parameters() if name.endswith("noise_strength")]
        assert all(strength != 0 for strength in strengths)
