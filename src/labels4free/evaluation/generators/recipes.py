"""Metrics of generators by name: how many images, which real ones, which path. Settings are those that are published.

The names are those of NVlabs/stylegan2-ada-pytorch metrics/metric_main.py; other numbers of images follow the pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from labels4free.errors import ConfigError

Kind = Literal["fid", "kid", "pr", "is", "ppl"]

_ALL = 1 << 62
_FULL: dict[str, int] = {"fid": _ALL, "kid": 1_000_000, "pr": 200_000}
_PATTERN = re.compile(r"(?P<kind>fid|kid|is|pr)(?P<count>[1-9]\d{0,5}k?)(?P<full>_full)?")
_PATH = re.compile(r"(?P<kind>ppl2?)_(?P<space>[zw])(?P<sampling>full|end)(_(?P<count>[1-9]\d{0,5}k?))?")
_NEIGHBOURS = 3


@dataclass(frozen=True)
class PathRecipe:
    """How the pairs of images of a path length lie.

    Attributes:
        space: Where is gone from one latent to the other: z, on a great circle; or w, straight.
        sampling: Where on the way a pair lies: anywhere (full), or at its beginning (end).
        crop: Look at the middle of the pictures alone.
    """

    space: Literal["z", "w"]
    sampling: Literal["full", "end"]
    crop: bool


@dataclass(frozen=True)
class Recipe:
    """A metric by name.

    Attributes:
        name: As the user gives it.
        kind: fid: Fréchet distance. kid: kernel distance. pr: precision and recall. is: inception score. ppl: path
            length.
        generated: Images of the generator, or pairs of them.
        real: Real images at most; 0 where none are looked at.
        path: For ppl.
    """

    name: str
    kind: Kind
    generated: int
    real: int
    path: PathRecipe | None = None


PUBLISHED = (
    "fid50k_full", "kid50k_full", "pr50k3_full", "is50k", "ppl2_wend", "ppl_zfull", "ppl_wfull", "ppl_zend", "ppl_wend",
    "fid50k", "kid50k", "pr50k3",
)  # fmt: skip
"""The names that others use, too."""


def parse_recipe(name: str) -> Recipe:
    """The metric of a name: one of :data:`PUBLISHED`, or the same pattern with another number: ``kid5k``, ``pr10003``.

    ``_full`` takes all real images (of kid at most 1,000,000, of pr 200,000), without it at most as many as generated
    ones. ``ppl_...`` looks at the middle of the pictures, ``ppl2_...`` at all of them; behind it may stand a number of
    pairs, 50,000 by default: ``ppl2_wend_5k``.

    Raises:
        ConfigError: If there is no such metric.
    """
    if match := _PATH.fullmatch(name):
        path = PathRecipe(match["space"], match["sampling"], match["kind"] == "ppl")  # type: ignore[arg-type]
        return Recipe(name, "ppl", _count(match["count"] or "50k"), 0, path)
    # The 3 of pr50k3 is the neighbours that count, not part of the number.
    match = _PATTERN.fullmatch(_without_neighbours(name) if name.startswith("pr") else name)
    if match is None or (match["kind"] == "is" and match["full"]):
        raise ConfigError(
            f"Unknown metric {name!r}; the metrics are {', '.join(PUBLISHED)}, and the same with another number, "
            "such as fid5k_full, kid5k or pr5k3."
        )
    kind: Kind = match["kind"]  # type: ignore[assignment]
    generated = _count(match["count"])
    real = 0 if kind == "is" else _FULL[kind] if match["full"] else generated
    return Recipe(name, kind, generated, real)


def _without_neighbours(name: str) -> str:
    """``pr50k3_full`` without its 3; a name without one matches no pattern."""
    head, full = name.removesuffix("_full"), "_full" if name.endswith("_full") else ""
    return head[:-1] + full if head.endswith(str(_NEIGHBOURS)) else ""


def _count(text: str) -> int:
    return int(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)
