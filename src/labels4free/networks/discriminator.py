"""StyleGAN2's residual discriminator (Karras et al. 2020, arXiv 1912.04958, section 4.1 and figure 7).

State-dict keys, shapes and numbers are those of the rosinality implementation, so that its checkpoints fit by name.
What NVIDIA's networks have besides (`NVlabs/stylegan2-ada-pytorch` training/networks.py) comes on top: labels, under
the keys ``mapping.*``, and limited activations, which have no tensors.

The arithmetic is arranged for a CPU: maps run in channels_last, where depthwise filters are several times faster; every
gain (equalised learning rate, sqrt(2) behind an activation, 1 / sqrt(2) behind a residual sum) is moved into the
weights, which are small, instead of taking a pass over a map; and the skip branch filters only the pixels that it
keeps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.ops.upfirdn2d import fir_kernel, upfirdn2d

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_LEAKY_SLOPE = 0.2
_SQRT2 = math.sqrt(2.0)
_MAPPING_LR_MULTIPLIER = 0.01


def channels_by_resolution(resolution: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """StyleGAN2's rule for the width of a network: ``min(channel_base // R, channel_max)`` channels at resolution R.

    Returns:
        {R: channels} for R = resolution, resolution / 2, ..., 4.
    """
    return {size: min(channel_base // size, channel_max) for size in _resolutions(resolution)}


STDDEV_GROUP = 4
"""Members of a minibatch-stddev group, if nothing else is asked for."""


def group_size(n: int, group: int) -> int:
    """Members that the groups of n samples have: the largest divisor of n up to ``group``; 0: all in one."""
    return max(size for size in range(1, group + 1) if n % size == 0) if group else n


def minibatch_stddev(x: Tensor, group: int = STDDEV_GROUP) -> Tensor:
    """How much the samples of a group differ: the statistic that lets a discriminator see missing variety.

    The population standard deviation, ``sqrt(var + 1e-8)``, over the members of a group at every (c, y, x), then the
    mean over c, y, x (Karras et al. 2018, arXiv 1710.10196, section 3). Groups are interleaved: with g members a group,
    sample n belongs to group ``n mod (N / g)``. Where ``group`` does not divide N, g is the largest divisor of N up to
    ``group``.

    Args:
        x: [N, C, H, W].
        group: Members of a group; 0: the whole batch is one.

    Returns:
        [N], one number a sample, equal for all members of a group.
    """
    n = len(x)
    members = group_size(n, group)
    groups = x.reshape(members, n // members, -1)
    deviation = (groups.var(dim=0, correction=0) + 1e-8).sqrt()
    return deviation.mean(dim=1).repeat(members)


class Discriminator(nn.Module):
    """Tell real images from composites: image [N, 3, R, R], about [-1, 1] -> logits [N, 1], larger is more real.

    Weights start as standard normal and are scaled by 1 / sqrt(fan-in) at run time, in every layer (equalised learning
    rate, arXiv 1710.10196, section 4.1), the linear head included.

    With labels the head gives C numbers x instead of one, where C are the channels at 4x4; a small network maps the
    label to as many numbers m; and the logit is the projection ``sum(x * m) / sqrt(C)`` (Miyato and Koyama 2018, arXiv
    1802.05637; in this form in Karras et al. 2020, arXiv 2006.06676).

    Args:
        resolution: Side R of the image in pixels: a power of two, at least 8.
        channels: Channels of the maps at every resolution R, R / 2, ..., 4; None for :func:`channels_by_resolution`.
        channel_base: Used without ``channels``; 32768 is StyleGAN2's config-f.
        channel_max: Used without ``channels``.
        stddev_group: Members of a minibatch-stddev group; see :func:`minibatch_stddev` for batches it does not divide.
            0: the whole batch is one group.
        c_dim: Numbers of a label, 0 for a network without labels.
        mapping_layers: Fully connected layers from embedded label to m, their learning-rate multiplier 0.01; 0: the
            embedded, normalised label is m. Nothing without labels.
        conv_clamp: Largest absolute value of every activated convolution, taken behind the gain sqrt(2) but before the
            1 / sqrt(2) of a residual sum; None: no limit. NVIDIA's mixed-precision networks have 256.

    Raises:
        ConfigError: If the resolution is not a power of two of at least 8, the channels do not fit it, or a number is
            out of range.
    """

    def __init__(
        self,
        resolution: int,
        channels: Mapping[int, int] | None = None,
        *,
        channel_base: int = 32768,
        channel_max: int = 512,
        stddev_group: int = STDDEV_GROUP,
        c_dim: int = 0,
        mapping_layers: int = 8,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        if resolution < 8 or resolution & (resolution - 1):
            raise ConfigError(
                f"A discriminator needs a resolution that is a power of two of at least 8, got {resolution}."
            )
        for name, count in (("stddev_group", stddev_group), ("c_dim", c_dim), ("mapping_layers", mapping_layers)):
            if count < 0:
                raise ConfigError(f"A discriminator needs {name} of at least 0, got {name}={count}.")
        if conv_clamp is not None and not 0 < conv_clamp < math.inf:
            raise ConfigError(f"conv_clamp must be a finite number above 0, or None for no limit, got {conv_clamp}.")
        widths = channels_by_resolution(resolution, channel_base, channel_max) if channels is None else dict(channels)
        sizes = _resolutions(resolution)
        if sorted(widths, reverse=True) != sizes or min(widths.values()) < 1:
            raise ConfigError(f"Channels must be given for the resolutions {sizes}, each at least 1, got {widths}.")
        self.resolution = resolution
        self.channels = widths
        self.stddev_group = stddev_group
        self.c_dim = c_dim
        self.mapping_layers = mapping_layers
        self.conv_clamp = None if conv_clamp is None else float(conv_clamp)

        width, outputs = widths[4], widths[4] if c_dim else 1
        convs: list[nn.Module] = [_ConvLayer(3, widths[resolution], 1, clamp=conv_clamp)]
        convs += [_ResidualBlock(widths[size], widths[size // 2], conv_clamp) for size in sizes[:-1]]
        self.convs = nn.ModuleList(convs)
        self.final_conv = _ConvLayer(width + 1, width, 3, clamp=conv_clamp)
        self.final_linear = nn.ModuleList([_EqualLinear(width * 16, width), _EqualLinear(width, outputs)])
        self.mapping = _LabelMapping(c_dim, width, mapping_layers) if c_dim else None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the network, freshly initialised, from what :meth:`config` returned (or its JSON round trip)."""
        channels = {int(size): count for size, count in config["channels"].items()}
        names = ("stddev_group", "c_dim", "mapping_layers", "conv_clamp")
        return cls(config["resolution"], channels, **{name: config[name] for name in names})

    def config(self) -> dict[str, Any]:
        """Everything but the weights that :meth:`from_config` needs, as JSON values."""
        channels = {str(size): count for size, count in self.channels.items()}
        return {
            "resolution": self.resolution,
            "channels": channels,
            "stddev_group": self.stddev_group,
            "c_dim": self.c_dim,
            "mapping_layers": self.mapping_layers,
            "conv_clamp": self.conv_clamp,
        }

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images.

        Args:
            image: [N, 3, R, R], about [-1, 1].
            labels: [N, c_dim], usually one-hot rows, of any real dtype; None for a network without labels.

        Returns:
            Logits [N, 1], unbounded; the sigmoid is the probability that the image is real. They depend on the other
            images of the batch through the minibatch standard deviation.

        Raises:
            ConfigError: If the image has another shape, or the labels have, are missing, or cannot be used.
        """
        if image.ndim != 4 or image.shape[1:] != (3, self.resolution, self.resolution):
            expected = f"[N, 3, {self.resolution}, {self.resolution}]"
            raise ConfigError(f"The discriminator needs images of shape {expected}, got {list(image.shape)}.")
        projection = self._projection(len(image), labels)
        x = image.contiguous(memory_format=torch.channels_last) if image.device.type == "cpu" else image
        for layer in self.convs:
            x = layer(x)
        if torch.is_autocast_enabled(x.device.type):
            # Where the samples of a batch meet, 16 bits would lose small deviations, and sqrt(1e-8) is 0 in float16.
            with torch.autocast(x.device.type, enabled=False):
                return self._head(x.float(), None if projection is None else projection.float())
        return self._head(x, projection)

    def _projection(self, n: int, labels: Tensor | None) -> Tensor | None:
        """Map the labels of n images to the vectors [N, C] that the head is projected on; None without labels."""
        if self.mapping is None:
            if labels is not None:
                raise ConfigError("This discriminator was built without labels (c_dim=0): leave `labels` out.")
            return None
        expected = f"labels of shape [{n}, {self.c_dim}], one row an image"
        if labels is None:
            raise ConfigError(f"This discriminator needs {expected}, got none.")
        if labels.shape != (n, self.c_dim):
            hint = f"class numbers become rows by torch.nn.functional.one_hot(numbers, {self.c_dim})"
            raise ConfigError(f"This discriminator needs {expected}, got {list(labels.shape)}; {hint}.")
        projection: Tensor = self.mapping(labels)
        return projection

    def _head(self, x: Tensor, projection: Tensor | None = None) -> Tensor:
        """Score the last block's maps [N, C, 4, 4]; the only part in which the samples of a batch meet."""
        statistic = minibatch_stddev(x, self.stddev_group).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        x = self.final_conv(torch.cat([x, statistic], dim=1))
        hidden, score = self.final_linear
        logits: Tensor = score(F.leaky_relu_(hidden(x.flatten(1), gain=_SQRT2), _LEAKY_SLOPE))
        if projection is None:
            return logits
        return (logits * projection).sum(dim=1, keepdim=True) / math.sqrt(projection.shape[1])


def _resolutions(resolution: int) -> list[int]:
    return [2**k for k in range(resolution.bit_length() - 1, 1, -1)]


class _Weight(nn.Module):
    """The weight [out, in, k, k] of an equalised convolution; scaled when used."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.scale = 1.0 / math.sqrt(c_in * kernel**2)


class _Bias(nn.Module):
    """The bias [C] of an activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class _Blur(nn.Module):
    """The FIR kernel [4, 4] before a decimation; a buffer of the state dict."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel())


class _ConvLayer(nn.ModuleList):
    """Blur (if it halves the size), equalised convolution, then bias, leaky ReLU times sqrt(2), limit (if activated).

    A list of the parts in running order, which gives the state dict its key names.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        kernel: 1 or 3, zero-padded to keep the size.
        down: Halve the resolution: stride 2 behind the blur.
        activate: Bias and activation.
        gain: Factor on the output.
        clamp: Largest absolute value of an activated output before ``gain``; None for no limit.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        down: bool = False,
        activate: bool = True,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        blur = [_Blur()] if down else []
        activation = [_Bias(c_out)] if activate else []
        super().__init__([*blur, _Weight(c_in, c_out, kernel), *activation])
        self.kernel = kernel
        self.down = down
        self.activate = activate
        self.gain = gain * _SQRT2 if activate else gain
        self.limit = None if clamp is None else clamp * gain

    def forward(self, x: Tensor) -> Tensor:
        stride, padding = 1, self.kernel // 2
        if self.down and self.kernel == 1:  # filter only the pixels that a 1x1 convolution of stride 2 would read
            x = upfirdn2d(x, cast("_Blur", self[0]).kernel, down=2, pad=(1, 1))
        elif self.down:
            x = upfirdn2d(x, cast("_Blur", self[0]).kernel, pad=(2, 2))
            stride, padding = 2, 0
        conv = cast("_Weight", self[int(self.down)])
        weight = conv.weight * (conv.scale * self.gain)
        if not self.activate:
            return F.conv2d(x, weight, stride=stride, padding=padding)
        bias = cast("_Bias", self[-1]).bias * self.gain  # gain * lrelu(x) = lrelu(gain * x), since the gain is positive
        out = F.leaky_relu_(F.conv2d(x, weight, bias, stride=stride, padding=padding), _LEAKY_SLOPE)
        if self.limit is None:
            return out
        return out.clamp(-self.limit, self.limit)  # not in place: the activation's backward pass reads its output


class _ResidualBlock(nn.Module):
    """Two activated 3x3 convolutions, the second halving the size, plus a linear skip; divided by sqrt(2)."""

    def __init__(self, c_in: int, c_out: int, clamp: float | None = None) -> None:
        super().__init__()
        self.conv1 = _ConvLayer(c_in, c_in, 3, clamp=clamp)
        self.conv2 = _ConvLayer(c_in, c_out, 3, down=True, gain=1 / _SQRT2, clamp=clamp)
        self.skip = _ConvLayer(c_in, c_out, 1, down=True, activate=False, gain=1 / _SQRT2)

    def forward(self, x: Tensor) -> Tensor:
        skip: Tensor = self.skip(x)
        skip += self.conv2(self.conv1(x))  # in place: no backward pass needs the skip's output
        return skip


class _EqualLinear(nn.Module):
    """An affine map with equalised learning rate; weight [out, in].

    The factor ``lr_multiplier`` acts on weight and bias at run time; the weight starts larger by as much, so that only
    the steps of an optimiser become smaller.
    """

    def __init__(self, in_features: int, out_features: int, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.scale = lr_multiplier / math.sqrt(in_features)
        self.lr_multiplier = lr_multiplier

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        return F.linear(x, self.weight * (self.scale * gain), self.bias * (self.lr_multiplier * gain))


class _LabelMapping(nn.Module):
    """Label [N, c_dim] -> [N, width]: an embedding divided by its root mean square, then activated layers ``fc{i}``."""

    def __init__(self, c_dim: int, width: int, layers: int) -> None:
        super().__init__()
        self.embed = _EqualLinear(c_dim, width)
        self.layers = layers
        for index in range(layers):
            self.add_module(f"fc{index}", _EqualLinear(width, width, _MAPPING_LR_MULTIPLIER))

    def forward(self, labels: Tensor) -> Tensor:
        x: Tensor = self.embed(labels.to(self.embed.weight.dtype))
        x = x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for index in range(self.layers):
            layer = self.get_submodule(f"fc{index}")
            x = F.leaky_relu_(layer(x, gain=_SQRT2), _LEAKY_SLOPE)
        return x
