"""The segmenter of photos: any size, any format, edges refined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np

from labels4free.errors import ConfigError
from labels4free.ops.photo_refine import refine_guided
from labels4free.ops.photo_scaling import alpha_from_logits, decided, to_bytes, working_copy
from labels4free.segmenting.cutout import Cutout
from labels4free.segmenting.photo import read_photo
from labels4free.segmenting.runtimes import ONNX_SUFFIX, OnnxRuntime, TorchRuntime

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from labels4free.segmenting.runtimes import Runtime

Refinement = Literal["guided", "closed-form"]
"""The ways of refining alpha at the border."""

LARGEST_CLOSED_FORM = 2**22
"""Pixels of the largest photo whose alpha closed-form matting refines; it takes some 2 kB a pixel."""

NOTHING_FOUND = "found nothing to cut out: the mask is empty"
"""The note of a photo without an object."""


class Segmenter:
    """Cuts the object, such as a person's head and shoulders, out of photos.

        cutout = Segmenter.load().segment("photo.jpg")
        cutout.rgba().save("cut-out.png")

    Args:
        runtime: What computes the logits; :meth:`load` makes one.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    @classmethod
    def load(cls, source: str | Path = "faces", device: str = "cpu") -> Self:
        """Load a segmenter.

        Args:
            source: ``faces``, which ships with this package; a native file or the folder of a run that made one; or an
                ONNX file that ``labels4free export`` wrote, which onnxruntime runs without PyTorch.
            device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; for ONNX files cpu or cuda.

        Raises:
            CheckpointError: If the source is no segmenter, or is damaged.
            ConfigError: If the device or the library that the file needs is not there.
        """
        onnx = Path(source).suffix.lower() == ONNX_SUFFIX
        return cls(OnnxRuntime(source, device) if onnx else TorchRuntime(source, device))

    def segment(
        self,
        image: str | Path | bytes | Image.Image | NDArray[np.uint8],
        *,
        refine: Refinement | None = "guided",
        mirrored: bool = False,
        name: str | None = None,
    ) -> Cutout:
        """Segment a photo of any size and aspect.

        It is scaled so that its longer side is the network's working size, segmented, and the answer scaled back. An
        alpha above 0.5 in less than a thousandth of the pixels counts as nothing: alpha is then 0, and a note says so.
        What the photo has of transparency the network sees laid on white, and alpha is multiplied by it.

        Args:
            image: A file, its content, a picture, or pixels [H, W, 3], uint8 RGB. ``segmenting/photo.py`` says how
                files are read.
            refine: Decide where alpha is grey over an area, and let it follow the photo's edges: ``guided``, by the
                guided filter; ``closed-form``, by matting, which takes seconds and the extra "matting". None leaves
                alpha as smooth as the network made it.
            mirrored: Average with the mirrored photo: twice the time.
            name: What the photo is called in messages.

        Raises:
            DataError: If the photo cannot be read.
            ConfigError: If the refinement is unknown, its library is not there, or the photo too large for it.
        """
        if refine is not None and refine not in get_args(Refinement):
            raise ConfigError(f"Alpha can be refined by {', '.join(get_args(Refinement))}; got {refine!r}.")
        photo = read_photo(image, name)
        seen = photo.on_white()
        logits = self._logits(seen, mirrored)
        height, width = seen.shape[:2]
        alpha = alpha_from_logits(logits if refine is None else decided(logits), width, height)
        if refine is not None:
            alpha = refine_guided(seen, alpha) if refine == "guided" else _closed_form(seen, alpha)
        cutout = Cutout.of(photo, alpha)
        if cutout.found:
            return cutout
        return replace(cutout, alpha=np.zeros_like(alpha), notes=(*cutout.notes, NOTHING_FOUND))

    def _logits(self, photo: NDArray[np.uint8], mirrored: bool) -> NDArray[np.float32]:
        """[H, W, 3] to [h, w] at the network's working size."""
        x, (w, h) = working_copy(photo, self.runtime.working_size, self.runtime.multiple)
        logits = self.runtime.logits(x)[0, 0, :h, :w]
        if mirrored:  # without the padding, which then lies at the right again
            turned = np.pad(x[..., w - 1 :: -1], ((0, 0), (0, 0), (0, 0), (0, x.shape[-1] - w)), mode="edge")
            other = self.runtime.logits(np.ascontiguousarray(turned))[0, 0, :h, w - 1 :: -1]
            logits = np.float32(0.5) * (logits + other)
        return logits


def _closed_form(photo: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Alpha refined by matting, [H, W]."""
    if alpha.size > LARGEST_CLOSED_FORM:
        raise ConfigError(
            f"Closed-form matting takes photos of up to {LARGEST_CLOSED_FORM / 1e6:.1f} million pixels, this one has "
            f"{alpha.size / 1e6:.1f}; make it smaller, or refine by guided."
        )
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            "Closed-form matting needs PyTorch, which cannot be imported here; refine by guided."
        ) from error
    from labels4free.ops.refine import refine_alpha

    image = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 127.5 - 1
    refined = refine_alpha(image, torch.from_numpy(alpha)[None, None].float() / 255, "closed-form")
    return to_bytes(refined[0, 0].numpy())
