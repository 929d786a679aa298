"""The training recipes by name, and how a run's folder notes which one it follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labels4free.errors import ConfigError
from labels4free.settings import build, flat
from labels4free.training.config import TrainConfig
from labels4free.training.published_config import PublishedConfig
from labels4free.training.segmenter_config import SegmenterConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

AlphaTrainConfig = TrainConfig | PublishedConfig
"""Settings of a run that makes an alpha network, whose type says by which recipe."""

AnyConfig = TrainConfig | PublishedConfig | SegmenterConfig
"""Settings of any run."""

DEFAULT_RECIPE = "replay"

RECIPES: dict[str, type[AnyConfig]] = {
    DEFAULT_RECIPE: TrainConfig,
    "published": PublishedConfig,
    "segmenter": SegmenterConfig,
}
"""Every recipe by name: ``alpha_trainer.py`` with its replay bank, ``published_trainer.py``, and
``segmenter_trainer.py``, which makes a segmenter out of pairs."""

_EARLIER: dict[str, dict[str, Any]] = {
    "replay": {"members": 1, "monitor": {"keep": "last"}},
    "published": {"monitor": {"keep": "last"}},
}
"""How runs were trained whose config.json lacks these settings, since there was no choice: not as the defaults say."""


def recipe_of(config: AnyConfig) -> str:
    """Name of the recipe that settings belong to."""
    return next(name for name, kind in RECIPES.items() if isinstance(config, kind))


def recipe_config(name: object) -> type[AnyConfig]:
    """The kind of settings that a recipe has.

    Raises:
        ConfigError: If there is no such recipe.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise ConfigError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}.")
    return RECIPES[name]


def to_run_json(config: AnyConfig) -> dict[str, Any]:
    """What a run's config.json and its finished network say of the settings; :func:`from_run_json` is the inverse.

    The default recipe goes without its name, as it did when it was the only one.
    """
    name = recipe_of(config)
    return ({} if name == DEFAULT_RECIPE else {"recipe": name}) | {"train": config.to_json()}


def from_run_json(stored: Mapping[str, Any]) -> AnyConfig:
    """Settings of a run from its config.json.

    Raises:
        KeyError: If there are none.
        ConfigError: If they fit no recipe.
    """
    name = stored.get("recipe", DEFAULT_RECIPE)
    kind, train = recipe_config(name), dict(stored["train"])
    for key, value in _EARLIER.get(name, {}).items():
        if not isinstance(value, dict):
            train.setdefault(key, value)
        elif isinstance(section := train.get(key, {}), dict):
            train[key] = value | section
    return build(kind, train)


def alpha_config(config: AnyConfig) -> AlphaTrainConfig:
    """Settings that must be those of an alpha network's training.

    Raises:
        ConfigError: If they are not.
    """
    if isinstance(config, SegmenterConfig):
        raise ConfigError("These are settings of a segmenter, not of an alpha network: use them with distill.")
    return config


def segmenter_config(config: AnyConfig) -> SegmenterConfig:
    """Settings that must be those of a segmenter's training.

    Raises:
        ConfigError: If they are not.
    """
    if not isinstance(config, SegmenterConfig):
        raise ConfigError(
            f"These are settings of an alpha network (recipe {recipe_of(config)}), not of a segmenter: use them with "
            "train."
        )
    return config


def check_same_settings(run: Path, own: AnyConfig, asked: AnyConfig | None) -> None:
    """Raise :class:`ConfigError` where a run that goes on is asked to have other settings than it has.

    Args:
        run: Its folder, for the message.
        own: What it has.
        asked: What it is asked to have; None: whatever it has.
    """
    if asked is None or asked == own:
        return
    ours, theirs = flat(own.to_json()), flat(asked.to_json())
    if recipe_of(own) != recipe_of(asked):
        ours, theirs = {"recipe": recipe_of(own)}, {"recipe": recipe_of(asked)}
    changed = ", ".join(f"{k}={ours[k]} (asked for: {theirs[k]})" for k in ours if ours[k] != theirs[k])
    raise ConfigError(f"A resumed run keeps its settings; {run} has {changed}. Start a new run to change them.")
