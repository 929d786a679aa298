"""A pickle interpreter that imports nothing and calls nothing but what a table grants.

The opcodes are those of CPython's Lib/pickletools.py, protocols 2 to 5. A name in the file selects an entry of the
table or is refused; it is never looked up anywhere else. Whatever the bytes are, the outcome is a value or a
:class:`RefusedError`, after bounded time and memory.
"""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labels4free.checkpoints.untrusted.inert_data import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_OPCODES = 1_000_000  # the largest real files have some 100,000
MAX_MARKS = 1_000
MAX_ARGUMENTS = 16
MAX_LONG_BYTES = 64
MAX_NAME_BYTES = 512
MAX_NUMBER_KEYS = 20_000  # hashes of numbers can be made to collide, those of text cannot
COPIED_BYTES = 65_536
"""Byte strings above this length are views of the file, so that a network is not in memory twice."""

_KEYS = frozenset({str, bytes, int, float, bool, type(None)})
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_MISSING = object()


@dataclass(frozen=True)
class Grant:
    """What stands for a function or a class that a file may name.

    Attributes:
        call: Ours, called with the arguments in the file. It may raise RefusedError, TypeError and ValueError.
    """

    call: Callable[..., object]


@dataclass(frozen=True)
class Grants:
    """Everything that a file may ask for.

    Attributes:
        names: (module, name) -> a :class:`Grant`, or an inert value that the name itself stands for.
        build: Type of ours -> what sets the state of such an object (the opcode BUILD), given object and state.
        persistent: What a persistent identifier stands for; None refuses them.
    """

    names: Mapping[tuple[str, str], object]
    build: Mapping[type, Callable[[Any, object], None]]
    persistent: Callable[[object], object] | None = None


class _Stopped(Exception):  # noqa: N818  not an error: the opcode STOP
    """The end of the pickle."""


def run_pickle(data: bytes, grants: Grants, start: int = 0, *, limit: int = MAX_OPCODES) -> tuple[Any, int]:
    """Run one pickle.

    Args:
        data: The file, or its beginning.
        grants: What it may ask for.
        start: Where the pickle begins.
        limit: Instructions that it may have.

    Returns:
        What it builds, and where it ends. Long byte strings in it are memoryviews of ``data``.

    Raises:
        RefusedError: If it is truncated or damaged, asks for anything else than is granted, or exceeds a limit.
    """
    if data[start : start + 1] != b"\x80":
        if start >= len(data):
            raise RefusedError("is truncated; fetch it again.")
        raise RefusedError("is not a pickle of protocol 2 to 5, as every supported network file is.")
    machine = _Machine(data, grants, start)
    return machine.run(limit), machine.position


def printable(text: str) -> str:
    """Text of a file, fit for a message: at most 100 characters, none of them a control character."""
    shown = text if len(text) <= 100 else text[:97] + "..."
    return "".join(c if c.isprintable() else "?" for c in shown)


class _Machine:
    """Stack, memo and position of one run. The methods named after opcodes are called through a table."""

    def __init__(self, data: bytes, grants: Grants, start: int) -> None:
        self.data, self.grants, self.position = data, grants, start
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.number_keys = 0

    def run(self, limit: int) -> Any:
        """Run until STOP."""
        data, handlers = self.data, _HANDLERS
        opcode = self.position
        try:
            for _ in range(limit):
                opcode = self.position
                self.position += 1
                handlers[data[opcode]](self)
        except _Stopped:
            return self.stack[-1]
        except (IndexError, struct.error) as error:
            if self.position >= len(data):
                raise RefusedError(f"is truncated: it ends at byte {len(data)}; fetch it again.") from error
            raise self.damaged(opcode) from error
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise self.damaged(opcode) from error
        raise RefusedError(f"is refused: its pickle has more than {limit:,} instructions, as no network needs.")

    def damaged(self, opcode: int) -> RefusedError:
        """The error for an opcode that makes no sense where it stands."""
        known = _OPCODES.get(self.data[opcode])
        name = known.name if known else f"{self.data[opcode]:#04x}"
        return RefusedError(f"is damaged: its instruction {name} at byte {opcode} makes no sense; fetch it again.")

    # Reading.

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        begin, end = self.position, self.position + count
        if end > len(self.data):
            raise RefusedError(
                f"is truncated or damaged: the {count:,} bytes from byte {begin:,} on are not all there, it has "
                f"{len(self.data):,}; fetch it again."
            )
        self.position = end
        return self.data[begin:end]

    def number(self, size: int) -> int:
        """The next ``size`` bytes as an unsigned number."""
        return int.from_bytes(self.take(size), "little")

    def text(self, size: int) -> None:
        """Push text whose length is in the next ``size`` bytes."""
        self.stack.append(str(self.take(self.number(size)), "utf-8"))

    def binary(self, size: int) -> None:
        """Push bytes whose length is in the next ``size`` bytes."""
        count = self.number(size)
        begin = self.position
        if count <= COPIED_BYTES or begin + count > len(self.data):
            self.stack.append(self.take(count))
            return
        self.position += count
        self.stack.append(memoryview(self.data)[begin : self.position])

    def long(self, size: int) -> None:
        """Push a signed number whose length is in the next ``size`` bytes."""
        count = self.number(size)
        if count > MAX_LONG_BYTES:
            raise RefusedError(f"is refused: it holds a number of {count:,} bytes, as no network does.")
        self.stack.append(int.from_bytes(self.take(count), "little", signed=True))

    def line(self) -> str:
        """The next line, without its end."""
        end = self.data.find(b"\n", self.position, self.position + MAX_NAME_BYTES)
        if end < 0:
            raise IndexError
        found = str(self.data[self.position : end], "utf-8")
        self.position = end + 1
        return found

    # Names and what is done with them.

    def push_name(self, module: object, name: object) -> None:
        """Push what a name stands for."""
        if type(module) is not str or type(name) is not str:
            raise TypeError
        found = self.grants.names.get((module, name), _MISSING)
        if found is _MISSING:
            shown = printable(f"{module}.{name}")
            raise RefusedError(
                f"is refused: it asks for {shown} when it is read, which can run any code. Networks are read as data "
                "only; nothing of the file was run."
            )
        self.stack.append(found)

    def call(self) -> None:
        """REDUCE and NEWOBJ: call what is granted with the arguments on the stack."""
        arguments, grant = self.stack.pop(), self.stack.pop()
        if type(grant) is not Grant or type(arguments) is not tuple or len(arguments) > MAX_ARGUMENTS:
            raise TypeError
        self.stack.append(grant.call(*arguments))

    def build(self) -> None:
        """BUILD: set the state of an object of ours."""
        state, target = self.stack.pop(), self.stack[-1]
        self.grants.build[type(target)](target, state)

    def persistent(self) -> None:
        """BINPERSID: a reference to something outside the pickle."""
        if self.grants.persistent is None:
            raise RefusedError("is refused: it refers to data outside itself, which no such file does.")
        self.stack.append(self.grants.persistent(self.stack.pop()))

    # Containers.

    def mark(self) -> None:
        """MARK: begin a list of items."""
        if len(self.marks) >= MAX_MARKS:
            raise RefusedError(f"is refused: its data is nested deeper than {MAX_MARKS:,} levels, as no network is.")
        self.marks.append(self.stack)
        self.stack = []

    def items(self) -> list[Any]:
        """The items since the last MARK, taken off the stack."""
        found = self.stack
        self.stack = self.marks.pop()
        return found

    def target(self, kind: type) -> Any:
        """The container on top of the stack."""
        found = self.stack[-1]
        if type(found) is not kind:
            raise TypeError
        return found

    def key(self, value: Any) -> Any:
        """Check a dictionary's key or a set's element: hashing it must be quick, and must not collide on purpose."""
        kind = type(value)
        if kind is not str:
            self.number_keys += 1
            if kind not in _KEYS or self.number_keys > MAX_NUMBER_KEYS or (kind is int and abs(value) >= 2**63):
                raise RefusedError("is refused: it has dictionary keys that no network has.")
        return value

    def append_all(self, items: list[Any]) -> None:
        """Append to the list on top of the stack."""
        self.target(list).extend(items)

    def set_all(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the dictionary on top of the stack."""
        if len(items) % 2:
            raise ValueError
        target = self.target(dict)
        for index in range(0, len(items), 2):
            target[self.key(items[index])] = items[index + 1]

    def add_all(self, items: list[Any]) -> None:
        """Add to the set on top of the stack."""
        self.target(set).update([self.key(item) for item in items])

    def tuple_of(self, count: int) -> None:
        """Put the last items into a tuple."""
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def new_dict(self, items: list[Any]) -> None:
        """Push a dictionary of keys and values, in turn."""
        self.stack.append({})
        self.set_all(items)

    def put(self, index: int) -> None:
        """Remember the top of the stack."""
        if index > self.position:  # every entry takes an instruction, so none can have such a number
            raise IndexError
        self.memo[index] = self.stack[-1]

    def protocol(self) -> None:
        """PROTO."""
        if not 2 <= self.number(1) <= 5:
            raise ValueError

    def frame(self) -> None:
        """FRAME: its bytes must be there."""
        count = self.number(8)
        if count > len(self.data) - self.position:
            raise RefusedError(f"is truncated: {count:,} bytes should follow byte {self.position}; fetch it again.")

    def stop(self) -> None:
        """STOP."""
        if self.marks or len(self.stack) != 1:
            raise ValueError
        raise _Stopped

    def refuse(self) -> None:
        """Any opcode that is not in the table of handlers."""
        self.position -= 1
        known = _OPCODES.get(self.data[self.position])
        if known is None:
            raise ValueError
        raise RefusedError(
            f"is refused: it has the pickle instruction {known.name} at byte {self.position}, which no supported "
            "network file has; nothing of the file was run."
        )


def _global(machine: _Machine) -> None:
    """GLOBAL: a name in two lines."""
    module = machine.line()
    machine.push_name(module, machine.line())


def _stack_global(machine: _Machine) -> None:
    """STACK_GLOBAL: a name on the stack."""
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.push_name(module, name)


def _set_item(machine: _Machine) -> None:
    """SETITEM."""
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_all([key, value])


_NAMED: dict[str, Callable[[_Machine], object]] = {
    "PROTO": _Machine.protocol,
    "FRAME": _Machine.frame,
    "STOP": _Machine.stop,
    "MARK": _Machine.mark,
    "POP": lambda m: m.stack.pop(),
    "POP_MARK": _Machine.items,
    "DUP": lambda m: m.stack.append(m.stack[-1]),
    "NONE": lambda m: m.stack.append(None),
    "NEWTRUE": lambda m: m.stack.append(True),
    "NEWFALSE": lambda m: m.stack.append(False),
    "BININT": lambda m: m.stack.append(int.from_bytes(m.take(4), "little", signed=True)),
    "BININT1": lambda m: m.stack.append(m.number(1)),
    "BININT2": lambda m: m.stack.append(m.number(2)),
    "LONG1": lambda m: m.long(1),
    "LONG4": lambda m: m.long(4),
    "BINFLOAT": lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
    "SHORT_BINUNICODE": lambda m: m.text(1),
    "BINUNICODE": lambda m: m.text(4),
    "BINUNICODE8": lambda m: m.text(8),
    "SHORT_BINBYTES": lambda m: m.binary(1),
    "BINBYTES": lambda m: m.binary(4),
    "BINBYTES8": lambda m: m.binary(8),
    "BYTEARRAY8": lambda m: m.binary(8),
    "EMPTY_TUPLE": lambda m: m.stack.append(()),
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "EMPTY_SET": lambda m: m.stack.append(set()),
    "TUPLE1": lambda m: m.tuple_of(1),
    "TUPLE2": lambda m: m.tuple_of(2),
    "TUPLE3": lambda m: m.tuple_of(3),
    "TUPLE": lambda m: _push(m, tuple(m.items())),
    "LIST": lambda m: _push(m, m.items()),
    "DICT": lambda m: m.new_dict(m.items()),
    "FROZENSET": lambda m: _push(m, frozenset([m.key(item) for item in m.items()])),
    "APPEND": lambda m: m.append_all([m.stack.pop()]),
    "APPENDS": lambda m: m.append_all(m.items()),
    "SETITEM": _set_item,
    "SETITEMS": lambda m: m.set_all(m.items()),
    "ADDITEMS": lambda m: m.add_all(m.items()),
    "BINPUT": lambda m: m.put(m.number(1)),
    "LONG_BINPUT": lambda m: m.put(m.number(4)),
    "MEMOIZE": lambda m: m.put(len(m.memo)),
    "BINGET": lambda m: m.stack.append(m.memo[m.number(1)]),
    "LONG_BINGET": lambda m: m.stack.append(m.memo[m.number(4)]),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}


def _push(machine: _Machine, value: object) -> None:
    """Push a value that was made of the items since the last MARK, onto the stack below them."""
    machine.stack.append(value)


_HANDLERS = [
    _NAMED.get(_OPCODES[code].name, _Machine.refuse) if code in _OPCODES else _Machine.refuse for code in range(256)
]
