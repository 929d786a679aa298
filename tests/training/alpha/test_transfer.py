"""An alpha network that begins as another generator's: the parent's, after fine-tuning."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_generator as build_tiny_generator
from tests.tiny_run import tiny_config
from tests.training.alpha.test_projection import SPECS, maps

from labels4free.checkpoints.native import write_native
from labels4free.errors import ConfigError
from labels4free.generators.base import sample_z
from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork
from labels4free.training.alpha.projection import fit_projection, project_network
from labels4free.training.alpha.run import CachedRecipe
from labels4free.types import FeatureSpec

NARROW = tuple(FeatureSpec(s.name, min(s.channels, 8), s.resolution) for s in SPECS)  # nothing is left out of these


def written(folder, network):
    path = folder / "parent.safetensors"
    config, state = network.config(), network.state_dict()
    write_native(path, kind="alpha_network", family=network.family, config=config, state=state)
    return str(path)


def network_for(generator, seed=3, **sizes):
    torch.manual_seed(seed)
    network = MergeNetwork(generator.feature_specs, generator.resolution, **{"width": 4, **sizes})
    with torch.no_grad():
        network.head.weight *= 10
    return network


def test_a_network_on_projected_maps_is_the_network():
    torch.manual_seed(0)
    network = MergeNetwork(NARROW, 16, width=6, min_resolution=4)
    samples = [maps(i, NARROW) for i in range(20)]
    projection = fit_projection(NARROW, samples)
    again = projection.fold(project_network(network, projection, samples, 16), NARROW)
    for index in (0, 50):
        torch.testing.assert_close(again(maps(index, NARROW)), network(maps(index, NARROW)), rtol=0, atol=2e-3)


def test_what_a_projection_leaves_out_is_fitted():
    """Of 40 channels eight are kept: better than a network whose other stems are simply dropped, on its samples."""
    torch.manual_seed(0)
    network = MergeNetwork(SPECS, 16, width=6, min_resolution=4)
    samples = [maps(i) for i in range(20)]
    projection = fit_projection(SPECS, samples)
    fitted = projection.fold(project_network(network, projection, samples, 16), SPECS)
    untrained = projection.fold(projection.network_like(network), SPECS)
    wanted = torch.cat([network(s) for s in samples])
    error, chance = ((torch.cat([n(s) for s in samples]) - wanted).abs().mean() for n in (fitted, untrained))
    assert error < 0.5 * chance


def test_a_run_begins_with_the_parent(tmp_path):
    generator = build_tiny_generator()
    parent = network_for(generator)
    config = tiny_config(alpha={"pretrained": written(tmp_path, parent)})
    recipe = CachedRecipe(generator, config)
    recipe.prepare(tmp_path / "cache", lambda *_: None)
    trainer = recipe.trainer()
    folded = recipe.cache.projection.fold(trainer.network, generator.feature_specs)
    z = torch.stack([sample_z(generator.z_dim, 0, k) for k in range(4)])
    with torch.no_grad():
        features = generator.synthesize(generator.map(z, 0.7)).features
        torch.testing.assert_close(folded(features), parent(features), rtol=0, atol=0.02)
    fresh = CachedRecipe(generator, tiny_config())
    fresh.prepare(tmp_path / "cache", lambda *_: None)
    assert not torch.equal(fresh.trainer().network.head.weight, parent.head.weight)
    assert torch.equal(trainer.network.head.weight, parent.head.weight)
    assert torch.equal(recipe.trainer(restart=1).network.head.weight, parent.head.weight)


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        (lambda g: network_for(g, width=5), "has alpha.width 5"),
        (lambda g: PaperNetwork(g.feature_specs, g.resolution), "is of the family"),
        (lambda _: MergeNetwork(SPECS, 16, width=4), "trained for other feature maps"),
    ],
)
def test_a_parent_that_does_not_fit_is_refused(tmp_path, parent, said):
    generator = build_tiny_generator()
    config = tiny_config(alpha={"pretrained": written(tmp_path, parent(generator))})
    with pytest.raises(ConfigError, match=said):
        CachedRecipe(generator, config)
