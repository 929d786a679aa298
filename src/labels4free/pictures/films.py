"""Films: GIF, animated WebP and APNG by Pillow, MP4 by PyAV, written frame by frame. Leaves PyTorch alone.

Pillow encodes each frame by itself; the containers around them, whose layouts are public, are written here: GIF89a
(W3C), APNG (PNG specification, third edition, W3C), and the WebP container (RFC 9649). Pillow's own writers of films
take lists of frames (APNG, WebP) or keep what they wrote (GIF, which is also 40 times as slow): 400 frames of 256
pixels raise the process to 141 MiB as WebP, where 50 take 51; here both stay at 45.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from PIL import GifImagePlugin, Image, features

from labels4free.errors import ConfigError, DataError
from labels4free.files import opened_atomically, write_failure
from labels4free.pictures.png import SIGNATURE, png_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from numpy.typing import NDArray

_WORKERS = 2  # frames encoded at once, outside the interpreter lock
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


class Film(NamedTuple):
    """A kind of film.

    Attributes:
        encode: Encodes one frame, [H, W, 3]; runs in another thread than the rest.
        write: Writes a whole film to an open file, from its encoded frames as they come.
        max_fps: Frames a second that the format can show.
    """

    encode: Callable[[NDArray[np.uint8]], Any]
    write: Callable[[BinaryIO, FilmLayout, Iterable[Any]], None]
    max_fps: int = 240


def _delays(layout: FilmLayout, unit: int) -> Iterator[int]:
    """How long each frame is shown, in 1/unit seconds: rounded so that the film as a whole keeps time."""
    return (round((k + 1) * unit / layout.fps) - round(k * unit / layout.fps) for k in itertools.count())


def _encode_gif(frame: NDArray[np.uint8]) -> Image.Image:
    """A palette of 256 colours for each frame, and error diffusion."""
    image = Image.fromarray(frame)
    # As exact as median cut with k-means (36 dB on faces of 256 pixels) in a hundredth of the time.
    palette = image.quantize(256, Image.Quantize.FASTOCTREE)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _write_gif(file: BinaryIO, layout: FilmLayout, frames: Iterable[Image.Image]) -> None:
    file.write(b"GIF89a" + struct.pack("<HH3B", *layout.size, 0x70, 0, 0))
    file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")  # repeat for ever
    for frame, delay in zip(frames, _delays(layout, 100), strict=False):
        file.write(b"".join(GifImagePlugin.getdata(frame, duration=10 * delay, include_color_table=True)))
    file.write(b";")


def _encode_apng(frame: NDArray[np.uint8]) -> bytes:
    """The image data of a PNG file: lossless."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG", compress_level=2)
    content, at, data = buffer.getvalue(), 8, b""
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        data += content[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    return data


def _write_apng(file: BinaryIO, layout: FilmLayout, frames: Iterable[bytes]) -> None:
    sequence = itertools.count()
    control = struct.pack(">4I2H2B", *layout.size, 0, 0, 1, layout.fps, 0, 0)
    file.write(SIGNATURE + png_chunk(b"IHDR", struct.pack(">II5B", *layout.size, 8, 2, 0, 0, 0)))  # 8-bit RGB
    file.write(png_chunk(b"acTL", struct.pack(">II", layout.frames, 0)))
    for number, frame in enumerate(frames):
        file.write(png_chunk(b"fcTL", struct.pack(">I", next(sequence)) + control))
        file.write(
            png_chunk(b"fdAT", struct.pack(">I", next(sequence)) + frame) if number else png_chunk(b"IDAT", frame)
        )
    file.write(png_chunk(b"IEND", b""))


def _encode_webp(frame: NDArray[np.uint8]) -> bytes:
    """The one chunk of a WebP file, lossy at a quality where nothing is seen of it."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="WEBP", quality=92, method=4)
    return buffer.getvalue()[12:]  # without the RIFF header


def _write_webp(file: BinaryIO, layout: FilmLayout, frames: Iterable[bytes]) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    extent = b"".join((side - 1).to_bytes(3, "little") for side in layout.size)
    animated, place, blend_not = b"\x02\0\0\0", bytes(6), b"\x02"
    file.write(b"RIFF\0\0\0\0WEBP" + chunk(b"VP8X", animated + extent))
    file.write(chunk(b"ANIM", b"\0\0\0\0" + b"\0\0"))  # no background colour, repeat for ever
    for frame, delay in zip(frames, _delays(layout, 1000), strict=False):
        file.write(chunk(b"ANMF", place + extent + delay.to_bytes(3, "little") + blend_not + frame))
    size = file.tell() - 8
    if size >= 2**32:
        raise DataError("A WebP film can have 4 GiB: make it shorter or smaller, or write an .mp4.")
    file.seek(4)
    file.write(struct.pack("<I", size))


def _encode_mp4(frame: NDArray[np.uint8]) -> Any:
    av: Any = import_module("av")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


def _write_mp4(file: BinaryIO, layout: FilmLayout, frames: Iterable[Any]) -> None:
    """H.264 where PyAV was built with it."""
    av: Any = import_module("av")
    with av.open(file, "w", format="mp4") as container:
        codec = next(name for name in _MP4_CODECS if name in av.codecs_available)
        stream = container.add_stream(codec, rate=Fraction(layout.fps), options=_MP4_CODECS[codec])
        stream.width, stream.height = layout.size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context  # players guess the colours of files that do not say what they are
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # 16 .. 235
        for number, frame in enumerate(frames):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


FILMS: dict[str, Film] = {
    ".gif": Film(
        _encode_gif, _write_gif, max_fps=50
    ),  # browsers take shorter delays for mistakes, and show them slowly
    ".webp": Film(_encode_webp, _write_webp),
    ".apng": Film(_encode_apng, _write_apng),
    ".mp4": Film(_encode_mp4, _write_mp4),
}
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
            "An .mp4 needs PyAV, which is not installed: pip install av, or choose .webp, .apng or "
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
        with opened_atomically(path) as file, closing(_encoded(kind, layout, frames, progress)) as encoded:
            kind.write(file, layout, encoded)
    except OSError as error:  # PyAV's errors are OSErrors as well
        raise DataError(write_failure(path, error)) from error


def _encoded(
    kind: Film,
    layout: FilmLayout,
    frames: Iterable[NDArray[np.uint8]],
    progress: Callable[[int, int], None] | None,
) -> Generator[Any]:
    """Encode frames in threads, in order, never more than a few ahead; as many as the layout says."""
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="film")
    pending: deque[Future[Any]] = deque()
    shape, done = (layout.size[1], layout.size[0], 3), 0
    try:
        for frame in itertools.chain(frames, [None]):
            if frame is not None:
                if frame.dtype != np.uint8 or frame.shape != shape:
                    raise DataError(f"A frame must be uint8 {list(shape)}, got {frame.dtype} {list(frame.shape)}.")
                pending.append(pool.submit(kind.encode, frame))
            while pending and (frame is None or pending[0].done() or len(pending) > 2 * _WORKERS):
                yield pending.popleft().result()
                done += 1
                if progress:
                    progress(done, layout.frames)
        if done != layout.frames:
            raise DataError(f"A film of {layout.frames} frames was begun, got {done}.")
    finally:
        pool.shutdown(cancel_futures=True)
