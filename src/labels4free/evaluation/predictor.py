"""What made the predicted masks, for those who read the figures later."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from labels4free.errors import CheckpointError
from labels4free.files import unreadable

if TYPE_CHECKING:
    from pathlib import Path

_DIGITS = 12  # of the checksum, where people read it


@dataclass(frozen=True)
class Predictor:
    """A segmenter, and how it was used.

    Attributes:
        name: What it was called by: a file, the folder of a run, or a name such as ``faces``.
        sha256: Checksum of its file, hexadecimal.
        refinement: How borders were refined, such as ``guided``; None: not at all.
        mirrored: Whether each answer is averaged with that for the mirrored image.
    """

    name: str
    sha256: str
    refinement: str | None
    mirrored: bool

    @classmethod
    def of_file(cls, name: str, file: Path, refinement: str | None, *, mirrored: bool) -> Self:
        """Take the checksum of a segmenter's file.

        Raises:
            CheckpointError: If it cannot be read.
        """
        try:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(unreadable(file, error)) from error
        return cls(name, digest, refinement, mirrored)

    def __str__(self) -> str:
        """A sentence."""
        refined = "not refined" if self.refinement is None else f"refined ({self.refinement})"
        mirrored = ", averaged with the mirrored images'" if self.mirrored else ""
        return f"Masks of {self.name} (SHA-256 {self.sha256[:_DIGITS]}), {refined}{mirrored}."
