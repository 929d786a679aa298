"""``labels4free evaluate``: scores of predicted masks against true ones."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from tyro.conf import FlagCreatePairsOff, arg

from labels4free.cli.evaluate_model import Choice, segmented
from labels4free.cli.progress import progress_bar
from labels4free.errors import ConfigError
from labels4free.folders import check_unused, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labels4free.evaluation.config import EvaluationConfig
    from labels4free.evaluation.pairing import MaskPair
    from labels4free.evaluation.predictor import Predictor


def run(
    *,
    gt: Annotated[Path, arg(metavar="DIR")],
    pred: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None,
    model: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    images: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None,
    json_file: Annotated[Path | None, arg(name="json", metavar="FILE", help_behavior_hint="")] = None,
    html: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    sheet: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    keep: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None,
    refine: bool = True,
    mirrored: Annotated[bool, FlagCreatePairsOff] = False,
    device: str = "cpu",
    order: Annotated[Literal["name", "natural"] | None, arg(help_behavior_hint="")] = None,
    threshold: float = 0.5,
    foreground: Annotated[tuple[int, ...] | None, arg(metavar="[VALUE ...]", help_behavior_hint="")] = None,
    void: Annotated[int | None, arg(metavar="VALUE", help_behavior_hint="")] = None,
    resize: Annotated[bool, FlagCreatePairsOff] = False,
    bootstrap: Annotated[int, arg(metavar="N")] = 2000,
    seed: int = 0,
    faithful: Annotated[bool, FlagCreatePairsOff] = False,
) -> None:
    """Score predicted masks, or those that a segmenter makes of images, against true ones: IoU, F1, precision, recall.

    Beside them means over the images with 95 % intervals, boundary F, S- and E-measure, the error of soft masks, and
    what masks score that never look at the image. White is the object; transparency counts as background, and is itself
    the mask of a cut-out; sub-folders are classes, scored one by one and together.

    Args:
        gt: Folder of the true masks.
        pred: Folder of the predicted masks. One part of the path may be *, as in 'set/*/pred': each folder a class.
        model: Instead of --pred: segment the images first. "faces", which ships with this package; a segmenter's file
            or run folder; or a file that "export" wrote (.onnx).
        images: Folder of the images, for --model and for the pictures of --html and --sheet.
        json_file: Write all figures here, those of each image too.
        html: Write a page with the figures and pictures of the worst images here.
        sheet: Write all images with their masks, where these differ and their IoU here, the worst first: .jpg or .png,
            at most 200 images.
        keep: Keep what the model predicts in this folder, as PNG.
        refine: Let the border of what the model predicts follow the image's edges (guided filter).
        mirrored: Average what the model predicts with what the mirrored image gives, in twice the time.
        device: Of the model: cpu, cuda, cuda:N or mps.
        order: What belongs together: files of the same name but for the ending, or the first and the first in natural
            order, and so on. By default name; with --faithful natural, as the original does.
        threshold: A predicted pixel is foreground where its grey value, from 0 to 1, exceeds this; a true one above
            0.5.
        foreground: The true masks are maps of labels, in which these values are the object, or, if none is given, all
            but 0; so are predicted masks that hold others than 0 and 255.
        void: Grey value from 0 to 255 of true pixels that do not count.
        resize: Resize predicted masks of another size than the true ones, by nearest pixel or, soft ones, bilinearly.
        bootstrap: Resamplings of the images for the intervals, 0 for none.
        seed: Of the resampling.
        faithful: Print the table of RameenAbdal/Labels4Free test_customdata.py instead, equal to the last digit.
    """
    from labels4free.evaluation.config import EvaluationConfig
    from labels4free.evaluation.evaluate import check_sizes
    from labels4free.evaluation.pairing import pair_files

    config = EvaluationConfig(
        threshold=threshold, void=void, foreground=foreground, resize=resize, bootstrap=bootstrap, seed=seed
    )
    files = _Files(json_file, html, sheet)
    _check_source(pred, model, images, used_alone=bool(keep or mirrored or not refine or device != "cpu"))
    _check_files(files, images, keep)
    if faithful and (config != EvaluationConfig() or html or sheet or (images and not model)):
        raise ConfigError(
            "--faithful has rules of its own: leave out --threshold, --foreground, --void, --resize, --bootstrap, "
            "--seed, --html, --sheet and, without --model, --images."
        )
    pairs = pair_files(gt, pred, images, order or ("natural" if faithful else "name"))
    predictions: Any = nullcontext((pairs, None))
    if model is not None:
        if not resize:
            check_sizes(pairs, "images")
        choice = Choice(model, "guided" if refine else None, mirrored, device)
        # The original's table takes white alone for the object: of soft masks next to nothing would be left.
        predictions = segmented(pairs, choice, hard=faithful, keep=keep)
    with predictions as (pairs, predictor):
        if faithful:
            _faithful(pairs, predictor, json_file)
        else:
            _evaluate(pairs, predictor, config, files)
    if keep is not None:
        print(f"Predictions: {keep}")


class _Files(NamedTuple):
    """What is written beside the figures."""

    json: Path | None
    html: Path | None
    sheet: Path | None


def _check_source(pred: Path | None, model: str | None, images: Path | None, *, used_alone: bool) -> None:
    if pred is None and model is None:
        raise ConfigError("Give the predicted masks with --pred DIR, or a segmenter with --model FILE --images DIR.")
    if pred is not None and model is not None:
        raise ConfigError("--model predicts the masks that --pred gives; leave one of them out.")
    if model is not None and images is None:
        raise ConfigError("--model segments images: say where they are with --images DIR.")
    if model is None and used_alone:
        raise ConfigError("--keep, --no-refine, --mirrored and --device are for --model; leave them out with --pred.")


def _check_files(files: _Files, images: Path | None, keep: Path | None) -> None:
    from labels4free.errors import ConfigError
    from labels4free.pictures.contact_sheet import check_sheet_name

    for name, file in files._asdict().items():
        if file is not None and file.is_dir():
            raise ConfigError(f"--{name} names the folder {file}; give the name of a file to write.")
    if files.sheet is not None:
        check_sheet_name(files.sheet)
        if images is None:
            raise ConfigError("--sheet shows the images: say where they are with --images DIR.")
    if keep is not None:
        check_unused(keep, "predictions")


def _evaluate(pairs: Sequence[MaskPair], predictor: Predictor | None, config: EvaluationConfig, files: _Files) -> None:
    from labels4free.evaluation.evaluate import evaluate_pairs
    from labels4free.evaluation.sheet import write_sheet
    from labels4free.pages.evaluation import format_report, write_page

    with progress_bar("Scoring") as update:
        report = evaluate_pairs(pairs, config, update)
    if predictor is not None:
        print(f"{predictor}\n")
    print(format_report(report))
    if files.json is not None:
        _write_json(files.json, predictor, report.to_json())
    if files.html is not None:
        write_page(files.html, report, pairs, predictor)
        print(f"Page: {files.html}")
    if files.sheet is not None:
        with progress_bar("Drawing") as update:
            write_sheet(files.sheet, report, pairs, str(predictor or ""), update)
        print(f"Sheet: {files.sheet}")


def _faithful(pairs: Sequence[MaskPair], predictor: Predictor | None, json_file: Path | None) -> None:
    from labels4free.evaluation.faithful import NOTE, faithful_tables, format_table

    with progress_bar("Scoring") as update:
        tables = faithful_tables(pairs, update)
    if predictor is not None:
        print(f"{predictor}\n")
    for group, table in tables.items():
        if len(tables) > 1:
            print(group)
        print(f"{format_table(table)}\n")
    print(NOTE)
    if json_file is not None:
        _write_json(json_file, predictor, {"note": NOTE, "groups": tables})


def _write_json(path: Path, predictor: Predictor | None, values: dict[str, Any]) -> None:
    write_json(path, ({} if predictor is None else {"model": asdict(predictor)}) | values)
    print(f"Figures: {path}")
