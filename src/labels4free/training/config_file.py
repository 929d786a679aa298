"""Settings as TOML files: reading them for a run, and writing out every field with its meaning."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free.errors import ConfigError
from labels4free.files import read_text
from labels4free.settings_fields import change, unknown_names
from labels4free.training.recipes import DEFAULT_RECIPE, RECIPES, check_verb, recipe_named
from labels4free.training_loop.resume import own_settings
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from labels4free.training.recipes import AnyConfig

_WIDTH = 100


class ConfigFile(NamedTuple):
    """What a TOML file sets.

    Attributes:
        path: The file.
        recipe: The recipe that it is for; None if it does not say.
        values: Nested settings by name.
    """

    path: Path
    recipe: str | None
    values: dict[str, Any]


def read_config_file(path: str | Path) -> ConfigFile:
    """Read a TOML file of settings: fields at the top, each section as a table, and perhaps ``recipe = "paper"``.

    Raises:
        ConfigError: If it cannot be read, is no TOML or names no known recipe.
    """
    path = Path(path)
    try:
        values = tomllib.loads(read_text(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; give a TOML file of settings.") from error
    except (ValueError, RecursionError) as error:  # of the encoding, or of TOML
        raise ConfigError(f"{path} is no TOML file: {str(error).removesuffix('.')}.") from error
    recipe = values.pop("recipe", None)
    if recipe is not None:
        recipe_named(recipe)
    return ConfigFile(path, recipe, values)


def recipe_for(base: AnyConfig | None, file: ConfigFile | None) -> str:
    """Name of the recipe that :func:`assemble` makes settings of."""
    if base is not None:
        return base.recipe
    return file.recipe if file and file.recipe else DEFAULT_RECIPE


def run_settings(
    verb: str,
    base: AnyConfig | None,
    file: str | Path | None,
    flags: Sequence[str],
    settings: Sequence[str],
    resumed: str | Path | None,
) -> Any:
    """Settings of a run as its command line has them.

    Args:
        verb: The command.
        base: A preset's settings; None for the defaults.
        file: A TOML file.
        flags: ``section.field=value`` strings, of flags of their own.
        settings: The same, of ``--set``; they count more.
        resumed: Folder of the run that goes on, whose settings count before the defaults; None for a new run.

    Returns:
        The settings; None where a run goes on and nothing is asked for: it keeps what it has.

    Raises:
        ConfigError: As :func:`assemble`, or if the settings are of a recipe that another command runs.
        RunError: If there is no run to go on with.
    """
    found = read_config_file(file) if file else None
    if resumed is not None:
        own = own_settings(RunDir.open(resumed), RECIPES)
        check_verb(own, verb)
        if base is None and found is None and not flags and not settings:
            return None
        base = base or own
    if base is None and (found is None or found.recipe is None):
        base = next(entry.config() for entry in RECIPES.values() if entry.verb == verb)
    if base is not None:
        check_verb(base, verb)
    discriminator = any(flag.startswith("discriminator.pretrained=") for flag in flags)
    if discriminator and recipe_for(base, found) == DEFAULT_RECIPE:
        raise ConfigError(
            "--discriminator is for presets of the paper's recipe, such as car-paper; the default recipe trains a "
            "small discriminator of its own. Leave it out, or add --preset."
        )
    config = assemble(base, found, [*flags, *settings])  # at once: a flag may only be possible together with a setting
    check_verb(config, verb)
    return config


def assemble(base: AnyConfig | None, file: ConfigFile | None = None, settings: Iterable[str] = ()) -> AnyConfig:
    """Lay settings over one another: base < file < single settings.

    Args:
        base: A preset's settings, or a run's; None means the defaults of the file's recipe.
        file: A file's.
        settings: ``section.field=value`` strings.

    Raises:
        ConfigError: If a name is unknown (all unknown ones are listed), a value does not fit, or the file is for
            another recipe than the base.
    """
    if base is None:
        base = recipe_named(recipe_for(None, file)).config()
    if file is None:
        return change(base, settings=settings)
    if file.recipe not in (None, base.recipe):
        raise ConfigError(
            f"{file.path} has settings of the recipe {file.recipe}, but the preset or run that it shall change follows "
            f"{base.recipe}; leave the preset out, or choose one of that recipe."
        )
    unknown = unknown_names(type(base), file.values)
    if unknown:
        others = [name for name, entry in RECIPES.items() if not unknown_names(entry.config, file.values)]
        hint = f' The recipe {others[0]} has them all: write recipe = "{others[0]}" at its top.' if others else ""
        named = "; ".join(f"{path} (valid there: {names})" for path, names in unknown.items())
        raise ConfigError(f"{file.path} has unknown settings: {named}.{hint}")
    return change(base, file.values, settings)


def as_toml(config: AnyConfig) -> str:
    """Every field of a configuration with what it means, as a TOML file that :func:`read_config_file` reads.

    TOML has no word for none: a field without a value is written as a comment.
    """
    lines = [f'recipe = "{config.recipe}"', *_fields(config)]
    for name, section in _sections(config).items():
        lines += ["", f"[{name}]", *_fields(section)]
    return "\n".join(lines) + "\n"


def field_docs(kind: type) -> dict[str, str]:
    """The sentence below each field of a dataclass, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            docs[field.target.id] = " ".join(str(text).split())
    return docs


def _sections(config: Any) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}


def _fields(section: Any) -> list[str]:
    docs, nested = field_docs(type(section)), _sections(section)
    lines: list[str] = []
    for name, value in dataclasses.asdict(section).items():
        if name not in nested:
            lines += textwrap.wrap(docs[name], _WIDTH, initial_indent="# ", subsequent_indent="# ")
            lines.append(f"# {name} = none" if value is None else f"{name} = {json.dumps(value)}")
    return lines
