"""Pages get the tables of records, and the page of this repository is what the command writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from masklet.benchmark.docs_tables import make_page, record_names, update_page
from masklet.benchmark.machine import MachineInfo
from masklet.benchmark.record import BenchmarkCase, BenchmarkRecord, create_record, read_record
from masklet.benchmark.roofline import HardwareLimits
from masklet.cli.console import command_line, set_command_args
from masklet.cli.main import run
from masklet.errors import InputError

DOCS = Path(__file__).parents[2] / "docs"
MACHINE = MachineInfo("a processor", 2, 1, "cpu", "2.13", "3.11", "here")
PAGE = """# Speed

By hand.

<!-- record: one -->
old
<!-- end -->

More by hand, and <!-- record: none --> in a sentence.

<!-- record: two -->
<!-- end -->
"""


def record(seconds: float) -> BenchmarkRecord:
    case = BenchmarkCase("encode", "fp32", "s", (seconds,))
    made = create_record("how", "builtin", {}, MACHINE, HardwareLimits(100.0, 200.0, 10.0), (case,), "0.1.0")
    return replace(made, command="masklet bench image --report one.json", date="2026-11-23T12:00:00+00:00")


def test_records_fill_their_blocks_and_the_text_stays() -> None:
    page = update_page(PAGE, {"one": record(2.5), "two": record(3.5)})
    first, second = page.split("More by hand, and <!-- record: none --> in a sentence.")
    assert first.startswith("# Speed\n\nBy hand.\n\n<!-- record: one -->\n\n| case ")
    assert "old" not in first
    assert "2.50 s" in first
    assert "3.50 s" in second
    for word in ("`masklet bench image --report one.json`", "a processor", "masklet 0.1.0", "2026-11-23", "100 G"):
        assert word in first
    assert max(map(len, page.splitlines())) <= 120
    assert update_page(page, {"one": record(2.5), "two": record(3.5)}) == page


def test_blocks_without_a_record_stay() -> None:
    page = update_page(PAGE, {"two": record(3.5)})
    assert "\nold\n" in page
    assert record_names(page) == ["one", "two"]


def test_a_record_without_a_block_is_refused() -> None:
    with pytest.raises(InputError, match="no place for three; allowed are one, two"):
        update_page(PAGE, {"three": record(1.0)})


def test_a_missing_page_is_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seconds in (("a", 2.5), ("b", 3.5)):
        (tmp_path / f"{name}.json").write_text(record(seconds).to_json())
    out = tmp_path / "page.md"
    with pytest.raises(SystemExit) as left:
        run(["bench", "update-docs", *(str(tmp_path / f"{name}.json") for name in "ab"), "--out", str(out)])
    assert left.value.code == 0
    assert "| a      | builtin | 1    | 2026-11-23  |" in capsys.readouterr().out
    assert out.read_text() == update_page(make_page(["a", "b"]), {"a": record(2.5), "b": record(3.5)})


def test_the_pages_of_this_repository_are_what_the_command_makes() -> None:
    records = {path.stem: read_record(path) for path in sorted((DOCS / "records").glob("*.json"))}
    shown = []
    for path in [DOCS / "server.md", *sorted(DOCS.glob("benchmark_*.md"))]:
        page = path.read_text(encoding="utf-8")
        names = record_names(page)
        assert update_page(page, {name: records[name] for name in names}) == page
        shown += names
    assert sorted(shown) == sorted(records) != []


def test_commands_are_stored_without_the_folders_of_a_machine() -> None:
    set_command_args(
        ["bench", "image", "--report", "/home/me/a b.json", "--peer-python", "sam2=/peer/bin/python", "x/y"]
    )
    assert command_line() == "masklet bench image --report 'a b.json' --peer-python sam2=python x/y"
