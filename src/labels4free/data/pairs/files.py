"""The files of a pair: pictures and latents to bytes and back. Pure functions that any thread may call.

The same pixels give the same bytes with the same builds of Pillow and zlib. PNG files take zlib's run-length strategy
at level 1: behind PNG's filters that is both faster and smaller than a search for repeats. Those with colours are
written by ``pictures/png.py``, which is faster still. Means of four generated faces at 1024 x 1024, one core of an AMD
EPYC, Pillow 13.0:

- image by Pillow: 93 ms, 1,362 kB (level 1 otherwise: 100 ms, 1,541 kB; level 6, its default: 416 ms, 1,428 kB)
- alpha of 8 bits: 8 ms, 22 kB (level 6: 8 ms, 23 kB); of 16 bits: 15 ms, 79 kB (level 6: 19 ms, 80 kB)
- mask: 4 ms, 5 kB (level 6: 5 ms, 6 kB)
- image as JPEG of quality 95: 6 ms, 342 kB; as lossless WebP: 43 ms, 1,173 kB
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from labels4free.data.decoding import (
    LARGEST_FILE,
    decode_image,
    deep_grey,
    opened_image,
    read_bytes,
    upright,
    upright_layers,
)
from labels4free.data.mask_files import read_mask
from labels4free.data.names import COLOUR_PARTS
from labels4free.errors import DataError
from labels4free.pictures.png import encode_colour_png

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.data.mask_files import Foreground
    from labels4free.data.pairs.record import Pair, PairLayout

LATENTS = "latents"
"""The part that is no picture: a NumPy archive of float32 arrays."""

_SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
_ONE = (np.float32(1) / np.float32(255), np.float32(1) / np.float32(65535))  # alpha of the value 1, of 8 and 16 bits
_LOSSLESS = 100  # the WebP quality that loses nothing


def suffix_of(part: str, layout: PairLayout) -> str:
    """The ending of a part's files, with its dot."""
    if part == LATENTS:
        return ".npz"
    if part in COLOUR_PARTS or (part == "cutout" and layout.image_format == "webp"):
        return _SUFFIXES[layout.image_format]
    return ".png"


def encode_part(part: str, pair: Pair, layout: PairLayout) -> bytes:
    """One part of a pair as a file.

    Colour pictures take the layout's format: JPEG without chroma subsampling, so that colours end where masks do; WebP
    of quality 100 loses nothing. Cut-outs are PNG, or lossless WebP where images are WebP; both keep the colour of
    transparent pixels. Masks have 8 bits: those who read 1-bit files into arrays get 0 and 1, not 0 and 255.
    """
    buffer = io.BytesIO()
    if part == LATENTS:
        np.savez(buffer, allow_pickle=False, **{name: pair.latents[name] for name in sorted(pair.latents)})
        return buffer.getvalue()
    suffix = suffix_of(part, layout)
    if suffix == ".png" and pair.pictures[part].ndim == 3:
        return encode_colour_png(pair.pictures[part])
    image = Image.fromarray(np.ascontiguousarray(pair.pictures[part]))
    if suffix == ".jpg":
        image.save(buffer, format="JPEG", quality=layout.quality, subsampling="4:4:4")
    elif suffix == ".webp" and (part == "cutout" or layout.quality == _LOSSLESS):
        image.save(buffer, format="WEBP", lossless=True, quality=0, method=0, exact=True)
    elif suffix == ".webp":
        image.save(buffer, format="WEBP", quality=layout.quality, method=0)
    else:
        image.save(buffer, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def decode_part(part: str, source: Path | bytes, name: str, foreground: Foreground | None = None) -> NDArray[Any]:
    """A picture from its file, whichever format that has; undoes :func:`encode_part` but for what JPEG and WebP lose.

    Args:
        part: A part of a pair, but latents.
        source: The file, or its content.
        name: What it is called in messages.
        foreground: Labels that are the object, in masks that are maps of labels.

    Returns:
        As :class:`labels4free.data.pairs.record.Pair` has it. A mask is read by the rule of ``data/mask_files.py`` and
        cut at a half; one of the values 0 and 1 alone is a map of labels, in which 1 is the object.

    Raises:
        DataError: If it is missing or damaged.
    """
    if part in COLOUR_PARTS:
        return np.array(decode_image(source, name=name))
    if part == "mask":
        mask = read_mask(source, name, foreground, only_labels=True)
        found = mask.alpha > (0 if mask.alpha.max(initial=0) in _ONE else 0.5)
        return np.where(found, np.uint8(255), np.uint8(0))
    with opened_image(source, name) as image:
        if part == "cutout":
            colours, opacity = upright_layers(image)
            colours.putalpha(255 if opacity is None else opacity)
            return np.array(colours)
        image = upright(image)
        if (grey := deep_grey(image)) is not None:
            return np.rint(grey * 65535).astype(np.uint16)
        return np.array(image.convert("L"))


def decode_latents(source: Path | bytes, name: str) -> dict[str, NDArray[np.float32]]:
    """Latents from their file.

    Raises:
        DataError: If it is missing, damaged, or holds anything but float32 arrays.
    """
    data = source if isinstance(source, bytes) else read_bytes(source)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:  # a small file may claim to hold more than memory does
            if sum(member.file_size for member in archive.infolist()) > LARGEST_FILE:
                raise ValueError("it would unpack to more than 1 GiB")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            latents = {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{name} cannot be read as latents ({error}).") from error
    if strange := [key for key, value in latents.items() if value.dtype != np.float32]:
        raise DataError(f"{name} holds {strange[0]} as {latents[strange[0]].dtype}, expected was float32.")
    return latents
