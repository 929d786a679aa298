"""The training recipes by name, and how a run's folder notes which one it follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labels4free.errors import ConfigError
from labels4free.training.config import TrainConfig
from labels4free.training.published_config import PublishedConfig
from labels4free.training.settings import build

if TYPE_CHECKING:
    from collections.abc import Mapping

AnyConfig = TrainConfig | PublishedConfig
"""Settings of a run, whose type says by which recipe."""

DEFAULT_RECIPE = "replay"

RECIPES: dict[str, type[AnyConfig]] = {
    DEFAULT_RECIPE: TrainConfig,
    "published": PublishedConfig,
}
"""Every recipe by name: ``alpha_trainer.py`` with its replay bank, and ``published_trainer.py``."""


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
    return build(recipe_config(stored.get("recipe", DEFAULT_RECIPE)), stored["train"])
