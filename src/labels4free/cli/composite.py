"""``labels4free composite``: keep the background of an edited picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, arg

from labels4free.errors import ConfigError


def run(
    *,
    foreground: Annotated[Path, arg(metavar="EDITED")],
    background: Annotated[Path, arg(metavar="ORIGINAL")],
    out: Annotated[Path, arg(metavar="FILE.png")],
    model: Annotated[str, arg(metavar="FILE")] = "faces",
    foreground_mask: Annotated[Path | None, arg(metavar="MASK", help_behavior_hint="")] = None,
    background_mask: Annotated[Path | None, arg(metavar="MASK", help_behavior_hint="")] = None,
    refine: bool = True,
    fill: Literal["patches", "smooth"] = "patches",
    margin: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")] = None,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
    device: str = "cpu",
) -> None:
    """Keep the background of an edited picture: the person of EDITED over what ORIGINAL shows behind.

    Whoever edited it (another age, another hairstyle, another pose), and whatever that did to the background: the
    person is cut out of EDITED and laid over ORIGINAL. What the old person covered and the new one does not is filled
    from around. Where neither is, the result is ORIGINAL bit for bit. Without a person in EDITED, without a background
    in ORIGINAL, or if their aspects differ, nothing is written and the exit code is 2; without a person in ORIGINAL,
    all of it is background, and a word says so. An EDITED of another size but the same aspect is scaled.

    Args:
        foreground: The edited picture, whose person is wanted.
        background: The original, whose background is wanted.
        out: The picture to write, a PNG of the original's size.
        model: Finds the person: "faces", which ships with this package; a segmenter's file or run folder; or a file
            that "export" wrote (.onnx). Not used where both masks are given.
        foreground_mask: White where the object is in EDITED: for objects that the model does not know.
        background_mask: White where the object was in ORIGINAL.
        refine: Let the model's borders and those of black-and-white masks follow the pictures' edges (guided filter);
            masks with greys are taken as they are.
        fill: patches: textures from elsewhere in ORIGINAL, which needs the extra "inpainting"; smooth: colours alone,
            for plain backgrounds.
        margin: How far around the old person ORIGINAL is not trusted either, since hair and shadows reach there; by
            default a fiftieth of the longer side. More if traces of the old person stay, less for exact masks.
        overwrite: Replace FILE if it is there already.
        device: cpu, cuda, cuda:N or mps.
    """
    _check(out, (foreground, background, foreground_mask, background_mask), overwrite=overwrite)
    from labels4free.segmenting.editing import keep_background
    from labels4free.segmenting.segmenter import Segmenter

    needed = foreground_mask is None or background_mask is None
    result = keep_background(
        foreground,
        background,
        segmenter=Segmenter.load(model, device) if needed else None,
        foreground_mask=foreground_mask,
        background_mask=background_mask,
        refine=refine,
        fill=fill,
        margin=margin,
    )
    result.save(out)
    for note in result.notes:
        print(f"labels4free: {note}.", file=sys.stderr)
    print(f"{out}: {result.filled_fraction:.1%} of its pixels had been covered and were filled")


def _check(out: Path, sources: tuple[Path | None, ...], *, overwrite: bool) -> None:
    """Refuse before any work what could not be written, or would replace a source."""
    if out.is_dir():
        raise ConfigError(f"--out names the folder {out}; give a file, such as {out / 'composite.png'}.")
    if out.suffix.lower() != ".png":
        raise ConfigError(
            f"--out names {out}; what is written is a PNG, so that the background stays exact: end in .png."
        )
    if any(source is not None and source.resolve() == out.resolve() for source in sources):
        raise ConfigError(f"--out would replace {out}, which is read; choose another name.")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} is there already; choose another name, or --overwrite.")
