"""The folder of generated pictures: how a picture becomes a file, and the manifest that says how all were made."""

from __future__ import annotations

import hashlib
import io
import json
import platform
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import PIL
import torch
from PIL import Image, features

from labels4free import __version__
from labels4free.checkpoints.loading import generator_fingerprint
from labels4free.errors import ConfigError, DataError, RunError
from labels4free.files import TEMPORARY_SUFFIX, remove_leftovers, write_atomically, write_failure
from labels4free.pictures.pixels import write_png

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.sampling.rendering import Renderer

MANIFEST = "pictures.json"
KIND = "labels4free_pictures"
"""What the manifest says under "kind"."""

PictureFormat = Literal["png", "jpeg", "webp"]
_ENDINGS: dict[PictureFormat, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True)
class FileFormat:
    """How a picture becomes a file.

    Attributes:
        name: png, jpeg or webp.
        quality: Of JPEG and WebP, 1 to 100.

    Raises:
        ConfigError: If a value is not allowed, or this Pillow cannot write the format.
    """

    name: PictureFormat = "png"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.name not in get_args(PictureFormat):
            raise ConfigError(f"format must be one of {', '.join(get_args(PictureFormat))}; got {self.name!r}.")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must be from 1 to 100, got {self.quality}.")
        if self.name == "webp" and not features.check("webp"):
            raise ConfigError("This Pillow was built without WebP: choose png or jpeg.")

    @property
    def ending(self) -> str:
        """Ending of the files' names, with its dot."""
        return _ENDINGS[self.name]

    def write(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        """Write [H, W, 3], uint8, complete or not at all.

        Raises:
            DataError: If the file cannot be written.
        """
        if self.name == "png":
            return write_png(path, pixels)
        buffer = io.BytesIO()
        options = {"subsampling": 0} if self.name == "jpeg" and self.quality >= 90 else {}
        Image.fromarray(pixels).save(buffer, format=self.name, quality=self.quality, **options)
        try:
            write_atomically(path, buffer.getbuffer(), sync=False)
        except OSError as error:
            raise DataError(write_failure(path, error)) from error


def open_folder(
    out: Path, renderer: Renderer, latents: Tensor | None, file_format: FileFormat, generator_name: str | None
) -> None:
    """Make the folder, or accept it as one with pictures of the same kind; then write the manifest.

    Args:
        out: The folder.
        renderer: Generator and settings.
        latents: [N, num_ws, w_dim] from files, which must be those of an earlier call, if that had any.
        file_format: Of the pictures.
        generator_name: Name of the generator for the manifest.

    Raises:
        RunError: If the folder holds something else, or cannot be written.
    """
    manifest = _describe(renderer, latents, file_format, generator_name)
    path = out / MANIFEST
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file, a folder was expected: choose another output folder.")
    if path.exists():
        earlier = _read_settings(path, manifest["generator"]["fingerprint"])
        settings: dict[str, Any] = manifest["settings"]
        for name in ("latents", "latents_psi"):
            settings[name] = earlier.get(name) if settings[name] is None else settings[name]
        for name in earlier | settings:
            was, asked = earlier.get(name), settings.get(name)
            if was != asked and not (name in ("latents", "latents_psi") and was is None):
                raise RunError(f"{out} holds pictures made with {_difference(name, was, asked)}")
    elif out.exists() and any(other.suffix != TEMPORARY_SUFFIX for other in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no earlier pictures: choose a new or empty output folder.")
    remove_leftovers(out)
    try:
        write_atomically(path, (json.dumps(manifest, indent=1) + "\n").encode())
    except OSError as error:
        raise RunError(write_failure(path, error)) from error


def _read_settings(path: Path, fingerprint: str) -> dict[str, Any]:
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        known = earlier["kind"] == KIND and isinstance(earlier["settings"], dict)
        other_generator = earlier["generator"]["fingerprint"] != fingerprint
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        known = other_generator = False
    if not known:
        raise RunError(f"{path} is not a manifest of pictures: choose another output folder.")
    if other_generator:
        raise RunError(f"{path.parent} holds pictures of another generator: choose another output folder.")
    settings: dict[str, Any] = earlier["settings"]
    return settings


def _difference(name: str, was: object, value: object) -> str:
    if name == "latents":
        return "other latents: choose another output folder."
    name = "truncation_psi of latents" if name == "latents_psi" else name
    return f"{name} {_word(was)}, asked for was {_word(value)}: choose another output folder."


def _word(value: object) -> str:
    return "by default" if value is None else str(value)


def _describe(
    renderer: Renderer, latents: Tensor | None, file_format: FileFormat, generator_name: str | None
) -> dict[str, Any]:
    generator = renderer.generator
    settings = asdict(renderer.config) | {"size": renderer.size, "background": renderer.background}
    del settings["batch_size"]  # does not change the pictures
    settings |= {"truncation_psi": renderer.psi, "latents": None, "latents_psi": None, "format": file_format.name}
    if file_format.name != "png":
        settings["quality"] = file_format.quality
    if latents is not None and len(latents):
        data = latents.to("cpu", torch.float32).contiguous().numpy().tobytes()
        settings["latents"] = hashlib.sha256(data).hexdigest()
        settings["latents_psi"] = 1.0 if renderer.config.truncation_psi is None else renderer.config.truncation_psi
    return {
        "format": 1,
        "kind": KIND,
        "settings": settings,
        "generator": {
            "name": generator_name,
            "family": generator.family,
            "resolution": generator.resolution,
            "fingerprint": generator_fingerprint(generator),
        },
        "seeds": "seed s: generator.draw_ws(s, 0)",
        "versions": {
            "labels4free": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pillow": PIL.__version__,
        },
    }
