from __future__ import annotations

import dataclasses

import pytest

from labels4free.errors import ConfigError
from labels4free.settings_fields import change
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.config_file import as_toml, assemble, field_docs, read_config_file
from labels4free.training.presets import PRESETS
from labels4free.training.recipes import RECIPES


@pytest.fixture
def toml(tmp_path):
    def toml(text, name="my.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_config_file(path)

    return toml


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_being_written_and_read(toml, name):
    config = PRESETS[name].config
    assert assemble(None, toml(as_toml(config))) == config
    assert assemble(config, toml(as_toml(config))) == config


def test_what_is_written(toml):
    text = as_toml(change(TrainConfig(), settings=['data=/a "b" \\c', "steps=7"]))
    assert text.startswith('recipe = "replay"\n# Steps of the alpha network; the discriminator\'s warm-up comes before')
    assert "\nsteps = 7\n" in text
    assert "\n# mode = none\n" in text
    assert assemble(None, toml(text)).data == '/a "b" \\c'
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.slow
@pytest.mark.parametrize("entry", RECIPES.values())
def test_every_field_has_its_sentence(entry):
    for section in (config := entry.config(), *(v for v in vars(config).values() if dataclasses.is_dataclass(v))):
        docs = field_docs(type(section))
        values = {f.name for f in dataclasses.fields(section) if not dataclasses.is_dataclass(getattr(section, f.name))}
        assert values <= docs.keys()
        assert all(len(docs[name]) > 10 for name in values)


def test_what_counts_more(toml):
    file = toml("steps = 5\nbatch_size = 5\n[loss]\ncoverage = 5\n")
    base = TrainConfig(steps=3, batch_size=3, seed=3)
    config = assemble(base, file, ["batch_size=9"])
    assert (config.seed, config.steps, config.batch_size, config.loss.coverage) == (3, 5, 9, 5.0)
    assert config.loss.inpainting_error == base.loss.inpainting_error
    assert assemble(base) == base
    assert assemble(None) == TrainConfig()


def test_a_file_names_its_recipe(toml):
    file = toml('recipe = "paper"\nsteps = 5\n')
    assert assemble(None, file) == PaperConfig(steps=5)
    assert assemble(PaperConfig(seed=3), file) == PaperConfig(steps=5, seed=3)
    with pytest.raises(ConfigError) as caught:
        assemble(TrainConfig(), file)
    assert str(caught.value).startswith(
        f"{file.path} has settings of the recipe paper, but the preset or run that it shall change follows replay;"
    )


def test_a_file_may_need_a_flag(toml):
    file = toml("resolution = 2048")
    with pytest.raises(ConfigError, match="channel_base must be at least the training resolution 2048"):
        assemble(None, file)
    assert assemble(None, file, ["discriminator.channel_base=4096"]).resolution == 2048


def test_all_unknown_names_are_listed(toml):
    file = toml("colour = 1\nsteps = 2\n[loss]\nhue = 3\ncoverage = 1\n[dog]\nname = 'Rex'\n")
    with pytest.raises(ConfigError) as caught:
        assemble(None, file)
    said = str(caught.value)
    assert said.startswith(f"{file.path} has unknown settings: colour (valid there: steps, batch_size, ")
    assert "; loss.hue (valid there: loss.binarization, " in said
    assert "; dog (valid there: steps, " in said
    assert "recipe" not in said


def test_names_of_the_other_recipe_are_known_to_it(toml):
    with pytest.raises(ConfigError, match=r'The recipe paper has them all: write recipe = "paper" at its top\.$'):
        assemble(None, toml("accumulation = 2\n[samples]\ntruncation_psi = 0.5\n"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps = '3'", r"^steps must be int, got '3'\.$"),
        ("steps = 0", r"^steps must be at least 1, got 0\.$"),
        ("loss = 3", r"^loss must be a table of fields, got 3\.$"),
        ("[steps]\na = 1", r"^steps must be int, got \{'a': 1\}\.$"),
        ("seed = 1979-05-27", r"^seed must be int, got datetime\.date"),
        ("[loss]\ncoverage = nan", r"^loss\.coverage must be float, got nan\.$"),
    ],
)
def test_values_that_do_not_fit(toml, text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        assemble(None, toml(text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps = ", r"my\.toml is no TOML file: Invalid value \(at "),
        ("steps: 3", r"my\.toml is no TOML file: "),
        ("steps = 1\nsteps = 2", r"my\.toml is no TOML file: Cannot overwrite"),
        ("a = " + "[" * 100_000, r"my\.toml is no TOML file: "),
        ('recipe = "magic"', r"^recipe must be one of replay, paper, segmenter, stylegan2, got 'magic'\.$"),
        ("recipe = 3", r"^recipe must be one of replay, paper, segmenter, stylegan2, got 3\.$"),
    ],
    ids=lambda value: value[:20],
)
def test_files_that_are_none(toml, text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        toml(text)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file or directory; give a TOML file"):
        read_config_file(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config_file(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"data = '\xe4'")
    with pytest.raises(ConfigError, match=r"latin\.toml is no TOML file: its encoding is not UTF-8 "):
        read_config_file(tmp_path / "latin.toml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_preset_comes_back_from_other_shells(tmp_path, encoding, newline):
    """PowerShell writes UTF-16, Notepad a mark before UTF-8."""
    config = PRESETS["auto"].config
    (tmp_path / "my.toml").write_text(as_toml(config), encoding=encoding, newline=newline)
    assert assemble(None, read_config_file(tmp_path / "my.toml")) == config
