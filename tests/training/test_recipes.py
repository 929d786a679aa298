from __future__ import annotations

import pytest

from labels4free.errors import ConfigError, RunError
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.generator.config import GeneratorConfig
from labels4free.training.recipes import RECIPES, check_verb, recipe_named
from labels4free.training.segmenter.config import SegmenterConfig
from labels4free.training_loop.resume import own_settings, to_run_json
from labels4free.training_loop.run_dir import RunDir

CONFIGS = [TrainConfig(steps=7), PaperConfig(seed=3), SegmenterConfig(seed=5), GeneratorConfig(seed=7)]


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_come_back_from_what_a_run_notes(config, tmp_path):
    run = RunDir.create(tmp_path / "run", to_run_json(config))
    assert own_settings(run, RECIPES) == config
    assert RECIPES[config.recipe].config is type(config)


def test_every_recipe_is_looked_up_by_the_name_that_its_settings_have():
    for name, entry in RECIPES.items():
        assert recipe_named(name) is entry
        assert entry.config().recipe == name


@pytest.mark.parametrize(
    ("stored", "error", "said"),
    [
        (
            {"recipe": "alchemy", "train": {}},
            ConfigError,
            "run: recipe must be one of replay, paper, segmenter, stylegan2, got 'alchemy'",
        ),
        ({"recipe": "replay", "train": {"monitor": 3}}, ConfigError, "monitor"),
        ({"recipe": "replay", "train": {"stepz": 3}}, ConfigError, "stepz"),
        ({"recipe": "replay"}, RunError, r"config\.json lacks 'train'; restore it, or start a new run"),
        ({"train": {}}, RunError, r"config\.json lacks 'recipe'; restore it, or start a new run"),
    ],
)
def test_a_damaged_note_is_refused(stored, error, said, tmp_path):
    run = RunDir.create(tmp_path / "run", stored)
    with pytest.raises(error, match=said):
        own_settings(run, RECIPES)


@pytest.mark.parametrize("name", ["alchemy", None, 3])
def test_a_recipe_that_there_is_not(name):
    with pytest.raises(ConfigError, match="recipe must be one of replay, paper, segmenter, stylegan2, got"):
        recipe_named(name)


@pytest.mark.parametrize(
    ("config", "verb", "said"),
    [
        (SegmenterConfig(), "train", "settings of a segmenter, not of an alpha network: use them with distill"),
        (
            TrainConfig(),
            "distill",
            r"settings of an alpha network \(recipe replay\), not of a segmenter: use them",
        ),
        (GeneratorConfig(), "train", "settings of a generator, not of an alpha network: use them with train-generator"),
        (SegmenterConfig(), "train-generator", "settings of a segmenter, not of a generator: use them with distill"),
    ],
)
def test_settings_for_another_command_are_refused(config, verb, said):
    check_verb(config, RECIPES[config.recipe].verb)
    with pytest.raises(ConfigError, match=said):
        check_verb(config, verb)
