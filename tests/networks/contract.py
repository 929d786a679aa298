"""What every alpha network must do; each one's test class inherits this and says what is small of its kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
from torch.autograd import gradcheck

from labels4free.networks import ALPHA_NETWORKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.types import FeatureSpec


def maps(specs: Sequence[FeatureSpec], n: int = 2, seed: int = 0) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(n, s.channels, s.resolution, s.resolution, generator=rng) for s in specs]


class AlphaNetworkContract:
    """Inherit it as ``Test<Network>`` and define everything without a value."""

    specs: ClassVar[Sequence[FeatureSpec]]
    resolution: int
    weights: ClassVar[dict[str, tuple[int, ...]]]
    """Names and shapes in the state dict: they are the keys of every checkpoint that was ever written."""

    @pytest.fixture
    def made(self) -> AlphaNetwork:
        """A network for the specs, decided enough for differences to show."""
        raise NotImplementedError

    def test_config_goes_through_json_and_builds_the_same_network(self, made):
        again = ALPHA_NETWORKS[made.family].from_config(json.loads(json.dumps(made.config())))
        assert type(again) is type(made)
        assert again.config() == made.config()
        assert again.feature_specs == made.feature_specs
        again.load_state_dict(made.state_dict())
        assert torch.equal(again(maps(self.specs)), made(maps(self.specs)))

    def test_names_of_the_weights_are_frozen(self, made):
        assert {name: tuple(value.shape) for name, value in made.state_dict().items()} == self.weights

    @pytest.mark.parametrize("scale", [0.0, 1e6, -1e6])
    def test_extreme_features_give_alpha_in_range(self, made, scale):
        alpha = made([scale * x for x in maps(self.specs)])
        assert alpha.shape == (2, 1, self.resolution, self.resolution)
        assert torch.isfinite(alpha).all()
        assert 0 <= alpha.min() <= alpha.max() <= 1

    def test_samples_do_not_touch_each_other(self, made):
        features = maps(self.specs, n=3)
        whole = made(features)
        assert whole.std() > 1e-3
        for i in range(3):
            torch.testing.assert_close(made([x[i : i + 1] for x in features]), whole[i : i + 1], rtol=0, atol=1e-6)

    @pytest.mark.slow
    def test_gradients(self, made):
        made.double()
        sides = {r: 2 + k for k, r in enumerate(sorted({s.resolution for s in self.specs}))}  # no notion of size
        features = [
            x[:1, :, : sides[s.resolution], : sides[s.resolution]].double().requires_grad_()
            for s, x in zip(self.specs, maps(self.specs), strict=True)
        ]
        assert gradcheck(lambda *x: made(x).logit(), features)
        made(features).sum().backward()
        for name, parameter in made.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
