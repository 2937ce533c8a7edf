"""Pickles are followed on paper: what is plain comes back, everything else is a record, and nothing is run."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from masklet.checkpoints import pickle_reader
from masklet.checkpoints.pickle_reader import GlobalName, InertObject, read_pickle


class Thing:
    """What a pickle may ask for."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class Table(dict):
    pass


class Slotted:
    __slots__ = ("a",)


class Calls:
    """A pickle of this calls `function` where it is opened by an ordinary unpickler."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, self.arguments


PLAIN: list[Any] = [
    None,
    True,
    -3,
    2**70,
    -1.5,
    "héllo",
    b"bytes",
    (),
    (1,),
    (1, 2),
    (1, 2, 3),
    (1, 2, 3, 4),
    [1, [2, "three"]],
    {"a": {"b": [1]}, 2: None},
    list(range(3000)),
    {str(i): i for i in range(3000)},
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", PLAIN, ids=lambda v: type(v).__name__)
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    if protocol < 3 and isinstance(value, bytes):
        pytest.skip("older protocols write bytes as a call")
    assert read_pickle(pickle.dumps(value, protocol)) == value


def test_shared_and_circular_lists_stay_so() -> None:
    row: list[Any] = [1]
    row.append(row)
    found = read_pickle(pickle.dumps([row, row], 2))
    assert isinstance(found, list)
    assert found[0] is found[1]
    assert found[0][1] is found[0]


@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_are_records_of_what_they_were_to_be(protocol: int) -> None:
    found = read_pickle(pickle.dumps(Thing(a=1, b=Thing(c=[2])), protocol))
    assert isinstance(found, InertObject)
    assert found.path.endswith(".Thing")
    assert found.state["a"] == 1
    assert found.state["b"].state == {"c": [2]}


def test_kinds_of_dictionaries_and_sets_keep_their_entries() -> None:
    table = read_pickle(pickle.dumps(Table(x=1), 2))
    assert isinstance(table, InertObject)
    assert table.entries == {"x": 1}
    held = read_pickle(pickle.dumps({1, 2}, 4))
    assert isinstance(held, InertObject)
    assert sorted(held.elements) == [1, 2]
    assert read_pickle(pickle.dumps(collections.OrderedDict(a=1, b=2), 2)) == {"a": 1, "b": 2}


def test_state_of_slots() -> None:
    slotted = Slotted()
    slotted.a = 5  # type: ignore[attr-defined]
    found = read_pickle(pickle.dumps(slotted, 2))
    assert isinstance(found, InertObject)
    assert found.state == {"a": 5}


def test_functions_are_only_names() -> None:
    assert read_pickle(pickle.dumps(os.system, 2)) == GlobalName(f"{os.system.__module__}.system")
    assert read_pickle(pickle.dumps(eval, 4)) == GlobalName("builtins.eval")


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_is_called(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "proof"
    hostile = [Calls(os.mkdir, str(proof)), Calls(eval, f"__import__('os').mkdir({str(proof)!r})")]
    data = pickle.dumps({"x": hostile}, protocol)
    found = read_pickle(data)
    assert isinstance(found, dict)
    assert [one.path.rpartition(".")[2] for one in found["x"]] == ["mkdir", "eval"]
    assert found["x"][0].arguments == (str(proof),)
    assert not proof.exists()
    with pytest.raises(FileExistsError):
        pickle.loads(data)
    assert proof.exists()


def test_admitted_names_cannot_be_tampered_with() -> None:
    """State handed to a name, or to a container, goes nowhere."""
    before = dict(vars(pickle_reader._rebuild_tensor))
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}U\x01aK\x01sb."
    assert read_pickle(data) == GlobalName("torch._utils._rebuild_tensor_v2")
    assert vars(pickle_reader._rebuild_tensor) == before
    assert read_pickle(b"\x80\x02ccollections\nOrderedDict\n)R}U\x01aK\x01sb.") == {}


def test_calling_what_was_made_is_a_record() -> None:
    made = pickle.dumps(Calls(os.getcwd), 2)[2:-1]
    found = read_pickle(b"\x80\x02" + made + b"(K\x01tR.")
    assert isinstance(found, InertObject)
    assert found.path == "?"


DAMAGED = {
    "nothing": b"",
    "no end": b"\x80\x02K\x01",
    "garbage": b"\x80\x02garbage.",
    "an empty stack": b"\x80\x02.",
    "a mark that is not there": b"\x80\x02t.",
    "what was never remembered": b"\x80\x02h\x05.",
    "entries of a number": b"\x80\x02K\x01K\x01K\x02s.",
    "parts of a number": b"\x80\x02K\x01K\x01a.",
    "a key without a value": b"\x80\x02}(K\x01u.",
    "an object outside": b"\x80\x02U\x01aQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "cut short": pickle.dumps(list(range(100)), 2)[:50],
    "a length that is not there": b"\x80\x02X" + struct.pack("<I", 2**31 - 1) + b"abc.",
    "a tensor of no storage": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))tR.",
    "numbers written as text, as before protocol 2": b"\x80\x02I12\n.",
    "too few arguments": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_pickles_fail(case: str) -> None:
    with pytest.raises((ValueError, IndexError, KeyError, TypeError)):
        read_pickle(DAMAGED[case])


def bytearray_of(count: int) -> bytes:
    return b"\x80\x02c__builtin__\nbytearray\n\x8a\x06" + count.to_bytes(6, "little") + b"\x85R."


def doubling(rounds: int) -> bytes:
    """A list of twice the same list, which is of twice the same list, and so on."""
    return b"\x80\x02]q\x00" + b"0]h\x00ah\x00aq\x00" * rounds + b"."


def nested(count: int) -> bytes:
    """An object in an object in an object ..."""
    return b"\x80\x02" + b"cx\nM\n)\x81}U\x01a" * count + b"N" + b"sb" * count + b"."


BOMBS = {
    "objects in objects": nested(2 * 10**4),
    "a call that asks for memory": bytearray_of(2**46),
    "lists that double sixty times": doubling(60),
    "a memo at a number in the billions": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    "a frame of a terabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"K\x01.",
    "tuples in tuples": b"\x80\x02)" + b"\x85" * 10**5 + b".",
    "a key of tuples in tuples": b"\x80\x02})" + b"\x85" * 10**5 + b"K\x01s.",
    "lists in lists": b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "a name that grows": (
        b"\x80\x04X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"\x94" + b"0h\x00h\x00\x93" * 10**4 + b"."
    ),
    "a state handed to many": (
        b"\x80\x02}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(10**4)) + b"uq\x00cx\ny\nq\x010"
        + b"h\x01)Rh\x00b" * 10**4 + b"."
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_are_quiet(case: str) -> None:
    """No bomb takes seconds or memory: what it names is named once."""
    import tracemalloc

    data = BOMBS[case]
    tracemalloc.start()
    started = time.process_time()
    try:
        read_pickle(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 20
    assert peak < 100e6


def test_endless_pickles_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "MAX_STEPS", 1000)
    with pytest.raises(ValueError, match="more than 1000 steps"):
        read_pickle(b"\x80\x02" + b"K\x010" * 1000 + b"N.")


def test_keys_that_take_long_each_time_are_left_out() -> None:
    assert read_pickle(pickle.dumps({1 << 200: "a", "x" * 5000: "b", 3: "c"}, 2)) == {3: "c"}


def test_admitted_calls_with_many_arguments_are_refused() -> None:
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n"
    with pytest.raises(ValueError, match="100 arguments"):
        read_pickle(b"\x80\x02" + tensor + b"(" + b"K\x01" * 100 + b"tR.")
