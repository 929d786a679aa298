"""Output folders: new or empty, or one that the same command began, as a note in it tells.

What a folder's content depends on lies in its note, a JSON file that is written first of all. So a call that was
interrupted is gone on with by the same call, and nothing is ever mixed with what other settings or networks made.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from labels4free.errors import RunError
from labels4free.files import TEMPORARY_SUFFIX, failing_as, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

_NAMED = 3
_CHECKSUM = re.compile("[0-9a-f]{64}")


def claim(
    folder: Path,
    note: str,
    settings: Mapping[str, Any],
    what: str,
    read: Callable[[], Mapping[str, Any]] | None = None,
    *,
    free: Collection[str] = (),
) -> bool:
    """Take an output folder: accept it if it is new or empty, or if its note says the same as this call's settings.

    Args:
        folder: It need not exist, and is not made.
        note: Name of the file in it that says what its content depends on. Write it if the folder is new.
        settings: What the content depends on: JSON values by name; networks and data by their SHA-256.
        what: What the folder is for, in the plural: ``samples``.
        read: Gives the earlier call's settings; None where they are the note itself.
        free: Names that may be None, and then fit any value: here or in the note.

    Returns:
        Whether the folder has a note of such a call; False means that it is new or empty.

    Raises:
        RunError: If the folder holds something else, or is a file, or the note is damaged or says something else.
    """
    if not (folder / note).exists():
        check_unused(folder, what)
        return False
    check_same(folder, read_json(folder / note, what) if read is None else read(), settings, what, free=free)
    return True


def check_unused(folder: Path, what: str, scaffold: Collection[str] = ()) -> None:
    """See that an output folder is new or empty; what killed processes left half-written does not count.

    Args:
        folder: It need not exist.
        what: What the folder is for, in the plural.
        scaffold: Names of folders in it that do not count either while they are empty.

    Raises:
        RunError: If it holds something, or is a file.
    """
    if not folder.is_dir():
        if folder.exists():
            raise RunError(f"{folder} is a file, a folder was expected: choose another output folder.")
        return
    there = (path for path in folder.iterdir() if path.suffix != TEMPORARY_SUFFIX)
    names = sorted(path.name for path in there if path.name not in scaffold or any(path.iterdir()))
    if names:
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        raise RunError(
            f"{folder} is not empty and holds no earlier {what} (it holds {shown}): choose a new or empty folder."
        )


def check_same(
    folder: Path, earlier: Mapping[str, Any], settings: Mapping[str, Any], what: str, *, free: Collection[str] = ()
) -> None:
    """See that what an output folder was begun with is what is asked for now; arguments as for :func:`claim`.

    Raises:
        RunError: If not: with the first difference.
    """
    for name in {**earlier, **settings}:
        was, asked = earlier.get(name), settings.get(name)
        if was == asked or (name in free and (was is None or asked is None)):
            continue
        how = f"made with {name} {_shown(was)}, asked for was {_shown(asked)}"
        if any(isinstance(value, str) and _CHECKSUM.fullmatch(value) for value in (was, asked)):
            how = f"of another {name}"
        raise RunError(f"{folder} holds {what} {how}: choose another output folder.")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a note: a table of JSON values.

    Raises:
        RunError: If it cannot be read or is something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read as a manifest of {what} ({error}): choose another folder.") from error
    if not isinstance(values, dict):
        raise RunError(f"{path} is not a manifest of {what}: choose another folder.")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON values by name, complete or not at all; missing folders are made.

    Raises:
        RunError: If the file cannot be written.
    """
    with failing_as(RunError, path):
        write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "by default" if value is None else str(value)
