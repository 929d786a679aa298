"""A segmented photo and what can be made of it: mask, alpha, cut-out, composite. Leaves PyTorch alone."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
from PIL import Image, ImageColor, ImageFilter, ImageOps

from labels4free.data.decoding import reading_failures, upright_rgb
from labels4free.errors import ConfigError, DataError
from labels4free.files import failing_as, opened_atomically
from labels4free.ops.photo_refine import Layers, fill_layers, foreground_rows, picture_rows
from labels4free.ops.photo_scaling import strips
from labels4free.segmenting.photo import read_photo

if TYPE_CHECKING:
    from typing import BinaryIO

    from numpy.typing import NDArray

    from labels4free.segmenting.photo import Photo

Output = Literal["mask", "alpha", "cutout", "composite"]
"""What can be written of a segmented photo."""

BLUR = "blur"
"""The background that is the photo's own, blurred."""

KEPT = "kept its transparency"
"""The note of a photo with transparency."""

JPEG_SUFFIXES = (".jpg", ".jpeg")
"""Endings of files that are written as JPEG."""

SURE = 0.95
"""Certainty below which a mask should be looked at: of 47 portraits four of the five worst are below it, and three of
the others (docs/segmenting.md)."""

_SMALLEST_FRACTION = 0.001  # of the pixels: less is a speck, no object
_BLUR_PART = 40  # the blur's standard deviation as a part of the longer side
_SHOWN_SIDE = 512  # of the picture that a notebook shows
_JPEG_QUALITY = 95
_COMPRESSION = 2  # of PNG: four times as fast as the default, for 6 % more bytes


@dataclass(frozen=True, eq=False)
class Cutout:
    """A segmented photo, at the photo's size. Bytes, as in files, so that large photos fit into memory.

    Attributes:
        photo: [H, W, 3], uint8 RGB.
        alpha: [H, W], uint8; 255 is foreground.
        notes: What a user should know: how the photo was read, that nothing was found.
        icc_profile: The photo's colour profile, for files of it.
        opacity: [H, W], uint8: the photo's own transparency, which is part of alpha; None where it has none.
    """

    photo: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    icc_profile: bytes | None = None
    opacity: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, photo: Photo, alpha: NDArray[np.uint8]) -> Self:
        """A photo with the alpha of its object, which its own transparency is multiplied into."""
        if photo.opacity is None:
            return cls(photo.pixels, alpha, photo.notes, photo.icc_profile)
        both = np.empty_like(alpha)
        for top, bottom in strips(alpha.shape[1], alpha.shape[0]):
            product = alpha[top:bottom].astype(np.uint32) * photo.opacity[top:bottom]
            both[top:bottom] = (product + 127) // 255
        return cls(photo.pixels, both, (*photo.notes, KEPT), photo.icc_profile, photo.opacity)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the object alone, small."""
        shown = self.rgba()
        shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        buffer = io.BytesIO()
        shown.save(buffer, "PNG")
        return buffer.getvalue()

    @property
    def found(self) -> bool:
        """Whether there is an object at all: alpha is above 0.5 in a thousandth of the pixels or more."""
        return self.foreground_ratio >= _SMALLEST_FRACTION

    @cached_property
    def foreground_ratio(self) -> float:
        """Fraction of the pixels whose alpha is above 0.5, in [0, 1]."""
        return sum(int((self.alpha[a:b] > 127).sum()) for a, b in self._strips()) / self.alpha.size

    @cached_property
    def certainty(self) -> float:
        """How decided alpha is, in [0, 1]: its soft mean IoU with its own mask (``metrics/masks.py:soft_agreement``).

        Low where the segmenter hesitates, which is where masks are bad more often; 0 where nothing was found. A mask
        that is wrong for sure is certain all the same.
        """
        if not self.found:
            return 0.0
        full = 255 * self.alpha.size
        inside = outside = pixels = 0  # alpha of the mask's pixels and of all others, in 255ths; the mask's pixels
        for top, bottom in self._strips():
            rows = self._object[top:bottom]  # what is half transparent in the photo is no doubt
            mask = rows > 127
            inside += int(rows.sum(where=mask, dtype=np.int64))
            outside += int(rows.sum(where=~mask, dtype=np.int64))
            pixels += int(mask.sum())
        foreground = inside / (255 * pixels + outside)
        union = full - inside
        background = (full - 255 * pixels - outside) / union if union else 1.0
        return (foreground + background) / 2

    def mask(self, threshold: float = 0.5) -> NDArray[np.bool_]:
        """Where alpha, in [0, 1], exceeds a threshold: [H, W].

        Raises:
            ConfigError: If the threshold is not from 0 to below 1.
        """
        if not 0 <= threshold < 1:
            raise ConfigError(f"A mask's threshold must be from 0 to below 1, such as 0.5; got {threshold}.")
        return self.alpha > threshold * 255

    def rgba(self) -> Image.Image:
        """The object alone, with alpha as transparency and colours that do not carry the old background."""
        height, width = self.alpha.shape
        pixels = np.empty((height, width, 4), dtype=np.uint8)
        for top, bottom in self._strips():
            pixels[top:bottom, :, :3] = foreground_rows(self.photo, self._object, self._layers, top, bottom)
        pixels[..., 3] = self.alpha
        return Image.frombuffer("RGBA", (width, height), pixels, "raw", "RGBA", 0, 1)

    def over(self, background: Image.Image | str = BLUR) -> Image.Image:
        """The object over another background.

        Args:
            background: A picture, scaled and cropped to cover the photo; a colour by name or as ``#rrggbb``; or
                ``blur``: the photo's own background without the object, blurred.

        Returns:
            8-bit RGB.

        Raises:
            ConfigError: If it is no colour that is known.
            DataError: If the picture is damaged.
        """
        height, width = self.alpha.shape
        small, colour = None, np.zeros(3, dtype=np.float32)
        if isinstance(background, Image.Image):
            with reading_failures("The background"):
                small = _covering(upright_rgb(background.copy()), width, height)
        elif background == BLUR:
            plain = self._layers.background
            small = plain.filter(ImageFilter.GaussianBlur(max(plain.size) / _BLUR_PART))
        else:
            colour = np.array(parse_colour(background), dtype=np.float32)
        result = Image.new("RGB", (width, height))
        for top, bottom in self._strips():
            front = foreground_rows(self.photo, self._object, self._layers, top, bottom)
            back = colour if small is None else picture_rows(small, width, height, top, bottom).astype(np.float32)
            fraction = self.alpha[top:bottom, :, None].astype(np.float32) / 255
            rows = (fraction * front + (1 - fraction) * back + 0.5).astype(np.uint8)
            result.paste(Image.fromarray(rows), (0, top))
        return result

    def picture(self, what: Output = "cutout", background: Image.Image | str = BLUR) -> Image.Image:
        """The picture to write.

        Args:
            what: ``mask`` (black and white), ``alpha`` (grey), ``cutout`` (:meth:`rgba`) or ``composite``
                (:meth:`over`).
            background: For a composite.

        Raises:
            ConfigError: If there is no such thing, or no such colour.
        """
        if what not in get_args(Output):
            raise ConfigError(f"Of a photo can be made {', '.join(get_args(Output))}; got {what!r}.")
        if what == "cutout":
            return self.rgba()
        if what == "composite":
            return self.over(background)
        grey = self.alpha if what == "alpha" else np.where(self.alpha > 127, np.uint8(255), np.uint8(0))
        return Image.frombuffer("L", grey.shape[::-1], np.ascontiguousarray(grey), "raw", "L", 0, 1)

    def save(self, path: Path, what: Output = "cutout", background: Image.Image | str = BLUR) -> None:
        """Write a PNG or JPEG that appears complete or not at all; missing folders are made.

        Args:
            path: The file; an older one is replaced. One whose name ends in .jpg or .jpeg is a JPEG, all others PNG.
            what: As for :meth:`picture`.
            background: As for :meth:`picture`.

        Raises:
            ConfigError: As :meth:`picture`; for a JPEG of a cut-out.
            DataError: If it cannot be written.
        """
        jpeg = path.suffix.lower() in JPEG_SUFFIXES
        if jpeg and what == "cutout":
            raise ConfigError(
                f"{path} would be a JPEG, which has no transparency: name a .png, or choose a background or a mask."
            )
        picture = self.picture(what, background)
        with failing_as(DataError, path), opened_atomically(path, sync=False) as file:
            self.write(picture, what, file, jpeg=jpeg)

    def write(self, picture: Image.Image, what: Output, file: BinaryIO, *, jpeg: bool = False) -> None:
        """Write what :meth:`picture` made into an open file, with the photo's colour profile where it shows colours."""
        profile = self.icc_profile if what in ("cutout", "composite") else None
        if jpeg:
            picture.save(file, format="JPEG", quality=_JPEG_QUALITY, subsampling=0, icc_profile=profile)
        else:
            picture.save(file, format="PNG", compress_level=_COMPRESSION, icc_profile=profile)

    @cached_property
    def _layers(self) -> Layers:
        return fill_layers(self.photo, self._object)

    @cached_property
    def _object(self) -> NDArray[np.uint8]:
        """Alpha without the photo's own transparency: how much of the colours is the object's, [H, W]."""
        if self.opacity is None:
            return self.alpha
        whole = np.empty_like(self.alpha)
        for top, bottom in self._strips():
            share = np.maximum(self.opacity[top:bottom], 1).astype(np.uint32)
            whole[top:bottom] = np.minimum((self.alpha[top:bottom] * np.uint32(255) + share // 2) // share, 255)
        return whole

    def _strips(self) -> list[tuple[int, int]]:
        return list(strips(self.alpha.shape[1], self.alpha.shape[0]))


def read_background(text: str | None) -> Image.Image | str:
    """What a word means as the background of :meth:`Cutout.over`: the picture in a file, a colour, or ``blur``.

    Args:
        text: A file's name if there is such a file, else a colour or ``blur``; None is ``blur``.

    Raises:
        ConfigError: If it is none of these.
        DataError: If the file cannot be read as a picture.
    """
    if text is None or text == BLUR:
        return BLUR
    if Path(text).is_file():
        return Image.fromarray(read_photo(Path(text)).on_white())
    parse_colour(text)
    return text


def parse_colour(text: str) -> tuple[int, int, int]:
    """A colour by name or as ``#rrggbb``, as red, green and blue from 0 to 255.

    Raises:
        ConfigError: If there is no such colour.
    """
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no background: give an image file, a colour such as white or #00b140, or {BLUR}."
        ) from error
    return red, green, blue


def _covering(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of a picture, of the photo's aspect, at the photo's size or, if the picture is smaller, its own."""
    scale = min(picture.width / width, picture.height / height)
    if scale >= 1:
        return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return ImageOps.fit(picture, (max(1, round(width * scale)), max(1, round(height * scale))))
