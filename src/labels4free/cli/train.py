"""``labels4free train``: an alpha network for a generator, without labels."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from labels4free.cli.progress import progress_bar

if TYPE_CHECKING:
    from labels4free.training.alpha_run import TrainResult
    from labels4free.training.config import TrainConfig

_EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


def run(
    generator: Annotated[Positional[str], arg(metavar="GENERATOR")],
    *,
    out: Annotated[Path, arg(metavar="RUN")],
    data: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None,
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 1000)")] = None,
    batch_size: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 8)")] = None,
    resolution: Annotated[int | None, arg(metavar="R", help_behavior_hint="(default: 32)")] = None,
    seed: Annotated[int | None, arg(metavar="S", help_behavior_hint="(default: 0)")] = None,
    settings: Annotated[UseAppendAction[list[str]], arg(name="set", metavar="SECTION.FIELD=VALUE")] = [],  # noqa: B006
    resume: bool = False,
    device: str = "cpu",
) -> int | None:
    """Train an alpha network on a generator. Neither labels nor images are needed.

    RUN then holds config.json, log.jsonl, pictures/, checkpoints/ and, in the end, alpha.safetensors, which
    "labels4free sample RUN" takes. Ctrl-C writes a checkpoint; --resume goes on from the last one and ends in the same
    network, bit for bit.

    Args:
        generator: A generator of the model zoo (see "labels4free models list"), or a file: native, of rosinality or
            Labels4Free (.pt), of NVIDIA (.pkl), or a folder with an OpenVINO IR.
        out: Folder of the run: new or empty, or with --resume that of an earlier run.
        data: Folder of real images for the discriminator. Without it the generator's own samples are the real ones.
        steps: Steps of the alpha network.
        batch_size: Images a step.
        resolution: Side in pixels of the composites that are judged; masks come at full size all the same.
        seed: Decides the latents, the first weights and every draw.
        settings: Any other setting, for example loss.binarization=0.5; may be given several times. An unknown name
            lists the valid ones.
        resume: Go on with the run in RUN. Settings need not be repeated.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.checkpoints.loading import load_generator
    from labels4free.training.alpha_run import train_alpha_network

    given = {
        "data": str(data.resolve()) if data else None,  # the run may be resumed from another folder
        "steps": steps,
        "batch_size": batch_size,
        "resolution": resolution,
        "seed": seed,
    }
    config = _config({k: v for k, v in given.items() if v is not None}, settings, out if resume else None)
    with progress_bar("Training", before="Rendering") as progress:
        result = train_alpha_network(
            load_generator(generator, device), out, config, resume=resume, generator_name=generator, progress=progress
        )
    if result.interrupted:
        again = ["labels4free", "train", generator, "--out", str(out), "--resume"]
        again += [] if device == "cpu" else ["--device", device]
        print(f"Stopped at step {result.steps} of {result.total}. Go on with:\n  {shlex.join(again)}", file=sys.stderr)
        return _EXIT_CODES[result.interrupted]
    print(f"{result.alpha_file}: {_describe(result)}")
    if result.health and result.health.problem:
        print(f"Something is wrong, though: {result.health.problem}. Look at {out / 'pictures'}.", file=sys.stderr)
    print(f"Masks: {shlex.join(['labels4free', 'sample', str(out), '--out', 'DIR', '--num', '16'])}")
    return None


def _config(given: dict[str, object], settings: list[str], resumed: Path | None) -> TrainConfig | None:
    """Settings of a new run, or what the user asks a resumed run to have (None: whatever it has)."""
    from labels4free.training.config import TrainConfig, apply_settings, config_from_json
    from labels4free.training.run_dir import RunDir

    if resumed is not None:
        if not given and not settings:
            return None
        base = config_from_json(RunDir.open(resumed).config().get("train", {}))
    else:
        base = TrainConfig()
    # All at once: a flag may only be possible together with a setting.
    return apply_settings(base, [*(f"{name}={value}" for name, value in given.items()), *settings])


def _describe(result: TrainResult) -> str:
    health = result.health
    restarts = f", after {result.restarts} restarts" if result.restarts else ""
    if health is None:
        return f"{result.steps} steps{restarts}"
    return (
        f"{result.steps} steps{restarts}; masks cover {health.coverage:.0%} of the picture, are {health.binarity:.0%} "
        f"binary, middle minus border {health.polarity:+.2f}"
    )
