from __future__ import annotations

import sys

import numpy as np
import pytest

from labels4free.checkpoints.foreign.openvino_graph import read_ir
from labels4free.errors import CheckpointError

GRAPH = """<?xml version="1.0"?>
<net name="N" version="10">
  <layers>
    <layer id="7" name="x" type="Parameter"><output><port id="0"><dim>1</dim><dim>2</dim></port></output></layer>
    <layer id="a" name="c" type="Const">
      <data element_type="f32" shape="1, 2" offset="4" size="8"/>
      <output><port id="1"><dim>1</dim><dim>2</dim></port></output>
    </layer>
    <layer id="s" name="split" type="Split">
      <output><port id="2"><dim>1</dim></port><port id="3"/></output>
    </layer>
    <layer id="+" name="sum" type="Add"/>
  </layers>
  <edges>
    <edge from-layer="s" from-port="3" to-layer="+" to-port="1"/>
    <edge from-layer="7" from-port="0" to-layer="s" to-port="0"/>
    <edge from-layer="a" from-port="1" to-layer="+" to-port="0"/>
  </edges>
</net>"""
BINARY = np.array([9.0, 1.5, -2.0], "<f4").tobytes() + np.array([3, -1], "<i8").tobytes()
CONSTANT = 'element_type="f32" shape="1, 2" offset="4" size="8"'


def test_layers_and_edges():
    graph = read_ir(GRAPH.encode(), BINARY)
    assert graph.name == "N"
    assert list(graph.layers) == ["7", "a", "s", "+"]
    assert graph.layers["+"].inputs == (("a", 0), ("s", 1))  # by input port; the second output of the split
    assert graph.layers["s"].output_shapes == ((1,), ())
    assert graph.layers["7"].attributes == {}
    assert (graph.layers["a"].name, graph.layers["a"].type) == ("c", "Const")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (CONSTANT, np.array([[1.5, -2.0]], np.float32)),
        ('element_type="i64" shape="2" offset="12" size="16"', np.array([3, -1])),
        ('element_type="i32" shape="" offset="12" size="4"', np.array(3, np.int32)),
    ],
)
def test_constant(data, expected):
    graph = read_ir(GRAPH.replace(CONSTANT, data).encode(), BINARY)
    value = graph.constant(graph.layers["a"])
    np.testing.assert_array_equal(value, expected, strict=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('element_type="f16" shape="1, 2" offset="4" size="4"', "element type 'f16', expected f32, i64 or i32"),
        ('shape="1, 2" offset="4" size="8"', "element type ''"),
        ('element_type="f32" shape="1, 2" offset="4" size="4"', r"shape \[1, 2\] in 4 bytes at 4, which cannot be"),
        ('element_type="f32" shape="0, 2" offset="4" size="0"', "which cannot be"),
        ('element_type="f32" shape="-1, -2" offset="4" size="8"', "which cannot be"),
        ('element_type="f32" shape="1, 2" offset="-4" size="8"', "which cannot be"),
        ('element_type="f32" shape="1, x" offset="4" size="8"', "does not say its shape"),
        ('element_type="f32" shape="1, 2" size="8"', "does not say its shape"),
        ('element_type="f32" shape="1, 2" offset="24" size="8"', "ends at byte 32, but the binary file has 28"),
        ('element_type="f32" shape="9999999999, 9999999999" offset="0" size="8"', "which cannot be"),
    ],
)
def test_impossible_constant(data, message):
    graph = read_ir(GRAPH.replace(CONSTANT, data).encode(), BINARY)
    with pytest.raises(CheckpointError, match=f"Constant 'c' of N.*{message}"):
        graph.constant(graph.layers["a"])


@pytest.mark.parametrize("xml", [b"", b"<net", b"\x80\x04K\x01.", b"<net></nut>", GRAPH.encode() + b"<more/>"])
def test_something_else_than_xml(xml):
    with pytest.raises(CheckpointError, match="The XML of an OpenVINO IR was expected, got something else"):
        read_ir(xml, b"")


BOMB = """<?xml version="1.0" encoding="{}"?>
<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<net name="&b;" version="10"/>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(encoding):
    with pytest.raises(CheckpointError, match="declares a document type"):
        read_ir(BOMB.format(encoding).encode(encoding), b"")


@pytest.mark.parametrize("encoding", ["no-such-encoding", "cp1026", "idna"])
def test_a_file_cannot_choose_a_codec(encoding):
    """Python would import the module of that name to read it."""
    xml = GRAPH.replace('version="1.0"?', f'version="1.0" encoding="{encoding}"?')
    assert read_ir(xml.encode(), BINARY).layers == read_ir(GRAPH.encode(), BINARY).layers
    assert f"encodings.{encoding}" not in sys.modules


def test_external_entity_is_refused():
    with pytest.raises(CheckpointError, match="declares a document type"):
        read_ir(b'<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]><net>&x;</net>', b"")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('version="10"', 'version="11"', "Expected OpenVINO IR version 10, got <net> of version 11"),
        ("net", "model", "got <model> of version 10"),
        ('layer id="a"', 'layer id="7"', "two layers with one identifier"),
        ('layer id="a"', "layer", "without its numbers"),
        ('from-layer="7"', 'from-layer="8"', "without its numbers"),
        ('to-layer="s"', 'to-layer="t"', "without its numbers"),
        ('from-port="3"', 'from-port="4"', "without its numbers"),
        ('to-port="1"', 'to-port="one"', "without its numbers"),
        ("<dim>2</dim>", "<dim>two</dim>", "without its numbers"),
        ("<dim>2</dim>", "<dim/>", "without its numbers"),
    ],
)
def test_damaged_graph(old, new, message):
    assert old in GRAPH
    with pytest.raises(CheckpointError, match=message):
        read_ir(GRAPH.replace(old, new).encode(), BINARY)
