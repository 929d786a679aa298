"""``labels4free from-photos``: from a folder of photos of one class to a network that cuts it out, without labels."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from labels4free.cli.progress import progress_bar
from labels4free.cli.runs import EXIT_CODES, check_alone

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from labels4free.chain.budget import Plan
    from labels4free.training_loop.contracts import TrainProgress


def run(
    photos: Annotated[Positional[Path], arg(metavar="PHOTOS")],
    *,
    out: Annotated[Path, arg(metavar="CLASS")],
    budget: Annotated[str | None, arg(metavar="TIME", help_behavior_hint="(default: 3h)")] = None,
    resolution: Annotated[int | None, arg(metavar="R", help_behavior_hint="(default: 64)")] = None,
    mirror: Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
    pretrained: Annotated[str | None, arg(metavar="NAME_OR_FILE", help_behavior_hint="")] = None,
    seed: Annotated[int | None, arg(metavar="S", help_behavior_hint="(default: 0)")] = None,
    settings: Annotated[UseAppendAction[list[str]], arg(name="set", metavar="STAGE.FIELD=VALUE")] = [],  # noqa: B006
    device: str = "cpu",
) -> int | None:
    """Learn to cut one kind of thing out of photos, from photos of it alone: no label anywhere.

    Seven stages: the photos are prepared, a StyleGAN2 generator learns to make such pictures, an alpha network learns
    where the object ends in them, its masks are checked, pictures with masks are rendered, a segmenter learns from
    these to find the object in photos, and cuts out some of yours. CLASS then holds segmenter.safetensors, which
    "labels4free segment --model" takes, index.html with the pictures of every stage, and a folder of each.

    Before it starts it measures some steps on this machine and says what the budget buys. Most of it goes to the
    generator: masks can be no better than its pictures, so look at these first. Where the generator has collapsed, or
    no mask can be right, it stops and says so. "labels4free watch CLASS/generator" shows how that stage is doing.
    Ctrl-C loses nothing: the same command goes on, with the same plan.

    Args:
        photos: Photos of one kind of thing, one in each, some hundreds or better thousands: a folder, zip file, LMDB
            or WebDataset shards. They are cropped to their central square.
        out: Folder for everything: new or empty, or that of an earlier call, which goes on then.
        budget: Time for everything, such as 3h, 40m or 1h30m. It is divided over the stages, and kept roughly.
        resolution: Side of the generator's pictures in pixels, a power of two; no larger than the photos.
        mirror: Mirror every second photo by chance: twice the photos where left and right are alike.
        pretrained: Generator to begin with: a file of any format that "labels4free convert" knows, or a name of the
            model zoo. Needs far fewer photos.
        seed: The seeds of all stages follow from it.
        settings: Any other setting of a stage (generator, alpha, segmenter), such as generator.images=200000,
            alpha.cache.size=512 or segmenter.pairs.num=1000; may be given several times. Lengths that you set stay,
            and the budget is divided over the rest. An unknown name lists the valid ones.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.chain.run import Asked, run_chain
    from labels4free.pages.demo import duration

    check_alone("from-photos")
    asked = Asked(resolution, budget, mirror or None, pretrained, seed, settings or None)
    again = shlex.join(["labels4free", "from-photos", str(photos), "--out", str(out)])
    again += "" if device == "cpu" else f" --device {device}"
    result = run_chain(photos, out, asked, device=device, watch=_Terminal(), planned=_say_plan)
    if result.interrupted:
        print(f"Stopped. Nothing is lost; go on with:\n  {again}", file=sys.stderr)
        return EXIT_CODES[result.interrupted]
    print(f"Done in {duration(result.seconds)}. Open {result.page} in a browser. Cut out a photo:")
    print(f"  {shlex.join(['labels4free', 'segment', 'PHOTO.jpg', '--model', str(result.segmenter), '--out', 'cut'])}")
    return None


class _Terminal:
    """Says how a chain is doing."""

    def say(self, sentence: str, /) -> None:
        """Print it at once."""
        print(sentence, flush=True)

    def bar(self, label: str, before: str | None = None, /) -> AbstractContextManager[TrainProgress]:
        """Show a bar on stderr."""
        return progress_bar(label, before)


def _say_plan(plan: Plan, budget: str) -> None:
    """What the budget buys, a line a stage."""
    from labels4free.pages.demo import duration

    print(f"What {budget} buys on this machine:")
    longest = max(len(part.words) for part in plan.stages.values())
    for name, part in plan.stages.items():
        print(f"  {name:<10} {part.words:<{longest}}  {duration(part.seconds)}", flush=True)
