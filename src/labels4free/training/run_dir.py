"""The folder of a training run: configuration, log, pictures, checkpoints. It survives being killed at any moment.

::

    RUN/config.json                     how the run was started; written once
    RUN/log.jsonl                       one JSON object a line
    RUN/pictures/
    RUN/checkpoints/step_000123.pt      after 123 steps; torch.load(weights_only=True) reads it

A checkpoint is a dict ``{"format": 1, "step", "log_bytes", "sha256", "state"}``. The SHA-256 is that of the
content (:func:`state_digest`), since PyTorch does not notice flipped bits; ``log_bytes`` is how much log there was, so
that a resumed run continues the log of an uninterrupted one. Hence: log a step before saving its checkpoint.
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
from labels4free.files import TEMPORARY_SUFFIX, write_atomically, write_failure
from labels4free.training.log_tail import read_log

FORMAT = 1
"""Version of the checkpoints that this package writes."""

_CONFIG = "config.json"
_LOG = "log.jsonl"
_PICTURES = "pictures"
_CHECKPOINTS = "checkpoints"
_CHECKPOINT_NAME = re.compile(r"step_(\d{6,})\.pt")

_logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """A checkpoint that was read and verified.

    Attributes:
        step: Steps done when it was written.
        path: Its file.
        log_bytes: Length of the log at that time.
        state: What the trainer saved, tensors on the CPU.
    """

    step: int
    path: Path
    log_bytes: int
    state: dict[str, Any]


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
        text = json.dumps(dict(config), indent=2, allow_nan=False) + "\n"
        run = cls(Path(path), keep)
        _check_unused(run.path)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            run._remove_leftovers()
            for folder in (run.pictures, run.checkpoints):
                folder.mkdir(exist_ok=True)
            write_atomically(run.path / _CONFIG, text.encode())  # last: its presence says that the folder is a run
        except OSError as error:
            raise RunError(write_failure(run.path, error)) from error
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
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path} is damaged ({error}); restore it, or start a new run in another folder.") from error
        if not isinstance(config, dict):
            raise RunError(
                f"{path} is damaged: it holds no JSON object; restore it, or start a new run in another folder."
            )
        return config

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

    def save_checkpoint(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, complete or not at all, then delete the oldest beyond :attr:`keep`.

        Args:
            step: Steps done.
            state: Nested dicts, lists and tuples of tensors, strings, numbers, booleans and None.

        Returns:
            The file.

        Raises:
            RunError: If it cannot be written; the older checkpoints are then untouched.
            TypeError: If the state holds anything else.
        """
        path = self.checkpoints / f"step_{step:06d}.pt"
        log_bytes = self.log_path.stat().st_size if self.log_path.exists() else 0
        content = {
            "format": FORMAT,
            "step": step,
            "log_bytes": log_bytes,
            "sha256": state_digest([step, log_bytes, state]),
            "state": dict(state),
        }
        # In memory first: on a full disk torch.save itself raises an error without a reason.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            write_atomically(path, buffer.getbuffer())
        except OSError as error:
            raise RunError(
                f"{write_failure(path, error)} The older checkpoints are intact; go on with --resume."
            ) from error
        older = [other for other in self._checkpoint_files() if _step_of(other) <= step]
        for other in older[: -max(1, self.keep)]:
            other.unlink(missing_ok=True)
        return path

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that is undamaged, or None; damaged ones are passed over with a logged warning.

        Raises:
            RunError: If a checkpoint was written by a later version of this package.
        """
        for path in reversed(self._checkpoint_files()):
            checkpoint = _read_checkpoint(path)
            if checkpoint is not None:
                return checkpoint
        return None

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
            try:
                with self.log_path.open("r+b") as file:
                    file.truncate(min(size, length))
            except OSError as error:
                raise RunError(write_failure(self.log_path, error)) from error
        return checkpoint

    def _checkpoint_files(self) -> list[Path]:
        files = [path for path in self.checkpoints.iterdir() if _CHECKPOINT_NAME.fullmatch(path.name)]
        return sorted(files, key=_step_of)

    def _remove_leftovers(self) -> None:
        for folder in (self.path, self.checkpoints, self.pictures):
            for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
                path.unlink(missing_ok=True)


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


def _step_of(path: Path) -> int:
    match = _CHECKPOINT_NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


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
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] <= FORMAT:
            if state_digest([content["step"], content["log_bytes"], content["state"]]) != content["sha256"]:
                raise ValueError("its content does not have the checksum that was stored with it")
            return Checkpoint(content["step"], path, content["log_bytes"], content["state"])
        version = content["format"]
    except Exception as error:  # noqa: BLE001  a damaged file can raise anything in the unpickler
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        _logger.warning("Checkpoint %s is damaged and was passed over: %s", path, reason)
        return None
    raise RunError(
        f"{path} is in format {version} of a later labels4free, this one reads {FORMAT}; upgrade labels4free."
    )
