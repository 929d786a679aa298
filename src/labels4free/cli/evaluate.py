"""``labels4free evaluate``: scores of predicted masks against true ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, arg, configure

from labels4free.cli.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labels4free.evaluation.config import EvaluationConfig
    from labels4free.evaluation.pairing import MaskPair


@configure(FlagCreatePairsOff)
def run(
    *,
    pred: Annotated[Path, arg(metavar="DIR")],
    gt: Annotated[Path, arg(metavar="DIR")],
    images: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None,
    json_file: Annotated[Path | None, arg(name="json", metavar="FILE", help_behavior_hint="")] = None,
    html: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    order: Annotated[Literal["name", "natural"] | None, arg(help_behavior_hint="")] = None,
    threshold: float = 0.5,
    void: Annotated[int | None, arg(metavar="VALUE", help_behavior_hint="")] = None,
    resize: bool = False,
    bootstrap: Annotated[int, arg(metavar="N")] = 2000,
    seed: int = 0,
    faithful: bool = False,
) -> None:
    """Score predicted masks against true ones: IoU, F1, precision, recall and accuracy of foreground and background.

    Beside them means over the images with 95 % intervals, boundary F, S- and E-measure, the error of soft masks, and
    what masks score that never look at the image. White is the object; transparency counts as background, and is itself
    the mask of a cut-out; sub-folders are classes, scored one by one and together.

    Args:
        pred: Folder of the predicted masks. One part of the path may be *, as in 'set/*/pred': each folder a class.
        gt: Folder of the true masks.
        images: Folder of the images, for the pictures of --html.
        json_file: Write all figures here, those of each image too.
        html: Write a page with the figures and pictures of the worst images here.
        order: What belongs together: files of the same name but for the ending, or the first and the first in natural
            order, and so on. By default name; with --faithful natural, as the original does.
        threshold: A predicted pixel is foreground where its grey value, from 0 to 1, exceeds this; a true one above
            0.5.
        void: Grey value from 0 to 255 of true pixels that do not count.
        resize: Resize predicted masks of another size than the true ones, by nearest pixel or, soft ones, bilinearly.
        bootstrap: Resamplings of the images for the intervals, 0 for none.
        seed: Of the resampling.
        faithful: Print the table of RameenAbdal/Labels4Free test_customdata.py instead, equal to the last digit.
    """
    from labels4free.errors import ConfigError
    from labels4free.evaluation.config import EvaluationConfig
    from labels4free.evaluation.pairing import pair_files

    config = EvaluationConfig(threshold=threshold, void=void, resize=resize, bootstrap=bootstrap, seed=seed)
    for name, file in (("--json", json_file), ("--html", html)):
        if file is not None and file.is_dir():
            raise ConfigError(f"{name} names the folder {file}; give the name of a file to write.")
    if faithful and (config != EvaluationConfig() or html or images):
        raise ConfigError(
            "--faithful has rules of its own: leave out --threshold, --void, --resize, --bootstrap, --seed, --images "
            "and --html."
        )
    pairs = pair_files(gt, pred, images, order or ("natural" if faithful else "name"))
    if faithful:
        _faithful(pairs, json_file)
    else:
        _evaluate(pairs, config, json_file, html)


def _evaluate(pairs: Sequence[MaskPair], config: EvaluationConfig, json_file: Path | None, html: Path | None) -> None:
    from labels4free.cli.evaluate_page import format_report, write_page
    from labels4free.evaluation.evaluate import evaluate_pairs

    with progress_bar("Scoring") as update:
        report = evaluate_pairs(pairs, config, update)
    print(format_report(report))
    if json_file is not None:
        _write_json(json_file, report.to_json())
    if html is not None:
        write_page(html, report, pairs)
        print(f"Page: {html}")


def _faithful(pairs: Sequence[MaskPair], json_file: Path | None) -> None:
    from labels4free.evaluation.faithful import NOTE, faithful_tables, format_table

    with progress_bar("Scoring") as update:
        tables = faithful_tables(pairs, update)
    for group, table in tables.items():
        if len(tables) > 1:
            print(group)
        print(f"{format_table(table)}\n")
    print(NOTE)
    if json_file is not None:
        _write_json(json_file, {"note": NOTE, "groups": tables})


def _write_json(path: Path, values: dict[str, Any]) -> None:
    from labels4free.errors import RunError
    from labels4free.files import write_atomically, write_failure

    try:
        write_atomically(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise RunError(write_failure(path, error)) from error
    print(f"Figures: {path}")
