"""Prepare images for training: square versions of every image of a store, written into another, in many processes.

The result depends on the source and the settings alone: not on the number of processes, nor on when one was killed.
A journal beside the data says how many images are safe; a later call begins behind them.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from PIL import Image

from labels4free.data.decoding import central_square, opened_image, upright_rgb
from labels4free.data.images.base import JOURNAL, KIND, MANIFEST, StoreLayout, folder_manifest
from labels4free.data.images.dataset import IMAGE_WRITERS, open_source
from labels4free.data.images.journal import Journal, Progress
from labels4free.data.parallel import available_cores, ordered_map
from labels4free.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from labels4free.data.images.base import ImageSource

_logger = logging.getLogger(__name__)

FormatName = Literal["lmdb", "webdataset", "folder"]
Resample = Literal["lanczos", "box", "bicubic", "bilinear"]
Encoding = Literal["jpeg", "png", "webp"]

_SUFFIX = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
_LARGEST_SIZE = 16384  # WebP ends there, and nobody trains beyond
_COMMIT_IMAGES = 32  # a kill loses the work on so many
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class PrepareConfig:
    """How images are prepared; the defaults are those of rosinality's prepare_data.py.

    Attributes:
        sizes: Sides of each image's versions, in pixels.
        format: What to write: lmdb, webdataset (tar shards) or folder.
        resample: Filter that resizes: lanczos, box, bicubic or bilinear.
        encoding: jpeg, png or webp.
        quality: Of JPEG and WebP, 1 to 100.
        shard_images: Images a shard, for webdataset.
        workers: Processes that decode, resize and encode, each on one core; None: one for each core. Changes nothing
            but the time it takes.

    Raises:
        ConfigError: If a value is not allowed.
    """

    sizes: tuple[int, ...] = (128, 256, 512, 1024)
    format: FormatName = "lmdb"
    resample: Resample = "lanczos"
    encoding: Encoding = "jpeg"
    quality: int = 100
    shard_images: int = 1000
    workers: int | None = None

    def __post_init__(self) -> None:
        sizes = tuple(sorted(self.sizes))
        if not sizes or len(set(sizes)) < len(sizes) or not all(1 <= size <= _LARGEST_SIZE for size in sizes):
            raise ConfigError(
                f"sizes must be different numbers of pixels from 1 to {_LARGEST_SIZE}, such as 128,256; "
                f"got {','.join(map(str, self.sizes)) or 'none'}."
            )
        object.__setattr__(self, "sizes", sizes)
        for name, choices in (("format", FormatName), ("resample", Resample), ("encoding", Encoding)):
            if getattr(self, name) not in get_args(choices):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(choices))}; got {getattr(self, name)!r}.")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must be from 1 to 100, got {self.quality}.")
        for name in ("shard_images", "workers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")


@dataclass(frozen=True)
class PrepareSummary:
    """What became of the images.

    Attributes:
        out: The store.
        images: Number of images in it.
        skipped: Name in the source -> why it could not be read; also of what looks like an image and is not read.
        enlarged: Images whose shorter side is below the largest size.
        new: Whether this call did anything: the store may have been complete.
    """

    out: Path
    images: int
    skipped: dict[str, str]
    enlarged: int
    new: bool


@dataclass(frozen=True)
class _Prepared:
    """One image's encoded versions, or why there are none."""

    encoded: tuple[bytes, ...] = ()
    reason: str | None = None
    enlarged: bool = False


def prepare_images(
    source: str | Path,
    out: str | Path,
    config: PrepareConfig | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> PrepareSummary:
    """Crop every image to its central square, resize and encode it, and write all into a new store.

    Images that cannot be read are skipped and listed in the store's manifest. A call that was killed, interrupted or
    ran out of space is continued by the same call; one that finished is not repeated.

    Args:
        source: A store of images in any format that ``open_images`` reads; an LMDB gives its largest size.
        out: The new store, a folder.
        config: How; None for the defaults.
        progress: Called with the number of images done and their total.

    Raises:
        DataError: If the source cannot be read, ``out`` holds something else, or it cannot be written.
    """
    out, config = Path(out), config or PrepareConfig()
    images = open_source(source)
    if images.path.is_dir() and out.resolve().is_relative_to(images.path.resolve()):
        raise DataError(f"{out} lies inside the source {images.path}: choose a place outside of it.")
    settings = _settings(images, config)
    journal_at = out / JOURNAL
    if (manifest := folder_manifest(out)) is not None:
        _check_same(out, manifest["settings"], settings)
        journal_at.unlink(missing_ok=True)  # killed between the last two steps
        return _summary(out, manifest)
    if not journal_at.exists() and (out.is_file() or (out.exists() and any(out.iterdir()))):
        raise DataError(f"{out} exists and was not begun by this command: choose another place, or remove it.")
    state = Progress()
    try:
        with closing(Journal(journal_at, settings)) as journal:
            _check_same(out, journal.settings, settings)
            state = journal.progress
            _write_all(images, out, config, journal, progress)
    except OSError as error:
        raise DataError(_write_error(out, error, state.done, len(images))) from error
    journal_at.unlink()
    return PrepareSummary(out, state.written, images.skipped | state.skipped, state.enlarged, new=True)


def _summary(out: Path, manifest: dict[str, Any]) -> PrepareSummary:
    """Of a store that was complete before."""
    try:
        return PrepareSummary(out, manifest["images"], dict(manifest["skipped"]), manifest["enlarged"], new=False)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"The manifest {MANIFEST} of {out} is damaged: remove {out}, and prepare it again.") from error


def _write_all(
    images: ImageSource,
    out: Path,
    config: PrepareConfig,
    journal: Journal,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Everything from the journal's position to the manifest."""
    state = journal.progress
    layout = StoreLayout(config.sizes, _SUFFIX[config.encoding], config.shard_images)
    with closing(IMAGE_WRITERS[config.format](out, layout, state.written, state.offset)) as writer:
        if progress is not None:
            progress(state.done, len(images))
        work = ordered_map(
            _Preparer(images, config), range(state.done, len(images)), config.workers or available_cores()
        )
        new: dict[str, str] = {}
        enlarged = 0
        with closing(work):
            for done, result in enumerate(work, start=state.done + 1):
                if result.reason is None:
                    writer.add(result.encoded)
                    enlarged += result.enlarged
                else:
                    new[images.names[done - 1]] = result.reason
                if done % _COMMIT_IMAGES == 0 or done == len(images):
                    offset = writer.commit()
                    journal.append(Progress(done, writer.written, offset, new, enlarged))
                    new, enlarged = {}, 0
                if progress is not None:
                    progress(done, len(images))
        if state.written == 0:
            first = "".join(list(state.skipped.values())[:1])
            raise DataError(f"None of the {len(images)} images in {images.path} can be read; the first: {first}")
        result_of = {"images": state.written, "enlarged": state.enlarged, "skipped": images.skipped | state.skipped}
        manifest = {"kind": KIND, "settings": journal.settings, **result_of}
        writer.finish((json.dumps(manifest, indent=1) + "\n").encode())


class _Preparer:
    """Index -> encoded versions of that image; goes to the worker processes."""

    def __init__(self, images: ImageSource, config: PrepareConfig) -> None:
        self._images, self._config = images, config

    def __call__(self, index: int) -> _Prepared:
        config, name = self._config, self._images.names[index]
        resample = Image.Resampling[config.resample.upper()]
        try:
            with opened_image(self._images.read(index), name) as image:
                rgb = upright_rgb(image)
                squares = [central_square(rgb, size, resample) for size in config.sizes]
        except DataError as error:
            return _Prepared(reason=str(error))
        encoded = tuple(_encode(square, config.encoding, config.quality) for square in squares)
        return _Prepared(encoded, enlarged=min(rgb.size) < config.sizes[-1])


def _encode(image: Image.Image, encoding: Encoding, quality: int) -> bytes:
    image = image.copy()
    image.info = {}  # no colour profile, comment or place of the photograph comes along
    options: dict[str, Any] = {"compress_level": 2} if encoding == "png" else {"quality": quality}
    buffer = io.BytesIO()
    image.save(buffer, format=encoding, **options)
    return buffer.getvalue()


def _settings(images: ImageSource, config: PrepareConfig) -> dict[str, Any]:
    """What decides about the result, as JSON values."""
    settings = dataclasses.asdict(config) | {"sizes": list(config.sizes)}
    del settings["workers"]
    if config.format != "webdataset":
        del settings["shard_images"]
    if config.encoding == "png":
        del settings["quality"]
    try:
        return settings | {"source_images": len(images), "source_hash": images.content_hash()}
    except OSError as error:
        raise DataError(f"{images.path} changes while it is read ({error}): prepare it once it is at rest.") from error


def _check_same(out: Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    for name in earlier | settings:
        if (was := earlier.get(name)) != (asked := settings.get(name)):
            if name.startswith("source"):
                raise DataError(
                    f"{out} was begun from other images, or those have changed: choose another place, or remove it."
                )
            raise DataError(
                f"{out} was begun with {name} {_shown(was)}, asked for was {_shown(asked)}: "
                f"choose another place, or remove it."
            )


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _write_error(out: Path, error: OSError, done: int, total: int) -> str:
    again = f"run the same command again, which goes on behind the {done} of {total} images that are done"
    if error.errno in _NO_SPACE:
        return f"There is no space left for {out}: free some and {again}."
    return f"{error.filename or out} cannot be written ({error.strerror or error}): mend that and {again}."
