"""``labels4free train``: an alpha network for a generator, without labels."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from tyro.conf import Positional, UseAppendAction, arg

from labels4free.cli.progress import progress_bar
from labels4free.files import in_full

if TYPE_CHECKING:
    from labels4free.training.alpha_run import TrainResult
    from labels4free.training.distributed import World
    from labels4free.training.presets import Preset
    from labels4free.training.recipes import AlphaTrainConfig, AnyConfig

_FAILURE = 2  # the exit code of an error that has been said
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
    resume: Annotated[tuple[Literal["auto"], ...] | None, arg(metavar="[auto]", help_behavior_hint="")] = None,
    device: str = "cpu",
    track: Annotated[UseAppendAction[list[str]], arg(metavar="NAME")] = [],  # noqa: B006
) -> int | None:
    """Train an alpha network on a generator. Neither labels nor images are needed.

    RUN then holds config.json, log.jsonl, pictures/, checkpoints/ and, in the end, alpha.safetensors, which
    "labels4free sample RUN" takes. Ctrl-C writes a checkpoint; --resume goes on from the last one and ends in the same
    network, bit for bit. Started by torchrun, several processes share the work.

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
        resume: Go on with the run in RUN; settings need not be repeated. With "auto" go on if there is one, and start
            it otherwise: one command for jobs that are requeued.
        device: cpu, cuda, cuda:N or mps. With several processes cuda gives each its own.
        track: Show log and pictures to a tracker as well: tensorboard (RUN/tensorboard) or wandb (RUN/wandb). May be
            given twice. "labels4free watch RUN --track" does the same afterwards.
    """
    from labels4free.training.distributed import AlreadySaid, PeerLostError, device_of, joined_world
    from labels4free.training.log_follower import LogFollower
    from labels4free.training.presets import preset_named

    LogFollower(out, track)  # a missing package is said before anything is rendered
    chosen = preset_named(preset) if preset else None
    given = {
        "data": str(data.resolve()) if data else None,  # the run may be resumed from another folder
        "steps": steps,
        "batch_size": batch_size,
        "resolution": resolution,
        "seed": seed,
        "discriminator.pretrained": discriminator and in_full(discriminator),
    }
    flags = [f"{name}={value}" for name, value in given.items() if value is not None]
    wanted: bool | Literal["auto"] = False if resume is None else "auto" if resume else True
    asked = _Asked(chosen, config, flags, settings)
    try:
        with joined_world(device) as world:
            result = _train(generator, out, asked, wanted, world, device_of(device, world), track)
    except (AlreadySaid, PeerLostError):
        return _FAILURE
    again = ["labels4free", "train", generator, "--out", str(out), "--resume"]
    again += [] if device == "cpu" else ["--device", device]
    if world.leads:
        _report(result, out, again if world.size == 1 else None)
    return _EXIT_CODES[result.interrupted] if result.interrupted else None


class _Asked(NamedTuple):
    """What the command line says of the settings."""

    preset: Preset | None
    file: Path | None
    flags: list[str]
    settings: list[str]


def _train(
    generator: str,
    out: Path,
    asked: _Asked,
    resume: bool | Literal["auto"],
    world: World,
    device: str,
    track: list[str],
) -> TrainResult:
    """Train as one of the processes of a world."""
    from labels4free.checkpoints.loading import load_generator
    from labels4free.training.alpha_run import train_alpha_network
    from labels4free.training.log_follower import tracking
    from labels4free.training.run_dir import RunDir

    if not world.leads:
        logging.getLogger("labels4free").setLevel(logging.ERROR)  # process 0 says it for all
    resumed = resume is True or (resume == "auto" and RunDir.is_at(out))
    config = world.from_lead(lambda: _alpha_config(asked, out if resumed else None))
    loaded = world.one_by_one(lambda: load_generator(generator, device))
    if asked.preset:
        asked.preset.check_fits(loaded.resolution)
    shown = track if world.leads else []
    with progress_bar("Training", before="Rendering") as bar, tracking(out, shown, bar) as progress:
        return train_alpha_network(
            loaded, out, config, resume=resume, generator_name=generator, progress=progress, world=world
        )


def _report(result: TrainResult, out: Path, again: list[str] | None) -> None:
    """Say how it ended; ``again`` is the command that goes on, where it is known in full."""
    if result.interrupted:
        how = f"Go on with:\n  {shlex.join(again)}" if again else "Go on as it was started, with --resume."
        print(f"Stopped at step {result.steps} of {result.total}. {how}", file=sys.stderr)
        return
    print(f"{result.alpha_file}: {_describe(result)}")
    if result.health and result.health.problem:
        print(f"Something is wrong, though: {result.health.problem}. Look at {out / 'pictures'}.", file=sys.stderr)
    print(f"Masks: {shlex.join(['labels4free', 'sample', str(out), '--out', 'DIR', '--num', '16'])}")


def _alpha_config(asked: _Asked, resumed: Path | None) -> AlphaTrainConfig | None:
    from labels4free.training.recipes import alpha_config

    config = _config(asked, resumed)
    return None if config is None else alpha_config(config)


def _config(asked: _Asked, resumed: Path | None) -> AnyConfig | None:
    """Settings of a new run, or what the user asks a resumed run to have (None: whatever it has)."""
    from labels4free.errors import ConfigError
    from labels4free.training.config_file import assemble, read_config_file, recipe_for
    from labels4free.training.recipes import DEFAULT_RECIPE, from_run_json
    from labels4free.training.run_dir import RunDir

    preset, file, flags, settings = asked
    base = preset.config if preset else None
    if resumed is not None:
        if not any(asked):
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


def _describe(result: TrainResult) -> str:
    health = result.health
    restarts = f", after {result.restarts} restarts" if result.restarts else ""
    if health is None:
        return f"{result.steps} steps{restarts}"
    return (
        f"{result.steps} steps{restarts}; masks cover {health.coverage:.0%} of the picture, are {health.binarity:.0%} "
        f"binary, middle minus border {health.polarity:+.2f}"
    )
