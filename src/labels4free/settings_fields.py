"""Settings as frozen dataclasses: their checks, and building and changing them from tables and command-line words.

A configuration is a frozen dataclass whose fields are values (whole numbers, fractions, truth values, text, one of
several words, none, or a tuple of such) and sections, which are such dataclasses themselves. Sections refuse bad values
when they are built.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

C = TypeVar("C")

RENAMED: dict[str, str] = {
    "bank": "cache",
    "discriminator.random_mask_share": "discriminator.random_mask_fraction",
    "discriminator.perturbed_mask_share": "discriminator.perturbed_mask_fraction",
    "loss.separation": "loss.inpainting_error",
    "loss.final_separation": "loss.final_inpainting_error",
    "background.filled_share": "background.filled_fraction",
    "monitor.noise_views": "monitor.noise_samples",
    "monitor.mixing_views": "monitor.mixing_samples",
    "augmentation.completion": "augmentation.body_completion",
    "augmentation.things": "augmentation.occluders",
    "augmentation.company": "augmentation.copy_paste",
    "self_training.share": "self_training.photo_fraction",
    "self_training.min_coverage": "self_training.min_foreground_ratio",
    "self_training.max_coverage": "self_training.max_foreground_ratio",
}
"""Settings and sections that had another name before -> what they are called now."""


# Checks, for __post_init__


def check_types(section: Any, prefix: str = "", *, finite: bool = True) -> None:
    """Raise :class:`ConfigError` where a field's value has not the type that the field is annotated with.

    Args:
        section: A configuration or a section of one.
        prefix: Path of the section, for messages: ``"loss."``.
        finite: Refuse infinite numbers, too.
    """
    for name, wanted in _types_of(type(section)).items():
        value = getattr(section, name)
        if dataclasses.is_dataclass(wanted):
            if not isinstance(value, cast("type", wanted)):
                raise ConfigError(f"{prefix}{name} must be a {cast('type', wanted).__name__}, got {value!r}.")
        else:
            _checked(value, wanted, prefix + name, finite=finite)


def at_least(name: str, value: float, minimum: float) -> None:
    """Raise :class:`ConfigError` unless value >= minimum."""
    if not value >= minimum:
        raise ConfigError(f"{name} must be at least {minimum}, got {value}.")


def positive(name: str, value: float) -> None:
    """Raise :class:`ConfigError` unless value > 0."""
    if not value > 0:
        raise ConfigError(f"{name} must be above 0, got {value}.")


def fraction(name: str, value: float) -> None:
    """Raise :class:`ConfigError` unless 0 <= value <= 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must lie in [0, 1], got {value}.")


def within(section: Any, interval: str, *names: str, prefix: str = "", hint: str = "") -> None:
    """Raise :class:`ConfigError` where a field lies outside an interval; a field that is None lies in any.

    Args:
        section: A configuration or a section of one.
        interval: As mathematics writes it, a round bracket for an end that is not in it: ``"[0, 1)"``, ``"[1, inf)"``.
        names: Of the fields.
        prefix: Path of the section, for messages.
        hint: What else to say: what is usual.
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name in names:
        value = getattr(section, name)
        if value is None:
            continue
        above = value >= low if interval[0] == "[" else value > low
        if not (above and (value <= high if interval[-1] == "]" else value < high)):
            least = f"be {'at least' if interval[0] == '[' else 'above'} {low:g}"
            must = f"lie in {interval}" if high < math.inf else least
            raise ConfigError(f"{prefix}{name} must {must}, got {value}{hint and f'; {hint}'}.")


# Building and changing


def as_json(config: Any) -> dict[str, Any]:
    """All fields as JSON values, sections as tables, tuples as lists; :func:`build` undoes it."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def build(kind: type[C], values: Mapping[str, Any], prefix: str = "") -> C:
    """Build a configuration from nested values; fields that are missing keep their defaults.

    Args:
        kind: Its dataclass.
        values: Values by name, sections as tables of their own.
        prefix: Path of the section, for messages.

    Raises:
        ConfigError: If a name is unknown or a value has the wrong type or range.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.') or 'The configuration'} must be a table of fields, got {values!r}.")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        wanted = _field_type(kind, name, prefix + name)
        if dataclasses.is_dataclass(wanted):
            arguments[name] = build(cast("type", wanted), value, f"{prefix}{name}.")
        else:
            arguments[name] = _checked(value, wanted, prefix + name)
    return kind(**arguments)


def change(config: C, table: Mapping[str, Any] | None = None, settings: Iterable[str] = ()) -> C:
    """Change fields, all at once: one may only be possible together with another.

    Args:
        config: Left as it is.
        table: Nested values by name.
        settings: ``section.field=value`` strings, as the command line's ``--set`` takes them; they win over the table.

    Returns:
        A configuration with the changes.

    Raises:
        ConfigError: If a string has no ``=``, a name is unknown (the valid ones are listed) or a value does not fit.
    """
    values = merged(dataclasses.asdict(cast("Any", config)), table or {})
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"A setting must look like section.field=value, got {setting!r}.")
        *sections, name = path.strip().split(".")
        target, kind = values, cast("Any", type(config))
        for section in sections:
            kind = _field_type(kind, section, path)
            if not dataclasses.is_dataclass(kind):
                raise ConfigError(f"Unknown setting {path!r}: {section} is a value, not a section.")
            target = target[section]
        wanted = _field_type(kind, name, path)
        if dataclasses.is_dataclass(wanted):
            raise ConfigError(f"{path} is a section; set one of its fields: {_names(wanted, path + '.')}.")
        target[name] = _parse(text.strip(), wanted, path)
    return build(type(config), values)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables joined; where both have a value, that of ``changes`` counts."""
    out = dict(values)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(name), dict)
        out[name] = merged(out[name], value) if both else value
    return out


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, by path: ``{"loss": {"coverage": 1}}`` -> ``{"loss.coverage": 1}``."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


def unknown_names(kind: type, values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Paths in nested values that no field has -> the names that are valid there."""
    known, out = _types_of(kind), {}
    for name, value in values.items():
        if name not in known:
            out[prefix + name] = renamed(kind, prefix + name) or _names(kind, prefix)
        elif dataclasses.is_dataclass(known[name]) and isinstance(value, dict):
            out |= unknown_names(cast("type", known[name]), value, f"{prefix}{name}.")
    return out


def renamed(kind: Any, path: str) -> str | None:
    """What a setting is called now that had this path before; None if there is none in this configuration.

    Args:
        kind: Dataclass of the section in which the path's name was looked for.
        path: Such as ``cache.size``; what follows a renamed section stays as it is.
    """
    for old, new in RENAMED.items():
        if (path == old or path.startswith(f"{old}.")) and new.rpartition(".")[2] in _types_of(kind):
            return new + path.removeprefix(old)
    return None


def _types_of(kind: Any) -> dict[str, Any]:
    """Annotation of each field."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _names(kind: Any, prefix: str = "") -> str:
    return ", ".join(prefix + f.name for f in dataclasses.fields(kind))


def _field_type(kind: Any, name: str, path: str) -> Any:
    known = _types_of(kind)
    if name not in known:
        if now := renamed(kind, path):
            raise ConfigError(f"{path} is called {now} now.")
        raise ConfigError(f"Unknown setting {path!r}; the valid names there are {_names(kind)}.")
    return known[name]


def _options(wanted: Any) -> tuple[Any, ...]:
    return typing.get_args(wanted) if typing.get_origin(wanted) in (types.UnionType, typing.Union) else (wanted,)


def _parse(text: str, wanted: Any, path: str) -> Any:
    """Read a command-line value as the type of its field."""
    options = _options(wanted)
    if type(None) in options and text.lower() in ("none", ""):
        return None
    if bool in options and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        if number in options:
            try:
                return number(text)
            except ValueError:
                continue
    return _checked(text, wanted, path)


def _checked(value: Any, wanted: Any, path: str, *, finite: bool = True) -> Any:
    options = _options(wanted)
    if value is None and type(None) in options:
        return None
    none = "none or " if type(None) in options else ""
    words = [word for one in options if typing.get_origin(one) is Literal for word in typing.get_args(one)]
    if words:
        if type(value) is not str or value not in words:
            raise ConfigError(f"{path} must be {none}one of {', '.join(words)}, got {value!r}.")
        return value
    if entries := [typing.get_args(one)[0] for one in options if typing.get_origin(one) is tuple]:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{path} must be {none}a list, got {value!r}.")
        return tuple(_checked(item, entries[0], f"an entry of {path}", finite=finite) for item in value)
    if float in options and type(value) is int:
        value = float(value)
    number = isinstance(value, float)
    if type(value) not in options or (number and (math.isnan(value) or (finite and math.isinf(value)))):
        names = " or ".join("none" if o is type(None) else o.__name__ for o in options)
        raise ConfigError(f"{path} must be {names}, got {value!r}.")
    return value
