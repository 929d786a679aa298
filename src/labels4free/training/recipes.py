"""The training recipes by name: what settings they have, what they make, which command runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labels4free.errors import ConfigError
from labels4free.training.alpha import run as alpha_run
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.generator import run as generator_run
from labels4free.training.generator.config import GeneratorConfig
from labels4free.training.segmenter import run as segmenter_run
from labels4free.training.segmenter.config import SegmenterConfig

if TYPE_CHECKING:
    from labels4free.training_loop.contracts import RecipeEntry

AnyConfig = TrainConfig | PaperConfig | SegmenterConfig | GeneratorConfig
"""Settings of any run; ``config.recipe`` is the recipe's name."""

RECIPES: dict[str, RecipeEntry] = {**alpha_run.RECIPES, **segmenter_run.RECIPES, **generator_run.RECIPES}
"""Every recipe by name, the default first."""

DEFAULT_RECIPE = next(iter(RECIPES))


def recipe_named(name: object) -> RecipeEntry:
    """Look a recipe up.

    Raises:
        ConfigError: If there is no such recipe.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise ConfigError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}.")
    return RECIPES[name]


def check_verb(config: AnyConfig, verb: str) -> None:
    """Raise :class:`ConfigError` where settings are of a recipe that another command runs."""
    own, wanted = RECIPES[config.recipe], next(entry for entry in RECIPES.values() if entry.verb == verb)
    if own.verb != verb:
        several = sum(entry.product == own.product for entry in RECIPES.values()) > 1
        which = f" (recipe {config.recipe})" if several else ""
        raise ConfigError(
            f"These are settings of {own.product.name}{which}, not of {wanted.product.name}: use them with {own.verb}."
        )
