"""Processes of other programs: what they are asked and answer, and what is said of one that fails."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.peers import adapters_in, made_image_adapter
from masklet.benchmark.peers.process import PeerProcess, resolve_interpreters
from masklet.errors import InputError, StateError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "picture.npy", np.zeros((6, 8, 3), np.uint8))
    return adapters_in(tmp_path, monkeypatch)


def started(folder: Path, change: str = "", name: str = "fake") -> PeerProcess:
    job = {
        "kind": "picture",
        "model": "tiny",
        "weights": "",
        "precision": "fp32",
        "picture": str(folder / "picture.npy"),
    }
    return PeerProcess(name, made_image_adapter(folder, name, change), job | {"point": [1, 2]}, folder)


def test_a_program_says_what_it_is(folder: Path) -> None:
    with started(folder) as program:
        assert program.version == "fake 1"
        assert program.verbs == ("load", "encode", "click", "everything")
        assert program.supports("click")
        assert not program.supports("box")


def test_what_it_found_is_kept_packed(folder: Path) -> None:
    with started(folder) as program:
        taken = [
            program.run("load"),
            program.run("encode"),
            program.run("click"),
            program.run("everything", options={}),
        ]
        assert [each.masks for each in taken] == [None, None, 3, 2]
        assert all(each.seconds >= 0 and each.cpu_seconds >= 0 for each in taken)
        with np.load(program.save_results(folder / "kept.npz")) as kept:
            assert set(kept) == {"click.masks", "click.logits", "everything.masks"}
            masks = np.unpackbits(kept["click.masks"], axis=1).reshape(3, 6, 8)
            assert masks[:, :3].all()
            assert not masks[:, 3:].any()
            assert np.array_equal(kept["everything.masks"], kept["click.masks"][:2])  # from codes, column by column


def test_options_reach_the_program(folder: Path) -> None:
    with started(folder) as program:
        program.run("load")
        program.run("everything", options={"points_per_side": 4})
    assert '"points_per_side": 4' in (folder / "said").read_text()


def test_a_program_that_fails_is_named_with_its_last_line(folder: Path) -> None:
    change = "def refuse(self, rgb):\n    raise ValueError('too large')\nPicture.encode = refuse"
    with started(folder, change) as program:
        program.run("load")
        with pytest.raises(StateError, match=r"fake \(tiny, fp32\) ended with 1 while encode: ValueError: too large"):
            program.run("encode")
        with pytest.raises(StateError, match="too large"):
            program.run("click")


def test_a_program_that_does_not_start_is_named_too(folder: Path) -> None:
    with pytest.raises(StateError, match="while starting: ModuleNotFoundError: No module named 'nowhere'"):
        started(folder, "import nowhere")


def test_an_interpreter_that_is_none_is_said(folder: Path) -> None:
    with pytest.raises(StateError, match=r"fake could not be started by .*image\.npy"):
        PeerProcess("fake", folder / "picture.npy", {}, folder)


def test_processes_end_with_their_block(folder: Path) -> None:
    with started(folder) as program:
        process = program._process
    assert process.returncode == 0
    program = started(folder)
    program.__exit__(KeyboardInterrupt)  # as when a run is stopped in the middle
    assert program._process.returncode != 0


def test_an_environment_that_was_made_by_hand_is_taken() -> None:
    found = resolve_interpreters(["sam2"], [f"sam2={sys.executable}"])
    assert found == {"masklet": Path(sys.executable), "sam2": Path(sys.executable)}


@pytest.mark.parametrize("word", ["sam2", "sam2=/no/such/python", f"transformers={sys.executable}"])
def test_an_interpreter_that_is_not_there_is_said(word: str) -> None:
    with pytest.raises(InputError, match="must be one of --peers"):
        resolve_interpreters(["sam2"], [word])


def test_an_unknown_peer_is_said() -> None:
    with pytest.raises(InputError, match="'sam7' is no program"):
        resolve_interpreters(["sam7"])
