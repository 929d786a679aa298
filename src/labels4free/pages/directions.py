"""What a folder of directions shows: a sheet of each direction, from those of the object to those of the scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labels4free.generating.direction_folder import SHEETS, read_note, sheet_name
from labels4free.pages.html import Picture, Report, Section, write_report

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "index.html"

_METHODS = {"sefa": "closed-form factorisation (SeFa)", "pca": "PCA of w (GANSpace)"}
_MEANING = (
    "A pixel is inside where alpha is above 0.5 in the unmoved picture. The change is the mean squared difference from "
    "the unmoved picture, colours from -1 to 1; the ratio is that inside over that outside. Above 1 the object changes "
    "more than the scene, below 1 the scene does."
)


def write_directions_page(out: Path) -> Path:
    """Write ``index.html`` of a folder that ``labels4free directions`` wrote, with everything in it.

    Raises:
        RunError: If it is no such folder, or the page cannot be written.
        DataError: If a sheet cannot be read.
    """
    note = read_note(out)
    settings, entries = note["settings"], note["directions"]
    generator, layers = note["names"].get("generator") or "a generator", settings["layers"]
    ranked = bool(note.get("ranked"))
    sheets = [Picture(out / SHEETS / sheet_name(entry["direction"]), _caption(entry)) for entry in entries]
    order = "from those of the object to those of the scene" if ranked else "in the order of their strength"
    sections = [
        Section(
            "Pictures",
            "A row is a sample, a column a degree: how far it is moved along the direction.",
            pictures=sheets,
            wide=len(settings["degrees"]) > 3,
        ),
        Section("What each changes", _MEANING if ranked else "", table=_table(entries, ranked=ranked)),
        Section("How to use one", commands=_commands(out, generator, entries[0]["direction"])),
    ]
    report = Report(
        title="Directions in w",
        headline=f"{len(entries)} directions of {generator}, {order}.",
        figures=[
            (str(len(entries)), "directions looked at"),
            (str(len(settings["seeds"])) if settings["seeds"] else "given", "samples"),
            (f"{layers[0]} to {layers[-1]}" if len(layers) > 1 else str(layers[0]), "layers that are moved"),
        ],
        sections=sections,
        footer=f"Found by {_METHODS[settings['method']]}. Truncation psi {settings['truncation_psi']:g}."
        + (f" Alpha network: {note['names'].get('alpha_network')}." if ranked else " Without an alpha network."),
    )
    return write_report(out / PAGE, report)


def _caption(entry: dict[str, Any]) -> str:
    if "ratio" not in entry:
        return f"Direction {entry['direction']}"
    return f"Direction {entry['direction']}: inside over outside {_number(entry['ratio'])}"


def _table(entries: list[dict[str, Any]], *, ranked: bool) -> list[list[str]]:
    head = ["direction", *(["ratio", "of single samples", "inside", "outside"] if ranked else []), "strength"]
    lines = []
    for entry in entries:
        cells = [str(entry["direction"])]
        if ranked:
            single = [ratio for ratio in entry["ratios"] if ratio is not None]
            spread = f"{min(single):.2f} .. {max(single):.2f}" if single else "-"
            cells += [_number(entry["ratio"]), spread, f"{entry['inside']:.4f}", f"{entry['outside']:.4f}"]
        lines.append([*cells, _number(entry["value"])])
    return [head, *lines]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _commands(out: Path, generator: str, number: int) -> list[str]:
    use = f"--directions {out} --direction {number}"
    return [
        "# a grid of steps",
        f"labels4free generate {generator} --seeds 0-3 {use} --by -5..5 --out pictures",
        "",
        "# the object moved, the background kept",
        f"labels4free edit {generator} --seeds 0-3 {use} --by 3 --out edits",
    ]
