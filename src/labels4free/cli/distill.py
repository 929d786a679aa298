"""``labels4free distill``: a segmenter for photos, out of pairs that a generator and its alpha network make."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from tyro.conf import Positional, UseAppendAction, arg

from labels4free.cli.progress import progress_bar
from labels4free.cli.runs import as_settings, check_alone, exit_code, report_end, resume_of
from labels4free.files import in_full

if TYPE_CHECKING:
    from collections.abc import Callable

    from labels4free.layered import LayeredGenerator
    from labels4free.training.segmenter.config import SegmenterConfig

_FOUND = "; mean IoU with the pairs' masks {teacher_miou:.3f}, on changed pictures {augmented_miou:.3f}"


def run(
    source: Annotated[Positional[str | None], arg(metavar="[RUN_OR_ALPHA]", help_behavior_hint="")] = None,
    *,
    out: Annotated[Path, arg(metavar="RUN")],
    pairs: Annotated[Path | None, arg(metavar="DATASET", help_behavior_hint="")] = None,
    num: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 4000)")] = None,
    generator: Annotated[str | None, arg(metavar="NAME_OR_FILE", help_behavior_hint="")] = None,
    unlabelled: Annotated[Path | None, arg(metavar="IMAGES", help_behavior_hint="")] = None,
    backgrounds: Annotated[Path | None, arg(metavar="IMAGES", help_behavior_hint="")] = None,
    pretrained: Annotated[str | None, arg(metavar="SEGMENTER", help_behavior_hint="")] = None,
    config: Annotated[Path | None, arg(metavar="FILE.toml", help_behavior_hint="")] = None,
    size: Annotated[int | None, arg(metavar="S", help_behavior_hint="(default: 256)")] = None,
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 6000)")] = None,
    batch_size: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 8)")] = None,
    seed: Annotated[int | None, arg(metavar="S", help_behavior_hint="(default: 0)")] = None,
    settings: Annotated[UseAppendAction[list[str]], arg(name="set", metavar="SECTION.FIELD=VALUE")] = [],  # noqa: B006
    resume: Annotated[tuple[Literal["auto"], ...] | None, arg(metavar="[auto]", help_behavior_hint="")] = None,
    device: str = "cpu",
) -> int | None:
    """Train a small segmenter that finds in photos what the alpha network finds in its generator's images.

    Pairs of images and masks are rendered into RUN/pairs, or taken from a data set; the segmenter learns from them on
    other backgrounds and in other light. RUN then holds config.json, log.jsonl, pictures/, checkpoints/, while it
    goes on snapshot.safetensors and in the end segmenter.safetensors. Ctrl-C writes a checkpoint; --resume goes on
    from the last one and ends in the same network, bit for bit.

    Args:
        source: Folder of a training run, file of an alpha network, or name of a generator that one ships for. Not
            needed with --pairs.
        out: Folder of the run: new or empty, or with --resume that of an earlier run.
        pairs: Learn from these pairs and render none: what "labels4free sample" writes in any format, or a folder with
            images/ and masks/.
        num: Pairs to render.
        generator: Generator to use instead of the one that the alpha network was trained on.
        unlabelled: Photos without masks, to go on learning from the segmenter's own masks of them where it is sure: a
            folder, zip file, LMDB or WebDataset shards.
        backgrounds: Pictures to lay objects over, of the same kinds; other pairs' surroundings and procedural ones
            serve otherwise.
        pretrained: Segmenter to begin with: "faces", which ships, a file, or a run's folder.
        config: Settings in a TOML file. The flags below count more, and --set most.
        size: Side of the training images in pixels, a multiple of 32; photos are later scaled to 9/8 of it at most.
        steps: Steps of the optimiser.
        batch_size: Images a step.
        seed: Decides the latents, the first weights and every draw.
        settings: Any other setting, for example augmentation.background=0.5; may be given several times. An unknown
            name lists the valid ones.
        resume: Go on with the run in RUN; settings need not be repeated. With "auto" go on if there is one, and start
            it otherwise.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.training.config_file import run_settings
    from labels4free.training.segmenter.run import train_segmenter
    from labels4free.training_loop.resume import goes_on

    check_alone("distill")
    flags = {
        "pairs.num": num,
        "pairs.background_pictures": backgrounds and backgrounds.resolve(),
        "self_training.unlabelled": unlabelled and unlabelled.resolve(),
        "pretrained": pretrained and in_full(pretrained),
        "size": size,
        "steps": steps,
        "batch_size": batch_size,
        "seed": seed,
    }
    wanted = resume_of(resume)
    going_on = goes_on(out, wanted)
    own = run_settings("distill", None, config, as_settings(flags), settings, out if going_on else None)
    again = ["labels4free", "distill", *([source] if source else []), "--out", str(out)]
    again += ["--pairs", str(pairs)] if pairs else []
    again += ["--generator", generator] if generator else []
    again += ["--resume", *([] if device == "cpu" else ["--device", device])]
    made: Path | Callable[[Path, SegmenterConfig], None]
    if pairs is not None:
        made, noted = pairs, None
    else:
        teacher = _Teacher.load(source or _source_of(out, going_on=going_on), generator, device)
        made, noted = teacher.renderer(shlex.join(again)), teacher.note()
    with progress_bar("Training", before="Reading") as progress:
        result = train_segmenter(out, made, own, resume=wanted, source=noted, device=_usable(device), progress=progress)
    report_end(result, out, again, _FOUND.format(**result.check.numbers) if result.check else "")
    return exit_code(result)


class _Teacher(NamedTuple):
    """Who makes the pairs."""

    layered: LayeredGenerator
    source: str
    generator: str

    @classmethod
    def load(cls, source: str, generator: str | None, device: str) -> _Teacher:
        from labels4free.checkpoints.loading import load_layered

        layered, name = load_layered(source, generator, device)
        return cls(layered, in_full(source), in_full(name))

    def note(self) -> dict[str, Any]:
        """What the run notes of it."""
        from labels4free.checkpoints.state_hash import state_hash

        of_generator, of_alpha = map(state_hash, (self.layered.generator, self.layered.alpha_network))
        return {
            "name": self.source,
            "state_hash": f"{of_generator} {of_alpha}",
            "generator": {"name": self.generator, "family": self.layered.generator.family, "state_hash": of_generator},
            "alpha_network": {"name": self.source, "state_hash": of_alpha},
        }

    def renderer(self, again: str) -> Callable[[Path, SegmenterConfig], None]:
        """What renders the pairs of a run, or those that are missing."""

        def render(folder: Path, config: SegmenterConfig) -> None:
            from labels4free.sampling.dataset import sample_dataset
            from labels4free.training.segmenter.rendered_pairs import pair_settings

            settings = pair_settings(config, self.layered.generator.resolution)
            try:
                with progress_bar("Sampling") as update:
                    sample_dataset(
                        self.layered,
                        folder,
                        config.pairs.num,
                        settings,
                        generator_name=self.generator,
                        alpha_name=self.source,
                        progress=update,
                    )
            except KeyboardInterrupt:
                print(f"Stopped while pairs were rendered. Go on with:\n  {again}", file=sys.stderr)
                raise

        return render


def _usable(device: str) -> str:
    from labels4free.checkpoints.loading import resolve_device

    return str(resolve_device(device))


def _source_of(out: Path, *, going_on: bool) -> str:
    """The source of a run that goes on, as it was given when the run was started."""
    from labels4free.errors import ConfigError
    from labels4free.training_loop.run_dir import RunDir

    if not going_on:
        raise ConfigError(
            "distill needs pairs to learn from: give a training run, an alpha network's file or the name of a "
            "generator, or a data set (--pairs)."
        )
    noted = RunDir.open(out).config().get("source")
    name = noted.get("name") if isinstance(noted, dict) else None
    if not isinstance(name, str) or not isinstance(noted, dict) or "alpha_network" not in noted:
        raise ConfigError(f"{out} learns from the data set {name}: give it again (--pairs).")
    return name
