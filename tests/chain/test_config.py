from __future__ import annotations

import pytest
from tests.refusals import refuses

from labels4free.chain import config as config_module
from labels4free.chain.config import ChainConfig, chain_config, chosen_names, stage_seed
from labels4free.errors import ConfigError
from labels4free.settings_fields import as_json, build


def test_every_seed_follows_from_one() -> None:
    config = chain_config(seed=3)
    seeds = [config.generator.seed, config.alpha.seed, config.segmenter.seed, config.segmenter.pairs_seed]
    assert seeds == [stage_seed(3, stage) for stage in ("generator", "alpha", "segmenter", "pairs")]
    others = chain_config(seed=4)
    seeds += [others.generator.seed, others.alpha.seed, others.segmenter.seed, others.segmenter.pairs_seed]
    assert len(set(seeds)) == 8
    assert stage_seed(0, "generator") == 188898531


@pytest.mark.parametrize(
    ("resolution", "alpha", "segmenter"), [(16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 64, 256), (1024, 64, 256)]
)
def test_the_other_trainings_suit_the_generators_resolution(resolution: int, alpha: int, segmenter: int) -> None:
    config = chain_config(resolution=resolution)
    assert (config.alpha.resolution, config.segmenter.size) == (alpha, segmenter)
    assert (config.alpha.members, config.alpha.cache.size, config.alpha.recipe) == (3, 1024, "replay")


def test_narrow_networks_on_a_cpu_and_those_of_the_checkpoint_to_begin_with() -> None:
    assert chain_config().generator.network.channel_base == 2048
    assert chain_config(narrow=False).generator.network.channel_base is None
    begun = chain_config(pretrained="cats.pkl").generator
    assert (begun.pretrained, begun.network.channel_base, begun.network.z_dim) == ("cats.pkl", None, None)
    assert chain_config(mirror=True).generator.mirror


@pytest.mark.parametrize("has", [False, True])
def test_narrow_networks_compute_in_bfloat16_where_the_cpu_does(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(config_module, "cpu_has_bfloat16", lambda: has)
    assert chain_config().generator.precision == ("bfloat16" if has else "auto")
    assert chain_config(narrow=False).generator.precision == "auto"


def test_settings_of_a_stage_count_more() -> None:
    settings = ["generator.images=64", "alpha.cache.size=99", "segmenter.pairs.num=7", "generator.seed=5"]
    config = chain_config(settings=settings)
    assert (config.generator.images, config.alpha.cache.size, config.segmenter.pairs.num) == (64, 99, 7)
    assert config.generator.seed == 5
    assert chosen_names(settings) == {"generator.images", "alpha.cache.size", "segmenter.pairs.num", "generator.seed"}
    assert build(ChainConfig, as_json(config)) == config


def test_refuses_bad_settings() -> None:
    refuses(ConfigError, "resolution must be a power of two", chain_config, resolution=48)
    refuses(ConfigError, "valid names there are generator, alpha, segmenter", chain_config, settings=["pairs.num=3"])
    refuses(ConfigError, "Unknown setting 'alpha.stepz'", chain_config, settings=["alpha.stepz=3"])
    refuses(ConfigError, "must look like", chain_config, settings=["alpha.steps"])
