"""Claim: the default choices of training generators are the better ones at equal images: several seeds of each.

    python benchmarks/generator_choices.py IMAGES --out RUNS --kimg 40 --seeds 3

Each row changes one thing of the preset ``tiny``; ``--rows`` and ``--set`` add rows and settings of their own. A run is
a command, which is printed; runs that are finished are not done again, interrupted ones go on. Of each network that is
left, kernel and Fréchet distance on EfficientNet-Lite0's features beside the real images, and the sliced Wasserstein
distance of its last check. One run at a time, unless several of these share RUNS, each with rows of its own.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path  # noqa: TC003  tyro reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import tyro
from drawn_end_to_end import command

from labels4free.training_loop.log import read_log

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS = {
    "plain": ("augmentation.mode=off",),
    "ada": (),
    "apa": ("discriminator.pseudo_reals=true",),
    "relativistic": ("augmentation.mode=off", "loss.adversarial=relativistic", "loss.r2=true"),
    "half width": ("augmentation.mode=off", "network.channel_base=1024", "network.channel_max=32"),
    "double width": ("augmentation.mode=off", "network.channel_base=4096", "network.channel_max=128"),
}
"""Row -> what it changes."""

FIGURES = ("KID-EffLite0", "FD-EffLite0", "SWD")


def figures(run: Path, images: Path, samples: int) -> dict[str, float]:
    """Distances of a finished run to real images, by name."""
    scores = run / f"figures_{samples}.json"
    if not scores.exists():
        metric = [f"kid{samples}", f"fid{samples}"]
        command("metrics", run, "--data", images, "--metric", *metric, "--json", scores)
    found = {figure["name"]: statistics.fmean(figure["values"]) for figure in json.loads(scores.read_text())["figures"]}
    return {**found, "SWD": list(distances(run).values())[-1]}


def distances(run: Path) -> dict[int, float]:
    """SWD of each check of a run, by images seen."""
    entries = [entry for _, entry in read_log(run / "log.jsonl")]
    return {int(entry["images"]): entry["check_swd"] for entry in entries if "check_swd" in entry}


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean and standard deviation over the seeds of each row."""
    lines = [f"| | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 1) + "|"]
    for name, seeds in rows.items():
        cells = []
        for figure in FIGURES:
            values = [found[figure] for found in seeds]
            spread = f" ± {statistics.stdev(values):.4g}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.4g}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    images: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IMAGES")],
    *,
    out: Path,
    kimg: int = 40,
    seeds: int = 3,
    samples: int = 2000,
    rows: tuple[str, ...] = tuple(ROWS),
    settings: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set")] = (),
) -> None:
    """Train every row with every seed, and print their table.

    Args:
        images: Real images.
        out: Where the runs go.
        kimg: Images that each sees, in thousands.
        seeds: Seeds of each row, from 0.
        samples: Images that distances are measured on.
        rows: Which of the rows.
        settings: Settings of all rows, SECTION.FIELD=VALUE.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for name in rows:
            run = out / f"{name.replace(' ', '_')}_{seed}"
            changed = [word for setting in (*settings, *ROWS[name]) for word in ("--set", setting)]
            length: Sequence[object] = ["--preset", "tiny", "--kimg", kimg, "--seed", seed, "--mirror"]
            command("train-generator", images, "--out", run, *length, *changed, "--resume", "auto")
            found.setdefault(name, []).append(figures(run, images, samples))
        print(table(found), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
