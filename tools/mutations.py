"""Damaged and hostile variants of checkpoint files, for fuzz_checkpoints.py and the tests.

A variant is made by random bytes, or with knowledge of the format: pickle instructions are exchanged, dropped, repeated
or given other arguments, names in them are replaced by such that run code, and archives get correct checksums again.
Every hostile payload only creates the file that the environment variable L4F_MARKER names.
"""

from __future__ import annotations

import io
import itertools
import pickletools
import struct
import warnings
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

_PYTHON = "import os; open(os.environ['L4F_MARKER'], 'w').close()"
_EXPRESSION = "open(__import__('os').environ['L4F_MARKER'], 'w').close()"
_SHELL = ': > "$L4F_MARKER"'
HOSTILE = [
    ("posix", "system", _SHELL),
    ("os", "system", _SHELL),
    ("os", "popen", _SHELL),
    ("subprocess", "getoutput", _SHELL),
    ("builtins", "eval", _EXPRESSION),
    ("builtins", "exec", _PYTHON),
    ("__builtin__", "eval", _EXPRESSION),
    ("__builtin__", "exec", _PYTHON),
    ("torch.serialization", "os.system", _SHELL),
    ("torch._utils", "_import_dotted_name", "this"),
    ("importlib", "import_module", "this"),
    ("numpy.testing._private.utils", "runstring", _PYTHON),
]
"""Module, name and argument of what runs code."""
_INTERESTING = [0, 1, 2, 7, 16, 100, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32]
_INTERESTING += [2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
_OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
_MOST_PIECES = 200_000


@dataclass(frozen=True)
class Seed:
    """A good file, taken apart once so that variants of it are quick to make.

    Attributes:
        data: The file.
        pieces: Its pickle instructions; empty if it has none.
        rest: What follows them.
        records: The records of an archive, whose ``data.pkl`` the instructions are then from.
    """

    data: bytes
    pieces: list[bytes] = field(default_factory=list)
    rest: bytes = b""
    records: dict[str, bytes] = field(default_factory=dict)


def take_apart(data: bytes) -> Seed:
    """Take a file apart: a zip archive with a ``data.pkl``, pickles with something behind them, or anything."""
    if data[:4] == b"PK\3\4":
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                records = {name: archive.read(name) for name in archive.namelist()}
        except zipfile.BadZipFile:
            return Seed(data)
        program = next((value for name, value in records.items() if name.endswith("data.pkl")), b"")
        pieces, end = _instructions(program)
        return Seed(data, pieces, program[end:], records)
    if data[:1] == b"\x80":
        pieces, end = _instructions(data)
        return Seed(data, pieces, data[end:])
    return Seed(data)


def mutate(seed: Seed, others: list[Seed], rng: random.Random) -> bytes:
    """Make one variant of a file.

    Args:
        seed: The file.
        others: Files to take parts from.
        rng: Decides everything.
    """
    changes = 1 + min(int(rng.expovariate(0.7)), 8)
    if not seed.pieces or rng.random() < 0.35:
        data = seed.data
        for _ in range(changes):
            data = _change_bytes(data, others, rng)
        return data
    pieces = list(seed.pieces)
    for _ in range(changes):
        rng.choice(_PIECE_CHANGES)(pieces, rng)
    program = b"".join(pieces) + seed.rest
    if rng.random() < 0.1:
        program = _change_bytes(program, others, rng)
    return _archive(seed, program, others, rng) if seed.records else program


def _instructions(data: bytes) -> tuple[list[bytes], int]:
    """The instructions of all pickles at the beginning of a file, and where they end."""
    places = [0]
    stream = io.BytesIO(data)
    try:
        while data[places[-1] : places[-1] + 1] == b"\x80" and len(places) < _MOST_PIECES:
            stream.seek(places[-1])
            for _, _, position in pickletools.genops(stream):
                if position:
                    places.append(position)
            places.append(stream.tell())
    except (ValueError, UnicodeDecodeError):  # a file that is already damaged
        pass
    places = sorted(set(places))
    return [data[a:b] for a, b in itertools.pairwise(places)], places[-1]


def _archive(seed: Seed, program: bytes, others: list[Seed], rng: random.Random) -> bytes:
    """The archive with another ``data.pkl`` and correct checksums; sometimes other records are changed too."""
    out = io.BytesIO()
    target = next(name for name in seed.records if name.endswith("data.pkl"))
    victim = rng.choice(list(seed.records)) if rng.random() < 0.2 else ""
    packed = zipfile.ZIP_DEFLATED if rng.random() < 0.03 else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", packed) as archive:
        warnings.simplefilter("ignore")  # about two records of the same name, which is the idea
        for name, value in seed.records.items():
            value = program if name == target else value
            if name == victim:
                fate = rng.randrange(4)
                value = _change_bytes(value, others, rng) if fate == 0 else value
                name = rng.choice(list(seed.records)) if fate == 1 else name
                if fate == 2:
                    continue
                if fate == 3:
                    archive.writestr(name.upper(), value)
            archive.writestr(zipfile.ZipInfo(name), value)
    return out.getvalue()


# Changes of bytes.


def _change_bytes(data: bytes, others: list[Seed], rng: random.Random) -> bytes:
    """Change something, anywhere; half of the time near the beginning, where the structure is."""
    if not data:
        return rng.randbytes(rng.randint(1, 64))
    reach = len(data) if rng.random() < 0.5 else min(len(data), 4096)
    at = rng.randrange(reach) if rng.random() < 0.85 else max(0, len(data) - 1 - rng.randrange(2048))
    span = min(len(data) - at, 1 << rng.randrange(12))
    kind = rng.randrange(9)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + rng.randbytes(1) + data[at + 1 :]
    if kind == 2:
        size = 1 << rng.randrange(4)
        value = rng.choice(_INTERESTING) % (1 << 8 * size)
        return data[:at] + value.to_bytes(size, rng.choice(["little", "big"])) + data[at + size :]
    if kind == 3:
        return data[: rng.randrange(len(data)) if rng.random() < 0.5 else at]
    if kind == 4:
        return data[:at] + data[at + span :]
    if kind == 5:
        return data[:at] + data[at : at + span] * rng.choice([2, 2, 3, 50]) + data[at + span :]
    if kind == 6:
        return data[:at] + rng.randbytes(rng.randint(1, 64)) + data[at:]
    if kind == 7:
        source = rng.choice(others).data if others else data
        begin = rng.randrange(max(1, len(source)))
        return data[:at] + source[begin : begin + span] + data[at + rng.choice([0, span]) :]
    other = rng.randrange(len(data))
    low, high = min(at, other), max(at, other)
    return data[:low] + data[high : high + 1] + data[low + 1 : high] + data[low : low + 1] + data[high + 1 :]


# Changes of instructions. Each changes the list in place.


def _exchange_opcode(pieces: list[bytes], rng: random.Random) -> None:
    """Another instruction with the same argument."""
    at = rng.randrange(len(pieces))
    pieces[at] = rng.choice(_OPCODES) + pieces[at][1:]


def _drop(pieces: list[bytes], rng: random.Random) -> None:
    """Instructions less."""
    at = rng.randrange(len(pieces))
    del pieces[at : at + rng.choice([1, 1, 1, 2, 5])]
    if not pieces:
        pieces.append(b".")


def _repeat(pieces: list[bytes], rng: random.Random) -> None:
    """Instructions again, there or elsewhere, perhaps very often."""
    at = rng.randrange(len(pieces))
    copied = pieces[at : at + rng.choice([1, 1, 2, 5, 20])]
    if sum(map(len, copied)) < 10_000:
        copied *= rng.choice([1, 1, 1, 1000])
    to = rng.randrange(len(pieces))
    pieces[to:to] = copied


def _swap(pieces: list[bytes], rng: random.Random) -> None:
    """Two instructions in each other's place."""
    a = rng.randrange(len(pieces))
    b = min(len(pieces) - 1, a + rng.choice([1, 1, 2, 10, 1000]))
    pieces[a], pieces[b] = pieces[b], pieces[a]


def _insert(pieces: list[bytes], rng: random.Random) -> None:
    """Another instruction, with an argument of random bytes."""
    pieces.insert(rng.randrange(len(pieces)), rng.choice(_OPCODES) + rng.randbytes(rng.choice([0, 0, 1, 4])))


def _argument(pieces: list[bytes], rng: random.Random) -> None:
    """Another argument: often a length, a shape or a place in the memo."""
    at = rng.randrange(len(pieces))
    piece = pieces[at]
    size = min(rng.choice([1, 2, 4, 8]), len(piece) - 1)
    if size > 0:
        value = rng.choice(_INTERESTING) if rng.random() < 0.6 else rng.randrange(64)
        pieces[at] = piece[:1] + (value % 256**size).to_bytes(size, "little") + piece[1 + size :]


def _number(pieces: list[bytes], rng: random.Random, span: int = 400) -> None:
    """Another number in the place of a number: shapes, strides, offsets and counts."""
    start = rng.randrange(len(pieces))
    for at in range(start, min(start + span, len(pieces))):
        if pieces[at][:1] in (b"K", b"M", b"J", b"\x8a"):
            value = rng.choice([*_INTERESTING, -1, -5])
            if rng.random() < 0.5 and -(2**31) <= value < 2**31:
                pieces[at] = b"J" + struct.pack("<i", value)
            else:
                pieces[at] = b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)
            return


def _rename(pieces: list[bytes], rng: random.Random, span: int = 2000) -> None:
    """A name that runs code, in the place of a name."""
    module, name, _ = rng.choice(HOSTILE)
    start = rng.randrange(len(pieces))
    for at in range(start, min(start + span, len(pieces))):
        code = pieces[at][:1]
        if code in (b"c", b"\x93"):
            # The two texts on the stack go first where the name was made of them.
            pieces[at] = (b"00" if code == b"\x93" else b"") + f"c{module}\n{name}\n".encode()
            return


def _attack(pieces: list[bytes], rng: random.Random) -> None:
    """A complete call of something that runs code; its result is thrown away or left."""
    module, name, argument = rng.choice(HOSTILE)
    text = b"X" + struct.pack("<I", len(argument)) + argument.encode()
    if rng.random() < 0.5:
        called = f"c{module}\n{name}\n".encode()
    else:
        parts = (module.encode(), name.encode())
        called = b"".join(b"X" + struct.pack("<I", len(part)) + part for part in parts) + b"\x93"
    forms = [called + text + b"\x85R", called + b")\x81" + text + b"b", b"(" + text + f"i{module}\n{name}\n".encode()]
    forms.append(b"(" + called + text + b"o")
    pieces.insert(rng.randrange(len(pieces)), rng.choice(forms) + rng.choice([b"0", b""]))


def _nested(pieces: list[bytes], rng: random.Random, span: int = 400) -> None:
    """A change inside a byte string that is itself a pickle, with its length corrected."""
    start = rng.randrange(len(pieces))
    for at in range(start, min(start + span, len(pieces))):
        piece = pieces[at]
        if piece[:1] == b"B" and piece[5:6] == b"\x80":
            inner, end = _instructions(piece[5:])
            if inner:
                rng.choice([c for c in _PIECE_CHANGES if c is not _nested])(inner, rng)
                changed = b"".join(inner) + piece[5 + end :]
                pieces[at] = b"B" + struct.pack("<I", len(changed)) + changed
            return


_PIECE_CHANGES: list[Callable[[list[bytes], random.Random], None]] = [
    _exchange_opcode,
    _drop,
    _repeat,
    _swap,
    _insert,
    _argument,
    _number,
    _rename,
    _attack,
    _nested,
]
