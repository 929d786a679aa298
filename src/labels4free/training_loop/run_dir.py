"""The folder of a training run: configuration, log, pictures, checkpoints. It survives being killed at any moment.

::

    RUN/config.json                     how the run was started, or lengthened
    RUN/log.jsonl                       one JSON object a line
    RUN/pictures/
    RUN/checkpoints/member_0/restart_0/step_000123.pt    after 123 steps; torch.load(weights_only=True) reads it

Where a checkpoint lies, :class:`Place` says, and nobody else. It is a dict ``{"format": 2, "member", "restart",
"step", "log_bytes", "sha256", "state"}``. The SHA-256 is that of the content (:func:`state_digest`), since PyTorch does
not notice flipped bits; ``log_bytes`` is how much log there was, so that a resumed run continues the log of an
uninterrupted one. Hence: log a step before saving its checkpoint.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import math
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch

from labels4free.errors import RunError
from labels4free.files import TEMPORARY_SUFFIX, failing_as, utf8_path, write_atomically, write_failure
from labels4free.training_loop.log import read_log

FORMAT = 2
"""Version of the run folders and checkpoints that this package writes."""

_CONFIG = "config.json"
_LOG = "log.jsonl"
_PICTURES = "pictures"
_CHECKPOINTS = "checkpoints"
_CHECKPOINT_NAME = re.compile(r"member_(\d+)/restart_(\d+)/step_(\d{6,})\.pt")
_PICTURE_NAME = re.compile(r"(?:member_(\d+)_)?restart_(\d+)_step_(\d{6,})\.png")
_BEFORE = (
    "{} is a run of labels4free 0.1.0, which this version cannot go on with: train anew in another folder. A "
    "network that it has finished is good: give its file (alpha.safetensors, segmenter.safetensors) itself."
)

_logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where in a run something was written; later ones compare as greater.

    Attributes:
        member: Number of the member, from 0.
        restart: How often that was started over.
        step: Steps done; of a picture, those of the network that is kept.
    """

    member: int
    restart: int
    step: int

    @property
    def checkpoint(self) -> str:
        """Name of a checkpoint from here, in the folder of checkpoints."""
        return f"member_{self.member}/restart_{self.restart}/step_{self.step:06d}.pt"

    @property
    def picture(self) -> str:
        """Name of a picture from here, in the folder of pictures."""
        member = f"member_{self.member}_" if self.member else ""
        return f"{member}restart_{self.restart}_step_{self.step:06d}.png"


class Checkpoint(NamedTuple):
    """A checkpoint that was read and verified.

    Attributes:
        place: Where in the run it was written.
        path: Its file.
        log_bytes: Length of the log at that time.
        state: What the trainer saved, tensors on the CPU.
    """

    place: Place
    path: Path
    log_bytes: int
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps done when it was written."""
        return self.place.step


@dataclass(frozen=True)
class RunDir:
    """One run's folder; make it with :meth:`create` for a new run or :meth:`open` for one that goes on.

    Attributes:
        path: The folder.
        keep: Newest checkpoints to keep, at least 1; older ones are deleted after each save.
    """

    path: Path
    keep: int = 3

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any], *, keep: int = 3) -> Self:
        """Start a run in a new or empty folder; nothing is ever overwritten.

        Args:
            path: The folder; missing parents are made.
            config: How the run is started, as JSON values.
            keep: See :attr:`keep`.

        Raises:
            RunError: If the folder holds another run or anything else, or cannot be written.
        """
        _config_bytes(config)  # what is no JSON makes no folder
        run = cls(Path(path), keep)
        _check_unused(run.path)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            run._remove_leftovers()
            for folder in (run.pictures, run.checkpoints):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(write_failure(run.path, error)) from error
        run.write_config(config)  # last: its presence says that the folder is a run
        return run

    @classmethod
    def is_at(cls, path: str | Path) -> bool:
        """Whether there is a run at ``path``; changes nothing there."""
        return (Path(path) / _CONFIG).is_file()

    @classmethod
    def open(cls, path: str | Path, *, keep: int = 3) -> Self:
        """Open an existing run to go on with it; files left half-written by a killed process are removed.

        Raises:
            RunError: If there is no run at ``path``, its config.json is damaged, or the folder cannot be written.
        """
        run = cls(Path(path), keep)
        if not cls.is_at(path):
            raise RunError(f"There is no run to resume at {run.path}: no {_CONFIG} in it; start one without --resume.")
        run.config()
        try:
            for folder in (run.pictures, run.checkpoints):
                folder.mkdir(exist_ok=True)
            run._remove_leftovers()
        except OSError as error:
            raise RunError(write_failure(run.path, error)) from error
        return run

    @property
    def pictures(self) -> Path:
        """Folder of the progress pictures."""
        return self.path / _PICTURES

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / _CHECKPOINTS

    @property
    def log_path(self) -> Path:
        """The log, one JSON object a line; missing until the first entry."""
        return self.path / _LOG

    def config(self) -> dict[str, Any]:
        """What :meth:`create` was given.

        Raises:
            RunError: If config.json is unreadable or damaged.
        """
        path = self.path / _CONFIG
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise ValueError("it holds no JSON object")
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path} is damaged ({error}); restore it, or start a new run in another folder.") from error
        version = config.pop("format", 1)
        if version != FORMAT:
            raise RunError(_BEFORE.format(self.path) if version == 1 else _later(path, version))
        return config

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json, JSON values: of a new run, or of one that is lengthened.

        Raises:
            RunError: If it cannot be written.
        """
        with failing_as(RunError, self.path):
            write_atomically(self.path / _CONFIG, _config_bytes(config))

    def append_log(self, entry: Mapping[str, Any]) -> None:
        """Add one line to the log; it is in the file when this returns.

        Args:
            entry: JSON values by name; NaN and infinity, which JSON lacks, are written as null.

        Raises:
            RunError: If the log cannot be written.
        """
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
        line = (json.dumps(finite, allow_nan=False) + "\n").encode()
        try:
            with self.log_path.open("ab", buffering=0) as file:
                start = file.tell()
                if file.write(line) < len(line):  # a disk that fills up takes a part first
                    file.truncate(start)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RunError(write_failure(self.log_path, error)) from error

    def read_log(self) -> list[dict[str, Any]]:
        """All entries of the log, oldest first; a last line torn by a killed process is left out.

        Raises:
            RunError: If the file cannot be read or another line is no JSON object.
        """
        return [values for _, values in read_log(self.log_path)]

    def save_checkpoint(self, place: Place, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, complete or not at all, then delete the oldest beyond :attr:`keep`.

        Args:
            place: Where in the run it is.
            state: Nested dicts, lists and tuples of tensors, strings, numbers, booleans and None.

        Returns:
            The file.

        Raises:
            RunError: If it cannot be written; the older checkpoints are then untouched.
            TypeError: If the state holds anything else.
        """
        path = self.checkpoints / place.checkpoint
        log_bytes = self.log_path.stat().st_size if self.log_path.exists() else 0
        content = {"format": FORMAT, **place._asdict(), "log_bytes": log_bytes}
        content |= {"sha256": state_digest([*place, log_bytes, state]), "state": dict(state)}
        # In memory first: on a full disk torch.save itself raises an error without a reason.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, buffer.getbuffer())
        except OSError as error:
            raise RunError(
                f"{write_failure(path, error)} The older checkpoints are intact; go on with --resume."
            ) from error
        older = [other for at, other in self.checkpoint_files() if at <= place]
        for other in older[: -max(1, self.keep)]:
            other.unlink(missing_ok=True)
        return path

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that is undamaged, or None; damaged ones are passed over with a logged warning.

        Raises:
            RunError: If a checkpoint was written by a later version of this package.
        """
        for _, path in reversed(self.checkpoint_files()):
            checkpoint = _read_checkpoint(path)
            if checkpoint is not None:
                return checkpoint
        return None

    def checkpoint_files(self) -> list[tuple[Place, Path]]:
        """Files of the checkpoints and where in the run each was written, oldest first."""
        found = [(path.relative_to(self.checkpoints).as_posix(), path) for path in self.checkpoints.glob("*/*/*.pt")]
        places = [(_CHECKPOINT_NAME.fullmatch(name), path) for name, path in found]
        return sorted((Place(*map(int, match.groups())), path) for match, path in places if match)

    def picture_files(self) -> list[tuple[Place, Path]]:
        """Files of the progress pictures and where in the run each was drawn, oldest first."""
        found = [(_PICTURE_NAME.fullmatch(path.name), path) for path in self.pictures.glob("*.png")]
        return sorted((Place(*(int(number or 0) for number in match.groups())), path) for match, path in found if match)

    def resume(self) -> Checkpoint | None:
        """Read :meth:`latest_checkpoint` and cut the log back to it; with None the log is emptied: start at step 0.

        Raises:
            RunError: As :meth:`latest_checkpoint`, or if the log cannot be written.
        """
        checkpoint = self.latest_checkpoint()
        length = checkpoint.log_bytes if checkpoint else 0
        if self.log_path.exists():
            size = self.log_path.stat().st_size
            if size < length:
                _logger.warning(
                    "%s is shorter than it was at the checkpoint: earlier entries are missing.", self.log_path
                )
            with failing_as(RunError, self.log_path), self.log_path.open("r+b") as file:
                file.truncate(min(size, length))
        return checkpoint

    def _remove_leftovers(self) -> None:
        for folder in (self.path, self.pictures, *self.checkpoints.glob("*/*/")):
            for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
                path.unlink(missing_ok=True)


def _config_bytes(config: Mapping[str, Any]) -> bytes:
    return (json.dumps({"format": FORMAT, **config}, indent=2, allow_nan=False) + "\n").encode()


def state_digest(state: object) -> str:
    """SHA-256 of the content of a checkpoint's state: equal for equal values, types, shapes and order, bit for bit.

    Args:
        state: Nested dicts, lists and tuples of tensors (any device and memory format), strings, numbers, booleans,
            None.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: If the state holds anything else; the message names the type.
    """
    digest = hashlib.sha256()
    _feed(digest, state)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, value: object) -> None:
    """Hash one value: a tag with its type and length, so that no two states run together, then its content."""
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f"tensor {value.dtype} {list(value.shape)};".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        digest.update(f"dict {len(value)};".encode())
        for key, item in value.items():
            _feed(digest, key)
            _feed(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)};".encode())
        for item in value:
            _feed(digest, item)
    elif type(value) is float:
        digest.update(b"float;" + struct.pack("<d", value))
    elif value is None or type(value) in (bool, int, str):
        text = str(value).encode()
        digest.update(f"{type(value).__name__} {len(text)};".encode() + text)
    else:
        raise TypeError(
            f"A checkpoint holds tensors, dicts, lists, tuples, str, int, float, bool and None, got {type(value)}."
        )


def _check_unused(path: Path) -> None:
    """Raise where a new run must not go."""
    if path.is_dir():
        names = sorted(
            p.name for p in path.iterdir() if not (p.name.startswith(".") and p.name.endswith(TEMPORARY_SUFFIX))
        )
        if _CONFIG in names:
            raise RunError(f"{path} holds a run already: go on with it by --resume, or choose another folder.")
        # Empty sub-folders are what a run leaves that was killed while it was being created.
        strangers = [name for name in names if name not in (_PICTURES, _CHECKPOINTS) or any((path / name).iterdir())]
        if strangers:
            shown = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
            raise RunError(f"{path} is not empty (it holds {shown}) and is no run: choose a new or empty folder.")
    elif path.exists():
        raise RunError(f"{path} is a file, but a run needs a folder: choose another path.")


def _read_checkpoint(path: Path) -> Checkpoint | None:
    """Read and verify one file; None, with a warning, if it is damaged."""
    try:
        with utf8_path(path) as name:
            content = torch.load(name, map_location="cpu", weights_only=True)
        version = content["format"]
        if version <= FORMAT:
            found = Place(content["member"], content["restart"], content["step"])
            if state_digest([*found, content["log_bytes"], content["state"]]) != content["sha256"]:
                raise ValueError("its content does not have the checksum that was stored with it")
            return Checkpoint(found, path, content["log_bytes"], content["state"])
    except Exception as error:  # noqa: BLE001  a damaged file can raise anything in the unpickler
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        _logger.warning("Checkpoint %s is damaged and was passed over: %s", path, reason)
        return None
    raise RunError(_later(path, version))


def _later(path: Path, version: object) -> str:
    return f"{path} is in format {version} of a later labels4free, this one reads {FORMAT}; upgrade labels4free."
