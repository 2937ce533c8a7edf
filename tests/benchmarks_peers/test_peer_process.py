"""Processes of other programs: requests, responses, and errors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.process import PeerProcess, resolve_interpreters
from helpers.peers import use_adapters_in, write_image_adapter
from masklet.errors import InputError, StateError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "image.npy", np.zeros((6, 8, 3), np.uint8))
    return use_adapters_in(tmp_path, monkeypatch)


def start(folder: Path, change: str = "", name: str = "fake") -> PeerProcess:
    job = {
        "kind": "image",
        "model": "tiny",
        "weights": "",
        "precision": "fp32",
        "image_path": str(folder / "image.npy"),
    }
    return PeerProcess(name, write_image_adapter(folder, name, change), job | {"point": [1, 2]}, folder)


def test_a_program_describes_itself(folder: Path) -> None:
    with start(folder) as program:
        assert program.version == "fake 1"
        assert program.verbs == ("load", "encode", "click", "everything")
        assert program.supports("click")
        assert not program.supports("box")


def test_results_are_stored_packed(folder: Path) -> None:
    with start(folder) as program:
        taken = [
            program.run("load"),
            program.run("encode"),
            program.run("click"),
            program.run("everything", options={}),
        ]
        assert [each.masks for each in taken] == [None, None, 3, 2]
        assert all(each.seconds >= 0 and each.cpu_seconds >= 0 for each in taken)
        with np.load(program.save_results(folder / "results.npz")) as results:
            assert set(results) == {"click.masks", "click.logits", "everything.masks"}
            masks = np.unpackbits(results["click.masks"], axis=1).reshape(3, 6, 8)
            assert masks[:, :3].all()
            assert not masks[:, 3:].any()
            assert np.array_equal(
                results["everything.masks"], results["click.masks"][:2]
            )  # from codes, column by column


def test_options_reach_the_program(folder: Path) -> None:
    with start(folder) as program:
        program.run("load")
        program.run("everything", options={"points_per_side": 4})
    assert '"points_per_side": 4' in (folder / "requests").read_text()


def test_a_failing_program_is_named_with_its_last_line(folder: Path) -> None:
    change = "def refuse(self, rgb):\n    raise ValueError('too large')\nFakeImageProgram.encode = refuse"
    with start(folder, change) as program:
        program.run("load")
        with pytest.raises(StateError, match=r"fake \(tiny, fp32\) ended with 1 while encode: ValueError: too large"):
            program.run("encode")
        with pytest.raises(StateError, match="too large"):
            program.run("click")


def test_a_program_that_does_not_start_is_named(folder: Path) -> None:
    with pytest.raises(StateError, match="while starting: ModuleNotFoundError: No module named 'nowhere'"):
        start(folder, "import nowhere")


def test_a_file_that_is_no_interpreter_is_named(folder: Path) -> None:
    with pytest.raises(StateError, match=r"fake could not be started by .*image\.npy"):
        PeerProcess("fake", folder / "image.npy", {}, folder)


def test_processes_end_with_their_block(folder: Path) -> None:
    with start(folder) as program:
        process = program._process
    assert process.returncode == 0
    program = start(folder)
    program.__exit__(KeyboardInterrupt)  # as when a run is stopped in the middle
    assert program._process.returncode != 0


def test_another_environment_can_be_named() -> None:
    found = resolve_interpreters(["sam2"], [f"sam2={sys.executable}"])
    assert found == {"masklet": Path(sys.executable), "sam2": Path(sys.executable)}


@pytest.mark.parametrize("word", ["sam2", "sam2=/no/such/python", f"transformers={sys.executable}"])
def test_a_missing_interpreter_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="must be one of --peers"):
        resolve_interpreters(["sam2"], [word])


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(InputError, match="'sam7' is no program"):
        resolve_interpreters(["sam7"])
