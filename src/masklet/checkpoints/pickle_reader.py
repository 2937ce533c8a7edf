"""Read a pickle without building the objects it names.

A pickle is a small program: it names functions and classes and the arguments to call them with. Here that program is
evaluated without any call. Containers, numbers and text become themselves; a tensor becomes a `StoredTensor`, which
only says where its values are; **every other object becomes an `InertObject`** with the name of its class and its
arguments.
No function that the file names is called, and nothing that it names is imported.

So networks that were saved with their classes can be read without these classes (`pickled_modules`), and a hostile file
is a tree of inert objects. The number of steps is limited, and none copies its operands: a few bytes that name a large
object often would take all memory.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MAX_STEPS", "GlobalName", "InertObject", "StoredTensor", "read_pickle"]

MAX_STEPS = 2_000_000
"""Limit on the steps of a pickle; the largest published network takes fewer than a hundred thousand."""
MAX_DIMS = 8
MAX_NAME = 300
MAX_KEY = 1000
"""Limit on the characters of a key; no key of a network is longer."""
MAX_ARGUMENTS = 64
"""Limit on the arguments of an allowed call; those of tensors have fewer than ten."""


@dataclass(frozen=True)
class GlobalName:
    """A function or class that the file names, as text."""

    path: str


@dataclass(eq=False)
class InertObject:
    """An object that was not built: the name of its class or function, and the arguments and state for it."""

    path: str
    arguments: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)
    entries: dict[Any, Any] = field(default_factory=dict)
    """Items, if it is a kind of dictionary."""
    elements: list[Any] = field(default_factory=list)
    """Elements, if it is a kind of list or set."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that was not built: which values of which stored array it views."""

    storage: str
    """Name of the array within the file."""
    storage_type: str
    """Type of its numbers, such as `torch.HalfStorage`."""
    count: int
    """Numbers in the array, as claimed by the file."""
    offset: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()


def read_pickle(data: bytes) -> object:
    """Read the content of the pickle `data` without running anything in it.

    Example:
        >>> read_pickle(pickle.dumps({"a": [1, 2]}))
        {'a': [1, 2]}
        >>> read_pickle(pickle.dumps(os.system))
        GlobalName(path='posix.system')

    Raises:
        ValueError, IndexError, KeyError, TypeError, AttributeError: if the data is damaged, takes too many steps, or
            uses operations that pickles of networks never use.
    """
    machine = _PickleMachine()
    for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if number > MAX_STEPS:
            raise ValueError(f"it takes more than {MAX_STEPS} steps")
        if operation.name == "STOP":
            return machine.stack.pop()
        machine.step(operation.name, argument)
    raise ValueError("it has no end")


@dataclass(eq=False)
class _PickleMachine:
    """The state of a pickle program: a stack, the positions of marks on it, and the memo."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, name: str, argument: Any) -> None:
        """Run one operation."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        elif name not in _IGNORED:
            raise ValueError(f"it uses {name}")

    def pop(self, count: int) -> list[Any]:
        """Remove and return the `count` topmost values."""
        if count > len(self.stack):
            raise IndexError("it pops more values than the stack has")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def pop_to_mark(self) -> list[Any]:
        """Remove and return all values above the last mark."""
        return self.pop(len(self.stack) - self.marks.pop())

    def set_items(self, items: list[Any]) -> None:
        """Put alternating keys and values into the topmost value."""
        target = self.stack[-1]
        table = target.entries if isinstance(target, InertObject) else target
        if not isinstance(table, dict):
            raise TypeError("it puts items into a value that is no dictionary")
        table.update(_pairs(items))

    def append_elements(self, elements: list[Any]) -> None:
        """Append elements to the topmost list or inert object."""
        target = self.stack[-1]
        row = target.elements if isinstance(target, InertObject) else target
        if not isinstance(row, list):
            raise TypeError("it puts elements into a value that is no list")
        row.extend(elements)

    def reduce_with_kwargs(self) -> None:
        """Replace a name, its arguments and its keyword arguments by an inert object."""
        callee, arguments, keywords = self.pop(3)
        path = callee.path if isinstance(callee, GlobalName) else "?"
        self.stack.append(InertObject(path, (arguments, keywords)))

    def set_state(self) -> None:
        """Set the state of an inert object; other values ignore it."""
        (state,) = self.pop(1)
        target = self.stack[-1]
        if isinstance(state, tuple):  # that of a class with slots
            state = next((part for part in state[:2] if isinstance(part, dict)), None)
        if isinstance(target, InertObject) and isinstance(state, dict):
            target.state = state

    def stack_global(self) -> None:
        """Replace module and name by a `GlobalName`."""
        module, name = self.pop(2)
        known = isinstance(module, str) and isinstance(name, str) and len(module) + len(name) < MAX_NAME
        self.stack.append(GlobalName(f"{module}.{name}" if known else "?"))


def _construct(callee: object, args: object) -> object:
    """Return the result of an allowed call, or an inert object in place of any other."""
    arguments = args if isinstance(args, tuple) else (args,)
    if not isinstance(callee, GlobalName):
        return InertObject("?", arguments)
    build = _ALLOWED_CALLS.get(callee.path)
    if build is None:
        return InertObject(callee.path, arguments)
    if len(arguments) > MAX_ARGUMENTS:  # they would be copied at every call
        raise ValueError(f"it calls {callee.path} with {len(arguments)} arguments")
    return build(*arguments)


def _rebuild_tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> StoredTensor:
    if not isinstance(storage, StoredTensor) or not isinstance(offset, int):
        raise TypeError("a tensor without stored values")
    return StoredTensor(
        storage.storage, storage.storage_type, storage.count, offset, _int_tuple(size), _int_tuple(stride)
    )


def _int_tuple(numbers: object = ()) -> tuple[int, ...]:
    if not isinstance(numbers, (tuple, list)) or len(numbers) > MAX_DIMS:
        raise TypeError("a tensor of no known shape")
    if not all(isinstance(n, int) and 0 <= n < 2**62 for n in numbers):
        raise ValueError("a tensor whose shape is no sequence of integers")
    return tuple(numbers)


def _persistent_load(identity: object) -> StoredTensor:
    """Return the stored array of a persistent id ("storage", kind, name, device, count)."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise ValueError("it refers to an external object that is no stored array")
    _, kind, name, _, count = identity[:5]
    if not isinstance(kind, GlobalName) or not isinstance(name, str) or not isinstance(count, int):
        raise TypeError("a stored array without kind, name and length")
    return StoredTensor(name, kind.path, count)


def _pairs(items: list[Any]) -> dict[Any, Any]:
    """Pair alternating keys and values; drop pairs whose key is neither short text nor a number."""
    if len(items) % 2:
        raise ValueError("a key without a value")
    pairs = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        # hashing nested values or long numbers may take forever
        number = key is None or isinstance(key, float) or (isinstance(key, int) and key.bit_length() <= 64)
        if number or (isinstance(key, (str, bytes)) and len(key) <= MAX_KEY):
            pairs[key] = value
    return pairs


_ALLOWED_CALLS: dict[str, Callable[..., object]] = {
    # All dictionaries are pickled empty; their items follow.
    "collections.OrderedDict": lambda *pairs: InertObject("collections.OrderedDict", pairs) if pairs else {},
    "torch.Size": _int_tuple,
    "torch._tensor._rebuild_from_type_v2": lambda callee=None, _=None, args=(), *__: _construct(callee, args),
    "torch._utils._rebuild_parameter": lambda value=None, *_: value,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
}
"""Calls that are evaluated, by functions of this file; every other name is only text."""

_LITERALS = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
})  # fmt: skip
_IGNORED = frozenset(("PROTO", "FRAME"))
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: InertObject("builtins.set"),
}
_OPERATIONS: dict[str, Callable[[_PickleMachine, Any], object]] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.pop(3))),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "DICT": lambda m, _: m.stack.append(_pairs(m.pop_to_mark())),
    "BINPUT": lambda m, number: m.memo.__setitem__(number, m.stack[-1]),
    "LONG_BINPUT": lambda m, number: m.memo.__setitem__(number, m.stack[-1]),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "BINGET": lambda m, number: m.stack.append(m.memo[number]),
    "LONG_BINGET": lambda m, number: m.stack.append(m.memo[number]),
    "APPEND": lambda m, _: m.append_elements(m.pop(1)),
    "APPENDS": lambda m, _: m.append_elements(m.pop_to_mark()),
    "ADDITEMS": lambda m, _: m.append_elements(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "GLOBAL": lambda m, names: m.stack.append(GlobalName(names.replace(" ", "."))),
    "STACK_GLOBAL": lambda m, _: m.stack_global(),
    "BINPERSID": lambda m, _: m.stack.append(_persistent_load(m.pop(1)[0])),
    "REDUCE": lambda m, _: m.stack.append(_construct(*m.pop(2))),
    "NEWOBJ": lambda m, _: m.stack.append(_construct(*m.pop(2))),
    "NEWOBJ_EX": lambda m, _: m.reduce_with_kwargs(),
    "BUILD": lambda m, _: m.set_state(),
}
