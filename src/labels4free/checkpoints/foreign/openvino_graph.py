"""OpenVINO IR (version 10) read with the standard library and numpy: a graph in XML over one flat file of constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET
from xml.parsers import expat

import numpy as np

from labels4free.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_ELEMENT_TYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype("<f4"), "i64": np.dtype("<i8"), "i32": np.dtype("<i4")}


@dataclass(frozen=True)
class Layer:
    """One layer of the graph.

    Attributes:
        id: Identifier within the graph.
        name: The exporter's name, for messages.
        type: Operation: ``Convolution``, ``Const``, ...
        attributes: The operation's settings, as written.
        inputs: For each input in order, the layer that feeds it and which of its outputs.
        output_shapes: Shape of each output.
    """

    id: str
    name: str
    type: str
    attributes: Mapping[str, str]
    inputs: tuple[tuple[str, int], ...]
    output_shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class IrGraph:
    """A graph and its constants.

    Attributes:
        name: Name of the network, for messages.
        layers: Layers by identifier.
        binary: Contents of the file of constants.
    """

    name: str
    layers: Mapping[str, Layer]
    binary: bytes

    def constant(self, layer: Layer) -> NDArray[np.generic]:
        """The value of a ``Const`` layer, a read-only view of the constants' file.

        Raises:
            CheckpointError: If its type is not f32, i64 or i32, or it does not fit into the file.
        """
        where = f"Constant {layer.name!r} of {self.name}"
        element_type = layer.attributes.get("element_type", "")
        dtype = _ELEMENT_TYPES.get(element_type)
        if dtype is None:
            raise CheckpointError(f"{where} has element type {element_type!r}, expected f32, i64 or i32.")
        try:
            shape = tuple(int(n) for n in layer.attributes["shape"].split(",") if n.strip())
            offset, size = int(layer.attributes["offset"]), int(layer.attributes["size"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{where} does not say its shape, offset and size; the XML is damaged.") from error
        count = math.prod(shape)
        if min(shape, default=1) < 1 or offset < 0 or size != count * dtype.itemsize:
            raise CheckpointError(f"{where} has shape {list(shape)} in {size} bytes at {offset}, which cannot be.")
        if offset + size > len(self.binary):
            raise CheckpointError(
                f"{where} ends at byte {offset + size}, but the binary file has {len(self.binary)}; it is truncated."
            )
        value: NDArray[np.generic] = np.frombuffer(self.binary, dtype, count, offset).reshape(shape)
        return value


def read_ir(xml: bytes, binary: bytes) -> IrGraph:
    """Read a graph in OpenVINO IR version 10.

    Args:
        xml: Contents of the ``.xml`` file.
        binary: Contents of the ``.bin`` file.

    Raises:
        CheckpointError: If the XML is malformed, declares a document type (none needs one, and entity bombs do), is not
            IR version 10, or refers to layers and ports that are not there.
    """
    root = _parse_xml(xml)
    if root.tag != "net" or root.get("version") != "10":
        version = root.get("version")
        raise CheckpointError(
            f"Expected OpenVINO IR version 10, got <{root.tag}> of version {version}; export it again."
        )
    name = root.get("name", "the network")
    try:
        elements = {e.attrib["id"]: e for e in root.iterfind("layers/layer")}
        if len(elements) != len(root.findall("layers/layer")):
            raise CheckpointError(f"{name} has two layers with one identifier; the XML is damaged.")
        sources: dict[str, dict[int, tuple[str, int]]] = {key: {} for key in elements}
        for edge in root.iterfind("edges/edge"):
            source = elements[edge.attrib["from-layer"]]
            ports = [p.attrib["id"] for p in source.iterfind("output/port")]
            output = (edge.attrib["from-layer"], ports.index(edge.attrib["from-port"]))
            sources[edge.attrib["to-layer"]][int(edge.attrib["to-port"])] = output
        layers = {key: _layer(element, sources[key]) for key, element in elements.items()}
    except CheckpointError:
        raise
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{name} has a layer or edge without its numbers ({error}); the XML is damaged."
        ) from error
    return IrGraph(name, layers, binary)


def _parse_xml(xml: bytes) -> ET.Element:
    """Parse XML as UTF-8, refusing document types: entities cannot be declared without one."""
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate("utf-8")  # else a Python module would be imported by the name in the declaration

    def refuse(*_: object) -> None:
        raise CheckpointError("The XML declares a document type, which no OpenVINO IR needs; it is not read.")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(xml, True)
    except CheckpointError:
        raise
    except (expat.ExpatError, ValueError) as error:
        raise CheckpointError(f"The XML of an OpenVINO IR was expected, got something else: {error}.") from error
    return builder.close()


def _layer(element: ET.Element, sources: Mapping[int, tuple[str, int]]) -> Layer:
    data = element.find("data")
    shapes = tuple(tuple(int(d.text or "") for d in port.iterfind("dim")) for port in element.iterfind("output/port"))
    return Layer(
        id=element.attrib["id"],
        name=element.get("name", ""),
        type=element.get("type", ""),
        attributes={} if data is None else dict(data.attrib),
        inputs=tuple(sources[port] for port in sorted(sources)),
        output_shapes=shapes,
    )
