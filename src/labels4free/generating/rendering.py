"""From a seed or given latents to a finished picture, and the settings of all that is made so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.generators.base import NoiseMode, check_rendering
from labels4free.generators.views import noise_maps
from labels4free.pictures.pixels import to_uint8
from labels4free.seeds import noise_seed
from labels4free.settings_fields import check_types, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.generators.base import Generator, Noise

USUAL_PSI = 0.7
"""Truncation of seeds where nothing else is asked for."""

_GRID_PIXELS = 64_000_000  # below Pillow's limit for opening it again


@dataclass(frozen=True)
class PictureConfig:
    """How pictures are rendered from seeds and latents.

    Attributes:
        truncation_psi: In [-2, 2]; None means 0.7 for seeds, and none at all for given latents.
        truncation_cutoff: Rows of ws that are truncated, counted from the coarsest; None means all.
        noise: fixed: the maps that ship with the weights. random: others for each picture, drawn from its seed (or from
            the position of given latents); one draw for a whole film. none.
        label: Class of every seed, for class-conditional generators; None draws one from each seed.
        size: Side in pixels, a divisor of the generator's resolution (box filter); None for that resolution.
        background: Background mode of the generator that is rendered instead of the whole image, or "default".
        batch_size: Pictures rendered at once on an accelerator; a CPU renders one at a time, which is faster there.

    Raises:
        ConfigError: If a value is out of range.
    """

    truncation_psi: float | None = None
    truncation_cutoff: int | None = None
    noise: NoiseMode = "fixed"
    label: int | None = None
    size: int | None = None
    background: str | None = None
    batch_size: int = 4

    def __post_init__(self) -> None:
        check_types(self)
        within(self, "[-2, 2]", "truncation_psi", hint="0.7 is usual")
        within(self, "[0, inf)", "truncation_cutoff", "label")
        within(self, "[1, inf)", "size", "batch_size")


class Renderer:
    """A generator with settings that fit it.

    Args:
        generator: The generator.
        config: See :class:`PictureConfig`.

    Attributes:
        generator: As given.
        config: As given.
        size: Side of the pictures, in pixels.
        background: The background mode that is rendered; None for the whole image.
        psi: Truncation of seeds.

    Raises:
        ConfigError: If the settings do not fit the generator.
    """

    def __init__(self, generator: Generator, config: PictureConfig) -> None:
        self.generator, self.config = generator, config
        self.size = config.size or generator.resolution
        self.psi = USUAL_PSI if config.truncation_psi is None else config.truncation_psi
        self.background = generator.default_background if config.background == "default" else config.background
        check_rendering(generator, size=self.size, background=self.background, label=config.label, also=["default"])
        if config.truncation_cutoff is not None and config.truncation_cutoff > generator.num_ws:
            raise ConfigError(
                f"truncation_cutoff must lie in [0, {generator.num_ws}], the rows of this generator's ws; "
                f"got {config.truncation_cutoff}."
            )

    @property
    def batch_size(self) -> int:
        """Pictures to render at once: on a CPU one, so that they are the same to the byte whatever the batch."""
        return 1 if self.generator.w_avg.device.type == "cpu" else self.config.batch_size

    def ws_of_seed(self, seed: int) -> Tensor:
        """The styles of a seed: sample 0 of the series ``seed`` (:meth:`Generator.draw_ws`), truncated.

        Returns:
            [1, num_ws, w_dim].
        """
        config = self.config
        return self.generator.draw_ws(seed, 0, self.psi, truncation_cutoff=config.truncation_cutoff, label=config.label)

    def truncate(self, ws: Tensor) -> Tensor:
        """Truncate given latents [N, num_ws, w_dim] as the settings say: without a truncation_psi not at all."""
        psi, cutoff = self.config.truncation_psi, self.config.truncation_cutoff
        ws = ws.to(self.generator.w_avg)
        if psi is None or psi == 1.0:
            return ws
        truncated = torch.lerp(self.generator.w_avg.expand_as(ws), ws, psi)
        return truncated if cutoff is None else torch.cat((truncated[:, :cutoff], ws[:, cutoff:]), dim=1)

    def noise_of(self, numbers: Sequence[int]) -> Noise:
        """The noise of the pictures with these numbers, which with random noise depends on each number alone."""
        if self.config.noise != "random":
            return self.config.noise
        device = self.generator.w_avg.device
        draws = [noise_maps(self.generator, noise_seed(number)) for number in numbers]
        return [torch.cat(maps).to(device) for maps in zip(*draws, strict=True)]

    def pictures(self, ws: Tensor, noise: Noise) -> NDArray[np.uint8]:
        """Render pictures.

        Args:
            ws: [N, num_ws, w_dim].
            noise: What :meth:`noise_of` gave, for one or for N numbers.

        Returns:
            [N, size, size, 3], uint8 RGB.
        """
        with torch.inference_mode():
            image = self.generator.synthesize(ws, noise=noise, background=self.background).image
            factor = image.shape[-1] // self.size
            return to_uint8(F.avg_pool2d(image, factor) if factor > 1 else image)


def grid_cell(size: int, pictures: int) -> int:
    """Side in pixels of each of so many pictures of that size in a grid: smaller where it grew too large to open."""
    return min(size, int((_GRID_PIXELS / pictures) ** 0.5))


def shrunk(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Shrink a square picture [H, H, 3] to a side in pixels by area averaging, if it is larger."""
    if len(picture) <= side:
        return picture
    return np.array(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))
