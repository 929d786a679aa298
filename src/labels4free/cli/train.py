"""``labels4free train``: an alpha network for a generator, without labels."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from labels4free.cli.progress import progress_bar
from labels4free.cli.runs import as_settings, exit_code, report_end, resume_of
from labels4free.files import in_full

_FOUND = (
    "; masks cover {foreground_ratio:.0%} of the picture, are {sharpness:.0%} binary, middle minus border "
    "{center_bias:+.2f}"
)


def run(
    generator: Annotated[Positional[str], arg(metavar="GENERATOR")],
    *,
    out: Annotated[Path, arg(metavar="RUN")],
    preset: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None,
    config: Annotated[Path | None, arg(metavar="FILE.toml", help_behavior_hint="")] = None,
    data: Annotated[Path | None, arg(metavar="IMAGES", help_behavior_hint="")] = None,
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 1000)")] = None,
    batch_size: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 8)")] = None,
    resolution: Annotated[int | None, arg(metavar="R", help_behavior_hint="(default: 32)")] = None,
    seed: Annotated[int | None, arg(metavar="S", help_behavior_hint="(default: 0)")] = None,
    alpha: Annotated[str | None, arg(metavar="RUN_OR_ALPHA", help_behavior_hint="")] = None,
    discriminator: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    settings: Annotated[UseAppendAction[list[str]], arg(name="set", metavar="SECTION.FIELD=VALUE")] = [],  # noqa: B006
    resume: Annotated[tuple[Literal["auto"], ...] | None, arg(metavar="[auto]", help_behavior_hint="")] = None,
    device: str = "cpu",
    track: Annotated[UseAppendAction[list[str]], arg(metavar="NAME")] = [],  # noqa: B006
) -> int | None:
    """Train an alpha network on a generator. Neither labels nor images are needed.

    RUN then holds config.json, log.jsonl, pictures/, checkpoints/, while it goes on snapshot.safetensors (the network
    of the last good check) and in the end alpha.safetensors. "labels4free sample RUN" takes either. Ctrl-C writes a
    checkpoint; --resume goes on from the last one and ends in the same network, bit for bit. Started by torchrun,
    several processes share the work.

    Args:
        generator: A generator of the model zoo (see "labels4free models list"), or a file: native, of rosinality or
            Labels4Free (.pt), of NVIDIA (.pkl), or a folder with an OpenVINO IR.
        out: Folder of the run: new or empty, or with --resume that of an earlier run.
        preset: Settings by name, see "labels4free presets". Without it those of "auto", which serve every class.
        config: Settings in a TOML file, as "labels4free presets NAME" prints them; over those of the preset. The flags
            below count more, and --set most.
        data: Real images for the discriminator: a folder, zip file, LMDB or WebDataset shards. Without
            them the generator's own samples are the real ones.
        steps: Steps of each alpha network. By default four are trained (three members, and a trial of other bounds),
            each behind 600 steps of the discriminator alone: 6,400 steps in all.
        batch_size: Images a step.
        resolution: Side in pixels of the composites that are judged; masks come at full size all the same.
        seed: Decides the latents, the first weights and every draw.
        alpha: Alpha network to begin with: that of the generator which this one was fine-tuned from, as a run's folder
            or a file, or the name of a generator that one ships for.
        discriminator: Discriminator to begin with, for presets of the paper's recipe: its file, or "generator" for
            the one in, or beside, the generator's own.
        settings: Any other setting, for example loss.binarization=0.5; may be given several times. An unknown name
            lists the valid ones.
        resume: Go on with the run in RUN; settings need not be repeated. With "auto" go on if there is one, and start
            it otherwise: one command for jobs that are requeued. With more
            --steps a run of the paper's recipe is lengthened, finished or not.
        device: cpu, cuda, cuda:N or mps. With several processes cuda gives each its own.
        track: Show log and pictures to a tracker as well: tensorboard (RUN/tensorboard) or wandb (RUN/wandb). May be
            given twice. "labels4free watch RUN --track" does the same afterwards.
    """
    from labels4free.training.alpha.run import load_shared, train_alpha_network
    from labels4free.training.config_file import run_settings
    from labels4free.training.presets import preset_named
    from labels4free.training_loop.distributed import joined_processes
    from labels4free.training_loop.resume import goes_on
    from labels4free.watching.follower import tracking

    chosen, wanted = preset_named(preset) if preset else None, resume_of(resume)
    flags = {
        "data": data.resolve() if data else None,  # the run may be resumed from another folder
        "steps": steps,
        "batch_size": batch_size,
        "resolution": resolution,
        "seed": seed,
        "alpha.pretrained": in_full(alpha) if alpha else None,
        "discriminator.pretrained": in_full(discriminator) if discriminator else None,
    }
    with joined_processes(device) as group:
        base, going_on = chosen.config if chosen else None, out if goes_on(out, wanted) else None
        own = run_settings("train", base, config, as_settings(flags), settings, going_on)
        shown = track if group.is_main else []
        with progress_bar("Training", before="Rendering") as bar, tracking(out, shown, bar) as progress:
            loaded = load_shared(generator, device)
            if chosen:
                chosen.check_fits(loaded.resolution)
            result = train_alpha_network(loaded, out, own, resume=wanted, generator_name=generator, progress=progress)
    if group.is_main:
        again = ["labels4free", "train", generator, "--out", str(out), "--resume"]
        again += [] if device == "cpu" else ["--device", device]
        found = _FOUND.format(**result.check.numbers) if result.check else ""
        report_end(result, out, again if group.size == 1 else None, found)
        if result.file:
            print(f"Masks: {shlex.join(['labels4free', 'sample', str(out), '--out', 'DIR', '--num', '16'])}")
    return exit_code(result)
