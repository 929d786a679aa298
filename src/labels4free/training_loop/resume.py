"""How a run begins, or goes on: with the settings that it has, on what it was started on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from labels4free.errors import ConfigError, RunError
from labels4free.settings_fields import build, flat
from labels4free.training_loop.loop import finished_run
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from labels4free.training_loop.contracts import RecipeEntry, TrainResult

Resume = bool | Literal["auto"]
"""Whether to go on with the run in a folder; ``"auto"``: if there is one, and start it otherwise."""


class Begun(NamedTuple):
    """What a training finds where it is to go.

    Attributes:
        run: The earlier run; None where a new one begins.
        config: Its settings, or those of the new one.
        stored: All of its config.json; empty for a new one.
        source: What it was started on, by ``name`` and ``state_hash``; None for a new one.
        result: How it ended, if it has.
    """

    run: RunDir | None
    config: Any
    stored: Mapping[str, Any]
    source: Mapping[str, Any] | None
    result: TrainResult | None


def to_run_json(config: Any) -> dict[str, Any]:
    """What a run's config.json and its finished network say of the settings; :func:`own_settings` is the inverse."""
    return {"recipe": config.recipe, "train": config.to_json()}


def goes_on(out: str | Path, resume: Resume) -> bool:
    """Whether there is to be a run to go on with."""
    return resume is True or (resume == "auto" and RunDir.is_at(out))


def begin(out: str | Path, resume: Resume, asked: Any, recipes: Mapping[str, RecipeEntry], source: str) -> Begun:
    """Find the run to go on with, if there is to be one.

    Args:
        out: Its folder.
        resume: Whether to go on.
        asked: Settings that the user wants; None: those that the run has, or the defaults of the first recipe. With
            a greater length than the run's, where the recipe allows it, the run is lengthened.
        recipes: Those that may be followed.
        source: The part of config.json that says what it was started on.

    Raises:
        ConfigError: If the run has other settings.
        RunError: If there is no run, or its config.json is damaged.
    """
    if not goes_on(out, resume):
        return Begun(None, asked or next(iter(recipes.values())).config(), {}, None, None)
    run = RunDir.open(out)
    own, stored = own_settings(run, recipes), run.config()
    try:
        started_on = {name: stored[source][name] for name in ("name", "state_hash")}
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.path / 'config.json'} lacks {error}; restore it, or start a new run.") from error
    if _only_longer(own, asked):
        own, stored = asked, {**stored, **to_run_json(asked)}
        run.write_config(stored)
    _check_same_settings(run.path, own, asked)
    return Begun(run, own, stored, started_on, finished_run(run, recipes[own.recipe].product, own))


def own_settings(run: RunDir, recipes: Mapping[str, RecipeEntry]) -> Any:
    """The settings that a run was started with, and which it keeps.

    Args:
        run: The run.
        recipes: The recipes that it may follow.

    Raises:
        ConfigError: If it follows another one, or its settings do not fit.
        RunError: If its config.json is damaged.
    """
    stored = run.config()
    try:
        name, values = stored["recipe"], stored["train"]
    except KeyError as error:
        raise RunError(f"{run.path / 'config.json'} lacks {error}; restore it, or start a new run.") from error
    if name not in recipes:
        raise ConfigError(f"{run.path}: recipe must be one of {', '.join(recipes)}, got {name!r}.")
    return build(recipes[name].config, values)


def _only_longer(own: Any, asked: Any) -> bool:
    """Whether the settings that are asked for are a run's own, but for a greater length."""
    name = own.length
    if asked is None or name is None or own.recipe != asked.recipe or getattr(asked, name) <= getattr(own, name):
        return False
    return dataclasses.replace(asked, **{name: getattr(own, name)}) == own  # type: ignore[no-any-return]


def _check_same_settings(run: Path, own: Any, asked: Any) -> None:
    """Raise :class:`ConfigError` where a run that goes on is asked to have other settings than it has."""
    if asked is None or asked == own:
        return
    ours, theirs = flat(own.to_json()), flat(asked.to_json())
    if own.recipe != asked.recipe:
        ours, theirs = {"recipe": own.recipe}, {"recipe": asked.recipe}
    changed = ", ".join(f"{k}={ours[k]} (asked for: {theirs[k]})" for k in ours if ours[k] != theirs[k])
    raise ConfigError(f"A resumed run keeps its settings; {run} has {changed}. Start a new run to change them.")
