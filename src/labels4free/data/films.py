"""Films: GIF, animated WebP and APNG by Pillow, MP4 by PyAV, written frame by frame. Leaves PyTorch alone.

Pillow encodes each frame by itself; the containers around them, whose layouts are public, are written here, since
Pillow's own writers keep every frame in memory: GIF89a (W3C), APNG (PNG specification, third edition, W3C), and the
WebP container (RFC 9649).
"""

from __future__ import annotations

import io
import struct
import zlib
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image, features

from labels4free.errors import ConfigError, DataError
from labels4free.files import opened_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from numpy.typing import NDArray

_WORKERS = 2  # frames encoded at once, outside the interpreter lock
_GIF_FPS = 50  # browsers take shorter delays for mistakes, and show such films slowly
_MAX_FPS = 240
_MP4_CODECS = {"libx264": {"crf": "17", "preset": "medium"}, "libopenh264": {"b": "16M"}, "mpeg4": {"q": "2"}}


@dataclass(frozen=True)
class FilmLayout:
    """What a film's container says of its frames.

    Attributes:
        size: Width and height of every frame, in pixels.
        frames: Number of frames.
        fps: Frames a second.
    """

    size: tuple[int, int]
    frames: int
    fps: int


class Film(ABC):
    """A film that is being written to an open file, which the caller closes.

    Attributes:
        max_fps: Frames a second that the format can show.
    """

    max_fps = _MAX_FPS

    def __init__(self, file: BinaryIO, layout: FilmLayout) -> None:
        self._file = file
        self._layout = layout
        self._count = 0

    @staticmethod
    @abstractmethod
    def encode(frame: NDArray[np.uint8]) -> Any:
        """Encode one frame, [H, W, 3]; may run in another thread than the rest."""

    @abstractmethod
    def add(self, encoded: Any) -> None:
        """Append a frame that :meth:`encode` made."""

    @abstractmethod
    def finish(self) -> None:
        """Write what comes after the last frame."""

    def close(self) -> None:  # noqa: B027  most kinds hold nothing
        """Let go of what the film holds, finished or not; the file is still open."""

    def _delay(self, unit: int) -> int:
        """How long the next frame is shown, in 1/unit seconds: rounded so that the film as a whole keeps time."""
        start, end = (round(k * unit / self._layout.fps) for k in (self._count, self._count + 1))
        self._count += 1
        return end - start


class _Gif(Film):
    """A palette of 256 colours for each frame, and error diffusion."""

    max_fps = _GIF_FPS

    def __init__(self, file: BinaryIO, layout: FilmLayout) -> None:
        super().__init__(file, layout)
        file.write(b"GIF89a" + struct.pack("<HH3B", *layout.size, 0x70, 0, 0))
        file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")  # repeat for ever

    @staticmethod
    def encode(frame: NDArray[np.uint8]) -> Image.Image:
        image = Image.fromarray(frame)
        # As exact as median cut with k-means (36 dB on faces of 256 pixels) in a hundredth of the time.
        palette = image.quantize(256, Image.Quantize.FASTOCTREE)
        return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)

    def add(self, encoded: Image.Image) -> None:
        parts = GifImagePlugin.getdata(encoded, duration=10 * self._delay(100), include_color_table=True)
        self._file.write(b"".join(parts))

    def finish(self) -> None:
        self._file.write(b";")


class _Apng(Film):
    """Lossless."""

    def __init__(self, file: BinaryIO, layout: FilmLayout) -> None:
        super().__init__(file, layout)
        self._sequence = 0
        file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">II5B", *layout.size, 8, 2, 0, 0, 0))  # 8-bit RGB
        self._chunk(b"acTL", struct.pack(">II", layout.frames, 0))

    @staticmethod
    def encode(frame: NDArray[np.uint8]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format="PNG", compress_level=2)
        content, at, data = buffer.getvalue(), 8, []
        while at < len(content):
            length, kind = struct.unpack_from(">I4s", content, at)
            data += [content[at + 8 : at + 8 + length]] if kind == b"IDAT" else []
            at += 12 + length
        return b"".join(data)

    def add(self, encoded: bytes) -> None:
        control = struct.pack(">4I2H2B", *self._layout.size, 0, 0, 1, self._layout.fps, 0, 0)
        self._chunk(b"fcTL", self._number() + control)
        if self._sequence == 1:
            self._chunk(b"IDAT", encoded)
        else:
            self._chunk(b"fdAT", self._number() + encoded)

    def finish(self) -> None:
        self._chunk(b"IEND", b"")

    def _number(self) -> bytes:
        self._sequence += 1
        return struct.pack(">I", self._sequence - 1)

    def _chunk(self, kind: bytes, content: bytes) -> None:
        self._file.write(struct.pack(">I", len(content)) + kind + content)
        self._file.write(struct.pack(">I", zlib.crc32(kind + content)))


class _WebP(Film):
    """Lossy, at a quality where nothing is seen of it."""

    def __init__(self, file: BinaryIO, layout: FilmLayout) -> None:
        super().__init__(file, layout)
        self._extent = b"".join((side - 1).to_bytes(3, "little") for side in layout.size)
        animated = 0x02
        file.write(b"RIFF\0\0\0\0WEBP" + self._chunk(b"VP8X", bytes([animated, 0, 0, 0]) + self._extent))
        file.write(self._chunk(b"ANIM", b"\0\0\0\0" + b"\0\0"))  # no background colour, repeat for ever

    @staticmethod
    def encode(frame: NDArray[np.uint8]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format="WEBP", quality=92, method=4)
        return buffer.getvalue()[12:]  # its one chunk, without the RIFF header

    def add(self, encoded: bytes) -> None:
        place, blend_not = bytes(6), 0x02
        head = place + self._extent + self._delay(1000).to_bytes(3, "little") + bytes([blend_not])
        self._file.write(self._chunk(b"ANMF", head + encoded))

    def finish(self) -> None:
        size = self._file.tell() - 8
        if size >= 2**32:
            raise DataError("A WebP film can have 4 GiB: make it shorter or smaller, or write an .mp4.")
        self._file.seek(4)
        self._file.write(struct.pack("<I", size))

    @staticmethod
    def _chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


class _Mp4(Film):
    """H.264 where PyAV was built with it."""

    def __init__(self, file: BinaryIO, layout: FilmLayout) -> None:
        av: Any = import_module("av")
        super().__init__(file, layout)
        self._container = av.open(file, "w", format="mp4")
        codec = next(name for name in _MP4_CODECS if name in av.codecs_available)
        self._stream = self._container.add_stream(codec, rate=Fraction(layout.fps), options=_MP4_CODECS[codec])
        self._stream.width, self._stream.height = layout.size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context  # players guess the colours of files that do not say what they are
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # 16 .. 235

    @staticmethod
    def encode(frame: NDArray[np.uint8]) -> Any:
        av: Any = import_module("av")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        return picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")

    def add(self, encoded: Any) -> None:
        encoded.pts = self._count
        self._count += 1
        self._container.mux(self._stream.encode(encoded))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        self._container.close()


FILMS: dict[str, type[Film]] = {".gif": _Gif, ".webp": _WebP, ".apng": _Apng, ".mp4": _Mp4}
"""Every kind of film by the ending of its file's name."""


def check_film(path: str | Path, layout: FilmLayout) -> None:
    """See whether such a film can be written at all, before any frame is made.

    Raises:
        ConfigError: If the ending is not one of :data:`FILMS`, the format needs something that is not installed, or it
            cannot show so many frames a second or frames of this size; or the path is a folder.
    """
    path = Path(path)
    ending, endings = path.suffix.lower(), ", ".join(FILMS)
    if ending not in FILMS:
        raise ConfigError(f"The name of a film must end in {endings}; got {path.name!r}.")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, a film is one file: give its name, such as {path / 'film.gif'}.")
    if ending == ".mp4" and find_spec("av") is None:
        raise ConfigError(
            "An .mp4 needs PyAV, which is not installed: pip install 'labels4free[video]', or choose .webp, .apng or "
            ".gif, which need nothing."
        )
    if ending == ".webp" and not features.check("webp"):
        raise ConfigError("This Pillow was built without WebP: choose .apng or .gif.")
    fastest = FILMS[ending].max_fps
    if not 1 <= layout.fps <= fastest:
        raise ConfigError(f"fps must lie in [1, {fastest}] for {ending}, got {layout.fps}.")
    if ending == ".mp4" and any(side % 2 for side in layout.size):
        raise ConfigError(f"An .mp4 needs even sides, got {layout.size[0]}x{layout.size[1]}: choose another size.")


def write_film(
    path: str | Path,
    layout: FilmLayout,
    frames: Iterable[NDArray[np.uint8]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a film that appears complete or not at all; it repeats for ever. A few frames are in memory at a time.

    Frames are encoded in threads while the next one is made.

    Args:
        path: The file; its ending chooses the format, see :data:`FILMS`. An older one is replaced.
        layout: Size, number and rate of the frames.
        frames: ``layout.frames`` arrays, uint8 [H, W, 3].
        progress: Called as ``progress(frames written, layout.frames)``.

    Raises:
        ConfigError: As :func:`check_film`.
        DataError: If the frames are others than the layout says, or the file cannot be written.
    """
    path = Path(path)
    check_film(path, layout)
    kind = FILMS[path.suffix.lower()]
    try:
        with opened_atomically(path) as file, closing(kind(file, layout)) as film:
            done = 0
            with closing(_encoded(kind, layout, frames)) as all_encoded:
                for encoded in all_encoded:
                    film.add(encoded)
                    done += 1
                    if progress:
                        progress(done, layout.frames)
            if done != layout.frames:
                raise DataError(f"A film of {layout.frames} frames was begun, got {done}.")
            film.finish()
    except OSError as error:  # PyAV's errors are OSErrors as well
        raise DataError(write_failure(path, error)) from error


def _encoded(kind: type[Film], layout: FilmLayout, frames: Iterable[NDArray[np.uint8]]) -> Generator[Any]:
    """Encode frames in threads, in order, never more than a few ahead."""
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="film")
    pending: deque[Future[Any]] = deque()
    try:
        for frame in frames:
            if frame.dtype != np.uint8 or frame.shape != (layout.size[1], layout.size[0], 3):
                raise DataError(
                    f"A frame must be uint8 [{layout.size[1]}, {layout.size[0]}, 3], got {frame.dtype} "
                    f"{list(frame.shape)}."
                )
            pending.append(pool.submit(kind.encode, frame))
            while pending and (pending[0].done() or len(pending) > 2 * _WORKERS):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
