"""Inception-v3 as FID has it: TensorFlow's network of 2015, whose weights a user brings.

Szegedy et al. 2016, arXiv 1512.00567. State-dict keys, shapes and numbers are those of the PyTorch ports of that very
network (``pytorch-fid``, ``torch-fidelity``), so that their files fit by name. It is not torchvision's Inception-v3:
average pooling leaves the border out of its mean, the last block pools by the maximum, and there are 1,008 classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

FEATURES = 2048
"""Numbers of a feature vector."""
SIDE = 299
"""Side in pixels of the images that it takes."""

_CLASSES, _NORM_EPSILON = 1008, 1e-3


class _Conv(NamedTuple):
    """A convolution of a branch: its name behind the branch's, channels, kernel (height, width), stride."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


Step = _Conv | tuple[_Conv, _Conv]
"""A step of a branch: a convolution, or two side by side."""
Branch = tuple[Step, ...]


def _a(pooled: int) -> tuple[Branch, ...]:
    return (
        (_Conv("branch1x1", 64),),
        (_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, (5, 5))),
        (_Conv("branch3x3dbl_1", 64), _Conv("branch3x3dbl_2", 96, (3, 3)), _Conv("branch3x3dbl_3", 96, (3, 3))),
        (_Conv("branch_pool", pooled),),
    )


_B: tuple[Branch, ...] = (
    (_Conv("branch3x3", 384, (3, 3), 2),),
    (_Conv("branch3x3dbl_1", 64), _Conv("branch3x3dbl_2", 96, (3, 3)), _Conv("branch3x3dbl_3", 96, (3, 3), 2)),
    (),
)


def _c(width: int) -> tuple[Branch, ...]:
    return (
        (_Conv("branch1x1", 192),),
        (_Conv("branch7x7_1", width), _Conv("branch7x7_2", width, (1, 7)), _Conv("branch7x7_3", 192, (7, 1))),
        (
            _Conv("branch7x7dbl_1", width),
            _Conv("branch7x7dbl_2", width, (7, 1)),
            _Conv("branch7x7dbl_3", width, (1, 7)),
            _Conv("branch7x7dbl_4", width, (7, 1)),
            _Conv("branch7x7dbl_5", 192, (1, 7)),
        ),
        (_Conv("branch_pool", 192),),
    )


_D: tuple[Branch, ...] = (
    (_Conv("branch3x3_1", 192), _Conv("branch3x3_2", 320, (3, 3), 2)),
    (
        _Conv("branch7x7x3_1", 192),
        _Conv("branch7x7x3_2", 192, (1, 7)),
        _Conv("branch7x7x3_3", 192, (7, 1)),
        _Conv("branch7x7x3_4", 192, (3, 3), 2),
    ),
    (),
)
_E: tuple[Branch, ...] = (
    (_Conv("branch1x1", 320),),
    (_Conv("branch3x3_1", 384), (_Conv("branch3x3_2a", 384, (1, 3)), _Conv("branch3x3_2b", 384, (3, 1)))),
    (
        _Conv("branch3x3dbl_1", 448),
        _Conv("branch3x3dbl_2", 384, (3, 3)),
        (_Conv("branch3x3dbl_3a", 384, (1, 3)), _Conv("branch3x3dbl_3b", 384, (3, 1))),
    ),
    (_Conv("branch_pool", 192),),
)
_MIXED: dict[str, tuple[tuple[Branch, ...], str]] = {
    "Mixed_5b": (_a(32), "mean"),
    "Mixed_5c": (_a(64), "mean"),
    "Mixed_5d": (_a(64), "mean"),
    "Mixed_6a": (_B, "smaller"),
    "Mixed_6b": (_c(128), "mean"),
    "Mixed_6c": (_c(160), "mean"),
    "Mixed_6d": (_c(160), "mean"),
    "Mixed_6e": (_c(192), "mean"),
    "Mixed_7a": (_D, "smaller"),
    "Mixed_7b": (_E, "mean"),
    "Mixed_7c": (_E, "maximum"),
}
"""Name -> branches, the last of which follows a pooling, and that."""


class InceptionV3(nn.Module):
    """The network of FID: image [N, 3, R, R] in [-1, 1] to features [N, 2048], or logits [N, 1008] without bias.

    Images are resized to 299x299 as TensorFlow 1 did it, bilinear with the corner of the first pixel as origin and
    without averaging, and become ``(x - 128) / 128`` for x from 0 to 255. Figures depend on that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Normed(3, _Conv("", 32, (3, 3), 2), padding=0)
        self.Conv2d_2a_3x3 = _Normed(32, _Conv("", 32, (3, 3)), padding=0)
        self.Conv2d_2b_3x3 = _Normed(32, _Conv("", 64, (3, 3)))
        self.Conv2d_3b_1x1 = _Normed(64, _Conv("", 80))
        self.Conv2d_4a_3x3 = _Normed(80, _Conv("", 192, (3, 3)), padding=0)
        width = 192
        for name, (branches, pooling) in _MIXED.items():
            block = _Mixed(width, branches, pooling)
            self.add_module(name, block)
            width = block.channels
        self.fc = nn.Linear(FEATURES, _CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [N, 1008] without bias, as the inception score is published."""
        return self.classify(self.features(image))

    def classify(self, features: Tensor) -> Tensor:
        """Logits [N, 1008] without bias that belong to feature vectors [N, 2048]."""
        return F.linear(features, self.fc.weight)

    def features(self, image: Tensor) -> Tensor:
        """Feature vectors, [N, 2048], before the classes."""
        x = (resized_like_tensorflow(image * 127.5 + 127.5, SIDE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        for name in _MIXED:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


def resized_like_tensorflow(image: Tensor, side: int) -> Tensor:
    """Resize as TensorFlow 1 did: bilinear, output pixel k at input position ``k * R / side``, without averaging.

    Args:
        image: [N, C, H, W].
        side: Of the result, in pixels.

    Returns:
        [N, C, side, side].
    """
    for axis in (2, 3):
        size = image.shape[axis]
        position = torch.arange(side, device=image.device, dtype=image.dtype) * (size / side)
        below = position.long()
        above = (below + 1).clamp(max=size - 1)
        part = (position - below).reshape(-1, *[1] * (3 - axis))
        image = torch.lerp(image.index_select(axis, below), image.index_select(axis, above), part)
    return image


class _Normed(nn.Module):
    """Convolution, batch normalisation, ReLU; padded to keep the size at stride 1, unless the padding is given."""

    def __init__(self, c_in: int, conv: _Conv, padding: int | None = None) -> None:
        super().__init__()
        high, wide = conv.kernel
        kept = (high // 2, wide // 2) if conv.stride == 1 else (0, 0)
        sides = kept if padding is None else (padding, padding)
        self.conv = nn.Conv2d(c_in, conv.channels, conv.kernel, conv.stride, sides, bias=False)
        self.bn = nn.BatchNorm2d(conv.channels, eps=_NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, H, W] to [N, channels, H', W']."""
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches side by side, the last behind a pooling: of the mean, of the maximum, or (smaller) of stride 2."""

    def __init__(self, c_in: int, branches: tuple[Branch, ...], pooling: str) -> None:
        super().__init__()
        self.branches, self.pooling, self.channels = branches, pooling, 0
        for branch in branches:
            width = c_in
            for step in branch:
                parts = (step,) if isinstance(step, _Conv) else step
                for conv in parts:
                    self.add_module(conv.name, _Normed(width, conv))
                width = sum(conv.channels for conv in parts)
            self.channels += width

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, H, W] to [N, channels, H', W']."""
        found = [self._run(branch, x) for branch in self.branches[:-1]]
        if self.pooling == "mean":
            pooled = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        elif self.pooling == "maximum":
            pooled = F.max_pool2d(x, 3, stride=1, padding=1)
        else:
            pooled = F.max_pool2d(x, 3, stride=2)
        return torch.cat((*found, self._run(self.branches[-1], pooled)), dim=1)

    def _run(self, branch: Branch, x: Tensor) -> Tensor:
        for step in branch:
            parts = (step,) if isinstance(step, _Conv) else step
            x = torch.cat([self.get_submodule(conv.name)(x) for conv in parts], dim=1)
        return x
