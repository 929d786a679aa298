"""StyleGAN2 pickles of the TensorFlow code: NVlabs/stylegan2 and NVlabs/stylegan2-ada.

A file is a tuple (G, D, Gs) of ``dnnlib.tflib.network.Network`` objects, Gs being the running average. Names of
variables are those of ``training/networks_stylegan2.py`` and ``training/networks.py``; what they are in PyTorch is told
by NVlabs/stylegan2-ada-pytorch ``legacy.py``. Widths come from the variables; ``static_kwargs`` can change what a
network computes, so they are checked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from labels4free.checkpoints.contents import Checkpoint
from labels4free.checkpoints.foreign.conversion import (
    Place,
    TensorSource,
    UnsupportedError,
    build,
    listed,
    note_which,
    resolutions,
    shown,
    unless_unsupported,
)
from labels4free.checkpoints.foreign.nvlabs import (
    LABEL_LR_MULTIPLIER,
    SUPPORTED,
    discriminator_place,
    generator_place,
    label_sizes,
    positive,
)
from labels4free.checkpoints.untrusted.inert_data import TensorflowNetwork
from labels4free.errors import CheckpointError
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.networks.discriminator import Discriminator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

NAME = "nvidia-tensorflow"
STDDEV_GROUP = 4
"""Minibatch-stddev group of its discriminators where the file does not say."""

_OLD_BUILDERS = {
    "G_style": "StyleGAN1",
    "D_basic": "StyleGAN1",
    "G_paper": "ProGAN",
    "D_paper": "ProGAN",
}
_FIXED: dict[str, object] = {
    "num_channels": 3,
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "resample_kernel": [1, 3, 3, 1],
    "normalize_latents": True,
    "mbstd_num_features": 1,
    "use_wscale": True,
    "fmap_decay": 1.0,
}  # what our networks do; the widths that fmap_decay has a say in come from the tensors, but nobody uses another one
_READ = frozenset({"mapping_lrmul", "conv_clamp", "num_fp16_res", "mbstd_group_size", "architecture", "use_noise"})
_SIZES = "resolution label_size latent_size dlatent_size dlatent_broadcast mapping_layers mapping_fmaps label_fmaps"
_WITHOUT_USE = frozenset(
    f"""{_SIZES} fmap_base fmap_min fmap_max truncation_psi truncation_cutoff truncation_psi_val truncation_cutoff_val
    dlatent_avg_beta w_avg_beta style_mixing_prob randomize_noise fused_modconv dtype structure is_training
    is_validation is_template_graph return_dlatents freeze_layers mapping_func synthesis_func""".split()
)
"""Settings that the tensors tell as well, or that only matter in training or for speed."""
_LAYERS = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB"}
_DISCRIMINATOR_LAYERS = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
_HEAD = {"conv": "4x4/Conv", "fc": "4x4/Dense0", "out": "Output"}


def matches(data: object) -> bool:
    """Whether a file's content looks like one of these pickles."""
    return bool(_networks(data))


def convert(data: object, what: str) -> Checkpoint:
    """Convert a network pickle, or a pickled network by itself.

    A discriminator that is intact but not of StyleGAN2's residual architecture is left out, and the notes say so.

    Args:
        data: Content of the file.
        what: The file, for messages.

    Raises:
        CheckpointError: If the generator is of another family, architecture or setting, or a variable is missing, left
            over, of another shape or kind.
    """
    networks = _networks(data)
    generator, discriminator = None, None
    notes: list[str] = []
    ignored: dict[str, str] = {}
    entry = next((name for name in ("Gs", "G") if name in networks), None)
    if entry is not None:
        generator = _generator(networks[entry], f"{entry} of {what}", notes, ignored)
        notes += note_which(entry, "Gs", "G", networks, ignored)
    if (found := networks.get("D")) is not None:
        discriminator = unless_unsupported(
            lambda: _discriminator(found, f"D of {what}", notes, ignored), "D", ignored, notes
        )
    return Checkpoint(generator, discriminator, ignored=ignored, notes=tuple(notes))


def _networks(data: object) -> dict[str, TensorflowNetwork]:
    """The networks of a file by their part: G, D and Gs."""
    if isinstance(data, TensorflowNetwork):
        return {"D" if str(data.state.get("name", "")).startswith("D") else "Gs": data}
    if not isinstance(data, tuple | list) or len(data) != 3:
        return {}
    return {name: net for name, net in zip(("G", "D", "Gs"), data, strict=True) if isinstance(net, TensorflowNetwork)}


def _generator(network: TensorflowNetwork, what: str, notes: list[str], ignored: dict[str, str]) -> StyleGAN2:
    variables, settings = _gather(network, what)
    source = TensorSource(variables, what)
    _require_generator(source)
    clamp = _check_settings(settings, "skip", what, notes)
    source.ignore(r"(.*/)?lod", "level of detail of progressive growing, which StyleGAN2 has not")
    sizes = resolutions(_blocks(source, r"synthesis/(\d+)x\1/"), what)
    layers = max(source.count(r"mapping/Dense([0-9]{1,6})/"), 1)
    widths = [source.extent(f"mapping/Dense{i}/weight", 1, 2) for i in range(layers)]
    channels = {size: source.extent(f"synthesis/{size}x{size}/ToRGB/weight", 2, 4) for size in sizes}
    w_dim = source.extent("synthesis/4x4/Conv/mod_weight", 0, 2)
    embedded, c_dim = label_sizes(source, "mapping/LabelEmbed/weight")
    if c_dim and embedded != w_dim:
        raise UnsupportedError(f"{what} embeds labels in {embedded} numbers (label_fmaps), supported is {w_dim}.")
    z_dim = source.extent("mapping/Dense0/weight", 0, 2) - embedded
    if z_dim < 1:
        raise CheckpointError(f"{what}: mapping/Dense0/weight has no inputs for z beside the {embedded} of labels.")
    multiplier = positive(settings.get("mapping_lrmul", LABEL_LR_MULTIPLIER), f"In {what} mapping_lrmul")
    silent = settings.get("use_noise") is False

    def make() -> StyleGAN2:
        return StyleGAN2(
            channels,
            z_dim=z_dim,
            w_dim=w_dim,
            c_dim=c_dim,
            mapping_widths=widths,
            mapping_lr_multiplier=multiplier,
            conv_clamp=clamp,
        )

    def place(key: str, shape: tuple[int, ...]) -> Place | Tensor:
        found = _generator_place(generator_place(key, shape))
        return torch.zeros(shape) if silent and ".noise" in key and found.name not in source else found

    generator = build(make, source, place).eval()
    notes += source.finish()
    if silent:
        notes.append("The layers have no noise at the source: maps and strengths are 0.")
    part = what.partition(" ")[0]
    ignored |= {f"{part}: {name}": reason for name, reason in source.ignored.items()}
    return generator


def _discriminator(network: TensorflowNetwork, what: str, notes: list[str], ignored: dict[str, str]) -> Discriminator:
    variables, settings = _gather(network, what)
    source = TensorSource(variables, what)
    _require_discriminator(source)
    clamp = _check_settings(settings, "resnet", what, notes)
    source.ignore(r"(.*/)?lod", "level of detail of progressive growing, which StyleGAN2 has not")
    sizes = resolutions(_blocks(source, r"(\d+)x\1/"), what)[::-1]
    channels = {size: source.extent(f"{size}x{size}/Conv0/weight", 2, 4) for size in sizes[:-1]}
    channels[4] = source.extent("4x4/Conv/weight", 3, 4)
    _, c_dim = label_sizes(source, "LabelEmbed/weight")
    outputs, layers = source.extent("Output/weight", 1, 2), source.count(r"Mapping([0-9]{1,6})/")
    given = settings.get("mapping_lrmul", 0.1) if layers else LABEL_LR_MULTIPLIER
    multiplier = positive(given, f"In {what} mapping_lrmul")
    if (outputs, multiplier) != (channels[4] if c_dim else 1, LABEL_LR_MULTIPLIER):
        raise UnsupportedError(
            f"{what} has {outputs} outputs and mapping_lrmul={multiplier}, supported are 1 output without "
            f"labels, {channels[4]} with labels, and {LABEL_LR_MULTIPLIER}."
        )
    group = settings.get("mbstd_group_size", STDDEV_GROUP)
    if group is not None and (type(group) is not int or not 1 <= group < 1 << 20):
        raise CheckpointError(f"{what} has mbstd_group_size={shown(group)}, expected a number from 1 up.")
    if "mbstd_group_size" not in settings:
        notes.append(f"{what} does not say its minibatch-stddev group: it is the TensorFlow network's {STDDEV_GROUP}.")

    def make() -> Discriminator:
        return Discriminator(
            sizes[0],
            channels,
            stddev_group=group or 0,
            c_dim=c_dim,
            mapping_layers=layers if c_dim else 8,
            conv_clamp=clamp,
        )

    def place(key: str, shape: tuple[int, ...]) -> Place | Tensor:
        found = discriminator_place(key, shape, sizes[0])
        return _discriminator_place(found) if isinstance(found, Place) else found

    discriminator = build(make, source, place)
    notes += source.finish()
    ignored |= {f"D: {name}": reason for name, reason in source.ignored.items()}
    return discriminator


def _generator_place(there: Place) -> Place:
    """Where the TensorFlow code has a tensor of NVIDIA's PyTorch generator."""
    room, _, rest = there.name.partition(".")
    if room == "mapping":
        if rest == "w_avg":
            return there._replace(name="dlatent_avg")
        layer, kind = rest.split(".")
        layer = layer.replace("fc", "Dense") if layer != "embed" else "LabelEmbed"
        return _dense(f"mapping/{layer}/{kind}", there.shape)
    block, rest = rest.split(".", 1)
    size = int(block[1:])
    folder = f"synthesis/{size}x{size}"
    if rest == "const":
        return Place(f"{folder}/Const/const", (1, *there.shape))
    layer, kind = rest.split(".", 1)
    if kind == "noise_const":
        index = 2 * (size.bit_length() - 1) - (5 if layer == "conv0" else 4)
        return Place(f"synthesis/noise{index}", (1, 1, *there.shape))
    name = f"{folder}/{'Conv' if size == 4 and layer == 'conv1' else _LAYERS[layer]}"
    if kind == "weight":
        return _convolution(f"{name}/weight", there.shape, flip=layer == "conv0")
    if kind == "affine.weight":
        return _dense(f"{name}/mod_weight", there.shape)
    if kind == "affine.bias":
        return Place(f"{name}/mod_bias", there.shape, lambda value: value + 1)  # the PyTorch code stores it with the 1
    return there._replace(name=f"{name}/{kind}")


def _discriminator_place(there: Place) -> Place:
    """Where the TensorFlow code has a tensor of NVIDIA's PyTorch discriminator."""
    room, layer, kind = there.name.split(".")
    if room == "mapping":
        return _dense(f"{layer.replace('fc', 'Mapping') if layer != 'embed' else 'LabelEmbed'}/{kind}", there.shape)
    size = int(room[1:])
    name = _HEAD[layer] if size == 4 else f"{size}x{size}/{_DISCRIMINATOR_LAYERS[layer]}"
    if len(there.shape) == 4:
        return _convolution(f"{name}/{kind}", there.shape, flip=False)
    return _dense(f"{name}/{kind}", there.shape)


def _convolution(name: str, shape: tuple[int, ...], *, flip: bool) -> Place:
    """A kernel [out, in, k, k] that is kept as [k, k, in, out], mirrored along both axes where ``flip`` says so."""
    mirror: Callable[[Tensor], Tensor] = (lambda value: value.flip(0, 1)) if flip else (lambda value: value)
    return Place(name, shape[::-1], lambda value: mirror(value).permute(3, 2, 0, 1))


def _dense(name: str, shape: tuple[int, ...]) -> Place:
    """A matrix [out, in] that is kept as [in, out]; a vector is a vector."""
    return Place(name, shape[::-1], lambda value: value.T) if len(shape) == 2 else Place(name, shape)


def _gather(network: TensorflowNetwork, what: str) -> tuple[dict[str, object], dict[str, Any]]:
    """The variables of a network and its components by name, and the settings of all of them."""
    variables: dict[str, object] = {}
    settings: dict[str, Any] = {}
    damaged = CheckpointError(f"{what} is damaged: it is no network of variables and components.")
    todo = [("", network)]
    while todo:
        prefix, part = todo.pop()
        if not isinstance(part, TensorflowNetwork):
            raise damaged
        family = _OLD_BUILDERS.get(str(part.state.get("build_func_name")))
        if family is not None:
            raise _other_family(what, family)
        static, components = part.state.get("static_kwargs", {}), part.state.get("components", {})
        pairs = part.state.get("variables", [])
        if not isinstance(static, dict) or not isinstance(components, dict) or not isinstance(pairs, list | tuple):
            raise damaged
        settings |= static
        todo += [(f"{prefix}{name}/", component) for name, component in components.items()]
        for pair in pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise damaged
            if prefix + pair[0] in variables:
                raise CheckpointError(f"{what} is damaged: it has the variable {listed([prefix + pair[0]])} twice.")
            variables[prefix + pair[0]] = _tensor(pair[1])
    return variables, settings


def _tensor(value: object) -> object:
    """A variable as a tensor; what is no floating-point number stays what it is, to be refused by name."""
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float32)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.dtype.itemsize <= 8:
        return torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
    return value


def _blocks(source: TensorSource, pattern: str) -> int:
    """Number of resolutions among the names; that they are 4x4, 8x8, ... shows when the tensors are taken."""
    return len({match[1] for name in source.names() if (match := re.match(pattern, name))})


def _require_generator(source: TensorSource) -> None:
    """Raise where the variables are those of another network than StyleGAN2 with its skip architecture."""
    names = dict.fromkeys(source.names())
    if any("/StyleMod/" in name for name in names):
        raise _other_family(source.what, "StyleGAN1")
    if "4x4/Dense/weight" in names:
        raise _other_family(source.what, "ProGAN")
    if "mapping/LabelConcat/weight" in names:
        raise UnsupportedError(
            f"{source.what} concatenates its labels to z (LabelConcat), as no published network does; of conditional "
            "generators those with LabelEmbed are supported."
        )
    sizes = {match[1] for name in names if (match := re.match(r"synthesis/(\d+)x\1/", name))}
    if not sizes:
        raise UnsupportedError(f"{source.what} has the variables {listed(names) or '(none)'}; {SUPPORTED}.")
    with_rgb = {size for size in sizes if f"synthesis/{size}x{size}/ToRGB/weight" in names}
    if any("Skip/" in name for name in names):
        raise _other_architecture(source.what, "resnet", "skip")
    if any("ToRGB_lod" in name for name in names) or (len(sizes) > 1 and len(with_rgb) == 1):
        raise _other_architecture(source.what, "orig", "skip")


def _require_discriminator(source: TensorSource) -> None:
    """Raise where the variables are those of another network than StyleGAN2's residual discriminator."""
    names = set(source.names())
    if sum(name.endswith("/FromRGB/weight") for name in names) > 1:
        raise _other_architecture(source.what, "skip", "resnet")
    if not any(name.endswith("/Skip/weight") for name in names):
        raise _other_architecture(source.what, "orig", "resnet")


def _check_settings(settings: dict[str, Any], architecture: str, what: str, notes: list[str]) -> float | None:
    """Check everything that changes what a network computes. Returns its conv_clamp."""
    for name, found in settings.items():
        if name in _READ - {"architecture"} or name in _WITHOUT_USE:
            continue
        expected = architecture if name == "architecture" else _FIXED.get(name)
        if expected is None:
            raise UnsupportedError(f"{what} has the setting {listed([name])}={shown(found)}, which is unknown.")
        if found is not None and not _same(found, expected):
            raise UnsupportedError(f"{what} has {name}={shown(found)}, the only one supported is {expected!r}.")
    half, clamp = settings.get("num_fp16_res"), settings.get("conv_clamp")
    if type(half) is int and half > 0:
        notes.append(f"In {what} the maps of the {half} finest resolutions were float16; everything is float32 here.")
    return None if clamp is None else positive(clamp, f"In {what} conv_clamp")


def _same(found: object, expected: object) -> bool:
    """Whether a setting is what it must be; a tuple is as good as a list."""
    if isinstance(expected, list):
        pairs = zip(found, expected, strict=False) if isinstance(found, list | tuple) else ()
        return isinstance(found, list | tuple) and len(found) == len(expected) and all(_same(a, b) for a, b in pairs)
    return isinstance(found, str | int | float) and found == expected


def _other_family(what: str, family: str) -> UnsupportedError:
    return UnsupportedError(f"{what} is a network of the family {family}; {SUPPORTED}.")


def _other_architecture(what: str, found: str, expected: str) -> UnsupportedError:
    return UnsupportedError(
        f"{what} has the architecture {shown(found)}; supported is {expected!r}, which StyleGAN2's configuration F has."
    )
