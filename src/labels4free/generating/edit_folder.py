"""A folder of edits: pictures moved along a direction, over the backgrounds they had, and a sheet of all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import ConfigError
from labels4free.folders import claim, write_json
from labels4free.generating.latent_edits import check_fill, keep_background_of
from labels4free.generating.moves import MovedSources, fingerprint, signed
from labels4free.generating.rendering import shrunk
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.pictures.pixels import to_uint8, write_png

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from labels4free.generating.images import Sources
    from labels4free.generating.moves import Move
    from labels4free.generating.rendering import Renderer
    from labels4free.layered import LayeredGenerator
    from labels4free.ops.inpainting import Fill

NOTE, SHEET = "edits.json", "before_after.png"

_CELL = 256


@dataclass(frozen=True)
class Edit:
    """One edited picture, as it was written.

    Attributes:
        name: Of its file, without the ending.
        outside: Fraction of the picture that neither object covers, nor the margin around the old one.
        equal_outside: Fraction of that part whose bytes are the original's: 1.
        equal_without: The same of the moved picture whose background was not kept.
        empty: Whether no object was found in the moved picture, so that nothing lies over the background.
    """

    name: str
    outside: float
    equal_outside: float
    equal_without: float
    empty: bool


def write_edits(
    out: str | Path,
    layered: LayeredGenerator,
    renderer: Renderer,
    sources: Sources,
    move: Move,
    *,
    fill: Fill = "patches",
    margin: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Edit]:
    """Move pictures along a direction, and keep the background that each had.

    Args:
        out: A new or empty folder, or one of the same call, which is written anew. It gets ``seed00003.png``, the
            original, ``seed00003_by+3.png``, the edit, a sheet of all that has the moved pictures as well, and a note.
        layered: A generator with an alpha network.
        renderer: The same generator, and settings.
        sources: What to edit.
        move: Along which direction, and how far; a picture for each degree.
        fill: As for :func:`labels4free.generating.latent_edits.edit_latents`.
        margin: As there.
        progress: Called as ``progress(edits done, their number)``.

    Raises:
        ConfigError: If there is nothing to edit, or as for ``edit_latents``.
        RunError: If the folder holds something else.
        DataError: If a file cannot be written, or as for ``edit_latents``.
    """
    if not len(sources):
        raise ConfigError("There is nothing to edit: give seeds, latents or both.")
    out, side, moved = Path(out), renderer.generator.resolution, MovedSources.of(sources, move)
    pixels = check_fill(fill, margin, side)
    settings = _settings(layered, renderer, sources, move) | {"fill": fill, "margin": pixels}
    claim(out, NOTE, settings, "edits")
    write_json(out / NOTE, settings)
    edits, rows = list[Edit](), []
    for k in range(len(sources)):
        noise = renderer.noise_of([sources.number(k)])
        with torch.inference_mode():
            original = layered.foreground(sources.ws(k, renderer), noise=noise)
        before = to_uint8(original.image)[0]
        write_png(out / f"{sources.name(k)}.png", before)
        rows.append([shrunk(before, _CELL)])
        for at in range(k * len(move.degrees), (k + 1) * len(move.degrees)):
            with torch.inference_mode():
                new = layered.foreground(moved.ws(at, renderer), noise=noise)
                kept = keep_background_of(original, new, fill=fill, margin=pixels)
            without, after = to_uint8(new.image)[0], to_uint8(kept.image)[0]
            write_png(out / f"{moved.name(at)}.png", after)
            rows[-1] += [shrunk(without, _CELL), shrunk(after, _CELL)]
            outside = kept.outside[0, 0].cpu().numpy()
            equal, equal_without = (_equal(before, picture, outside) for picture in (after, without))
            empty = not bool((new.alpha > 0.5).any())
            edits.append(Edit(moved.name(at), float(outside.mean()), equal, equal_without, empty))
            if progress:
                progress(len(edits), len(moved))
    titles = ["before", *(title for d in map(signed, move.degrees) for title in (d, f"{d}, background kept"))]
    write_png(out / SHEET, contact_sheet(rows, titles, [sources.name(k) for k in range(len(sources))], cell=_CELL))
    return edits


def _equal(one: NDArray[np.uint8], other: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    """Fraction of the pixels there whose bytes are the same."""
    same = (one == other).all(axis=2)[where]
    return float(same.mean()) if same.size else 1.0


def _settings(layered: LayeredGenerator, renderer: Renderer, sources: Sources, move: Move) -> dict[str, Any]:
    return {
        "generator": state_hash(layered.generator),
        "alpha network": state_hash(layered.alpha_network),
        "seeds": list(sources.seeds),
        "set of latents": None if sources.latents is None else fingerprint(sources.latents),
        "truncation_psi": renderer.psi,
        "direction": move.name,
        "set of directions": fingerprint(move.step),
        "degrees": list(move.degrees),
    }
