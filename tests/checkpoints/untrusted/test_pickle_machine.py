from __future__ import annotations

import math
import pickle
import pickletools
import struct
import time
import tracemalloc

import pytest
from tests.checkpoints.untrusted.pickle_writer import Call, Name, dumps, text

from labels4free.checkpoints.untrusted.inert_data import RefusedError, check_data
from labels4free.checkpoints.untrusted.pickle_machine import (
    COPIED_BYTES,
    MAX_MARKS,
    MAX_NUMBER_KEYS,
    Grant,
    Grants,
    printable,
    run_pickle,
)

NOTHING = Grants({}, {})
SHARED = ["once"]
PLAIN = {
    "numbers": [0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**31, 2**63, -(2**100), 1.5, -math.inf],
    "texts": ["", "ä", "x" * 300, "中" * 30_000],
    "bytes": [b"", b"a", b"b" * 300],
    "containers": [
        (),
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 3, 4),
        [],
        {},
        {"a": {7: None, None: 2, True: 3, 2.5: 4, b"k": 5}},
    ],
    "sets": [set(), {"a", "b"}, frozenset({"c"})],
    "constants": [None, True, False],
    "shared": [SHARED, SHARED],
    "many": list(range(5000)),
}


def run(data, names=None, **more):
    return run_pickle(data, Grants(names or {}, **({"build": {}} | more)))[0]


@pytest.mark.parametrize("write", [pickle.dumps, pickle._dumps], ids=["C", "Python"])
@pytest.mark.parametrize("protocol", [4, 5])
def test_plain_data_are_read_as_pickle_reads_them(write, protocol):
    found = run(write(PLAIN, protocol=protocol))
    assert found == PLAIN
    assert found["shared"][0] is found["shared"][1]


@pytest.mark.parametrize("protocol", [2, 3])
def test_older_protocols(protocol):
    plain = {name: value for name, value in PLAIN.items() if name not in ("sets", "bytes")}
    plain["containers"] = [value for value in plain["containers"] if not isinstance(value, dict)]
    assert run(pickle.dumps(plain, protocol)) == plain


def test_bytearrays_become_bytes():
    assert run(pickle.dumps([bytearray(b"abc")], 5)) == [b"abc"]


def test_instructions_that_no_pickler_writes():
    assert run(b"\x80\x02(K\x01K\x02l.") == [1, 2]  # LIST
    assert run(b"\x80\x02(X\x01\x00\x00\x00aK\x02d.") == {"a": 2}  # DICT
    assert run(b"\x80\x02K\x01K\x020.") == 1  # POP
    assert run(b"\x80\x02K\x01(K\x02K\x031.") == 1  # POP_MARK
    assert run(b"\x80\x02K\x072\x86.") == (7, 7)  # DUP


def test_long_bytes_are_views_of_the_file():
    data = pickle.dumps([b"s" * COPIED_BYTES, b"l" * (COPIED_BYTES + 1)], 4)
    short, long = run(data)
    assert type(short) is bytes
    assert type(long) is memoryview
    assert long.obj is data
    assert bytes(long) == b"l" * (COPIED_BYTES + 1)


def test_two_pickles_in_a_row():
    data = pickle.dumps("a", 4) + pickle.dumps("b", 2)
    first, end = run_pickle(data, NOTHING)
    assert (first, data[end]) == ("a", 0x80)
    assert run_pickle(data, NOTHING, end) == ("b", len(data))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_granted_names_are_called_and_built(protocol):
    def set_state(target, state):
        target.extend(state)

    make, value = Name("made.up", "make"), Name("made.up", "value")
    call = Call(make, 1, "b", state=[7])
    file = dumps({"call": call, "again": call, "new": Call(make, 2, new=True), "value": value}, protocol)
    names = {make: Grant(lambda *arguments: list(arguments)), value: "inert"}
    found = run(file, names, build={list: set_state})
    assert found == {"call": [1, "b", 7], "again": [1, "b", 7], "new": [2], "value": "inert"}
    assert found["again"] is found["call"]


def test_persistent_identifiers():
    assert run(b"\x80\x02K\x05Q.", persistent=lambda identifier: ("seen", identifier)) == ("seen", 5)
    with pytest.raises(RefusedError, match="is refused: it refers to data outside itself"):
        run(b"\x80\x02K\x05Q.")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", [("posix", "system"), ("builtins", "eval"), ("torch.serialization", "os.system")])
def test_any_other_name_is_refused(protocol, name):
    with pytest.raises(RefusedError, match=rf"asks for {name[0]}\.{name[1]} .* nothing of the file was run"):
        run(dumps([Call(Name(*name), "x")], protocol), {("posix", "other"): 1, ("", "eval"): 1})


def test_a_name_is_not_called_unless_it_is_a_grant():
    for value in (print, len, "text", 3):
        with pytest.raises(RefusedError, match="its instruction REDUCE at byte 8 makes no sense"):
            run(b"\x80\x02ca\nb\n)R.", {("a", "b"): value})


def test_names_are_shown_without_control_characters():
    with pytest.raises(RefusedError, match=r"asks for a\?\[31m\.b when"):
        run(b"\x80\x02ca\x1b[31m\nb\n.")
    assert printable("x" * 101) == "x" * 97 + "..."


@pytest.mark.parametrize(
    "opcode", ["INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "NEWOBJ_EX", "NEXT_BUFFER", "STRING"]
)
def test_other_instructions_are_refused_by_name(opcode):
    code = next(o.code for o in pickletools.opcodes if o.name == opcode).encode("latin1")
    with pytest.raises(RefusedError, match=f"is refused: it has the pickle instruction {opcode} at byte 3"):
        run(b"\x80\x02(" + code + b"\x01\x01\x01\x01posix\nsystem\n.")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\x00.",  # no such instruction
        b"\x80\x020.",  # POP of nothing
        b"\x80\x02(0.",  # POP of a mark
        b"\x80\x02.",  # STOP without a value
        b"\x80\x02NN.",  # STOP with two
        b"\x80\x02N(.",  # STOP within a list
        b"\x80\x02t.",  # TUPLE without a mark
        b"\x80\x02N\x86.",  # TUPLE2 of one
        b"\x80\x02h\x00.",  # BINGET of nothing
        b"\x80\x02NN\x61.",  # APPEND to None
        b"\x80\x02}NN\x61.",  # APPEND to a value on a dict
        b"\x80\x02](NNu.",  # SETITEMS of a list
        b"\x80\x02}(Nu.",  # a key without a value
        b"\x80\x02](N\x90.",  # ADDITEMS to a list
        b"\x80\x02NN\x93.",  # STACK_GLOBAL of no names
        b"\x80\x02N)R.",  # REDUCE of None
        b"\x80\x02N)\x81.",  # NEWOBJ of None
        b"\x80\x02N}b.",  # BUILD of None
        b"\x80\x02]}b.",  # BUILD of a list
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",  # no UTF-8
        b"\x80\x02\x80\x06.",  # a later protocol
        b"\x80\x02q\xff.",  # BINPUT of nothing
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a place in the memo that cannot be reached
        b"\x80\x02c" + b"a" * 5000 + b"\nb\n.",  # an endless name
    ],
)
def test_damaged(data):
    with pytest.raises(RefusedError, match=r"is damaged: its instruction .* makes no sense; fetch it again"):
        run(data)


def test_every_truncation_is_refused():
    data = dumps({"a": [1, 2.5, "text", b"bytes"], "b": (1, 2, 3, 4), "c": 2**70}, 4)
    for end in range(1, len(data)):
        with pytest.raises(RefusedError, match=r"truncated|damaged"):
            run(data[:end])


@pytest.mark.parametrize("data", [b"PK\3\4....", b"(dp0\n.", b"I1\n.", b"hello", b"\x89HDF"])
def test_something_else_is_refused(data):
    with pytest.raises(RefusedError, match="is not a pickle of protocol 2 to 5"):
        run(data)


def hashes_alike(count):
    """Different whole numbers below 2**63 that fall on the same places of a dictionary again and again."""
    return b"".join(b"\x8a\x08" + struct.pack("<q", (i + 1) << 40) + b"N" for i in range(count))


BOMBS = {
    "announced text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "announced bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**63 - 1) + b"x.",
    "announced bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "announced frame": b"\x80\x04\x95" + struct.pack("<Q", 2**64 - 1) + b"N.",
    "long number": b"\x80\x02\x8b" + struct.pack("<I", 10_000_000) + b"\x7f" * 10_000_000 + b".",
    "announced number": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "memo": b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", 2**32 - 1 - i) for i in range(1000)) + b".",
    "tuple hash": b"\x80\x02}" + b")" + b"2\x86" * 60 + b"Ns.",
    "marks": b"\x80\x02" + b"(" * 100_000 + b".",
    "deep list": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuple": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "deep dict": b"\x80\x02" + b"}K\x00" * 1000 + b"}" + b"s" * 1000 + b".",
    "wide tuple": b"\x80\x02)" + b"2\x86" * 90 + b".",
    "wide list": b"\x80\x02]q\x000" + (b"](" + b"h\x00" * 8 + b"eq\x000") * 60 + b"h\x00.",
    "instructions": b"\x80\x02" + b"N0" * 1_000_000 + b"N.",
    "colliding keys": b"\x80\x02}(" + hashes_alike(MAX_NUMBER_KEYS + 1) + b"u.",
    "list in itself": b"\x80\x02]q\x00h\x00a.",
    "dict in itself": b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
    "tuple in itself": b"\x80\x02]q\x00h\x00\x85a.",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_quickly(name):
    data = BOMBS[name]
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError, match=r"truncated|damaged|is refused"):
            check_data(run(data))
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 20


def test_the_depth_of_marks():
    assert run(b"\x80\x02" + b"(" * MAX_MARKS + b"N" + b"1" * (MAX_MARKS - 1) + b"lN0.") == []
    with pytest.raises(RefusedError, match="nested deeper than 1,000 levels"):
        run(BOMBS["marks"])


@pytest.mark.parametrize("key", [(1,), 2**63, -(2**63)])
def test_keys_whose_hash_can_be_abused_are_refused(key):
    with pytest.raises(RefusedError, match="it has dictionary keys that no network has"):
        run(pickle.dumps({key: 1}, 4))


def test_many_arguments_are_refused():
    grant = {("a", "b"): Grant(lambda *_: None)}
    assert run(dumps(Call(Name("a", "b"), *range(16))), grant) is None
    with pytest.raises(RefusedError, match="REDUCE"):
        run(dumps(Call(Name("a", "b"), *range(17))), grant)


@pytest.mark.parametrize("error", [TypeError, ValueError, KeyError, OverflowError, RuntimeError, RecursionError])
def test_what_a_grant_raises_is_a_refusal(error):
    def fails():
        raise error

    with pytest.raises(RefusedError, match="its instruction REDUCE"):
        run(dumps(Call(Name("a", "b"))), {("a", "b"): Grant(fails)})


def test_the_limit_of_instructions():
    data = pickle.dumps([None] * 90, 4)
    assert run_pickle(data, NOTHING, limit=100)[0] == [None] * 90
    with pytest.raises(RefusedError, match="more than 90 instructions"):
        run_pickle(data, NOTHING, limit=90)
