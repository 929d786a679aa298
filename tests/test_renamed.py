"""Settings and flags that had other names before are refused, and the new name is said."""

from __future__ import annotations

import re

import pytest

from labels4free import cli
from labels4free.cli import RENAMED_FLAGS
from labels4free.errors import ConfigError
from labels4free.settings_fields import RENAMED, build, change, flat
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.config_file import assemble, read_config_file
from labels4free.training.segmenter.config import SegmenterConfig

KINDS = (TrainConfig, PaperConfig, SegmenterConfig)


def kind_with(path):
    """The settings that have a field or section of this path, and the path of a field in it."""
    for kind in KINDS:
        values = kind().to_json()
        for field in flat(values):
            if field == path or field.startswith(f"{path}."):
                return kind, field.removeprefix(path)
    pytest.fail(f"no settings have {path}")


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_setting_by_its_old_name(old, new, tmp_path):
    kind, rest = kind_with(new)
    said = f"{old}{rest} is called {new}{rest} now."
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        change(kind(), settings=[f"{old}{rest}=1"])
    section, _, name = old.rpartition(".")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{old} is called {new} now.')}$"):
        build(kind, {section: {name: 1}} if section else {name: {}})
    file = tmp_path / "old.toml"
    file.write_text(f"{old}{rest} = 1\n")
    with pytest.raises(ConfigError, match=rf"unknown settings: {re.escape(old)} \(valid there: {re.escape(new)}\)\."):
        assemble(kind(), read_config_file(file))


def test_an_old_name_of_other_settings_is_no_name_of_these():
    with pytest.raises(
        ConfigError, match=r"^Unknown setting 'loss\.separation'; the valid names there are adversarial, "
    ):
        change(PaperConfig(), settings=["loss.separation=1"])


@pytest.mark.parametrize(
    ("verb", "old", "new"), [(verb, *pair) for verb, flags in RENAMED_FLAGS.items() for pair in flags.items()]
)
def test_a_flag_by_its_old_name(verb, old, new, capsys):
    for words in ([old, "1"], [f"{old}=1"], [old.replace("-", "_").replace("__", "--", 1), "1"]):
        assert cli.main([verb, "x", "--out", "y", "--num", "1", *words]) == cli.FAILURE
        typed = words[0].partition("=")[0]
        assert capsys.readouterr().err == f"labels4free: {typed} is called {new} now.\n"
    with pytest.raises(SystemExit) as asked:
        cli.main([verb, "--help"])
    assert asked.value.code == 0
    said = capsys.readouterr().out
    assert new in said
    assert old not in said
