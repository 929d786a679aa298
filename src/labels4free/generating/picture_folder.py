"""The folder of generated pictures: how a picture becomes a file, and the manifest that says how all were made."""

from __future__ import annotations

import hashlib
import io
import platform
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import PIL
import torch
from PIL import Image, features

from labels4free import __version__
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import ConfigError, DataError, RunError
from labels4free.files import failing_as, remove_leftovers, write_atomically
from labels4free.folders import claim, read_json, write_json
from labels4free.pictures.pixels import write_png
from labels4free.settings_fields import check_types, within

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.generating.rendering import Renderer

MANIFEST = "pictures.json"
KIND = "labels4free_pictures"
"""What the manifest says under "kind"."""

_OF_LATENTS = ("set of latents", "truncation_psi of latents")

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
        check_types(self)
        within(self, "[1, 100]", "quality")
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
            write_png(path, pixels)
            return
        buffer = io.BytesIO()
        options = {"subsampling": 0} if self.name == "jpeg" and self.quality >= 90 else {}
        Image.fromarray(pixels).save(buffer, format=self.name, quality=self.quality, **options)
        with failing_as(DataError, path):
            write_atomically(path, buffer.getbuffer(), sync=False)


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
    if claim(out, MANIFEST, _identity(manifest), "pictures", lambda: _identity(_read_manifest(out)), free=_OF_LATENTS):
        earlier = _read_manifest(out)["settings"]
        for name in ("latents", "latents_psi"):  # a call for seeds alone does not forget them
            if manifest["settings"][name] is None:
                manifest["settings"][name] = earlier.get(name)
    remove_leftovers(out)
    write_json(out / MANIFEST, manifest)


def _identity(manifest: dict[str, Any]) -> dict[str, Any]:
    """What pictures of one folder have in common."""
    settings = dict(manifest["settings"])
    of_latents = (settings.pop("latents", None), settings.pop("latents_psi", None))
    return {
        "generator": manifest["generator"].get("state_hash"),
        **settings,
        **dict(zip(_OF_LATENTS, of_latents, strict=True)),
    }


def _read_manifest(out: Path) -> dict[str, Any]:
    manifest = read_json(out / MANIFEST, "pictures")
    parts = (manifest.get("settings"), manifest.get("generator"))
    if manifest.get("kind") != KIND or not all(isinstance(part, dict) for part in parts):
        raise RunError(f"{out / MANIFEST} is not a manifest of pictures: choose another folder.")
    return manifest


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
            "state_hash": state_hash(generator),
        },
        "seeds": "seed s: generator.draw_ws(s, 0)",
        "versions": {
            "labels4free": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pillow": PIL.__version__,
        },
    }
