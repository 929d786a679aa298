"""The layers of StyleGAN2, frozen or trainable: styled convolutions, to-RGB layers, fully connected layers.

Weights are kept as checkpoints have them and scaled when used (equalised learning rate, arXiv 1710.10196, section 4.1),
so that an optimiser moves all of them at the speed that StyleGAN2 is trained with. A layer names its ``learned``
tensors: they are buffers where the generator is frozen, parameters of the same names where it is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from labels4free.ops.bias_act import GAIN, LEAKY_SLOPE, bias_act
from labels4free.ops.modulated_conv2d import modulated_conv2d
from labels4free.ops.upfirdn2d import upsample2d

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.generators.base import NoiseMode


def set_trainable(network: nn.Module, trainable: bool) -> None:
    """Make the ``learned`` tensors of all layers parameters, or buffers again; names, values and memory stay."""
    for layer in network.modules():
        for name in getattr(layer, "learned", ()):
            value = getattr(layer, name)
            if isinstance(value, nn.Parameter) == trainable:
                continue
            delattr(layer, name)
            if trainable:
                layer.register_parameter(name, nn.Parameter(value))
            else:
                layer.register_buffer(name, value.detach())


def fill_normal(tensor: Tensor, rng: torch.Generator) -> Tensor:
    """Fill with standard normal numbers that are drawn on the CPU, so that every device gets the same."""
    return tensor.copy_(torch.randn(tensor.shape, generator=rng))


class EqualLinear(nn.Module):
    """An affine map with equalised learning rate: weight [out, in] and bias [out].

    Args:
        in_features: Numbers in.
        out_features: Numbers out.
        lr_multiplier: Factor on weight and bias when used, which are stored divided by it: steps become smaller.
        first_bias: What every bias is before training.
    """

    learned: ClassVar[tuple[str, ...]] = ("weight", "bias")
    weight: Tensor
    bias: Tensor

    def __init__(
        self, in_features: int, out_features: int, lr_multiplier: float = 1.0, first_bias: float = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(out_features, in_features))
        self.register_buffer("bias", torch.zeros(out_features))
        self.lr_multiplier, self.first_bias = lr_multiplier, first_bias
        self.scale = lr_multiplier * in_features**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """Turn x [N, in] into [N, out]."""
        return F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)

    def exact(self, x: Tensor) -> Tensor:
        """The same in the weights' own precision, also under autocast: styles are few, and each acts on a whole map."""
        with torch.autocast(x.device.type, enabled=False):
            return self.forward(x.to(self.weight.dtype))

    def reset_parameters(self, rng: torch.Generator) -> None:
        """Draw first weights, see :meth:`StyleGAN2.reset_parameters`."""
        fill_normal(self.weight, rng).div_(self.lr_multiplier)
        self.bias.fill_(self.first_bias / self.lr_multiplier)


class MappingLayer(EqualLinear):
    """An affine map and its activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn x [N, in] into [N, out]."""
        return bias_act(F.linear(x, self.weight * self.scale), self.bias * self.lr_multiplier)


class StyledConv(nn.Module):
    """Modulated and demodulated 3x3 convolution, noise, bias, leaky ReLU times sqrt(2), clamp."""

    learned: ClassVar[tuple[str, ...]] = ("weight", "bias", "noise_strength")
    weight: Tensor
    bias: Tensor
    noise: Tensor
    noise_strength: Tensor

    def __init__(
        self, c_in: int, c_out: int, resolution: int, w_dim: int, *, up: bool, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, c_in, first_bias=1.0)
        self.register_buffer("weight", torch.zeros(c_out, c_in, 3, 3))
        self.register_buffer("bias", torch.zeros(c_out))
        self.register_buffer("noise", torch.zeros(1, 1, resolution, resolution))
        self.register_buffer("noise_strength", torch.zeros(()))
        self.up, self.clamp = up, clamp

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode | Tensor, rng: torch.Generator | None) -> Tensor:
        """Turn x [N, c_in, H, W] into [N, c_out, R, R]; w is one row of ws."""
        # The activation's gain moves before it, into demodulation, bias and noise: gain * lrelu(x) = lrelu(gain * x).
        # So a map is passed over four times, and in place where the backward pass does not need what was there.
        style = self.affine.exact(w)
        x = modulated_conv2d(x, self.weight, style, self.bias * GAIN, gain=GAIN, up=self.up)
        noise_map = self.noise_map(len(x), noise, rng)
        if noise_map is not None:
            x += (noise_map * GAIN).to(x.dtype)
        x = F.leaky_relu_(x, LEAKY_SLOPE)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)

    def noise_map(self, count: int, noise: NoiseMode | Tensor, rng: torch.Generator | None) -> Tensor | None:
        """What ``noise`` adds to each channel of ``count`` samples: [count or 1, 1, R, R], or nothing."""
        if isinstance(noise, torch.Tensor):
            return self.noise_strength * noise
        if noise == "random":
            size = self.noise.shape[-1]
            normal = torch.randn(count, 1, size, size, generator=rng, device=self.noise.device, dtype=self.noise.dtype)
            return self.noise_strength * normal
        return self.noise_strength * self.noise if noise == "fixed" else None

    def reset_parameters(self, rng: torch.Generator) -> None:
        """Draw first weights and the fixed noise, see :meth:`StyleGAN2.reset_parameters`."""
        fill_normal(self.weight, rng)
        fill_normal(self.noise, rng)
        self.bias.zero_()
        self.noise_strength.zero_()


class ToRgb(nn.Module):
    """Modulated 1x1 convolution to RGB, plus the up-sampled image of the coarser blocks."""

    learned: ClassVar[tuple[str, ...]] = ("weight", "bias")
    weight: Tensor
    bias: Tensor

    def __init__(self, c_in: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, c_in, first_bias=1.0)
        self.register_buffer("weight", torch.zeros(3, c_in, 1, 1))
        self.register_buffer("bias", torch.zeros(3))
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor, image: Tensor | None) -> Tensor:
        """Turn x [N, c_in, R, R] and the image [N, 3, R / 2, R / 2] so far into the image [N, 3, R, R]."""
        rgb = modulated_conv2d(x, self.weight, self.affine.exact(w), demodulate=False) + self.bias[:, None, None]
        if self.clamp is not None:
            rgb = rgb.clamp(-self.clamp, self.clamp)
        return rgb if image is None else rgb + upsample2d(image)

    def reset_parameters(self, rng: torch.Generator) -> None:
        """Draw first weights, see :meth:`StyleGAN2.reset_parameters`."""
        fill_normal(self.weight, rng)
        self.bias.zero_()


class Block(nn.Module):
    """The layers of one resolution: the up-sampling convolution (not at 4x4), another one, and to-RGB."""

    def __init__(self, c_in: int, c_out: int, resolution: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        if c_in:
            self.conv0 = StyledConv(c_in, c_out, resolution, w_dim, up=True, clamp=clamp)
        self.conv1 = StyledConv(c_out, c_out, resolution, w_dim, up=False, clamp=clamp)
        self.to_rgb = ToRgb(c_out, w_dim, clamp)

    def convs(self) -> list[StyledConv]:
        """The styled convolutions in running order."""
        return [self.conv0, self.conv1] if hasattr(self, "conv0") else [self.conv1]
