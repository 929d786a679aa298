"""Claim: a generator that begins as another class's needs fewer images, and the parent's alpha network serves it.

    python benchmarks/generator_transfer.py PARENT PARENT_ALPHA CHILD --out WORK --kimg 16

A generator of the images CHILD/images (a drawn class with masks, see drawn_class.py) is trained twice, from PARENT and
from nothing, and measured at the same numbers of images. The child's masks then come from the parent's alpha network as
it is, from one that begins as the parent's, and from one that begins anew; a segmenter of each is scored on the exact
masks of CHILD. Every stage is a command, which is printed; those that are done are not done again.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  tyro reads the annotations at run time
from typing import Annotated

import tyro
from drawn_end_to_end import command, segmenter
from generator_choices import distances, figures


def main(  # noqa: PLR0913  flags
    parent: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PARENT")],
    parent_alpha: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PARENT_ALPHA")],
    child: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHILD")],
    *,
    out: Path,
    kimg: int = 16,
    steps: int = 600,
    segmenter_steps: int = 1500,
    samples: int = 1000,
    seed: int = 0,
    settings: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set")] = (),
) -> None:
    """Train a child with and without its parent, and print what each gains.

    Args:
        parent: Generator of another class: a run or a file.
        parent_alpha: Its alpha network.
        child: Drawn pictures of the child's class, with their masks.
        out: Where everything goes.
        kimg: Images that each generator sees, in thousands.
        steps: Of each alpha network.
        segmenter_steps: Of each segmenter.
        samples: Images that distances are measured on.
        seed: Of everything.
        settings: Settings of both trainings of generators, SECTION.FIELD=VALUE.
    """
    changed = [word for setting in settings for word in ("--set", setting)]
    begins = {"from nothing": ["--preset", "tiny"], "from the parent": ["--pretrained", parent]}
    for name, begin in begins.items():
        run = out / name.replace(" ", "_")
        length = ["--kimg", kimg, "--seed", seed, "--mirror", "--resume", "auto"]
        command("train-generator", child / "images", "--out", run, *begin, *length, *changed)
        shown = ", ".join(f"{images:,}: {swd:.3f}" for images, swd in distances(run).items())
        measured = ", ".join(f"{key} {value:.4g}" for key, value in figures(run, child / "images", samples).items())
        print(f"{name}: {measured}; SWD by images: {shown}", flush=True)
    own, again = out / "from_the_parent", ["--steps", steps, "--seed", seed, "--set", "members=1", "--resume", "auto"]
    command("train", own, "--out", out / "alpha_anew", *again)
    command("train", own, "--out", out / "alpha_tuned", "--alpha", parent_alpha, *again)
    sources = {
        "parent's alpha network": [parent_alpha, "--generator", own],
        "begun as the parent's": [out / "alpha_tuned"],
        "begun anew": [out / "alpha_anew"],
    }
    for name, source in sources.items():
        run = out / f"segmenter_{name.split()[-1]}"
        row = segmenter(source, run, child, 128, segmenter_steps, seed)
        print(f"{name}: mIoU {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
