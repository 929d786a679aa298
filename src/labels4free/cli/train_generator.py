"""``labels4free train-generator``: a StyleGAN2 generator, out of images of one kind."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from labels4free.cli.progress import progress_bar
from labels4free.cli.runs import as_settings, exit_code, report_end, resume_of
from labels4free.files import in_full

_FOUND = "; its images differ from each other by {diversity:.0%} of what real ones do, distance (SWD) {swd:.3f}"


def run(
    images: Annotated[Positional[Path], arg(metavar="IMAGES")],
    *,
    out: Annotated[Path, arg(metavar="RUN")],
    preset: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None,
    pretrained: Annotated[str | None, arg(metavar="NAME_OR_FILE", help_behavior_hint="")] = None,
    config: Annotated[Path | None, arg(metavar="FILE.toml", help_behavior_hint="")] = None,
    resolution: Annotated[int | None, arg(metavar="R", help_behavior_hint="(default: 64)")] = None,
    kimg: Annotated[int | None, arg(metavar="K", help_behavior_hint="(default: 5000)")] = None,
    batch_size: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: by resolution)")] = None,
    classes: Annotated[bool, arg(help_behavior_hint="")] = False,
    mirror: Annotated[bool, arg(help_behavior_hint="")] = False,
    seed: Annotated[int | None, arg(metavar="S", help_behavior_hint="(default: 0)")] = None,
    settings: Annotated[UseAppendAction[list[str]], arg(name="set", metavar="SECTION.FIELD=VALUE")] = [],  # noqa: B006
    resume: Annotated[tuple[Literal["auto"], ...] | None, arg(metavar="[auto]", help_behavior_hint="")] = None,
    device: str = "cpu",
    track: Annotated[UseAppendAction[list[str]], arg(metavar="NAME")] = [],  # noqa: B006
) -> int | None:
    """Train a StyleGAN2 generator on images of one kind: from nothing, or from a checkpoint (transfer learning).

    RUN then holds config.json, log.jsonl, pictures/, checkpoints/, while it goes on snapshot.safetensors, and in the
    end generator.safetensors, which "labels4free train" takes. Ctrl-C writes a checkpoint; --resume goes on from the
    last one and ends in the same network, bit for bit. Started by torchrun, several processes share the work. No
    operation is compiled, and a CPU will do for small images: "labels4free presets tiny" says how small.

    Args:
        images: Images of one kind of thing: a folder, zip file, LMDB or WebDataset shards; "labels4free prepare" makes
            stores that read fast. They are cropped to their central square.
        out: Folder of the run: new or empty, or with --resume that of an earlier run.
        preset: Settings by name: tiny, rosinality, paper256, paper512 or paper1024, see "labels4free presets". Without
            it weights and rates follow from resolution and batch by the formulas of StyleGAN2-ADA's "auto".
        pretrained: Generator to begin with, of any resolution, with its discriminator if there is one: a file of any
            format that "labels4free convert" knows, or a name of the model zoo. Needs far fewer images.
        config: Settings in a TOML file; over those of the preset. The flags below count more, and --set most.
        resolution: Side of the images in pixels, a power of two.
        kimg: Images seen in all, in thousands.
        batch_size: Images a step.
        classes: Train a class-conditional generator: classes by NVIDIA's dataset.json, or by sub-folder.
        mirror: Mirror every second image by chance.
        seed: Decides the first weights and every draw.
        settings: Any other setting, for example discriminator.r1_gamma=1; may be given several times. An unknown name
            lists the valid ones.
        resume: Go on with the run in RUN; settings need not be repeated. With "auto" go on if there is one, and start
            it otherwise: one command for jobs that are requeued. With a
            larger --kimg a run is lengthened, finished or not.
        device: cpu, cuda, cuda:N or mps. With several processes cuda gives each its own.
        track: Show log and pictures to a tracker as well: tensorboard (RUN/tensorboard) or wandb (RUN/wandb). May be
            given twice. "labels4free watch RUN --track" does the same afterwards.
    """
    from labels4free.training.config_file import run_settings
    from labels4free.training.generator.run import train_generator
    from labels4free.training.presets import preset_named
    from labels4free.training_loop.distributed import joined_processes
    from labels4free.training_loop.resume import goes_on
    from labels4free.watching.follower import tracking

    wanted = resume_of(resume)
    flags = {
        "pretrained": in_full(pretrained) if pretrained else None,  # the run may be resumed from another folder
        "resolution": resolution,
        "images": None if kimg is None else 1000 * kimg,
        "batch_size": batch_size,
        "classes": "true" if classes else None,
        "mirror": "true" if mirror else None,
        "seed": seed,
    }
    base, going_on = preset_named(preset).config if preset else None, out if goes_on(out, wanted) else None
    own = run_settings("train-generator", base, config, as_settings(flags), settings, going_on)
    with joined_processes(device) as group:
        shown = track if group.is_main else []
        with progress_bar("Training") as bar, tracking(out, shown, bar) as progress:
            result = train_generator(images, out, own, resume=wanted, device=device, progress=progress)
    if group.is_main:
        again = ["labels4free", "train-generator", str(images), "--out", str(out), "--resume"]
        again += [] if device == "cpu" else ["--device", device]
        found = _FOUND.format(**result.check.numbers) if result.check else ""
        report_end(result, out, again if group.size == 1 else None, found)
        if result.file:
            print(f"Next: {shlex.join(['labels4free', 'train', str(result.file), '--out', 'ALPHA'])}")
    return exit_code(result)
