"""The segmenter: a small encoder-decoder that finds in a photo what a generator's alpha network found in its maps.

It knows neither generator nor latent: it is trained on images that a generator made and on the alpha that went with
them, and then sees pixels alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.ops.photo_scaling import working_copy, working_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image
    from torch import Tensor

_CHANNELS_AT_MOST = 4096


class SegmenterNetwork(nn.Module):
    """A residual encoder to a 32nd of the image, a light decoder, and a branch at full resolution for the border.

    With E_l the encoder's maps at half the image's size (l = 0), a quarter, ...; 1x1 convolutions L, P; U bilinear
    up-sampling to the next finer map's size; R a 3x3 convolution with batch normalisations and ReLUs around it::

        d_L = 2 sigmoid(C mean(E_L)) E_L                      channels weighed by what the image as a whole shows
        d_l = R_l(U P_l d_{l+1} + L_l E_l)                    l = L-1 .. 0
        logits = H [U d_0 ; relu(D image)]                    D, H: 3x3 convolutions at the image's size

    Fully convolutional but for the mean: any size works whose sides are multiples of :attr:`multiple`, best those near
    the size that it was trained at. :meth:`segment` takes any size.

    Args:
        widths: Channels of the encoder's maps, fine to coarse, each at half the size of the one before.
        decoder_widths: Channels of the decoder at the same sizes, but for the coarsest.
        detail_width: Channels of the branch at full resolution.
        head_width: Channels before the last convolution.
        working_size: Longer side in pixels that photos are scaled to; a multiple of :attr:`multiple`.

    Attributes:
        multiple: Sides of what :meth:`forward` takes are multiples of this: 32 for the default widths.

    Raises:
        ConfigError: If a number is out of range, or the two lists do not go together.
    """

    family = "compact"

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 128, 160),
        decoder_widths: Sequence[int] = (16, 24, 48, 96),
        *,
        detail_width: int = 12,
        head_width: int = 16,
        working_size: int = 288,
    ) -> None:
        super().__init__()
        self.widths, self.decoder_widths = tuple(widths), tuple(decoder_widths)
        self.detail_width, self.head_width, self.working_size = detail_width, head_width, working_size
        self.multiple = 2 ** len(self.widths)
        self._check()
        self.stem = nn.Sequential(_conv(3, widths[0], 3, stride=2), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.stages = nn.ModuleList(nn.Sequential(_Block(i, o, stride=2), _Block(o, o)) for i, o in pairwise(widths))
        self.context = nn.Conv2d(widths[-1], widths[-1], 1)
        decoder = (*decoder_widths, widths[-1])
        self.lateral = nn.ModuleList(_conv(i, o, 1) for i, o in zip(widths, decoder_widths, strict=False))
        self.project = nn.ModuleList(_conv(i, o, 1) for o, i in pairwise(decoder))
        self.fuse = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(o), nn.ReLU(), _conv(o, o, 3), nn.BatchNorm2d(o), nn.ReLU())
            for o in decoder_widths
        )
        self.detail = nn.Conv2d(3, detail_width, 3, padding=1)
        self.head = nn.Sequential(
            nn.Conv2d(decoder_widths[0] + detail_width, head_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(head_width, 1, 3, padding=1),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the network, weights untrained, from what :meth:`config` returned."""
        sizes = {key: int(config[key]) for key in ("detail_width", "head_width", "working_size")}
        return cls([int(w) for w in config["widths"]], [int(w) for w in config["decoder_widths"]], **sizes)

    def config(self) -> dict[str, Any]:
        """Everything but the weights, as JSON values."""
        return {
            "widths": list(self.widths),
            "decoder_widths": list(self.decoder_widths),
            "detail_width": self.detail_width,
            "head_width": self.head_width,
            "working_size": self.working_size,
        }

    def forward(self, image: Tensor) -> Tensor:
        """Alpha before the sigmoid.

        Args:
            image: [N, 3, H, W], about [-1, 1]; H and W are multiples of :attr:`multiple`.

        Returns:
            [N, 1, H, W], logits: above 0 is foreground.

        Raises:
            ConfigError: If the image has another shape.
        """
        if not torch.compiler.is_compiling():  # sizes are symbols there
            self._check_image(image)
        maps = [self.stem(image)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        d = maps[-1] * self.context(maps[-1].mean(dim=(2, 3), keepdim=True)).sigmoid() * 2
        for level in reversed(range(len(self.stages))):
            up = _enlarged(self.project[level](d), maps[level])
            d = self.fuse[level](up + self.lateral[level](maps[level]))
        logits: Tensor = self.head(torch.cat((_enlarged(d, image), F.relu(self.detail(image))), dim=1))
        return logits

    def segment(self, image: Image.Image | Tensor, *, mirrored: bool = False) -> Tensor:
        """Alpha of images of any size and aspect: scaled to :attr:`working_size`, segmented, scaled back.

        Args:
            image: [N, 3, H, W] in about [-1, 1], on the network's device; or a picture of 8-bit RGB.
            mirrored: Average the logits with those of the mirrored image: twice the work.

        Returns:
            [N, 1, H, W] in [0, 1], 1 is foreground, on the image's device (of a picture: on the network's, N = 1).

        Raises:
            ConfigError: If it is no such image.
        """
        if isinstance(image, torch.Tensor):
            if image.ndim != 4 or image.shape[1] != 3 or image.numel() == 0:
                raise ConfigError(f"A segmenter takes images [N, 3, H, W], got {list(image.shape)}.")
            height, width = image.shape[2:]
            size = working_shape(width, height, self.working_size)
            x = image
            if (width, height) != size:
                x = F.interpolate(image, size=size[::-1], mode="bilinear", antialias=True, align_corners=False)
            x = F.pad(x, (0, -size[0] % self.multiple, 0, -size[1] % self.multiple), mode="replicate")
        else:
            width, height = image.size
            values, size = working_copy(np.asarray(image), self.working_size, self.multiple)
            x = torch.from_numpy(values).to(self.detail.weight.device)
        logits = self.photo_logits(x, size, mirrored=mirrored)
        if (width, height) != size:
            logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
        return logits.sigmoid()

    def photo_logits(self, x: Tensor, size: tuple[int, int], *, mirrored: bool = False) -> Tensor:
        """Logits of padded images without the padding, in at least 32 bits.

        Args:
            x: [N, 3, H, W], padded at the right and the bottom.
            size: (width, height) of the images in it.
            mirrored: Average the logits with those of the mirrored images.

        Returns:
            [N, 1, height, width].
        """
        width, height = size
        logits = self(x)[..., :height, :width]
        if mirrored:
            # Mirrored without the padding, which then lies at the right again.
            turned = F.pad(x[..., :width].flip(-1), (0, x.shape[-1] - width, 0, 0), mode="replicate")
            logits = (logits + self(turned)[..., :height, :width].flip(-1)) / 2
        result: Tensor = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return result

    def _check(self) -> None:
        numbers = (*self.widths, *self.decoder_widths, self.detail_width, self.head_width)
        if not all(1 <= n <= _CHANNELS_AT_MOST for n in numbers):
            raise ConfigError(f"A segmenter's widths must be from 1 to {_CHANNELS_AT_MOST} channels, got {numbers}.")
        if not 2 <= len(self.widths) <= 7 or len(self.decoder_widths) != len(self.widths) - 1:
            raise ConfigError(
                f"A segmenter needs 2 to 7 widths and one decoder width fewer, got {len(self.widths)} and "
                f"{len(self.decoder_widths)}."
            )
        if self.working_size < 1 or self.working_size % self.multiple:
            raise ConfigError(f"working_size must be a multiple of {self.multiple} pixels, got {self.working_size}.")

    def _check_image(self, image: Tensor) -> None:
        if image.ndim != 4 or image.shape[1] != 3 or any(s < 1 or s % self.multiple for s in image.shape[2:]):
            raise ConfigError(
                f"A segmenter's network takes images [N, 3, H, W] whose sides are multiples of {self.multiple}, got "
                f"{list(image.shape)}; segment() takes any size."
            )


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; at stride 2 the shortcut averages."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.conv1, self.norm1 = _conv(c_in, c_out, 3, stride=stride), nn.BatchNorm2d(c_out)
        self.conv2, self.norm2 = _conv(c_out, c_out, 3), nn.BatchNorm2d(c_out)
        self.skip = _conv(c_in, c_out, 1) if c_in != c_out or stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, H, W] to [N, c_out, H / stride, W / stride]."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = F.avg_pool2d(x, self.stride) if self.stride > 1 else x
        return F.relu(y + self.skip(shortcut))


def _conv(c_in: int, c_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=False)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
