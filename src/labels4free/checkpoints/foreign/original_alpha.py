"""Alpha networks of the original Labels4Free (``RameenAbdal/Labels4Free``, ``model.py`` and ``train.py``).

Training saves a dictionary with the entries ``g``, ``d``, ``bg_extractor``, ``bg_extractor_ema``, ``g_optim``,
``d_optim``, ``args`` (a namespace of the command's flags) and ``ada_aug_p``. Two classes compute the same function but
name their tensors differently, :data:`Layout`; in distributed runs every name in ``bg_extractor`` begins with
``module.``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from labels4free.checkpoints.foreign.conversion import Place, TensorSource, build, listed, shown, unwrapped
from labels4free.errors import CheckpointError
from labels4free.networks.paper_network import PaperNetwork
from labels4free.types import FeatureSpec

Layout = Literal["repro", "general"]
"""Names as in ``bg_extractor_repro`` (the paper's) or as in ``bg_extractor``."""

ENTRIES = ("bg_extractor_ema", "bg_extractor")
"""Where an original checkpoint holds its alpha network, the preferred entry first."""

_RESOLUTIONS = 6
_CHANNELS: dict[tuple[int, ...], int] = {
    (512, 512, 512, 512, 256, 128): 256,
    (512, 512, 512, 256, 128, 64): 512,
    (512, 512, 256, 128, 64, 32): 1024,
}  # channels of the maps that are read, coarse to fine: image size
_SMALLEST, _LARGEST = 8 * 2 ** (_RESOLUTIONS - 1), 1 << 16


class OriginalAlpha(NamedTuple):
    """An alpha network out of an original checkpoint.

    Attributes:
        network: The network, in evaluation mode; its weights take no gradient.
        entry: The checkpoint's entry that it comes from; empty for a bare state dict.
        notes: What a user should know about the conversion, one sentence each.
    """

    network: PaperNetwork
    entry: str
    notes: tuple[str, ...]


def original_keys(layout: Layout, resolutions: int = _RESOLUTIONS) -> dict[str, str]:
    """Where an original state dict holds each tensor of a :class:`PaperNetwork`.

    Args:
        layout: Which of the two classes.
        resolutions: Of the maps that are read; 6 in the original.

    Returns:
        {our key: original key}, one entry a tensor.
    """
    names = {"head": "conv_n"}
    for k in range(resolutions):
        pair = (f"conv_fns0.{k}", f"conv_fns1.{k}") if layout == "general" else (f"conv{2 * k + 1}", f"conv{2 * k + 2}")
        names[f"first.{k}"], names[f"second.{k}"] = pair
    for k in range(resolutions - 2):
        names[f"merges.{k}"] = f"conv_merge_fns.{k}" if layout == "general" else f"conv_next{k + 1 if k else ''}"
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in names.items() for kind in ("weight", "bias")}


def alpha_network_from_original(data: Mapping[str, Any], what: str) -> OriginalAlpha:
    """Convert the alpha network of an original checkpoint.

    ``bg_extractor_ema`` is preferred, though despite its name it holds the last step's weights and no average: the
    original keeps an average and saves the raw network in its place.

    Args:
        data: What the file holds: a training checkpoint, or the state dict alone.
        what: The file, for messages.

    Raises:
        CheckpointError: If there is no such network, a tensor is missing, too many, of another shape or not made of
            finite numbers, or the size of its generator cannot be told.
    """
    entry = next((name for name in ENTRIES if name in data), "")
    where = f"{entry} of {what}" if entry else what
    state = data[entry] if entry else data
    source = TensorSource(unwrapped(state) or state, where)
    layout = _layout(source)
    channels = _channels(source, layout)
    size, notes = _image_size(channels, data.get("args"), where)
    names = original_keys(layout)
    network = build(
        lambda: PaperNetwork(_feature_specs(channels, size), size), source, lambda key, shape: Place(names[key], shape)
    )
    return OriginalAlpha(network.eval().requires_grad_(False), entry, (*notes, *source.finish()))


def _layout(source: TensorSource) -> Layout:
    """The layout whose names these are, all of them and no others."""
    found = set(source.names())
    layouts: tuple[Layout, ...] = get_args(Layout)
    layout = max(layouts, key=lambda name: len(found & set(original_keys(name).values())))
    expected = set(original_keys(layout).values())
    missing, extra = sorted(expected - found), sorted(found - expected)
    if len(missing) == len(expected):
        raise CheckpointError(
            f"{source.what} holds {listed(source.names()) or 'nothing'}, expected an alpha network of Labels4Free: "
            "conv1.weight, ... or conv_fns0.0.weight, ..."
        )
    if missing or extra:
        name, problem = (missing[0], "lacks") if missing else (extra[0], "has the unknown tensor")
        raise CheckpointError(
            f"{source.what} {problem} {name} ({len(missing)} missing, {len(extra)} unknown); it is damaged or no alpha "
            "network of Labels4Free."
        )
    return layout


def _channels(source: TensorSource, layout: Layout) -> list[tuple[int, int]]:
    """Channels of the two maps of each resolution, coarse to fine."""
    names = original_keys(layout)
    first, second = (
        [source.extent(names[f"{part}.{k}.weight"], axis=1, ndim=4) for k in range(_RESOLUTIONS)]
        for part in ("first", "second")
    )
    return list(zip(first, second, strict=True))


def _image_size(channels: list[tuple[int, int]], args: object, where: str) -> tuple[int, tuple[str, ...]]:
    """Side of the images of the network's generator, and what to note about it."""
    usual = _CHANNELS.get(tuple(a for a, b in channels if a == b))
    size = args.get("size") if isinstance(args, Mapping) else getattr(args, "size", None)
    if size is None:
        if usual is None:
            raise CheckpointError(
                f"{where} reads maps of {', '.join(str(a) for a, _ in channels)} channels, which no generator of 256, "
                "512 or 1024 pixels has in the original, and the file does not say its size (args.size)."
            )
        return usual, ()
    if type(size) is not int or not _SMALLEST <= size <= _LARGEST or size & (size - 1):
        raise CheckpointError(
            f"{where} has args.size {shown(size)}, expected a power of two from {_SMALLEST} to {_LARGEST}."
        )
    if usual not in (None, size):
        return size, (f"args.size is {size}, though these channels are usual at {usual} pixels.",)
    return size, ()


def _feature_specs(channels: list[tuple[int, int]], size: int) -> list[FeatureSpec]:
    """The maps that the network reads, named as those of :class:`labels4free.generators.stylegan2.StyleGAN2`."""
    specs = []
    for k, pair in enumerate(channels):
        resolution = size >> (_RESOLUTIONS - 1 - k)
        specs += [FeatureSpec(f"b{resolution}.conv{i}", c, resolution) for i, c in enumerate(pair)]
    return specs
