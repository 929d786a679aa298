"""The folder of directions: the file itself, what each changes, and a sheet of pictures of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labels4free.checkpoints.foreign.rosinality_factor import write_factor
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import ConfigError, RunError
from labels4free.folders import claim, read_json, write_json
from labels4free.generating.directions import DIRECTIONS, write_directions
from labels4free.generating.moves import check_degrees, fingerprint, signed
from labels4free.generating.ranking import look_at_directions
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.pictures.pixels import write_png

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from labels4free.generating.directions import Directions
    from labels4free.generating.images import Sources
    from labels4free.generating.ranking import ShownDirection
    from labels4free.generating.rendering import Renderer
    from labels4free.networks.alpha_network import AlphaNetwork

NOTE = "directions.json"
SHEETS = "sheets"
OVERVIEW = "overview.png"
"""The five directions that change the object most above the five that change the scene most, of two samples."""

_KIND = "labels4free_directions"
_ENDS = 5


@dataclass(frozen=True)
class LookConfig:
    """How directions are looked at.

    Attributes:
        number: How many of them, from the strongest on.
        degrees: How far to go; 0 is the unmoved picture.
        cell: Side of the pictures on the sheets, in pixels.

    Raises:
        ConfigError: If a value is not allowed.
    """

    number: int = 10
    degrees: tuple[float, ...] = (-3.0, 0.0, 3.0)
    cell: int = 192

    def __post_init__(self) -> None:
        check_degrees(self.degrees)
        if self.number < 1 or self.cell < 1:
            raise ConfigError(f"Look at 1 direction or more, in pictures of 1 pixel or more; got {self}.")


def write_direction_folder(
    out: str | Path,
    renderer: Renderer,
    sources: Sources,
    directions: Directions,
    config: LookConfig,
    *,
    alpha_network: AlphaNetwork | None = None,
    names: Mapping[str, str | None],
    progress: Callable[[int, int], None] | None = None,
) -> list[ShownDirection]:
    """Look at directions, and write ``directions.safetensors``, ``directions.json``, a sheet of each, an overview.

    Args:
        out: A new or empty folder, or one of the same directions, samples and settings, which is written anew.
        renderer: Generator and settings.
        sources: The samples that are moved.
        directions: All are written, the first ``config.number`` are looked at.
        config: How.
        alpha_network: Tells object from scene; None leaves the directions in their order.
        names: Name or file of the ``generator`` and the ``alpha_network``, for the note.
        progress: Called as ``progress(images rendered, their number)``.

    Returns:
        What was looked at, as :func:`labels4free.generating.ranking.look_at_directions` orders it.

    Raises:
        ConfigError, DataError: As :func:`labels4free.generating.ranking.look_at_directions`.
        RunError: If the folder holds something else, or cannot be written.
        CheckpointError: If the directions cannot be written.
    """
    out, numbers = Path(out), range(min(config.number, len(directions)))
    settings = _settings(renderer, sources, directions, config, alpha_network)
    claim(out, NOTE, settings, "directions", lambda: read_note(out)["settings"])
    shown = look_at_directions(
        renderer, sources, directions, numbers, config.degrees, alpha_network, cell=config.cell, progress=progress
    )
    # The note first: whatever is missing afterwards, the same command makes again.
    note = {"format": 1, "kind": _KIND, "settings": settings, "names": dict(names), "ranked": alpha_network is not None}
    write_json(out / NOTE, note | {"directions": [_entry(one, directions) for one in shown]})
    write_directions(out / DIRECTIONS, directions, renderer.generator, names.get("generator"))
    titles = list(map(signed, config.degrees)), [sources.name(k) for k in range(len(sources))]
    for one in shown:
        write_png(out / SHEETS / sheet_name(one.number), contact_sheet(one.pictures, *titles, cell=config.cell))
    write_png(out / OVERVIEW, _overview(shown, titles[0], config.cell))
    return shown


def write_factor_file(path: str | Path, directions: Directions, checkpoint: str) -> None:
    """Write directions as rosinality's ``factor.pt``, which knows no layers: its code moves all of them.

    Raises:
        ConfigError: If the name does not end in .pt.
        CheckpointError: If the file cannot be written.
    """
    if Path(path).suffix.lower() != ".pt":
        raise ConfigError(f"A factor file's name ends in .pt, got {path}.")
    write_factor(path, directions.vectors, checkpoint)


def read_note(out: Path) -> dict[str, Any]:
    """Read what a folder of directions says of itself.

    Raises:
        RunError: If it is none, or damaged.
    """
    note = read_json(out / NOTE, "directions")
    kinds = {"settings": dict, "names": dict, "directions": list}
    if note.get("kind") != _KIND or not all(isinstance(note.get(name), kind) for name, kind in kinds.items()):
        raise RunError(f"{out / NOTE} is no note of directions: choose another folder.")
    return note


def sheet_name(number: int) -> str:
    """Name of the sheet of a direction."""
    return f"direction_{number:03d}.png"


def _overview(shown: list[ShownDirection], degrees: list[str], cell: int) -> NDArray[np.uint8]:
    ends = shown if len(shown) <= 2 * _ENDS else shown[:_ENDS] + shown[-_ENDS:]
    rows = [[picture for sample in one.pictures[:2] for picture in sample] for one in ends]
    names = [f"{one.number}" if one.change is None else f"{one.number}: {one.change.ratio:.2f}" for one in ends]
    return contact_sheet(rows, degrees * min(2, len(shown[0].pictures)), names, cell=cell)


def _settings(
    renderer: Renderer,
    sources: Sources,
    directions: Directions,
    config: LookConfig,
    alpha_network: AlphaNetwork | None,
) -> dict[str, Any]:
    return {
        "generator": state_hash(renderer.generator),
        "alpha network": None if alpha_network is None else state_hash(alpha_network),
        "method": directions.method,
        "layers": list(directions.layers),
        "options": dict(directions.options),
        "set of directions": fingerprint(directions.vectors),
        "set of latents": None if sources.latents is None else fingerprint(sources.latents),
        "seeds": list(sources.seeds),
        "truncation_psi": renderer.psi,
        **{name: list(v) if isinstance(v, tuple) else v for name, v in asdict(config).items()},
    }


def _entry(one: ShownDirection, directions: Directions) -> dict[str, Any]:
    value = None if directions.values is None else float(directions.values[one.number])
    return {"direction": one.number, "value": value, **(one.change.as_json() if one.change else {})}
