"""The heart of the method: latents in, image taken apart into foreground, background and alpha out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from labels4free.types import LayeredImage

if TYPE_CHECKING:
    import torch

    from labels4free.generators.base import Generator, Noise
    from labels4free.networks.alpha_network import AlphaNetwork


def composite(foreground: Tensor, background: Tensor, alpha: Tensor) -> Tensor:
    """Put the layers together: ``alpha * foreground + (1 - alpha) * background`` (Labels4Free, equation 1).

    Args:
        foreground: [N, 3, H, W].
        background: [N, 3, H, W].
        alpha: [N, 1, H, W], in [0, 1].

    Returns:
        [N, 3, H, W]; exactly the foreground where alpha is 1 and exactly the background where it is 0.
    """
    return alpha * foreground + (1 - alpha) * background


class Foreground(NamedTuple):
    """A generator's image with the alpha of its object.

    Attributes:
        image: [N, 3, R, R], about [-1, 1].
        alpha: [N, 1, R, R], in [0, 1]; 1 is foreground.
        features: The generator's maps, coarse to fine, that alpha was read from.
    """

    image: Tensor
    alpha: Tensor
    features: tuple[Tensor, ...]


class LayeredGenerator(nn.Module):
    """A frozen generator and the alpha network that reads its features."""

    def __init__(self, generator: Generator, alpha_network: AlphaNetwork) -> None:
        """Join the two.

        Raises:
            ConfigError: If the alpha network was built for other feature maps than the generator's.
        """
        super().__init__()
        alpha_network.check_fits(generator.feature_specs)
        self.generator = generator
        self.alpha_network = alpha_network

    def forward(
        self,
        ws: Tensor,
        background_ws: Tensor | None = None,
        *,
        noise: Noise = "fixed",
        background: str | None = None,
        rng: torch.Generator | None = None,
    ) -> LayeredImage:
        """Render the three layers of each sample.

        Args:
            ws: [N, num_ws, w_dim], styles of the foreground.
            background_ws: Styles of the background, same shape; None means ``ws``.
            noise: Per-layer noise of both renderings.
            background: Background mode of the generator; None means its default.
            rng: Source of random noise.

        Returns:
            Foreground and background [N, 3, R, R] and alpha [N, 1, R, R], with R the generator's resolution.
        """
        image, features = self.generator.synthesize(ws, noise=noise, rng=rng)
        behind = self.background(ws if background_ws is None else background_ws, background, noise=noise, rng=rng)
        return LayeredImage(image, behind, self.alpha_network(features))

    def foreground(self, ws: Tensor, *, noise: Noise = "fixed", rng: torch.Generator | None = None) -> Foreground:
        """Render the image and its alpha alone, at half the cost of all three layers. Arguments as for the call."""
        image, features = self.generator.synthesize(ws, noise=noise, rng=rng)
        return Foreground(image, self.alpha_network(features), features)

    def background(
        self,
        ws: Tensor,
        mode: str | None = None,
        *,
        noise: Noise = "fixed",
        rng: torch.Generator | None = None,
    ) -> Tensor:
        """Render the image without its object, [N, 3, R, R], in one of the generator's modes; None is its default."""
        mode = mode or self.generator.default_background
        return self.generator.synthesize(ws, noise=noise, background=mode, rng=rng).image
