"""The contract of a pretrained, frozen generator. Everything that trains or samples knows only this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import nn

from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from labels4free.types import FeatureSpec, GeneratorOutput

Noise = Literal["fixed", "random", "none"]
"""Per-layer noise: the maps that ship with the weights, fresh normal draws of the same strength, or none."""


class Generator(nn.Module, ABC):
    """A generator whose weights never change: ``z -> map -> ws -> synthesize -> image + features``.

    Every tensor is a buffer, so that no optimiser and no gradient can reach the weights; gradients do flow through to
    ``ws``. Subclasses set the attributes below and implement :meth:`_map` and :meth:`synthesize`.

    Attributes:
        family: Name of the family in ``generators.FAMILIES``.
        z_dim: Length of z.
        w_dim: Length of one row of ws.
        num_ws: Rows of ws, one for each separately styled layer.
        resolution: Side of the image, in pixels.
        feature_specs: Every tapped map, coarse to fine.
        background_modes: Ways of rendering the image without its object: name -> what is removed.
        default_background: The mode that serves best for this family.
        w_avg: [w_dim], the mean of mapped latents; truncation pulls towards it.
    """

    family: str
    z_dim: int
    w_dim: int
    num_ws: int
    resolution: int
    feature_specs: tuple[FeatureSpec, ...]
    background_modes: Mapping[str, str]
    default_background: str
    w_avg: Tensor

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the generator, weights uninitialised, from what :meth:`config` returned."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything but the weights that :meth:`from_config` needs, as JSON values."""

    @abstractmethod
    def _map(self, z: Tensor) -> Tensor:
        """Map z [N, z_dim] to w [N, w_dim], without truncation."""

    @abstractmethod
    def synthesize(
        self, ws: Tensor, *, noise: Noise = "fixed", background: str | None = None, rng: torch.Generator | None = None
    ) -> GeneratorOutput:
        """Render an image and its features.

        Args:
            ws: [N, num_ws, w_dim].
            noise: Per-layer noise, see :data:`Noise`.
            background: None for the whole image, or one of ``background_modes`` for the image without its object.
            rng: Source of the random noise; None means PyTorch's global one. Only ``noise="random"`` draws from it.

        Returns:
            The image [N, 3, resolution, resolution] and one feature map per entry of ``feature_specs``. Shapes are the
            same for every background mode.

        Raises:
            ConfigError: If ws has another shape, or the noise or background mode is not one of the named ones.
        """

    def map(self, z: Tensor, truncation_psi: float = 1.0) -> Tensor:
        """Map latents to styles: ``w_avg + truncation_psi * (w - w_avg)`` in every row.

        Args:
            z: [N, z_dim], standard normal.
            truncation_psi: 1 for the generator's full variety, towards 0 for its average image.

        Returns:
            ws, [N, num_ws, w_dim].

        Raises:
            ConfigError: If z has another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ConfigError(f"z must have shape [N, {self.z_dim}], got {list(z.shape)}.")
        w = self._map(z)
        if truncation_psi != 1.0:
            w = torch.lerp(self.w_avg, w, truncation_psi)
        return w.unsqueeze(1).expand(-1, self.num_ws, -1)

    def check_synthesize_arguments(self, ws: Tensor, noise: str, background: str | None) -> None:
        """Raise :class:`ConfigError` where the arguments of :meth:`synthesize` do not fit this generator."""
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ConfigError(f"ws must have shape [N, {self.num_ws}, {self.w_dim}], got {list(ws.shape)}.")
        if noise not in ("fixed", "random", "none"):
            raise ConfigError(f"noise must be fixed, random or none, got {noise!r}.")
        if background is not None and background not in self.background_modes:
            raise ConfigError(
                f"Unknown background mode {background!r}; {self.family} has {', '.join(self.background_modes)}."
            )


def sample_z(z_dim: int, seed: int, index: int) -> Tensor:
    """Draw the latent of one sample, which depends on (seed, index) alone, whatever the batch or device.

    Returns:
        [z_dim], standard normal, float32, on the CPU.
    """
    rng = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03) % (1 << 63))
    return torch.randn(z_dim, generator=rng)
