"""Read a pickle without building anything it asks for.

A pickle is a little program: it names functions and classes and says what to call them with. Here that program is
followed on paper. Containers, numbers and words become what they are; a tensor becomes a `StoredTensor`, which only
says where its values lie; **every other object becomes a `Record`**, which holds the name of its class and what it was
to be made of. No function of the file's choosing is called, nothing it names is imported.

So whole networks that were saved with their classes can be read without these classes (`modules`), and a hostile file
is a tree of records that nobody acts on. Steps are bounded in number, and none of them copies what it is given: a few
bytes that name a large thing often would take all memory.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MAX_STEPS", "Name", "Record", "StoredTensor", "follow"]

MAX_STEPS = 2_000_000
"""Steps of a pickle before it is given up; the largest published network takes fewer than a hundred thousand."""
MAX_DIMS = 8
MAX_NAME = 300
MAX_KEY = 1000
"""Letters of a key; longer ones name nothing that is looked for."""
MAX_ARGUMENTS = 64
"""Of a call that is followed; those of tensors are fewer than ten."""


@dataclass(frozen=True)
class Name:
    """A function or class that the file names, as text."""

    path: str


@dataclass(eq=False)
class Record:
    """An object that was not built: the name of what was to make it, and what it was to be made of."""

    path: str
    arguments: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)
    entries: dict[Any, Any] = field(default_factory=dict)
    """Where it was to be a kind of dictionary."""
    parts: list[Any] = field(default_factory=list)
    """Where it was to be a kind of list or set."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that was not built: which values of which stored array it views."""

    storage: str
    """Name of the array within the file."""
    kind: str
    """Of its numbers, such as `torch.HalfStorage`."""
    count: int
    """Numbers it says it has."""
    offset: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()


def follow(data: bytes) -> object:
    """What the pickle `data` describes, nothing of it run.

    Example:
        >>> follow(pickle.dumps({"a": [1, 2]}))
        {'a': [1, 2]}
        >>> follow(pickle.dumps(os.system))
        Name(path='posix.system')

    Errors: ValueError, IndexError, KeyError, TypeError or AttributeError for data that is damaged, takes too many
    steps, or uses what pickles of networks never do.
    """
    machine = _Machine()
    for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if number > MAX_STEPS:
            raise ValueError(f"it takes more than {MAX_STEPS} steps")
        if operation.name == "STOP":
            return machine.stack.pop()
        machine.step(operation.name, argument)
    raise ValueError("it has no end")


class _Machine:
    """A stack, where marks lie on it, and what is remembered by number."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """One operation."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _FRESH:
            self.stack.append(_FRESH[name]())
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        elif name not in _IGNORED:
            raise ValueError(f"it uses {name}")

    def take(self, count: int) -> list[Any]:
        """The `count` topmost, which leave the stack."""
        if count > len(self.stack):
            raise IndexError("it takes more than there is")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def take_marked(self) -> list[Any]:
        """All above the last mark, which leave the stack."""
        return self.take(len(self.stack) - self.marks.pop())

    def remember(self, number: int) -> None:
        """Keep the topmost."""
        self.memo[number] = self.stack[-1]

    def put_items(self, items: list[Any]) -> None:
        """Keys and values in turn, into the topmost."""
        target = self.stack[-1]
        table = target.entries if isinstance(target, Record) else target
        if not isinstance(table, dict):
            raise TypeError("it puts entries into what is no dictionary")
        table.update(_pairs(items))

    def put_parts(self, parts: list[Any]) -> None:
        """Into the list or the record that is topmost."""
        target = self.stack[-1]
        row = target.parts if isinstance(target, Record) else target
        if not isinstance(row, list):
            raise TypeError("it puts parts into what is no list")
        row.extend(parts)

    def call(self, arguments: object = None) -> None:
        """What a name and its arguments would make."""
        maker, given = self.take(2)
        self.stack.append(_made(maker, given))

    def call_with_names(self) -> None:
        """The same with arguments by name, which only records have."""
        maker, given, named = self.take(3)
        self.stack.append(Record(maker.path if isinstance(maker, Name) else "?", (given, named)))

    def set_state(self) -> None:
        """The state of a record; containers need none."""
        (state,) = self.take(1)
        target = self.stack[-1]
        if isinstance(state, tuple):  # that of a class with slots
            state = next((part for part in state[:2] if isinstance(part, dict)), None)
        if isinstance(target, Record) and isinstance(state, dict):
            target.state = state

    def name_from_stack(self) -> None:
        """Module and name as two words."""
        module, name = self.take(2)
        known = isinstance(module, str) and isinstance(name, str) and len(module) + len(name) < MAX_NAME
        self.stack.append(Name(f"{module}.{name}" if known else "?"))


def _made(maker: object, given: object) -> object:
    """What calling `maker` gives: an admitted kind, or a record of the call."""
    arguments = given if isinstance(given, tuple) else (given,)
    if not isinstance(maker, Name):
        return Record("?", arguments)
    build = _ADMITTED.get(maker.path)
    if build is None:
        return Record(maker.path, arguments)
    if len(arguments) > MAX_ARGUMENTS:  # they would be copied at every call
        raise ValueError(f"it calls {maker.path} with {len(arguments)} arguments")
    return build(*arguments)


def _tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> StoredTensor:
    if not isinstance(storage, StoredTensor) or not isinstance(offset, int):
        raise TypeError("a tensor without stored values")
    return StoredTensor(storage.storage, storage.kind, storage.count, offset, _whole(size), _whole(stride))


def _whole(numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, (tuple, list)) or len(numbers) > MAX_DIMS:
        raise TypeError("a tensor of no known shape")
    if not all(isinstance(n, int) and 0 <= n < 2**62 for n in numbers):
        raise ValueError("a tensor whose shape is no row of whole numbers")
    return tuple(numbers)


def _stored(identity: object) -> StoredTensor:
    """The stored array that a file's persistent id names: ("storage", kind, name, device, count)."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise ValueError("it points outside of itself to something other than a stored array")
    _, kind, name, _, count = identity[:5]
    if not isinstance(kind, Name) or not isinstance(name, str) or not isinstance(count, int):
        raise TypeError("a stored array without kind, name and length")
    return StoredTensor(name, kind.path, count)


def _ordered(*pairs: object) -> object:
    """Empty, as all are pickled; entries follow."""
    return Record("collections.OrderedDict", pairs) if pairs else {}


def _size(numbers: object = ()) -> tuple[int, ...]:
    return _whole(numbers)


def _first(value: object = None, *_: object) -> object:
    """A parameter is its tensor."""
    return value


def _of_type(maker: object = None, _: object = None, given: object = (), *__: object) -> object:
    """A tensor of a class of its own is a tensor."""
    return _made(maker, given)


def _pairs(items: list[Any]) -> dict[Any, Any]:
    """Entries from keys and values in turn; what is no plain key is left out."""
    if len(items) % 2:
        raise ValueError("a key without a value")
    return {key: value for key, value in zip(items[::2], items[1::2], strict=True) if _is_key(key)}


def _is_key(key: object) -> bool:
    """Short words and numbers: hashing anything nested could exhaust the stack, and long numbers take their time."""
    if isinstance(key, int):
        return key.bit_length() <= 64
    return key is None or isinstance(key, float) or (isinstance(key, (str, bytes)) and len(key) <= MAX_KEY)


_ADMITTED: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered,
    "torch.Size": _size,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_tensor_v2": _tensor,
}
"""Names that are followed, by functions of this file; no other name is anything but text."""

_LITERALS = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
})  # fmt: skip
_IGNORED = frozenset(("PROTO", "FRAME"))
_FRESH: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Record("builtins.set"),
}
_OPERATIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.take_marked(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.take_marked())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.take(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.take(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.take(3))),
    "LIST": lambda m, _: m.stack.append(m.take_marked()),
    "DICT": lambda m, _: m.stack.append(_pairs(m.take_marked())),
    "BINPUT": lambda m, number: m.remember(number),
    "LONG_BINPUT": lambda m, number: m.remember(number),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "BINGET": lambda m, number: m.stack.append(m.memo[number]),
    "LONG_BINGET": lambda m, number: m.stack.append(m.memo[number]),
    "APPEND": lambda m, _: m.put_parts(m.take(1)),
    "APPENDS": lambda m, _: m.put_parts(m.take_marked()),
    "ADDITEMS": lambda m, _: m.put_parts(m.take_marked()),
    "SETITEM": lambda m, _: m.put_items(m.take(2)),
    "SETITEMS": lambda m, _: m.put_items(m.take_marked()),
    "GLOBAL": lambda m, names: m.stack.append(Name(names.replace(" ", "."))),
    "STACK_GLOBAL": lambda m, _: m.name_from_stack(),
    "BINPERSID": lambda m, _: m.stack.append(_stored(m.take(1)[0])),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "NEWOBJ_EX": lambda m, _: m.call_with_names(),
    "BUILD": lambda m, _: m.set_state(),
}
