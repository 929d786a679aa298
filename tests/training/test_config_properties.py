"""Settings that are accepted come back the same: from JSON, from a TOML file, from single settings."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_run import as_settings

from labels4free.errors import ConfigError
from labels4free.settings_fields import build, change, flat
from labels4free.training.config_file import as_toml, assemble, read_config_file
from labels4free.training.recipes import RECIPES

WORDS = st.sampled_from(["none", "true", "false", "best", "last", "auto", "off", "adaptive", "/a b/c", "", "=", "ü"])
VALUES = st.one_of(st.integers(-3, 4096), st.floats(-2, 4), st.floats(), WORDS)


@pytest.mark.slow
@pytest.mark.parametrize("entry", RECIPES.values(), ids=RECIPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_accepted_comes_back(entry, data, tmp_path_factory):
    default = entry.config()
    paths = sorted(flat(default.to_json()))
    asked = data.draw(st.dictionaries(st.sampled_from(paths), VALUES, max_size=3))
    try:
        config = change(default, settings=[f"{path}={value}" for path, value in asked.items()])
    except ConfigError:
        return
    assert build(entry.config, json.loads(json.dumps(config.to_json()))) == config
    file = tmp_path_factory.mktemp("config") / "own.toml"
    file.write_text(as_toml(config), encoding="utf-8")
    assert assemble(None, read_config_file(file)) == config
    words = [word for word in as_settings(config) if word != "--set"]
    assert change(default, settings=words) == config
