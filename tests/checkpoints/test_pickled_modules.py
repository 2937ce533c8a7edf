"""Networks that were saved whole: read without their classes; hostile, damaged and foreign ones refused."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from helpers import yolo_files
from helpers.hostile_files import Hostile, Maker, repickled, saved, words_of_refusal
from helpers.yolo_files import NAMES, foreign_classes, network, save
from masklet.checkpoints import pickled_modules as reading
from masklet.checkpoints import read_network, read_tensors
from masklet.errors import CheckpointError


def test_a_network_saved_whole_opens_without_its_classes(tmp_path: Path) -> None:
    made = network()
    expected = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    saved = read_network(save(tmp_path / "mine.pt", made))
    assert saved.tensors.keys() == expected.keys()
    for name, tensor in saved.tensors.items():
        wanted = expected[name].half() if expected[name].is_floating_point() else expected[name]
        assert tensor.dtype == wanted.dtype
        assert torch.equal(tensor, wanted), name
    assert saved.names == NAMES
    assert saved.image_size == 320
    assert saved.metadata == {"version": "8.0.0", "license": "AGPL-3.0"}


def test_ordinary_reading_says_who_opens_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ultralytics\.nn\.tasks.*nothing in it was run.*masklet\.YOLO"):
        read_tensors(save(tmp_path / "mine.pt", network()))


def test_the_averaged_network_is_preferred(tmp_path: Path) -> None:
    with foreign_classes() as module:
        raw, averaged = (yolo_files.disguise(network(seed=seed), module) for seed in (1, 2))
        torch.save({"model": raw, "ema": averaged}, tmp_path / "last.pt")
    found = read_network(tmp_path / "last.pt").tensors
    assert torch.equal(found["model.0.conv.weight"], network(seed=2).state_dict()["model.0.conv.weight"])


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}])
def test_state_dicts_open_as_well(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    state = network().state_dict()
    torch.save(wrap(state), tmp_path / "state.pt")
    found = read_network(tmp_path / "state.pt")
    assert found.tensors.keys() == state.keys()
    assert all(torch.equal(found.tensors[name], state[name]) for name in state)
    assert found.names == {}


def test_safetensors_carry_names_as_json(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    save_file(network().state_dict(), file, metadata={"names": json.dumps(NAMES)})
    assert read_network(file).names == NAMES
    save_file(network().state_dict(), file, metadata={"names": "no json"})
    assert read_network(file).names == {}


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["cat", "dog"], {0: "cat", 1: "dog"}),
        ({0: "cat", "1": "dog", 2: 5, -1: "x"}, {0: "cat"}),
        ({0: "a\nb\x1b[31m" + "c" * 1000}, {0: ("a b [31m" + "c" * 1000)[:300]}),
        ("words", {}),
        (None, {}),
    ],
)
def test_names_are_read_as_words_and_numbers(tmp_path: Path, names: Any, read: dict[int, str]) -> None:
    assert read_network(save(tmp_path / "mine.pt", network(), names)).names == read


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_views_ties_and_passing_buffers(tmp_path: Path, protocol: int) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(12.0).view(3, 4).t())
            self.tied = self.weight
            self.register_buffer("kept", torch.ones(2, dtype=torch.bool))
            self.register_buffer("passing", torch.ones(2), persistent=False)
            self.register_buffer("nothing", torch.empty(0, 3))
            self.register_buffer("part", torch.arange(10)[3:9:2])

    with foreign_classes() as module:
        Odd.__module__, Odd.__qualname__, module.Odd = module.__name__, "Odd", Odd  # type: ignore[attr-defined]
        made = nn.Sequential(Odd())
        torch.save(made, tmp_path / "odd.pt", pickle_protocol=protocol)
    found = read_network(tmp_path / "odd.pt").tensors
    state = made.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert found["0.nothing"].shape == (0, 3)


def test_hostile_parts_of_a_good_network_do_nothing(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    file = save(tmp_path / "mine.pt", network(), args=Hostile(proof), callbacks=[Hostile(proof)])
    assert read_network(file).names == NAMES
    assert not proof.exists()


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def module(**tables: object) -> bytes:
    """A pickle of a network whose state is `tables`, where `...` stands for the network itself."""
    body = b""
    for name, table in tables.items():
        assert isinstance(table, dict)
        entries = b"".join(
            b"X"
            + struct.pack("<I", len(key))
            + key.encode()
            + (b"h\x00" if value is ... else pickle.dumps(value, 2)[2:-1])
            for key, value in table.items()
        )
        body += b"X" + struct.pack("<I", len(name)) + name.encode() + b"}(" + entries + b"u"
    return b"\x80\x02cultralytics.nn.tasks\nDetectionModel\n)\x81q\x00}(" + body + b"ub."


def chain(length: int) -> bytes:
    """A module that holds a module that holds ... with no end in sight."""
    data = b"\x80\x02"
    for _ in range(length):
        data += b"cx\nM\n)\x81}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00a"
    return data + b"N" + b"ssb" * length + b"."


def both(data: bytes) -> bytes:
    """Two modules, each of which holds the next one twice: 2**40 tensors by name."""
    body = b"\x80\x02cx\nM\n)\x81q\x00}X\x0b\x00\x00\x00_parameters}sb0"
    for _ in range(40):
        body += b"cx\nM\n)\x81}X\x08\x00\x00\x00_modules}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00usbq\x000"
    return body + b"h\x00."


REFUSED: dict[str, tuple[Maker, str]] = {
    "empty": (lambda _: b"", "is empty"),
    "hostile": (lambda d: saved({"model": Hostile(d / "proof")}), "holds no network"),
    "hostile from the start": (lambda d: saved(Hostile(d / "proof")), "mkdir"),
    "eval": (lambda _: repickled(lambda _: b"\x80\x02cbuiltins\neval\nX\x01\0\0\x001\x85R."), "in it: builtins.eval"),
    "bare hostile pickle": (lambda d: pickle.dumps(Hostile(d / "proof"), 2), "nothing in it was run"),
    "garbage": (lambda _: repickled(lambda _: b"\x80\x02garbage."), "damaged"),
    "cut short": (lambda _: saved({"a": torch.ones(999)})[:2000], "cut short"),
    "no tensors": (lambda _: saved({"model": {}, "epoch": 3}), "in it: model, epoch"),
    "more numbers than stored": (
        lambda _: repickled(lambda data: data.replace(b"K\x4d", b"J" + struct.pack("<i", 2**20))),
        "1048576 numbers where 77 are stored",
    ),
    "a view beyond its array": (
        lambda _: repickled(lambda data: data.replace(b"K\x4d\x85", b"K\x4e\x85", 1)),
        "reaches beyond the 77 numbers",
    ),
    "a tensor of a terabyte": (lambda _: saved({"a": torch.zeros(1).expand(10**12)}), "claims 4000000000000 bytes"),
    "a shape beyond counting": (
        lambda _: saved({"a": torch.zeros(1).expand(2**31, 2**30)}), "claims 9223372036854775808 bytes",
    ),
    "numbers of an unknown kind": (
        lambda _: repickled(lambda data: data.replace(b"FloatStorage", b"OddStorage")), "kind torch.OddStorage",
    ),
    "NaN": (lambda _: saved({"a": torch.tensor([float("nan")])}), "NaN or infinity"),
    "a module that holds itself": (lambda _: repickled(lambda _: module(_modules={"a": ...})), "in a circle"),
    "modules without end": (lambda _: repickled(lambda _: chain(2000)), "in a circle, or are more"),
    "modules that double forty times": (lambda _: repickled(both), "in a circle, or are more"),
    "a network without tensors": (lambda _: repickled(lambda _: module(_modules={})), "without a single tensor"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_are_refused(tmp_path: Path, case: str) -> None:
    make, words = REFUSED[case]
    message = words_of_refusal(read_network, make, tmp_path)
    assert words in message, message


def test_descriptions_larger_than_any_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "mine.pt", network())
    monkeypatch.setattr(reading, "MAX_PICKLE", 1000)
    with pytest.raises(CheckpointError, match="larger than any network's"):
        read_network(file)


@pytest.mark.slow
def test_every_changed_bit_is_an_error_or_a_network(tmp_path: Path) -> None:
    """A pickle with one bit changed, in an archive that is whole, never fails in another way than CheckpointError."""
    file = save(tmp_path / "whole.pt", network())
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    key = next(name for name in entries if name.endswith("data.pkl"))
    generator = torch.Generator().manual_seed(0)
    read = 0
    for _ in range(40):
        changed = bytearray(entries[key])
        place = int(torch.randint(0, len(changed), (1,), generator=generator))
        changed[place] ^= 1 << int(torch.randint(0, 8, (1,), generator=generator))
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in {**entries, key: bytes(changed)}.items():
                archive.writestr(name, data)
        with contextlib.suppress(CheckpointError):
            read_network(file)
            read += 1
    assert 2 < read < 38
