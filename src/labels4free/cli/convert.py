"""``labels4free convert``: a checkpoint of another project into a native one, or a native one into rosinality's."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg, configure

from labels4free.checkpoints.contents import NATIVE, describe, ignored_rows
from labels4free.cli.progress import progress_bar
from labels4free.cli.tables import print_table
from labels4free.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from labels4free.checkpoints.contents import Checkpoint
    from labels4free.checkpoints.self_check import SelfCheck

_SUFFIX = {"native": ".safetensors", "rosinality": ".pt"}
_READ_AT_ONCE = 1 << 24


@configure(FlagCreatePairsOff)
def run(
    source: Annotated[Positional[str], arg(metavar="SRC")],
    destination: Annotated[Positional[Path], arg(metavar="DST")],
    *,
    to: Annotated[Literal["native", "rosinality"], arg(metavar="{native,rosinality}")] = "native",
    overwrite: bool = False,
) -> None:
    """Convert a checkpoint, check the result, and draw a picture with it. No code of the file is run.

    The generator goes to DST; what else SRC holds goes beside it, for DST g.safetensors to g.discriminator.safetensors
    and g.alpha.safetensors; and the picture to g.check.png. "train" and "sample" take SRC without conversion, too.

    Args:
        source: A checkpoint of rosinality or the original Labels4Free (.pt), of NVIDIA (.pkl, PyTorch or TensorFlow),
            or a folder with the OpenVINO IR of a MobileStyleGAN. With --to rosinality also a native file.
        destination: File to write: .safetensors, or with --to rosinality .pt.
        to: Format to write.
        overwrite: Replace the files of an earlier conversion to DST.
    """
    planned = _planned_files(destination, to)
    _check_destination(source, destination, to)
    if not overwrite:
        _refuse_to_replace(path for key, path in planned.items() if key != "picture")
    from labels4free.checkpoints.loading import read_checkpoint

    checkpoint = read_checkpoint(source)
    if checkpoint.format == NATIVE and to == "native":
        raise ConfigError(f"{source} is a native checkpoint already; --to rosinality converts it to the other format.")
    print_table(describe(checkpoint))
    _print_remarks(checkpoint)
    check = _check(checkpoint)
    written = _write(checkpoint, check, destination, to, planned)
    if check is not None:
        _print_verdict(check, planned["picture"])
    for path, what in written.items():
        print(f"Wrote {path} ({what}).")
    if to == "native":
        print(f"Next: {_next_command(checkpoint, destination)}")


def _planned_files(destination: Path, to: str) -> dict[str, Path]:
    """Every file that a conversion to this destination may write, by what is in it."""
    from labels4free.checkpoints.places import beside

    picture = {"picture": destination.with_suffix(".check.png")}
    if to != "native":
        return {"file": destination} | picture
    parts = {part: beside(destination, part) for part in ("discriminator", "alpha")}
    return {"file": destination} | parts | picture


def _check_destination(source: str, destination: Path, to: str) -> None:
    """Refuse a destination of another format, a folder, and the source itself."""
    if destination.suffix != _SUFFIX[to]:
        wanted = destination.with_suffix(_SUFFIX[to])
        raise ConfigError(f"DST must end in {_SUFFIX[to]} for the {to} format, got {destination}; {wanted} would do.")
    if destination.exists() and Path(source).exists() and destination.samefile(source):
        raise ConfigError(f"{destination} would replace its own source; choose another DST.")
    if destination.is_dir():
        raise ConfigError(f"{destination} is a folder; DST is a file.")


def _refuse_to_replace(paths: Iterable[Path]) -> None:
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise ConfigError(
            f"{', '.join(there)} {'are' if there[1:] else 'is'} there already; --overwrite replaces the files of an "
            "earlier conversion, or choose another DST."
        )


def _check(checkpoint: Checkpoint) -> SelfCheck | None:
    """Render samples, which also shows that the networks work at all."""
    from labels4free.checkpoints.self_check import self_check

    if checkpoint.generator is None:
        return None
    with progress_bar("Checking") as update:
        return self_check(
            checkpoint.generator,
            checkpoint.discriminator,
            checkpoint.alpha_network,
            what=str(checkpoint.path),
            progress=update,
        )


def _write(
    checkpoint: Checkpoint, check: SelfCheck | None, destination: Path, to: str, planned: dict[str, Path]
) -> dict[Path, str]:
    """Write all files, or none: first into a folder of their own, from which they are moved one after the other.

    Returns:
        What is in each file.
    """
    from labels4free.pictures.pixels import write_png

    writers: dict[str, tuple[str, Callable[[Path], None]]] = {}
    if check is not None:
        picture = check.picture
        writers["picture"] = ("samples to look at", lambda path: write_png(path, picture))
    writers |= _native_writers(checkpoint, check, destination) if to == "native" else _rosinality_writer(checkpoint)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".") as stage:
        for key, (_, write) in writers.items():
            write(Path(stage, planned[key].name))
        for key in planned.keys() - writers.keys() - {"picture"}:  # of an earlier conversion: of another generator
            planned[key].unlink(missing_ok=True)
        for key in writers:  # the main file last: what lies beside it is there once it is
            Path(stage, planned[key].name).replace(planned[key])
    return {planned[key]: what for key, (what, _) in reversed(writers.items())}


def _native_writers(
    checkpoint: Checkpoint, check: SelfCheck | None, destination: Path
) -> dict[str, tuple[str, Callable[[Path], None]]]:
    """For each network its file's key in the plan, what it is, and what writes it; the main one last."""
    from labels4free.checkpoints.native import write_native
    from labels4free.checkpoints.state_hash import state_hash

    info: dict[str, Any] = {
        "source": checkpoint.path.name,
        "source_sha256": _digest(checkpoint.path),
        "source_format": checkpoint.format,
        "notes": list(checkpoint.notes),
        "ignored": dict(checkpoint.ignored),
    }
    if check is not None:
        info["self_check"] = {"numbers": check.numbers, "layers": check.layers, "warnings": list(check.warnings)}
    own: dict[str, Any] = {}
    if checkpoint.generator is not None:
        family, generator_hash = checkpoint.generator.family, state_hash(checkpoint.generator)
        own = {"generator": {"name": str(destination), "family": family, "state_hash": generator_hash}}

    def writer(network: Any, kind: str, family: str, more: dict[str, Any]) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            state, config = network.state_dict(), network.config()
            write_native(path, kind=kind, family=family, config=config, state=state, info=info | more)

        return write

    parts: dict[str, tuple[str, Callable[[Path], None]]] = {}
    if (network := checkpoint.discriminator) is not None:
        parts["discriminator"] = ("the discriminator", writer(network, "discriminator", "stylegan2", own))
    if (alpha := checkpoint.alpha_network) is not None:
        parts["alpha"] = ("the alpha network", writer(alpha, "alpha_network", alpha.family, own))
    if (generator := checkpoint.generator) is not None:
        parts["file"] = ("the generator", writer(generator, "generator", generator.family, {}))
    elif parts:
        key = "alpha" if "alpha" in parts else "discriminator"
        parts["file"] = parts.pop(key)
    return parts


def _rosinality_writer(checkpoint: Checkpoint) -> dict[str, tuple[str, Callable[[Path], None]]]:
    from labels4free.checkpoints.foreign.rosinality import write_rosinality
    from labels4free.generators.stylegan2 import StyleGAN2

    generator, discriminator = checkpoint.generator, checkpoint.discriminator
    if not isinstance(generator, StyleGAN2):
        has = "no generator" if generator is None else f"a {generator.family}"
        raise CheckpointError(f"rosinality's format is for StyleGAN2 generators; {checkpoint.path} holds {has}.")
    what = "generator and discriminator" if discriminator is not None else "the generator; there is no discriminator"
    if checkpoint.alpha_network is not None:
        what += "; the alpha network has no place in this format"
    return {"file": (what, lambda path: write_rosinality(path, generator, discriminator))}


def _digest(path: Path) -> str:
    """SHA-256 of a file; of a folder (or a graph in one) that of its files' names and checkpoint."""
    digest = hashlib.sha256()
    path = path.parent if path.suffix == ".xml" else path
    for file in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(os.fsencode(file.name) + b"\n")
        with file.open("rb") as stream:
            while block := stream.read(_READ_AT_ONCE):
                digest.update(block)
    return digest.hexdigest()


def _print_remarks(checkpoint: Checkpoint) -> None:
    for entries, reason in ignored_rows(checkpoint.ignored):
        print(f"Left out: {entries} ({reason}).")
    for note in checkpoint.notes:
        print(f"Note: {note}")


def _print_verdict(check: SelfCheck, picture: Path) -> None:
    if not check.warnings:
        print(f"Self-check: the numbers are those of a working generator. Look at the picture, too: {picture}")
        return
    print(f"Self-check: not what a trained generator gives. Look at the picture: {picture}", file=sys.stderr)
    for warning in check.warnings:
        print(f"- {warning}", file=sys.stderr)


def _next_command(checkpoint: Checkpoint, destination: Path) -> str:
    words = ["labels4free"]
    if checkpoint.generator is None:
        words += ["sample", str(destination), "--generator", "GENERATOR", "--out", "DIR", "--num", "16"]
    elif checkpoint.alpha_network is None:
        words += ["train", str(destination), "--out", "RUN"]
    else:
        words += ["sample", str(destination.with_suffix(".alpha.safetensors")), "--out", "DIR", "--num", "16"]
    return shlex.join(words)
