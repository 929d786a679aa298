"""Tar files as shards of a data set: found, scanned, read and written. The same members give the same bytes."""

from __future__ import annotations

import posixpath
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labels4free.data.decoding import LARGEST_FILE, too_large
from labels4free.data.walk import is_image_name, natural_key
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SUFFIX = ".tar"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000
_MOST_LINKS = 40  # one behind the other, as Linux has it


class Place(NamedTuple):
    """Where a member's content lies: in which shard, from which byte on, how many."""

    shard: Path
    offset: int
    length: int


def is_shard_name(name: str) -> bool:
    """Whether a file of this name in a folder is a shard, to go by its ending; hidden ones are none."""
    return name.lower().endswith(_SUFFIX) and not name.startswith(".")


def is_shard(path: Path) -> bool:
    """Whether a path is a tar file, or a pattern of them."""
    return path.suffix.lower() == _SUFFIX or (path.is_file() and tarfile.is_tarfile(path))


def find_shards(path: Path) -> list[Path]:
    """The tar files of a folder, a pattern such as ``set-{000000..000009}.tar`` or a path, in natural order.

    Raises:
        DataError: If one is missing.
    """
    if path.is_dir():
        names = (entry.name for entry in path.iterdir())
        return [path / name for name in sorted(filter(is_shard_name, names), key=natural_key)]
    shards = [Path(name) for name in _expand(str(path))]
    if missing := [shard for shard in shards if not shard.is_file()]:
        more = f", nor {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"There is no shard {missing[0]}{more}, of {len(shards)}: check the path or the pattern.")
    return shards


def _expand(pattern: str) -> list[str]:
    """Every name of a pattern with ranges such as {000..123}; the ends' width decides about leading zeros."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < _MOST_SHARDS:
        raise DataError(f"{match[0]} is no range of shards: it must rise, by less than {_MOST_SHARDS:,}.")
    rests = _expand(pattern[match.end() :])
    return [f"{pattern[: match.start()]}{n:0{len(match[1])}d}{rest}" for n in range(first, last + 1) for rest in rests]


def scan(shard: Path, damaged: dict[str, str]) -> Iterator[tuple[str, Place]]:
    """Name and place of every file in a shard, in its order, as far as it is whole.

    Names begin without ``./``. Links lead to the place of what they name; of files of one name the last counts, as it
    does when a tar file is unpacked.

    Args:
        shard: The tar file.
        damaged: Takes a sentence on what is wrong with the shard, under its path, and with a member, under its name.

    Raises:
        DataError: If it cannot be read, is compressed or no tar file.
    """
    members: dict[str, Place | str] = {}  # a link is the name that it stands for
    try:
        with tarfile.open(shard, "r:") as tar:
            try:
                for info in tar:
                    name = posixpath.normpath(info.name)
                    members.pop(name, None)
                    if info.issparse():
                        damaged[f"{shard}/{name}"] = f"{shard}/{name} is stored with gaps: pack it without --sparse."
                    elif info.isreg():
                        members[name] = Place(shard, info.offset_data, info.size)
                    elif info.islnk():
                        members[name] = posixpath.normpath(info.linkname)
                    elif info.issym():
                        members[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), info.linkname))
                _check_end(shard, tar.offset)
            except (tarfile.TarError, EOFError, OSError) as error:
                damaged[str(shard)] = f"{shard} is damaged ({error}): what comes before that is used."
    except (tarfile.TarError, EOFError, OSError) as error:
        compressed = "; if it is compressed, unpack it to .tar" if isinstance(error, tarfile.TarError) else ""
        raise DataError(f"{shard} cannot be read as a tar file ({error}){compressed}.") from error
    for name, found in members.items():
        place = _followed(name, members)
        if place is not None:
            yield name, place
        elif is_image_name(name):
            damaged[f"{shard}/{name}"] = f"{shard}/{name} is a link to {found}, which is not in the tar file."


def scan_shards(path: Path, damaged: dict[str, str]) -> Iterator[tuple[Path, list[tuple[str, Place]]]]:
    """Each shard of a path, and what :func:`scan` finds in it; one of a folder that cannot be read is noted.

    Raises:
        DataError: If there is no such shard, or one that is named cannot be read.
    """
    for shard in find_shards(path):
        try:
            yield shard, list(scan(shard, damaged))
        except DataError as error:
            if not path.is_dir():
                raise
            damaged[str(shard)] = str(error)


def _followed(name: str, members: Mapping[str, Place | str]) -> Place | None:
    """The place of a member, or of what a link stands for in the end."""
    for _ in range(_MOST_LINKS):
        found = members.get(name)
        if not isinstance(found, str):
            return found
        name = found
    return None


def _check_end(shard: Path, offset: int) -> None:
    """Tell the end of a tar file from a damaged header, which the standard library takes for one."""
    with shard.open("rb") as file:
        file.seek(offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"no header at byte {offset:,}")


def sample_key(name: str) -> str:
    """The sample that a member belongs to: its path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def read_member(place: Place, label: str) -> bytes:
    """The content of a member.

    Args:
        place: Where it lies.
        label: What it is called in messages.

    Raises:
        DataError: If it cannot be read, is cut off, or larger than an image needs.
    """
    if place.length > LARGEST_FILE:
        raise DataError(too_large(label))
    try:
        with place.shard.open("rb", buffering=0) as file:
            file.seek(place.offset)
            data = file.read(place.length)
    except OSError as error:
        raise DataError(f"{label} cannot be read: {error.strerror or error}.") from error
    if len(data) < place.length:
        raise DataError(f"{label} is cut off: its shard ends within it.")
    return data


def encode_member(name: str, data: bytes) -> bytes:
    """A member as it stands in a tar file (USTAR), without time and owner."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def end_of_shard(length: int) -> bytes:
    """What ends a tar file of so many bytes."""
    end = 2 * tarfile.BLOCKSIZE
    return bytes(end + -(length + end) % tarfile.RECORDSIZE)
