"""``labels4free verify``: check a data set against its checksums, and make single pairs anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from labels4free.cli.progress import progress_bar
from labels4free.errors import ConfigError

_SHOWN = 20
_FAILURE = 2


def run(
    data_set: Annotated[Positional[Path], arg(metavar="DATASET")],
    *,
    recreate: Annotated[int | None, arg(metavar="I", help_behavior_hint="")] = None,
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None,
    source: Annotated[str | None, arg(metavar="RUN_OR_ALPHA", help_behavior_hint="")] = None,
    generator: Annotated[str | None, arg(metavar="NAME_OR_FILE", help_behavior_hint="")] = None,
    device: str = "cpu",
) -> int | None:
    """Check every file of a data set against its checksum; or make one pair anew and compare it with the stored one.

    The exit code is 2 if anything is missing or damaged. The command that mends it is printed.

    Args:
        data_set: Folder that "labels4free sample" wrote.
        recreate: Make this pair anew, from the networks that the manifest names.
        out: Write the pair's files to this folder.
        source: Alpha network to use for it, where the one that the manifest names is not there any more.
        generator: Generator to use for it, where that is not there any more.
        device: cpu, cuda, cuda:N or mps.
    """
    if recreate is not None:
        return _recreate(data_set, recreate, out, source, generator, device)
    from labels4free.sampling.verify import verify_data_set

    with progress_bar("Checking") as update:
        found = verify_data_set(data_set, progress=update)
    print(f"{data_set}: {found.pairs} pairs of {found.num} candidates, {found.files} files checked")
    for name in found.foreign[:_SHOWN]:
        print(f"none of the data set's: {name}")
    if len(found.foreign) > _SHOWN:
        print(f"... and {len(found.foreign) - _SHOWN} more that are none of the data set's")
    if found.sound:
        print("All of it is there and undamaged.")
        return None
    for shard, files in list(found.damaged.items())[:_SHOWN]:
        name, what = next(iter(files.items()))
        more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
        print(f"shard {shard} is damaged: {name}: {what}{more}")
    for name, what in found.spanning.items():
        print(f"{name}: {what}")
    if found.missing:
        shown = ", ".join(map(str, found.missing[:_SHOWN])) + (", ..." if len(found.missing) > _SHOWN else "")
        print(f"{len(found.missing)} shards are not finished: {shown}")
    print(f"{len(found.damaged)} shards damaged, {len(found.missing)} unfinished. This makes them again:")
    print(f"  {_command(data_set)}")
    return _FAILURE


def _recreate(
    data_set: Path, index: int, out: Path | None, source: str | None, generator: str | None, device: str
) -> int | None:
    from labels4free.checkpoints.loading import load_layered
    from labels4free.data.pairs.manifest import read_manifest
    from labels4free.sampling.verify import recreate_pair, write_recreation

    manifest = read_manifest(data_set)
    source = source or manifest["alpha_network"].get("name")
    if source is None:
        raise ConfigError(f"The manifest of {data_set} names no alpha network: give it with --source.")
    layered, _ = load_layered(source, generator or manifest["generator"].get("name"), device)
    pair = recreate_pair(data_set, index, layered)
    if out is not None:
        for path in write_recreation(pair, out):
            print(path)
    if pair.reason is not None:
        print(f"Candidate {index} is not in the data set: {pair.reason}.")
        return None
    for name, what in pair.differing.items():
        print(f"{name}: {what}")
    if pair.differing:
        print(
            f"Pair {index} differs from the stored one in {len(pair.differing)} of {len(pair.files)} files. Other "
            f"versions of PyTorch or Pillow and other devices give other last bits; see also: labels4free verify "
            f"{data_set}"
        )
        return _FAILURE
    print(f"Pair {index} is the stored one, byte for byte ({len(pair.files)} files).")
    return None


def _command(data_set: Path) -> str:
    """The command that made a data set, from its manifest: it makes again what is missing."""
    from labels4free.data.pairs.manifest import read_manifest
    from labels4free.sampling.card import sample_command

    return sample_command(read_manifest(data_set), str(data_set))
