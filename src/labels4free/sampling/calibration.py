"""The numbers behind a data set's quantiles: found once, on its first candidates, and kept beside it."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING

from labels4free.errors import RunError
from labels4free.folders import write_json
from labels4free.sampling.filters import Thresholds, calibrate
from labels4free.sampling.pair import PairRenderer
from labels4free.sampling.stream import Choice, finished_candidates
from labels4free.settings_fields import as_json

if TYPE_CHECKING:
    from pathlib import Path

CALIBRATION = "calibration.json"

_log = logging.getLogger(__name__)


def find_thresholds(renderer: PairRenderer, out: Path) -> Thresholds:
    """The limits that pairs of a data set are held to.

    Quantiles are those of the first ``config.filters.calibration`` candidates, however many the data set has: so
    whether a pair is kept does not depend on how far the data set has grown. They are rendered once for it; the result
    lies in :data:`CALIBRATION`, where other processes and later calls find it. Two processes that come at once find the
    same.

    Args:
        renderer: Renders the pairs.
        out: The data set's folder.

    Raises:
        ConfigError: If there is nothing to take quantiles of.
        RunError: If the file is damaged or cannot be written.
    """
    filters = renderer.config.filters
    if not filters.needs_calibration:
        return calibrate([], filters)
    path = out / CALIBRATION
    if path.exists():
        return read_thresholds(path)
    _log.info("Finding the filters' quantiles on the first %d candidates", filters.calibration)
    measured = finished_candidates(measuring(renderer), range(filters.calibration), Choice())
    thresholds = calibrate([one.record for one in measured], filters)
    write_json(path, as_json(thresholds))
    return thresholds


def read_thresholds(path: Path) -> Thresholds:
    """Read what :func:`find_thresholds` wrote.

    Raises:
        RunError: If it is damaged.
    """
    try:
        return Thresholds.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:  # ours are ValueErrors, too
        raise RunError(f"{path} is damaged ({error}): remove it, and it is made again.") from error


def measuring(renderer: PairRenderer) -> PairRenderer:
    """A renderer of the same candidates that renders no more than their measurements need."""
    return PairRenderer(renderer.layered, dataclasses.replace(renderer.config, parts=("mask",)))
