from __future__ import annotations

import pytest

from labels4free.errors import ConfigError
from labels4free.training.config import MonitorConfig, TrainConfig
from labels4free.training.published_config import PublishedConfig
from labels4free.training.recipes import RECIPES, from_run_json, recipe_of, to_run_json
from labels4free.training.segmenter_config import SegmenterConfig


@pytest.mark.parametrize("config", [TrainConfig(steps=7), PublishedConfig(seed=3), SegmenterConfig(seed=5)])
def test_settings_come_back_from_what_a_run_notes(config):
    assert from_run_json(to_run_json(config)) == config
    assert RECIPES[recipe_of(config)] is type(config)


@pytest.mark.parametrize("recipe", ["replay", "published"])
def test_a_run_from_before_a_setting_keeps_what_it_did(recipe):
    stored = {"recipe": recipe, "train": {"steps": 9, "monitor": {"interval": 3}}}
    config = from_run_json(stored)
    assert (config.monitor.keep, config.monitor.interval, config.steps) == ("last", 3, 9)
    assert getattr(config, "members", 1) == 1
    assert from_run_json({"recipe": recipe, "train": {}}).monitor.keep == "last"
    assert stored["train"] == {"steps": 9, "monitor": {"interval": 3}}
    assert (TrainConfig().members, MonitorConfig().keep) == (3, "best")  # which is not what new runs do


def test_what_such_a_run_does_say_counts():
    config = from_run_json({"train": {"members": 2, "monitor": {"keep": "best"}}})
    assert (config.members, config.monitor.keep) == (2, "best")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"recipe": "alchemy", "train": {}}, "recipe must be one of replay, published, segmenter, got 'alchemy'"),
        ({"train": {"monitor": 3}}, "monitor"),
        ({"train": {"stepz": 3}}, "stepz"),
    ],
)
def test_a_damaged_note_is_refused(stored, said):
    with pytest.raises(ConfigError, match=said):
        from_run_json(stored)
