"""TensorBoard and Weights & Biases, for :class:`labels4free.training.log_follower.LogFollower` to tell.

Each attempt (and each member, where a run has several) is a run of its own for the tracker, with the iteration of the
attempt as its step axis. Log entries have no time: a tracker's clock shows when it was told.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from PIL import Image

from labels4free.errors import ConfigError
from labels4free.files import write_atomically
from labels4free.training.judging import CHECK
from labels4free.training.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


_SUFFIX = ".labels4free"  # of the event files that are ours to make anew
_PROJECT = "labels4free"


class Position(NamedTuple):
    """Where in a run something belongs; later positions compare greater.

    Attributes:
        member: Which of several networks that are trained one after the other.
        attempt: 0 at first; each automatic restart adds 1.
        iteration: Steps done in the attempt.
    """

    member: int
    attempt: int
    iteration: int


class Tracker(Protocol):
    """Something that shows numbers and pictures of runs."""

    def begin(self) -> None:
        """Prepare for a log from its first entry: called before that, and again where the log was cut back."""

    def log(self, at: Position, numbers: Mapping[str, float], words: Mapping[str, str]) -> None:
        """Take an entry of the log.

        Args:
            at: Rises from call to call.
            numbers: By their names in the log; NaN where they are not finite.
            words: What was found wrong (``problem``) and why the attempt ended (``lost``), if it is so.
        """

    def picture(self, at: Position, path: Path) -> None:
        """Take a picture, after the entry that it belongs to."""

    def flush(self) -> None:
        """Let others see what was taken."""

    def close(self) -> None:
        """End."""


class TensorBoardTracker(Tracker):
    """Event files below ``INTO/tensorboard``, one folder an attempt; read by ``tensorboard --logdir``.

    Args:
        into: Folder.
        run: The run's folder.

    Raises:
        ConfigError: If TensorBoard is not installed.
    """

    def __init__(self, into: Path, run: Path) -> None:  # noqa: ARG002  as the others
        self._files = _imported("tensorboard.summary.writer.event_file_writer", "tensorboard")
        self._events = import_module("tensorboard.compat.proto.event_pb2")
        self._summaries = import_module("tensorboard.compat.proto.summary_pb2")
        self._tensors = import_module("tensorboard.compat.proto.tensor_pb2")
        self._shapes = import_module("tensorboard.compat.proto.tensor_shape_pb2")
        self.folder = into / "tensorboard"
        self._writer: Any = None
        self._of: tuple[int, int] | None = None

    def begin(self) -> None:
        """Empty what an earlier call wrote: the same comes again."""
        self.close()
        for path in self.folder.rglob(f"events.out.tfevents.*{_SUFFIX}"):
            os.truncate(path, 0)  # a TensorBoard that is open waits for ever for more of a file that is gone

    def log(self, at: Position, numbers: Mapping[str, float], words: Mapping[str, str]) -> None:
        value = self._summaries.Summary.Value
        values = [value(tag=_tag(name), simple_value=number) for name, number in numbers.items()]
        self._add(at, values + [self._text(name, text) for name, text in words.items()])

    def picture(self, at: Position, path: Path) -> None:
        with Image.open(path) as image:
            width, height = image.size
        png = self._summaries.Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes()
        )
        self._add(at, [self._summaries.Summary.Value(tag="masks", image=png)])

    def flush(self) -> None:
        if self._writer:
            self._writer.flush()

    def close(self) -> None:
        if self._writer:
            self._writer.close()
        self._writer = self._of = None

    def _add(self, at: Position, values: list[Any]) -> None:
        event = self._events.Event
        if self._of != (at.member, at.attempt):
            self.close()
            self._of = (at.member, at.attempt)
            self._writer = self._files.EventFileWriter(str(self.folder / _name(at)), filename_suffix=_SUFFIX)
            # Tells a TensorBoard that has been open since before a resumption to forget what it has read.
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            self._writer.add_event(event(step=0, wall_time=time.time(), session_log=start))
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(event(step=at.iteration, wall_time=time.time(), summary=summary))

    def _text(self, name: str, text: str) -> Any:
        plugin = self._summaries.SummaryMetadata.PluginData(plugin_name="text")
        shape = self._shapes.TensorShapeProto(dim=[self._shapes.TensorShapeProto.Dim(size=1)])
        tensor = self._tensors.TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
        metadata = self._summaries.SummaryMetadata(plugin_data=plugin)
        return self._summaries.Summary.Value(tag=f"{name}/text_summary", metadata=metadata, tensor=tensor)


class WandbTracker(Tracker):
    """Runs of Weights & Biases, one an attempt, in a group named as the run; its files lie in ``INTO/wandb``.

    Its own environment variables count (``WANDB_MODE=offline``, ``WANDB_ENTITY``, ``WANDB_PROJECT``: labels4free if it
    is not set). What it has been shown is noted in ``INTO/wandb/labels4free.json``, so that another process goes on
    from there; one that is killed may show the last second again.

    Args:
        into: Folder.
        run: The run's folder.

    Raises:
        ConfigError: If W&B is not installed.
    """

    def __init__(self, into: Path, run: Path) -> None:
        self._wandb = _imported("wandb", "wandb")
        self.run, self.into = run, into
        self._note = into / "wandb" / "labels4free.json"
        self._session: Any = None
        self._of: tuple[int, int] | None = None
        self._seen, self._id = Position(0, 0, -1), ""

    def begin(self) -> None:
        """Find out what has been shown already."""
        if not self._id:
            note = json.loads(self._note.read_text(encoding="utf-8")) if self._note.exists() else {}
            self._id = str(note.get("id") or secrets.token_hex(4))
            self._seen = Position(*note.get("seen", self._seen))

    def log(self, at: Position, numbers: Mapping[str, float], words: Mapping[str, str]) -> None:
        if at > self._seen or (at == self._seen and "lost" in words and self._session):  # the same step once more
            session = self._session_of(at)
            if at.iteration >= session.starting_step:  # of a resumed one: what the server has
                session.log({_tag(name): number for name, number in numbers.items()}, step=at.iteration)
            session.summary.update(dict(words))
            self._seen = at

    def picture(self, at: Position, path: Path) -> None:
        if self._of == (at.member, at.attempt):
            masks = self._wandb.Image(str(path), caption=path.stem)
            self._session.log({"masks": masks}, step=self._seen.iteration)  # it takes no earlier step than the last

    def flush(self) -> None:
        note = json.dumps({"id": self._id, "seen": self._seen}) + "\n"
        write_atomically(self._note, note.encode(), sync=False)

    def close(self) -> None:
        if self._session:
            self._session.finish()
        self._session = self._of = None

    def _session_of(self, at: Position) -> Any:
        if self._of != (at.member, at.attempt):
            self.close()
            self._note.parent.mkdir(parents=True, exist_ok=True)
            name = self.run.resolve().name
            self._session = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                id=f"{self._id}-{_name(at).replace('/', '-')}",
                name=name if (at.member, at.attempt) == (0, 0) else f"{name} {_name(at)}",
                group=name,
                dir=str(self.into),
                config=RunDir(self.run).config(),
                resume="allow" if os.environ.get("WANDB_MODE") != "offline" else None,
                settings=self._wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
            )
            self._of = (at.member, at.attempt)
        return self._session


TRACKERS: dict[str, Callable[[Path, Path], Tracker]] = {"tensorboard": TensorBoardTracker, "wandb": WandbTracker}
"""Every tracker by the name that ``--track`` takes: called with (folder for its files, the run's folder)."""


def _imported(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"--track {extra} needs a package that is missing ({error}): pip install 'labels4free[{extra}]'."
        ) from error


def _name(at: Position) -> str:
    attempt = f"attempt_{at.attempt}"
    return f"member_{at.member}/{attempt}" if at.member else attempt


def _tag(name: str) -> str:
    """The name with its group in front, as both trackers sort their charts."""
    for group, prefix in (("check", CHECK), ("loss", "loss_")):
        if name.startswith(prefix):
            return f"{group}/{name.removeprefix(prefix)}"
    return f"train/{name}"
