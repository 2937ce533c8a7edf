"""Complete processes are timed, and a failing one is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from masklet.benchmark import startup
from masklet.benchmark.startup import measure_startup
from masklet.errors import StateError


@pytest.mark.slow
def test_three_kinds_of_processes_are_timed(builtin_file: Path) -> None:
    nothing, imported, first = measure_startup(str(builtin_file), "cpu", 1, (60, 90))
    assert (nothing.name, imported.name, first.name) == ("nothing", "import masklet", "first mask")
    assert all(len(case.samples) == 1 and case.samples[0] > 0 for case in (nothing, imported, first))
    assert first.samples[0] > nothing.samples[0]  # PyTorch alone takes a hundred times as long


def test_the_first_round_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def seconds(words: list[str]) -> float:
        commands.append(words)
        return float(len(commands))

    monkeypatch.setattr(startup, "_time_process", seconds)
    cases = measure_startup("builtin", "cpu", 2, (60, 90))
    assert [case.samples for case in cases] == [(2, 3), (5, 6), (8, 9)]
    assert commands[-1][:3] == ["-m", "masklet", "segment"]


@pytest.mark.slow
def test_a_failing_process_is_reported() -> None:
    with pytest.raises(StateError, match="sam7"):
        measure_startup("sam7", "cpu", 1, (60, 90))
