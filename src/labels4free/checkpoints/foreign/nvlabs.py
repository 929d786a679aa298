"""NVIDIA's StyleGAN2 pickles: NVlabs/stylegan2-ada-pytorch, and the StyleGAN2 configurations of NVlabs/stylegan3.

A file is a dictionary with ``G``, ``D``, ``G_ema``, ``training_set_kwargs`` and ``augment_pipe``. A network is a tree
of modules with tensors and settings, as ``torch_utils/persistence.py`` writes it. Names of tensors and settings are
those of ``training/networks.py`` (``networks_stylegan2.py``). Widths come from the tensors; the settings are checked,
since they can change what a network computes without changing a tensor.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from labels4free.checkpoints.contents import MEAN_W_NOTE, Checkpoint
from labels4free.checkpoints.foreign.conversion import (
    Place,
    TensorSource,
    UnsupportedError,
    build,
    ignore_entries,
    listed,
    mean_w,
    note_which,
    resolutions,
    shown,
    unless_unsupported,
)
from labels4free.checkpoints.untrusted.inert_data import PersistentObject
from labels4free.checkpoints.untrusted.pickle_machine import printable
from labels4free.errors import CheckpointError
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.networks.discriminator import Discriminator
from labels4free.ops.upfirdn2d import fir_kernel

if TYPE_CHECKING:
    from torch import Tensor

NAME = "nvidia"
SUPPORTED = (
    "supported are the StyleGAN2 generators of stylegan2-ada-pytorch, of the StyleGAN3 repository, of the TensorFlow "
    "repositories and of rosinality"
)

_WITHOUT_USE = {
    "training_set_kwargs": "describes the images of its training",
    "augment_pipe": "augmentation of its training",
}
_FAMILIES = {
    "TriPlaneGenerator": "EG3D",
    "SuperresGenerator": "StyleGAN-XL",
    "Generator_stylegan1": "StyleGAN1",
}
_SQRT2 = math.sqrt(2.0)
LABEL_LR_MULTIPLIER = 0.01
"""Of the mapping networks where nothing else is said, and always of our discriminator's."""
_LAYER = re.compile(r"(?:synthesis\.)?b\d+\.(conv0|conv1|torgb|fromrgb|skip|conv|fc|out)|mapping\.(embed|fc)\d*")


@dataclass(frozen=True)
class Network:
    """A network's tensors and modules by their dotted names.

    Attributes:
        what: Where it comes from, for messages.
        tensors: Parameters and buffers.
        modules: Every module's own settings; the network itself has the name "".
        class_names: Every module's class.
    """

    what: str
    tensors: dict[str, Tensor]
    modules: dict[str, dict[str, Any]]
    class_names: dict[str, str]


class Settings(NamedTuple):
    """What a generator's or discriminator's tensors do not tell."""

    conv_clamp: float | None
    notes: tuple[str, ...]


def matches(data: object) -> bool:
    """Whether a file's content looks like one of these pickles."""
    if isinstance(data, PersistentObject):
        return True
    return isinstance(data, dict) and any(isinstance(value, PersistentObject) for value in data.values())


def convert(data: object, what: str) -> Checkpoint:
    """Convert a network pickle, or a pickled network by itself.

    A discriminator that is intact but not of StyleGAN2's residual architecture is left out, and the notes say so.

    Args:
        data: Content of the file.
        what: The file, for messages.

    Raises:
        CheckpointError: If the generator is of another family or has unsupported settings, or a tensor is missing, left
            over, of another shape or kind.
    """
    if isinstance(data, PersistentObject):
        data = {"D" if data.class_name == "Discriminator" else "G_ema": data}
    assert isinstance(data, dict)
    generator, discriminator = None, None
    ignored: dict[str, str] = {}
    notes: list[str] = []
    entry = next((name for name in ("G_ema", "G") if isinstance(data.get(name), PersistentObject)), None)
    if entry is not None:
        generator, said = _generator(flatten(data[entry], f"{entry} of {what}"))
        notes += said + note_which(entry, "G_ema", "G", data, ignored)
    if isinstance(found := data.get("D"), PersistentObject):
        network = flatten(found, f"D of {what}")
        discriminator = unless_unsupported(lambda: _discriminator(network, notes), "D", ignored, notes)
    ignored |= ignore_entries(data, _WITHOUT_USE, ("G_ema", "G", "D"), what)
    return Checkpoint(generator, discriminator, ignored=ignored, notes=tuple(notes))


def flatten(root: PersistentObject, what: str) -> Network:
    """Gather the tensors and settings of a tree of modules.

    Raises:
        CheckpointError: If it is no such tree.
    """
    network = Network(what, {}, {}, {})
    todo = [("", root)]
    while todo:
        name, module = todo.pop()
        if not isinstance(module, PersistentObject):
            raise CheckpointError(f"{what}: {name} is a {type(module).__name__}, expected a module of a network.")
        network.modules[name], network.class_names[name] = module.state, module.class_name
        prefix = f"{name}." if name else ""
        for kind in ("_parameters", "_buffers", "_modules"):
            members = module.state.get(kind, {})
            if not isinstance(members, dict) or not all(printable(str(member)) == member for member in members):
                raise CheckpointError(f"{what}: {kind} of {name or 'the network'} is no dictionary by name.")
            present = {prefix + member: value for member, value in members.items() if value is not None}
            if kind == "_modules":
                todo += reversed(present.items())
            else:
                network.tensors.update(present)
    return network


def generator_place(key: str, shape: tuple[int, ...]) -> Place:
    """Where NVIDIA's PyTorch code has a tensor of our generator."""
    if key == "w_avg":
        return Place("mapping.w_avg", shape)
    if key == "constant":
        return Place("synthesis.b4.const", shape[1:])
    room, rest = key.split(".", 1)
    if room == "embed":
        return Place(f"mapping.{key}", shape)
    if room == "mapping":
        return Place(f"mapping.fc{rest}", shape)
    name = f"synthesis.{rest}".replace(".to_rgb.", ".torgb.")
    if name.endswith(".noise"):
        return Place(f"{name}_const", shape[2:])
    return Place(name, shape)


def discriminator_place(key: str, shape: tuple[int, ...], resolution: int) -> Place | Tensor:
    """Where NVIDIA's PyTorch code has a tensor of our discriminator; the filters are the same constant everywhere."""
    if key.endswith(".kernel"):
        return fir_kernel()
    kind = key.rsplit(".", 1)[1]
    if key.startswith("mapping."):
        return Place(key, shape)
    if key.startswith("final_"):
        layer = {"final_linear.0": "fc", "final_linear.1": "out"}.get(key.rsplit(".", 1)[0], "conv")
        return Place(f"b4.{layer}.{kind}", shape)
    _, number, layer = key.split(".")[:3]
    if number == "0":
        return Place(f"b{resolution}.fromrgb.{kind}", shape)
    name = {"conv1": "conv0", "conv2": "conv1", "skip": "skip"}[layer]
    return Place(f"b{resolution >> (int(number) - 1)}.{name}.{kind}", shape)


def _generator(network: Network) -> tuple[StyleGAN2, list[str]]:
    what = network.what
    _require_family(network)
    settings = check_settings(network)
    source = TensorSource(network.tensors, what)
    sizes = resolutions(sum(1 for name in network.modules if re.fullmatch(r"synthesis\.b\d+", name)), what)
    channels = {size: source.extent(f"synthesis.b{size}.conv1.weight", 0, 4) for size in sizes}
    layers = max(source.count(r"mapping\.fc([0-9]{1,6})\."), 1)
    widths = [source.extent(f"mapping.fc{i}.weight", 0, 2) for i in range(layers)]
    w_dim = source.extent("synthesis.b4.conv1.affine.weight", 1, 2)
    c_dim, embedded = label_sizes(source, "mapping.embed.weight")
    if c_dim and embedded != w_dim:
        raise UnsupportedError(f"{what} embeds labels in {embedded} numbers (embed_features), supported is {w_dim}.")
    z_dim = source.extent("mapping.fc0.weight", 1, 2) - embedded
    if z_dim < 1:
        raise CheckpointError(f"{what}: mapping.fc0.weight has no inputs left for z beside the {embedded} of labels.")
    averaged = network.modules["mapping"].get("w_avg_beta", 0) is not None
    silent = {name for name, module in network.modules.items() if module.get("use_noise") is False}

    def make() -> StyleGAN2:
        return StyleGAN2(
            channels,
            z_dim=z_dim,
            w_dim=w_dim,
            c_dim=c_dim,
            mapping_widths=widths,
            mapping_lr_multiplier=_multiplier(network),
            conv_clamp=settings.conv_clamp,
        )

    def place(key: str, shape: tuple[int, ...]) -> Place | Tensor:
        found = generator_place(key, shape)
        layer, _, kind = found.name.rpartition(".")
        may_lack = (kind == "w_avg" and not averaged) or (kind.startswith("noise_") and layer in silent)
        return torch.zeros(shape) if may_lack and found.name not in source else found

    generator = build(make, source, place).eval()
    take_filters(source)
    check_gains(network)
    notes = [*settings.notes, *source.finish()]
    if silent:
        notes.append(f"{len(silent)} layers have no noise at the source: maps and strengths are 0.")
    if "mapping.w_avg" not in source:
        generator.w_avg.copy_(mean_w(generator))
        notes.append(MEAN_W_NOTE)
    return generator, notes


def _discriminator(network: Network, notes: list[str]) -> Discriminator:
    what = network.what
    if network.class_names[""] != "Discriminator":
        raise UnsupportedError(f"{what} is a {printable(network.class_names[''])}, not a discriminator of StyleGAN2.")
    settings = check_settings(network)
    source = TensorSource(network.tensors, what)
    sizes = resolutions(sum(1 for name in network.modules if re.fullmatch(r"b\d+", name)), what)[::-1]
    channels = {size: source.extent(f"b{size}.conv0.weight", 1, 4) for size in sizes[:-1]}
    channels[4] = source.extent("b4.conv.weight", 0, 4)
    c_dim, _ = label_sizes(source, "mapping.embed.weight")
    outputs, layers = source.extent("b4.out.weight", 0, 2), source.count(r"mapping\.fc([0-9]{1,6})\.")
    multiplier = _multiplier(network) if layers else LABEL_LR_MULTIPLIER
    if c_dim and (outputs, multiplier) != (channels[4], LABEL_LR_MULTIPLIER):
        raise UnsupportedError(
            f"{what} maps its labels to {outputs} numbers with a learning-rate multiplier of {multiplier}, supported "
            f"are {channels[4]}, as many as it has channels at 4x4, and {LABEL_LR_MULTIPLIER}."
        )
    group, clamp = _minibatch_group(network), settings.conv_clamp

    def make() -> Discriminator:
        mapping = layers if c_dim else 8
        return Discriminator(
            sizes[0], channels, stddev_group=group, c_dim=c_dim, mapping_layers=mapping, conv_clamp=clamp
        )

    discriminator = build(make, source, lambda key, shape: discriminator_place(key, shape, sizes[0]))
    take_filters(source)
    check_gains(network)
    notes += [*settings.notes, *source.finish()]
    return discriminator


def label_sizes(source: TensorSource, name: str) -> tuple[int, int]:
    """Numbers of a label and of its embedding, from the embedding's weight; 0 and 0 without one."""
    return (source.extent(name, 1, 2), source.extent(name, 0, 2)) if name in source else (0, 0)


def take_filters(source: TensorSource) -> None:
    """Take the resampling filters of a network, which must all be the one that this package has built in."""
    for name in [name for name in source.names() if name.endswith("resample_filter")]:
        source.take_fir(name, 1.0)


def _minibatch_group(network: Network) -> int:
    """Members of a minibatch-stddev group, 0 for the whole batch."""
    layer = network.modules.get("b4.mbstd")
    if layer is None or layer.get("num_channels", 1) != 1:
        raise UnsupportedError(f"{network.what} is without one channel of minibatch standard deviation.")
    group = layer.get("group_size")
    if group is None:
        return 0
    if type(group) is not int or not 1 <= group < 1 << 20:
        raise CheckpointError(f"{network.what}: b4.mbstd has group_size={shown(group)}, expected a number from 1 up.")
    return group


def check_settings(network: Network) -> Settings:
    """Check everything that changes what a network computes without changing the shape of a tensor.

    Raises:
        CheckpointError: If a setting is another than StyleGAN2's.
    """
    clamps: set[float | None] = set()
    half: list[str] = []
    for name, module in network.modules.items():
        _require(network, name, _expected(name, network))
        if re.search(r"\.(conv0|conv1|torgb|fromrgb|conv)$", name):
            found = module.get("conv_clamp")
            clamps.add(None if found is None else positive(found, f"In {network.what} conv_clamp of {name}"))
        if module.get("use_fp16") is True:
            half.append(name.rpartition(".")[2].removeprefix("b"))
    if len(clamps) > 1:
        found = listed(sorted(map(str, clamps)))
        raise UnsupportedError(f"{network.what} has layers of different conv_clamp ({found}), supported is only one.")
    clamp = clamps.pop() if clamps else None
    sizes = ", ".join(f"{size}²" for size in half)
    notes = (f"In {network.what} the maps of {sizes} were float16; everything is float32 here.",) if half else ()
    return Settings(clamp, notes)


def positive(value: object, setting: str) -> float:
    """A setting that must be a number above 0; ``setting`` names it in messages."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e30:
        return float(value)
    raise CheckpointError(f"{setting}={shown(value)} was found, expected a number above 0; the file is damaged.")


def _expected(name: str, network: Network) -> dict[str, Any]:
    """The settings that a module of a StyleGAN2 must have, where it has them."""
    generator = "synthesis" in network.modules
    expected: dict[str, Any] = {"img_channels": 3}
    expected["architecture"] = "skip" if generator else "resnet"
    match = _LAYER.fullmatch(name)
    layer = (match[1] or match[2]) if match else name.rpartition(".")[2]
    if layer not in ("conv0", "conv1", "torgb", "fromrgb", "skip", "conv", "fc", "out", "embed", "affine"):
        return expected
    linear = layer in ("skip", "out", "embed", "affine", "torgb")
    expected["activation"] = "linear" if linear else "lrelu"
    if not linear:
        expected["act_gain"] = _SQRT2
    expected["up"] = 2 if generator and layer == "conv0" else 1
    expected["down"] = 2 if not generator and layer in ("conv1", "skip") else 1
    return expected


def check_gains(network: Network) -> None:
    """Check the factors on weights and biases, which follow from the weights' shapes: those must have been checked."""
    for name in network.modules:
        weight = network.tensors.get(f"{name}.weight")
        if weight is not None and weight.ndim > 1:
            bias_gain = _multiplier(network) if name.startswith("mapping.fc") else 1.0
            weight_gain = bias_gain / math.sqrt(math.prod(weight.shape[1:]))
            _require(network, name, {"bias_gain": bias_gain, "weight_gain": weight_gain})


def _require(network: Network, name: str, settings: dict[str, Any]) -> None:
    """Raise where a module has one of these settings, but with another value."""
    module = network.modules[name]
    for setting, expected in settings.items():
        found = module.get(setting, expected)
        if not _same(found, expected):
            raise UnsupportedError(
                f"{network.what} has {setting}={shown(found)}{' in ' + name if name else ''}, the only one supported "
                f"is {shown(expected)}."
            )


def _multiplier(network: Network) -> float:
    """Learning-rate multiplier of a mapping network."""
    found = network.modules.get("mapping.fc0", {}).get("bias_gain", LABEL_LR_MULTIPLIER)
    return positive(found, f"In {network.what} bias_gain of mapping.fc0")


def _same(found: object, expected: object) -> bool:
    if isinstance(expected, float):
        return isinstance(found, int | float) and math.isclose(found, expected, rel_tol=1e-5)
    return isinstance(found, str | int | float) and found == expected


def _require_family(network: Network) -> None:
    """Raise where a generator is not a StyleGAN2, naming what it is."""
    name, modules = printable(network.class_names[""]), network.modules
    family = _FAMILIES.get(name)
    if "mapping.embed_proj" in modules:
        family = "StyleGAN-XL"
    elif "backbone" in modules:
        family = "EG3D"
    elif "synthesis.input" in modules or any(part.startswith("synthesis.L") for part in modules):
        family = family or "StyleGAN3"
    if family is not None:
        raise UnsupportedError(f"{network.what} is a generator of the family {family}; {SUPPORTED}.")
    if "synthesis" not in modules or "mapping" not in modules or "synthesis.b4" not in modules:
        parts = listed(part for part in modules if part and "." not in part)
        raise UnsupportedError(f"{network.what} is a {name} with the parts {parts or 'none'}; {SUPPORTED}.")
