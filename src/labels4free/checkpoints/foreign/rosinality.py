"""Checkpoints of rosinality/stylegan2-pytorch, in both directions.

Its ``train.py`` saves ``g``, ``d``, ``g_ema``, ``g_optim``, ``d_optim``, ``args`` and ``ada_aug_p``; its
``convert_weight.py`` makes ``g_ema``, ``latent_avg`` and on request ``g`` and ``d`` of NVIDIA's TensorFlow files. The
names within a state dict are those of its ``model.py``. The trainer of ``RameenAbdal/Labels4Free`` reads and writes the
same names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from labels4free.checkpoints.contents import MEAN_W_NOTE, Checkpoint
from labels4free.checkpoints.foreign.conversion import (
    Place,
    TensorSource,
    build,
    ignore_entries,
    mean_w,
    resolutions,
    unwrapped,
)
from labels4free.checkpoints.foreign.torch_writer import write_torch_file
from labels4free.errors import CheckpointError
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.networks.discriminator import Discriminator
from labels4free.ops.upfirdn2d import fir_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

NAME = "rosinality"
LR_MULTIPLIER = 0.01
"""Of its mapping network: fixed by its ``model.py``, not in the file."""
STDDEV_GROUP = 4
"""Of its discriminator; as above."""

WITHOUT_USE = {
    "g_optim": "state of the generator's optimiser",
    "d_optim": "state of the discriminator's optimiser",
    "args": "settings of its training",
    "ada_aug_p": "strength of the augmentation in its training",
}
"""Entries of its training checkpoints that no network is made of."""
_GENERATOR_MARKS = frozenset({"style.1.weight", "input.input", "conv1.conv.weight", "to_rgb1.conv.weight"})
_DISCRIMINATOR_MARKS = frozenset({"convs.0.0.weight", "final_conv.0.weight", "final_linear.1.weight"})
_WAVELETS = re.compile(r"(^|\.)(iwt|dwt)\.")
_FIR = re.compile(r"\.(blur|upsample|[0-9])\.kernel$")


def matches(data: object) -> bool:
    """Whether a file's content looks like a checkpoint or a bare state dict of this code."""
    if not isinstance(data, dict):
        return False
    named = any(isinstance(data.get(entry), dict) for entry in ("g_ema", "g", "d"))
    return named or is_generator(data) or is_discriminator(data)


def is_generator(state: object) -> bool:
    """Whether a state dict has the names of a whole generator, distributed or not."""
    return unwrapped(state).keys() >= _GENERATOR_MARKS


def is_discriminator(state: object) -> bool:
    """Whether a state dict has the names of a whole discriminator, distributed or not."""
    return unwrapped(state).keys() >= _DISCRIMINATOR_MARKS


def convert(data: dict[str, Any], what: str) -> Checkpoint:
    """Convert a checkpoint, or a bare state dict of a generator or discriminator.

    Args:
        data: Content of the file.
        what: The file, for messages.

    Raises:
        CheckpointError: If a tensor is missing, left over, of another shape or kind, or the network is not StyleGAN2.
    """
    if is_generator(data):
        data = {"g_ema": data}
    elif is_discriminator(data):
        data = {"d": data}
    found = convert_networks(data, what)
    notes = list(found.notes)
    if "g" in data and "g_ema" not in data:
        notes.append("There is no running average g_ema; g, the generator as it was last trained, is used.")
    ignored = dict(found.ignored) | ignore_entries(data, WITHOUT_USE, ("g_ema", "g", "d", "latent_avg"), what)
    return Checkpoint(found.generator, found.discriminator, ignored=ignored, notes=tuple(notes))


def convert_networks(data: dict[str, Any], what: str) -> Checkpoint:
    """Convert the entries ``g_ema`` (or ``g``), ``latent_avg`` and ``d``, as far as they are there."""
    generator, discriminator, notes = None, None, []
    ignored: dict[str, str] = {}
    entry = next((name for name in ("g_ema", "g") if name in data), None)
    if entry is not None:
        generator, said = _generator(data[entry], data.get("latent_avg"), f"{entry} of {what}")
        notes += said
        if entry == "g_ema" and "g" in data:
            ignored["g"] = "the running average g_ema is used"
    if "d" in data:
        discriminator, said = _discriminator(data["d"], f"d of {what}")
        notes += said
    return Checkpoint(generator, discriminator, ignored=ignored, notes=tuple(notes))


def to_rosinality(generator: StyleGAN2, discriminator: Discriminator | None = None) -> dict[str, Any]:
    """Lay networks out as rosinality's code saves them; the exact inverse of :func:`convert`.

    Channels other than those of its ``channel_multiplier`` fit the layout, but only a changed ``model.py`` builds them.

    Args:
        generator: Any StyleGAN2 that its code has all parts of.
        discriminator: Its discriminator, if the file shall have one.

    Returns:
        ``g_ema`` and ``d``: tensors by name, in the order of its state dicts; ``latent_avg``: [w_dim].

    Raises:
        CheckpointError: If a network has what the layout has no place for; says what.
    """
    _check_fits(generator, discriminator)
    state = generator.state_dict()
    latent_avg = _exported(state.pop("w_avg"))
    g_ema = {}
    for key, value in state.items():
        place = _place(key, tuple(value.shape))
        g_ema[place.name] = _exported(value).reshape(place.shape)
    for name in _fir_names(generator):
        g_ema[name] = fir_kernel(gain=4.0)
    data: dict[str, Any] = {"g_ema": {name: g_ema[name] for name in sorted(g_ema, key=_order)}}
    data["latent_avg"] = latent_avg
    if discriminator is not None:
        data["d"] = {key: _exported(value) for key, value in discriminator.state_dict().items()}
    return data


def write_rosinality(path: str | Path, generator: StyleGAN2, discriminator: Discriminator | None = None) -> None:
    """Write a ``.pt`` file that rosinality's code loads; it appears complete or not at all.

    Raises:
        CheckpointError: As :func:`to_rosinality`, or if the file cannot be written.
    """
    write_torch_file(path, to_rosinality(generator, discriminator))


def _exported(value: Tensor) -> Tensor:
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def _source(state: object, what: str) -> TensorSource:
    source = TensorSource(unwrapped(state) or state, what)
    if any(_WAVELETS.search(name) for name in source.names()):
        raise CheckpointError(f"{what} is a SWAGAN (wavelets); of rosinality's networks only stylegan2 is supported.")
    return source


def _generator(state: object, latent_avg: object, what: str) -> tuple[StyleGAN2, list[str]]:
    source = _source(state, what)
    layers = range(1, max(source.count(r"style\.([0-9]{1,6})\."), 2))
    widths = [source.extent(f"style.{i}.weight", 0, 2) for i in layers]
    sizes = resolutions(1 + (source.count(r"convs\.([0-9]{1,6})\.") + 1) // 2, what)
    names = ["conv1", *(f"convs.{2 * j}" for j in range(len(sizes) - 1))]
    channels = {size: source.extent(f"{name}.conv.weight", 1, 5) for size, name in zip(sizes, names, strict=True)}
    z_dim = source.extent("style.1.weight", 1, 2)
    w_dim = source.extent("conv1.conv.modulation.weight", 1, 2)
    noiseless = not any(name.startswith("noises.") for name in source.names())
    rng = np.random.Generator(np.random.PCG64(0))

    def make() -> StyleGAN2:
        return StyleGAN2(channels, z_dim=z_dim, w_dim=w_dim, mapping_widths=widths, mapping_lr_multiplier=LR_MULTIPLIER)

    def place(key: str, shape: tuple[int, ...]) -> Place | Tensor:
        if key == "w_avg":
            return torch.zeros(shape)
        if key.endswith(".noise") and noiseless:
            return torch.from_numpy(rng.standard_normal(shape, np.float32))
        return _place(key, shape)

    generator = build(make, source, place).eval()
    for name in _fir_names(generator):
        source.take_fir(name, 4.0)
    notes = list(source.finish())
    if noiseless:
        notes.append("The file is of before 2020, when noise maps were not saved: fixed ones were drawn.")
    if latent_avg is None:
        generator.w_avg.copy_(mean_w(generator))
        notes.append(MEAN_W_NOTE)
    else:
        given = TensorSource({"latent_avg": latent_avg}, what)
        generator.w_avg.copy_(given.take("latent_avg", (w_dim,)))
        notes += given.finish()
    return generator, notes


def _discriminator(state: object, what: str) -> tuple[Discriminator, list[str]]:
    source = _source(state, what)
    sizes = resolutions(max(source.count(r"convs\.([0-9]{1,6})\."), 2), what)[::-1]
    names = ["convs.0.0.weight", *(f"convs.{j}.conv2.1.weight" for j in range(1, len(sizes)))]
    channels = {size: source.extent(name, 0, 4) for size, name in zip(sizes, names, strict=True)}

    def place(key: str, shape: tuple[int, ...]) -> Place | Tensor:
        if _FIR.search(key):
            source.take_fir(key, 1.0)
            return fir_kernel()
        return Place(key, shape)

    discriminator = build(lambda: Discriminator(sizes[0], channels, stddev_group=STDDEV_GROUP), source, place)
    return discriminator, list(source.finish())


def _place(key: str, shape: tuple[int, ...]) -> Place:
    """Where a rosinality state dict has a tensor of our generator (all but ``w_avg``)."""
    if key == "constant":
        return Place("input.input", shape)
    room, rest = key.split(".", 1)
    if room == "mapping":
        number, kind = rest.split(".")
        return Place(f"style.{int(number) + 1}.{kind}", shape)
    block, layer, kind = rest.split(".", 2)
    level = int(block[1:]).bit_length() - 3  # 0 for 4x4
    index = 2 * level - 1 + (layer == "conv1")  # of the styled convolution, in running order
    if kind == "noise":
        return Place(f"noises.noise_{index if level else 0}", shape)
    if layer == "to_rgb":
        name, bias = f"to_rgbs.{level - 1}" if level else "to_rgb1", Place("bias", (1, *shape, 1, 1))
    else:
        name, bias = f"convs.{index - 1}" if level else "conv1", Place("activate.bias", shape)
    layout = {
        "weight": Place("conv.weight", (1, *shape)),
        "affine.weight": Place("conv.modulation.weight", shape),
        "affine.bias": Place("conv.modulation.bias", shape),
        "noise_strength": Place("noise.weight", (1,)),
        "bias": bias,
    }
    return layout[kind]._replace(name=f"{name}.{layout[kind].name}")


def _fir_names(generator: StyleGAN2) -> Iterator[str]:
    """The resampling filters among a generator's tensors."""
    for j in range(len(generator.channels) - 1):
        yield f"convs.{2 * j}.conv.blur.kernel"
        yield f"to_rgbs.{j}.upsample.kernel"


_ROOMS = ("style", "input", "conv1", "to_rgb1", "convs", "to_rgbs", "noises")
_PARTS = {
    "conv1": ("conv.weight", "conv.blur", "conv.modulation.weight", "conv.modulation.bias", "noise", "activate"),
    "to_rgb1": ("bias", "upsample", "conv.weight", "conv.modulation.weight", "conv.modulation.bias"),
    "style": ("weight", "bias"),
}
_PARTS |= {"convs": _PARTS["conv1"], "to_rgbs": _PARTS["to_rgb1"]}


def _order(name: str) -> tuple[int, int, int]:
    """Position of a generator's tensor in the state dict that its ``model.py`` makes."""
    room, _, rest = name.partition(".")
    number, part = 0, rest
    if match := re.match(r"(?:noise_)?(\d+)\.?", rest):
        number, part = int(match[1]), rest[match.end() :]
    parts = _PARTS.get(room, ())
    return _ROOMS.index(room), number, next((i for i, begin in enumerate(parts) if part.startswith(begin)), 0)


def _check_fits(generator: object, discriminator: Discriminator | None) -> None:
    """Raise CheckpointError for what rosinality's layout has no place for."""
    if not isinstance(generator, StyleGAN2):
        family = getattr(generator, "family", type(generator).__name__)
        raise CheckpointError(f"rosinality's layout holds StyleGAN2 generators, this one is of family {family!r}.")
    w_dim = generator.w_dim
    held = {
        "classes": (generator.c_dim, 0),
        "conv_clamp": (generator.conv_clamp, None),
        "mapping_lr_multiplier": (generator.mapping_lr_multiplier, LR_MULTIPLIER),
        "z_dim": (generator.z_dim, w_dim),
        "mapping_widths": (sorted({*generator.mapping_widths}), [w_dim]),
    }
    if discriminator is not None:
        held |= {
            "classes of the discriminator": (discriminator.c_dim, 0),
            "conv_clamp of the discriminator": (discriminator.conv_clamp, None),
            "stddev_group of the discriminator": (discriminator.stddev_group, STDDEV_GROUP),
        }
    for name, (found, fixed) in held.items():
        if found != fixed:
            raise CheckpointError(
                f"rosinality's layout has no place for {name}={found}: there it is always {fixed}. Keep this network "
                "as a native file."
            )
