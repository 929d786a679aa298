"""MobileStyleGAN out of its OpenVINO IR (version 10), as the PyPI wheel random-face ships it.

The converter does not look names up: it walks each graph backwards from its result, demands at every step the layer,
attributes and constants that MobileStyleGAN has there (Belousov 2021, arXiv 2104.04767), and takes the weights it
passes. Whatever it does not expect is an error, and so is a floating-point constant that the walk has not used.

Source of the graphs: ``random_face/data/{MappingNetwork,SynthesisNetwork}.{xml,bin}`` in the wheel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from labels4free.checkpoints.foreign.conversion import mean_w
from labels4free.checkpoints.foreign.openvino_graph import IrGraph, Layer, read_ir
from labels4free.errors import CheckpointError
from labels4free.generators.mobile_stylegan import MobileStyleGAN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_LEAKY_SLOPE = 0.2
_HAAR = math.sqrt(0.5)


def mobile_stylegan_from_openvino(
    mapping_xml: bytes, mapping_bin: bytes, synthesis_xml: bytes, synthesis_bin: bytes
) -> MobileStyleGAN:
    """Build a MobileStyleGAN from its mapping and synthesis networks in OpenVINO IR.

    Channels, depth and sizes come from the tensors. What the graph has and the contract lacks is computed: ``w_avg`` is
    the mean of 10,000 mapped latents, ``noise_strength`` the standard deviation of the fixed noise map.

    Args:
        mapping_xml: Contents of the mapping network's ``.xml`` file.
        mapping_bin: Contents of its ``.bin`` file.
        synthesis_xml: Contents of the synthesis network's ``.xml`` file.
        synthesis_bin: Contents of its ``.bin`` file.

    Returns:
        The generator in evaluation mode, on the CPU, float32.

    Raises:
        CheckpointError: If a file is damaged, a graph is not MobileStyleGAN's, or a constant was left unused.
    """
    mapping = _Walk(read_ir(mapping_xml, mapping_bin))
    linears = _mapping_layers(mapping)
    mapping.require_all_taken()
    synthesis = _Walk(read_ir(synthesis_xml, synthesis_bin))
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is looked for below
        parts = _synthesis_parts(synthesis)
    synthesis.require_all_taken()

    state = _state(linears, parts)
    channels = tuple(len(styled["bias"]) for styled in (parts.first, *(conv2 for _, _, conv2 in parts.blocks)))
    generator = MobileStyleGAN(channels, z_dim=linears[0][0].shape[1], mapping_layers=len(linears))
    expected = {name: tuple(value.shape) for name, value in generator.state_dict().items() if name != "w_avg"}
    found = {name: value.shape for name, value in state.items()}
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise CheckpointError(
            f"{synthesis.graph.name} does not fit together: {wrong[0]} has shape {found.get(wrong[0])}, "
            f"expected {expected.get(wrong[0])} ({len(wrong)} of {len(expected)} tensors do not fit)."
        )
    tensors = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}
    infinite = [name for name, value in tensors.items() if not value.isfinite().all()]
    if infinite:
        raise CheckpointError(f"{synthesis.graph.name} is damaged: {infinite[0]} has values beyond float32.")
    generator.load_state_dict({**tensors, "w_avg": generator.w_avg})
    generator.w_avg.copy_(mean_w(generator))
    return generator.eval()


class _Walk:
    """Steps backwards through a graph; every step says what must be there. Remembers the constants it has taken."""

    def __init__(self, graph: IrGraph) -> None:
        self.graph = graph
        self.taken: set[str] = set()

    def wrong(self, layer: Layer, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{self.graph.name} is not a MobileStyleGAN as random-face ships it: "
            f"layer {layer.name!r} ({layer.type}) was found, expected {expected}."
        )

    def result(self) -> Layer:
        """The layer whose output is the network's."""
        results = [layer for layer in self.graph.layers.values() if layer.type == "Result"]
        if len(results) != 1:
            raise CheckpointError(f"{self.graph.name} has {len(results)} results, expected one.")
        return self.inputs(results[0], "Result", 1)[0]

    def inputs(self, layer: Layer, type_: str, count: int, **attributes: str) -> list[Layer]:
        """The layers that feed ``layer``, which must be of the given type, have these attributes and so many inputs."""
        if layer.type != type_ or len(layer.inputs) != count:
            raise self.wrong(layer, f"{type_} with {count} inputs")
        for name, value in attributes.items():
            if layer.attributes.get(name, "").replace(" ", "") != value:
                raise self.wrong(layer, f"{type_} with {name}={value}, not {layer.attributes.get(name)}")
        return [self.graph.layers[key] for key, _ in layer.inputs]

    def constant_and_other(self, layer: Layer, type_: str) -> tuple[Layer, Layer]:
        """The two inputs of a commutative operation of which one is a constant."""
        a, b = self.inputs(layer, type_, 2)
        if (a.type == "Const") == (b.type == "Const"):
            raise self.wrong(layer, f"{type_} of a constant and a computed value")
        return (a, b) if a.type == "Const" else (b, a)

    def take(self, layer: Layer) -> Array:
        """The value of a floating-point constant, which nothing else may have taken."""
        if layer.type != "Const" or layer.id in self.taken:
            raise self.wrong(layer, "a constant of its own")
        value = self.graph.constant(layer)
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise self.wrong(layer, "a constant of finite floating-point values")
        self.taken.add(layer.id)
        return value.astype(np.float32, copy=False)

    def take_equal(self, layer: Layer, expected: float | NDArray[np.generic]) -> None:
        """Take a constant that must have the expected value."""
        value = self.take(layer)
        if not np.allclose(value, expected, rtol=1e-6, atol=0):
            raise self.wrong(layer, f"the constant {np.ravel(expected)[:4].tolist()}, not {value.ravel()[:4].tolist()}")

    def integers(self, layer: Layer) -> list[int]:
        """The value of an integer constant (an axis, lengths)."""
        if layer.type != "Const":
            raise self.wrong(layer, "an integer constant")
        return [int(n) for n in self.graph.constant(layer).ravel()]

    def require_all_taken(self) -> None:
        """Raise where a floating-point constant was not used. Integer constants only do arithmetic on shapes."""
        constants = [layer for layer in self.graph.layers.values() if layer.type == "Const"]
        weights = [layer for layer in constants if layer.attributes.get("element_type") not in ("i32", "i64")]
        left = [layer.name for layer in weights if layer.id not in self.taken]
        if left:
            names = ", ".join(left[:4])
            raise CheckpointError(f"{self.graph.name} has {len(left)} constants unknown to a MobileStyleGAN: {names}.")


@dataclass(frozen=True)
class _Parts:
    """The weights of the synthesis network; within a part the names are those of our module's buffers."""

    constant: Array
    first: dict[str, Array]
    blocks: list[tuple[dict[str, Array], dict[str, Array], dict[str, Array]]]  # up, conv1, conv2
    to_image: dict[str, Array]


def _mapping_layers(walk: _Walk) -> list[tuple[Array, Array]]:
    """Weight [out, in] and bias [out] of each mapping layer, first to last; the pixel norm in front is checked."""
    layers: list[tuple[Array, Array]] = []
    x = walk.result()
    while any(walk.graph.layers[key].type == "Const" for key, _ in x.inputs):
        gain, x = walk.constant_and_other(x, "Multiply")
        walk.take_equal(gain, math.sqrt(2.0))
        x, slope = walk.inputs(x, "PReLU", 2)
        walk.take_equal(slope, _LEAKY_SLOPE)
        product, bias = walk.inputs(x, "Add", 2)
        x, weight = walk.inputs(product, "MatMul", 2, transpose_a="false", transpose_b="true")
        layers.insert(0, (walk.take(weight), walk.take(walk.inputs(bias, "Reshape", 2)[0]).ravel()))
    z, norm = walk.inputs(x, "Multiply", 2)
    one, x = walk.constant_and_other(norm, "Multiply")
    walk.take_equal(one, 1.0)
    for exponent in (-1.0, 0.5):
        x, constant = walk.inputs(x, "Power", 2)
        walk.take_equal(constant, exponent)
    epsilon, x = walk.constant_and_other(x, "Add")
    walk.take_equal(epsilon, 1e-8)
    square, axis = walk.inputs(x, "ReduceMean", 2, keep_dims="true")
    base, two = walk.inputs(square, "Power", 2)
    walk.take_equal(two, 2.0)
    if walk.integers(axis) != [1] or z.type != "Parameter" or base is not z or not layers:
        raise walk.wrong(square, "the pixel norm of the input in front of at least one linear layer")
    return layers


def _synthesis_parts(walk: _Walk) -> _Parts:
    """Walk the synthesis network from the image back to the learned constant."""
    biased = _inverse_haar(walk, walk.result())
    bias, convolution = walk.constant_and_other(biased, "Add")
    pointwise = {"strides": "1,1", "dilations": "1,1", "pads_begin": "0,0", "pads_end": "0,0"}
    x, weight = walk.inputs(convolution, "Convolution", 2, **pointwise)
    modulation, scale, x = _modulation(walk, x)
    to_image = {**modulation, "weight": walk.take(weight) * np.float32(scale), "bias": walk.take(bias).ravel()}

    blocks: list[tuple[dict[str, Array], dict[str, Array], dict[str, Array]]] = []
    last, x = _styled_conv(walk, x)
    while "depthwise" in last:
        conv2 = last
        conv1, x = _styled_conv(walk, x)
        x = _inverse_haar(walk, x)
        up, scale, x = _modulation(walk, x)
        if scale != 1.0:
            raise walk.wrong(x, "an upsampling without a scale on its modulation")
        blocks.insert(0, ({"weight": up["modulation.weight"], "bias": up["modulation.bias"]}, conv1, conv2))
        last, x = _styled_conv(walk, x)

    expanded = walk.inputs(x, "Tile", 2)[0]
    constant = walk.take(walk.inputs(expanded, "Broadcast", 2)[0])
    if x.output_shapes != (constant.shape,):
        raise walk.wrong(x, f"the constant {constant.shape} as it is")
    return _Parts(constant, last, blocks, to_image)


def _modulation(walk: _Walk, layer: Layer) -> tuple[dict[str, Array], float, Layer]:
    """Features times their style, [N, C, 1, 1]: the linear layer of the style, its constant scale, and the features."""
    a, b = walk.inputs(layer, "Multiply", 2)
    style, features = (a, b) if a.output_shapes and a.output_shapes[0][2:] == (1, 1) else (b, a)
    scale = 1.0
    if style.type == "Multiply":
        factor, style = walk.constant_and_other(style, "Multiply")
        value = walk.take(factor)
        if value.size != 1:
            raise walk.wrong(factor, "one number that scales the style")
        scale = float(value.item())
    bias, product = walk.constant_and_other(walk.inputs(style, "Reshape", 2)[0], "Add")
    w, weight = walk.inputs(product, "MatMul", 2, transpose_a="false", transpose_b="true")
    if w.type != "Parameter":
        raise walk.wrong(w, "the input w")
    return {"modulation.weight": walk.take(weight), "modulation.bias": walk.take(bias).ravel()}, scale, features


def _styled_conv(walk: _Walk, layer: Layer) -> tuple[dict[str, Array], Layer]:
    """A styled convolution, plain 3x3 or depthwise-separable: its weights, the style's scale folded in; its input."""
    biased, slope = walk.inputs(layer, "PReLU", 2)
    walk.take_equal(slope, _LEAKY_SLOPE)
    bias, noisy = walk.constant_and_other(biased, "Add")
    noise, convolution = walk.constant_and_other(noisy, "Add")
    part = {"bias": walk.take(bias).ravel(), "noise": walk.take(noise)}
    part["noise_strength"] = np.asarray(part["noise"].std(dtype=np.float64), np.float32)

    same = {"strides": "1,1", "dilations": "1,1", "pads_begin": "1,1", "pads_end": "1,1"}
    x, weight_layer = walk.inputs(convolution, "Convolution", 2)
    weight = walk.take(weight_layer)
    if weight.shape[2:] == (1, 1):
        walk.inputs(convolution, "Convolution", 2, **{**same, "pads_begin": "0,0", "pads_end": "0,0"})
        x, depthwise_layer = walk.inputs(x, "GroupConvolution", 2, **same)
        depthwise = walk.take(depthwise_layer)
        modulation, scale, x = _modulation(walk, x)
        # The IR keeps groups as an axis of its own: [C, 1, 1, 3, 3].
        return {**part, **modulation, "weight": weight, "depthwise": depthwise.squeeze(1) * np.float32(scale)}, x
    walk.inputs(convolution, "Convolution", 2, **same)
    modulation, scale, x = _modulation(walk, x)
    return {**part, **modulation, "weight": weight * np.float32(scale)}, x


def _inverse_haar(walk: _Walk, layer: Layer) -> Layer:
    """The inverse Haar transform, written as transposed convolutions: checked, and the layer it transforms returned.

    The first C channels are LL; the other 3C are read as [C, 3], LH, HL and HH of one channel together.
    """
    (left, _), (right, _) = _haar_step(walk, layer, axis=1)
    split_ll, lh = _haar_step(walk, walk.graph.layers[left], axis=0)
    hl, hh = _haar_step(walk, walk.graph.layers[right], axis=0)
    details = set()
    for position, (key, _) in enumerate((lh, hl, hh)):
        squeeze = walk.graph.layers[key]
        if walk.integers(walk.inputs(squeeze, "Squeeze", 2)[1]) != [2] or squeeze.inputs[0][1] != position:
            raise walk.wrong(squeeze, "LH, HL and HH in this order")
        details.add(squeeze.inputs[0][0])
    unpacked, axis, lengths = walk.inputs(walk.graph.layers[details.pop()], "VariadicSplit", 3)
    reshaped = walk.inputs(unpacked, "Reshape", 2)[0]
    if details or walk.integers(axis) != [2] or walk.integers(lengths) != [1, 1, 1]:
        raise walk.wrong(unpacked, "one split into LH, HL and HH")
    source, axis, lengths = walk.inputs(walk.graph.layers[split_ll[0]], "VariadicSplit", 3)
    low, *high = walk.integers(lengths)
    shape = unpacked.output_shapes[0][:3] if unpacked.output_shapes else ()
    if (
        reshaped.id != split_ll[0]
        or (split_ll[1], unpacked.inputs[0][1]) != (0, 1)
        or (walk.integers(axis), high, shape) != ([1], [3 * low], (1, low, 3))
    ):
        raise walk.wrong(reshaped, "a split into C low and 3C high bands")
    return source


def _haar_step(walk: _Walk, layer: Layer, axis: int) -> list[tuple[str, int]]:
    """Sum and difference of two maps interleaved along the height (axis 0) or width (1): where the two come from."""
    strides, shape = (("2,1", (2, 1)), ("1,2", (1, 2)))[axis]
    sources = []
    for branch, sign in zip(walk.inputs(layer, "Add", 2), (1.0, -1.0), strict=True):
        fixed = {
            "strides": strides,
            "dilations": "1,1",
            "pads_begin": "0,0",
            "pads_end": "0,0",
            "output_padding": "0,0",
        }
        kernel = walk.inputs(branch, "GroupConvolutionBackpropData", 2, **fixed)[1]
        walk.take_equal(kernel, np.array([_HAAR, sign * _HAAR]).reshape(shape))
        sources.append(branch.inputs[0])
    return sources


def _state(linears: list[tuple[Array, Array]], parts: _Parts) -> dict[str, Array]:
    """The state dict of our module but for ``w_avg``: named, with bands in the order of our inverse Haar transform."""
    groups: dict[str, dict[str, Array]] = {f"mapping.{i}": {"weight": w, "bias": b} for i, (w, b) in enumerate(linears)}
    groups |= {"conv1": dict(parts.first), "to_image": dict(parts.to_image)}
    for i, (up, conv1, conv2) in enumerate(parts.blocks):
        groups |= {f"blocks.{i}.up": dict(up), f"blocks.{i}.conv1": dict(conv1), f"blocks.{i}.conv2": dict(conv2)}
    into_haar = ["conv1", *(f"blocks.{i}.conv2" for i in range(len(parts.blocks) - 1)), "to_image"]
    into_haar += [f"blocks.{i}.up" for i in range(len(parts.blocks))]
    for name in into_haar:
        for key in ("weight", "bias"):
            groups[name][key] = _bands_together(groups[name][key])
    state = {f"{name}.{key}": value for name, group in groups.items() for key, value in group.items()}
    return {**state, "constant": parts.constant}


def _bands_together(values: Array) -> Array:
    """Reorder axis 0 from C x LL, C x (LH, HL, HH) to C x LL, C x LH, C x HL, C x HH."""
    quarter = len(values) // 4
    high = np.arange(3 * quarter).reshape(quarter, 3).T.ravel()
    reordered: Array = values[np.concatenate([np.arange(quarter), quarter + high])]
    return reordered
