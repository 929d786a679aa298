"""Errors that a user can act on. The command line prints their one sentence and exits with code 2."""

from __future__ import annotations

from typing import ClassVar


class Labels4FreeError(ValueError):
    """Base of every error raised on purpose: the message says what was got, what was expected, what to do.

    Attributes:
        said: Whether another process of the run prints it.
    """

    said: ClassVar[bool] = False


class CheckpointError(Labels4FreeError):
    """A file is not the checkpoint that was asked for, or is damaged."""


class ModelZooError(Labels4FreeError):
    """A model is unknown, could not be downloaded, or did not have the pinned checksum."""


class DataError(Labels4FreeError):
    """A folder or file of images cannot serve."""


class ConfigError(Labels4FreeError):
    """A setting has an unknown name, a wrong type or a value out of range."""


class RunError(Labels4FreeError):
    """A run or output folder cannot be used as asked, or a training run was lost."""
