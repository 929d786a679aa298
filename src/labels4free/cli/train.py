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
    from labels4free.training.presets import Preset
    from labels4free.training.recipes import AnyConfig

_EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


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
    discriminator: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")] = None,
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
        preset: Settings by name, see "labels4free presets". Without it those of "auto", which serve every class.
        config: Settings in a TOML file, as "labels4free presets NAME" prints them; over those of the preset. The flags
            below count more, and --set most.
        data: Real images for the discriminator: a folder, zip file, LMDB or WebDataset shards. Without
            them the generator's own samples are the real ones.
        steps: Steps of the alpha network.
        batch_size: Images a step.
        resolution: Side in pixels of the composites that are judged; masks come at full size all the same.
        seed: Decides the latents, the first weights and every draw.
        discriminator: Discriminator to begin with, for presets of the published recipe: its file, or "generator" for
            the one in, or beside, the generator's own.
        settings: Any other setting, for example loss.binarization=0.5; may be given several times. An unknown name
            lists the valid ones.
        resume: Go on with the run in RUN. Settings need not be repeated.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.checkpoints.loading import load_generator
    from labels4free.training.alpha_run import train_alpha_network
    from labels4free.training.presets import preset_named

    chosen = preset_named(preset) if preset else None
    given = {
        "data": str(data.resolve()) if data else None,  # the run may be resumed from another folder
        "steps": steps,
        "batch_size": batch_size,
        "resolution": resolution,
        "seed": seed,
        "discriminator.pretrained": _in_full(discriminator),
    }
    flags = [f"{name}={value}" for name, value in given.items() if value is not None]
    asked = _config(chosen, config, flags, settings, out if resume else None)
    loaded = load_generator(generator, device)
    if chosen:
        chosen.check_fits(loaded.resolution)
    with progress_bar("Training", before="Rendering") as progress:
        result = train_alpha_network(loaded, out, asked, resume=resume, generator_name=generator, progress=progress)
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


def _config(
    preset: Preset | None, file: Path | None, flags: list[str], settings: list[str], resumed: Path | None
) -> AnyConfig | None:
    """Settings of a new run, or what the user asks a resumed run to have (None: whatever it has)."""
    from labels4free.errors import ConfigError
    from labels4free.training.config_file import assemble, read_config_file, recipe_for
    from labels4free.training.recipes import DEFAULT_RECIPE, from_run_json
    from labels4free.training.run_dir import RunDir

    base = preset.config if preset else None
    if resumed is not None:
        if not (preset or file or flags or settings):
            return None
        base = base or from_run_json({"train": {}} | RunDir.open(resumed).config())
    found = read_config_file(file) if file else None
    pretrained = [flag for flag in flags if flag.startswith("discriminator.pretrained=")]
    if pretrained and recipe_for(base, found) == DEFAULT_RECIPE:
        raise ConfigError(
            "--discriminator is for presets of the published recipe, such as car-paper; the default recipe trains a "
            "small discriminator of its own. Leave it out, or add --preset."
        )
    # All at once: a flag may only be possible together with a setting.
    return assemble(base, found, [*flags, *settings])


def _in_full(file: str | None) -> str | None:
    """A file by its full path, since the run may be resumed from another folder; any other word as it is."""
    return str(Path(file).resolve()) if file and Path(file).exists() else file


def _describe(result: TrainResult) -> str:
    health = result.health
    restarts = f", after {result.restarts} restarts" if result.restarts else ""
    if health is None:
        return f"{result.steps} steps{restarts}"
    return (
        f"{result.steps} steps{restarts}; masks cover {health.coverage:.0%} of the picture, are {health.binarity:.0%} "
        f"binary, middle minus border {health.polarity:+.2f}"
    )
