"""``labels4free segment``: cut people out of photos."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from tyro.conf import FlagCreatePairsOff, Positional, arg

from labels4free.cli.progress import progress_bar
from labels4free.errors import ConfigError, DataError
from labels4free.files import write_failure

if TYPE_CHECKING:
    from PIL import Image

    from labels4free.segmenting.cutout import Output
    from labels4free.segmenting.photo_files import Found
    from labels4free.segmenting.segmenter import Refinement, Segmenter

PIPE = "-"
"""Instead of photos: read one from standard input, write its picture to standard output."""

_MOST_UNSURE = 20  # lines


def run(
    photos: Annotated[Positional[tuple[str, ...]], arg(metavar="PHOTO ...", help_behavior_hint="")],
    *,
    out: Annotated[Path | None, arg(metavar="DIR|FILE", help_behavior_hint="")] = None,
    what: Annotated[
        Literal["mask", "alpha", "cutout", "composite"] | None,
        arg(metavar="{mask,alpha,cutout,composite}", help_behavior_hint=""),
    ] = None,
    background: Annotated[str | None, arg(metavar="IMAGE|COLOUR|blur", help_behavior_hint="")] = None,
    model: Annotated[str, arg(metavar="FILE")] = "faces",
    refine: bool = True,
    closed_form: Annotated[bool, FlagCreatePairsOff] = False,
    mirrored: Annotated[bool, FlagCreatePairsOff] = False,
    sheet: Annotated[Path | None, arg(metavar="FILE.jpg", help_behavior_hint="")] = None,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
    device: str = "cpu",
) -> int | None:
    """Cut people out of photos: mask, alpha, cut-out with transparency, or composite over another background.

    Photos of any size, format and orientation; for each a PNG of the photo's size and name in DIR. Pictures that are
    there already stay, so that the same command goes on where it was interrupted. What cannot be read is listed, the
    other photos are done, and the exit code is 2. A photo with nothing to cut out gets an empty mask, and a word; so
    does one of whose mask the network is not sure. For one photo "segment in.jpg out.png" will do.

    Args:
        photos: Files, folders (every image below), patterns in quotes such as 'holiday/**/*.jpg', or - alone: read
            standard input, write standard output.
        out: Folder for the pictures; or, of one photo, the file: .png, or .jpg where nothing is transparent.
        what: mask, black and white; alpha, grey; cutout, the person with transparency around; composite, the person
            over the background. By default cutout, or composite if a background is given.
        background: For a composite: an image file, which is cropped to the photo; a colour such as white or '#00b140';
            or blur, the photo's own background blurred, which is the default.
        model: "faces", which ships with this package; a segmenter's file or run folder; or a file that "export" wrote
            (.onnx), which needs onnxruntime and no PyTorch.
        refine: Decide where alpha is grey over an area, and let the border follow the photo's edges (guided filter).
        closed_form: Refine by closed-form matting instead: finer hair, many seconds, the extra "matting", and at most 4
            million pixels.
        mirrored: Average with what the mirrored photo gives, in twice the time.
        sheet: Also write a contact sheet of the photos that are segmented beside their cut-outs (JPEG or PNG): those
            first of which the network is least sure, which is where to look for failures.
        overwrite: Replace pictures that are there already.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.segmenting.cutout import read_background
    from labels4free.segmenting.segmenter import Segmenter

    method: Refinement | None = ("closed-form" if closed_form else "guided") if refine else None
    photos, out = _with_output(photos, out)
    _check(photos, out, what, background, refine=refine, closed_form=closed_form)
    _check_sheet(photos, sheet)
    output: Output = what or ("composite" if background is not None else "cutout")
    behind = read_background(background)
    if photos == (PIPE,):
        _pipe(_Work(Segmenter.load(model, device), output, behind, method, mirrored))
        return None
    from labels4free.segmenting.photo_files import find_photos

    assert out is not None
    found = find_photos(photos, out)
    if _names_a_picture(out) and not out.is_dir():
        found = _into_one(found, out, overwrite=overwrite)
    _check_replaces_nothing(sheet, found)
    work = _Work(Segmenter.load(model, device), output, behind, method, mirrored) if found.photos else None
    return _batch(work, found, out, sheet, overwrite=overwrite)


class _Work(NamedTuple):
    """What is done with each photo."""

    segmenter: Segmenter
    output: Output
    background: Image.Image | str
    refine: Refinement | None
    mirrored: bool


def _check(
    photos: tuple[str, ...],
    out: Path | None,
    what: str | None,
    background: str | None,
    *,
    refine: bool,
    closed_form: bool,
) -> None:
    if not photos:
        raise ConfigError("Give photos: files, folders, patterns in quotes, or - for standard input.")
    if PIPE in photos and len(photos) > 1:
        raise ConfigError("- stands for standard input and goes alone; give files in a command of their own.")
    if PIPE in photos and out is not None:
        raise ConfigError("The picture of a photo from standard input goes to standard output; leave out --out.")
    if PIPE not in photos and out is None:
        raise ConfigError("Say where the pictures go: --out DIR.")
    if out is not None and out.exists() and not out.is_dir() and not _names_a_picture(out):
        raise ConfigError(f"--out names the file {out}; give a folder, or the name of a .png or .jpg.")
    if background is not None and what not in (None, "composite"):
        raise ConfigError(f"--background is for a composite, and --what asks for {what}; leave one of them out.")
    if closed_form and not refine:
        raise ConfigError("--closed-form is a way to refine; leave out --no-refine.")


def _with_output(photos: tuple[str, ...], out: Path | None) -> tuple[tuple[str, ...], Path | None]:
    """Photos and output of ``segment in.jpg out.png``."""
    if out is None and len(photos) == 2 and _names_a_picture(Path(photos[-1])):
        return photos[:1], Path(photos[-1])
    return photos, out


def _into_one(found: Found, out: Path, *, overwrite: bool) -> Found:
    """The one photo that was found, its picture to be that file."""
    if len(found.photos) > 1:
        raise ConfigError(f"--out names one file, {out}, for {len(found.photos)} photos; give a folder.")
    if any(photo.path.resolve() == out.resolve() for photo in found.photos):
        raise ConfigError(f"--out names the photo itself, {out}; give another name, or a folder.")
    if out.exists() and not overwrite:
        raise ConfigError(
            f"{out} is there already: --overwrite replaces it; pictures of several photos go to --out DIR."
        )
    return found._replace(photos=[photo._replace(target=out) for photo in found.photos])


def _names_a_picture(path: Path) -> bool:
    from labels4free.segmenting.cutout import JPEG_SUFFIXES
    from labels4free.segmenting.photo_files import SUFFIX

    return path.suffix.lower() in (SUFFIX, *JPEG_SUFFIXES)


def _check_sheet(photos: tuple[str, ...], sheet: Path | None) -> None:
    from labels4free.errors import ConfigError
    from labels4free.pictures.contact_sheet import check_sheet_name

    if sheet is None:
        return
    check_sheet_name(sheet)
    if sheet.is_dir():
        raise ConfigError(f"--sheet names the folder {sheet}; give the name of a file to write.")
    if PIPE in photos:
        raise ConfigError("--sheet is for files; leave it out for a photo from standard input.")


def _check_replaces_nothing(sheet: Path | None, found: Found) -> None:
    if sheet is not None and sheet.resolve() in {path.resolve() for pair in found.photos for path in pair}:
        raise ConfigError(f"--sheet names {sheet}, which is a photo or its picture; give another name.")


def _pipe(work: _Work) -> None:
    name = "standard input"
    cutout = work.segmenter.segment(sys.stdin.buffer.read(), refine=work.refine, mirrored=work.mirrored, name=name)
    for note in cutout.notes:
        print(f"labels4free: {name}: {note}.", file=sys.stderr)
    buffer = io.BytesIO()
    cutout.write(cutout.picture(work.output, work.background), work.output, buffer)
    sys.stdout.buffer.write(buffer.getbuffer())
    sys.stdout.buffer.flush()


def _batch(work: _Work | None, found: Found, out: Path, sheet: Path | None, *, overwrite: bool) -> int:
    """Segment photos one after the other; a word on stderr for each that fails or needs one."""
    from labels4free.cli import FAILURE, SUCCESS
    from labels4free.pictures.contact_sheet import save_sheet
    from labels4free.segmenting.cutout import SURE
    from labels4free.segmenting.sheet import LeastCertain

    problems, notes, unsure, done, there = list(found.problems), list[str](), list[tuple[float, str]](), 0, 0
    seen = LeastCertain()
    try:
        with progress_bar("Segmenting") as update:
            for count, (path, target) in enumerate(found.photos, start=1):
                assert work is not None
                try:
                    if target.exists() and not overwrite:
                        there += 1
                    else:
                        cutout = work.segmenter.segment(path, refine=work.refine, mirrored=work.mirrored)
                        cutout.save(target, work.output, work.background)
                        if sheet is not None:
                            seen.add(str(path), cutout)
                        notes += [f"{path}: {note}." for note in cutout.notes]
                        if cutout.found and cutout.certainty < SURE:
                            unsure.append((cutout.certainty, str(path)))
                        done += 1
                except (DataError, MemoryError) as error:
                    problems.append(str(error) or f"{path} does not fit into memory; make it smaller.")
                except OSError as error:  # of looking whether it is there: a name that is too long
                    problems.append(write_failure(target, error))
                update(count, len(found.photos))
    finally:
        for line in (*notes, *_to_look_at(unsure), *problems):
            print(f"labels4free: {line}", file=sys.stderr)
        if sheet is not None and len(seen):
            save_sheet(sheet, seen.draw())
    if there:
        print(f"labels4free: {there} from before kept; --overwrite replaces them.", file=sys.stderr)
    print(f"{done} picture{'' if done == 1 else 's'} in {out}{f'; to look at: {sheet}' if len(seen) else ''}")
    if problems:
        print(f"labels4free: {len(problems)} of {len(found.photos) + len(found.problems)} failed.", file=sys.stderr)
    return FAILURE if problems else SUCCESS


def _to_look_at(unsure: list[tuple[float, str]]) -> list[str]:
    """A line for each photo of whose mask the network is not sure, the least sure first; not for hundreds."""
    lines = [f"{name}: the mask may be wrong (certainty {certainty:.2f})." for certainty, name in sorted(unsure)]
    rest = len(lines) - _MOST_UNSURE
    return lines if rest <= 0 else [*lines[:_MOST_UNSURE], f"{rest} more masks may be wrong; --sheet shows them first."]
