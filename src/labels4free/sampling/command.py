"""The ``labels4free sample`` command that makes a data set, from its manifest."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from labels4free.sampling.config import SampleConfig, published

if TYPE_CHECKING:
    from collections.abc import Mapping

_OTHERWISE = (  # settings that are not flags of the same name
    "min_truncation_psi",
    "max_truncation_psi",
    "parts",
    "uncertainty",
    "filters",
    "background",
    "batch_size",
)


def sample_command(manifest: Mapping[str, Any], out: str) -> str:
    """The command that made a data set: given again, it makes what is missing.

    Args:
        manifest: See :mod:`labels4free.data.pair_manifest`.
        out: The folder to write to.
    """
    source, generator = manifest["alpha_network"].get("name"), manifest["generator"].get("name")
    words = ["labels4free", "sample", source or "RUN_OR_ALPHA", "--out", out, "--num", str(manifest["num"])]
    if generator and generator != source:
        words += ["--generator", generator]
    return shlex.join(words + sample_flags(manifest["settings"]))


def sample_flags(settings: Mapping[str, Any]) -> list[str]:
    """The flags of ``labels4free sample`` for the settings of a manifest, but for those that are the defaults."""
    config = SampleConfig.from_json(settings)
    # Filters that are off altogether cannot be asked for by flags one by one.
    preset = config.filters.min_largest_share is None
    usual, values = (published() if preset else SampleConfig()).to_json(), config.to_json()
    words = ["--preset", "published"] if preset else []
    (low, high), usually = ((v["min_truncation_psi"], v["max_truncation_psi"]) for v in (values, usual))
    if (low, high) != usually:
        words += ["--truncation-psi", f"{low:g}" if low == high else f"{low:g}:{high:g}"]
    if values["parts"] != usual["parts"]:
        words += ["--include", ",".join(values["parts"])]
    uncertainty = values["uncertainty"]
    if views := [f"{kind}:{uncertainty[kind]}" for kind in ("noise", "mixing") if uncertainty[kind]]:
        words += ["--uncertainty", ",".join(views)]
    for member in uncertainty["ensemble"]:
        words += ["--ensemble", member]
    flags = {**values, **values["filters"]}
    for name in _OTHERWISE:
        del flags[name]
    for name, value in flags.items():
        if value is not None and value != {**usual, **usual["filters"]}[name]:
            flag = "--" + name.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
    return words
