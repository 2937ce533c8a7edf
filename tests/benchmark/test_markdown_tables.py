"""Tables are aligned Markdown, with columns of peers only if there are peers."""

from __future__ import annotations

from dataclasses import replace

from masklet.benchmark.machine import MachineInfo
from masklet.benchmark.markdown_tables import format_amount, markdown_table, record_notes, record_table
from masklet.benchmark.record import BenchmarkCase, BenchmarkRecord, create_record
from masklet.benchmark.roofline import HardwareLimits

MACHINE = MachineInfo("a processor", 2, 1, "cpu", "2.13", "3.11", "here")
ENCODE = BenchmarkCase("encode", "fp32", "s", (0.1, 0.1, 0.1), lower_bound=0.05, limited_by="bytes")
PEER = BenchmarkCase(
    "encode", "fp32", "s", (0.2,), program="sam2", peer_ratio=0.5, min_iou=0.99987, max_logits_error=3.1e-6
)


def record(*cases: BenchmarkCase) -> BenchmarkRecord:
    return create_record("how", "builtin", {}, MACHINE, HardwareLimits(100.0, 200.0, 10.0), cases, "0.1.0")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_table_is_aligned() -> None:
    lines = markdown_table(("model", "a|b"), [("x", "1"), ("longer", "20000")], left_aligned=("model",))
    assert lines == ["| model  |  a\\|b |", "| ------ | ----: |", "| x      |     1 |", "| longer | 20000 |"]


def test_a_table_without_rows_has_its_titles() -> None:
    assert markdown_table(("case", "median"), []) == ["| case | median |", "| ---- | -----: |"]


def test_masklet_alone_has_no_columns_of_peers() -> None:
    title, _, row = record_table(record(ENCODE))
    assert cells(title) == ["case", "setting", "median", "min", "IQR", "lower bound", "limited by", "of limit"]
    assert cells(row) == ["encode", "fp32", "100.0 ms", "100.0 ms", "0.0 ms", "50.0 ms", "bytes", "50%"]


def test_rows_of_peers_compare_masklet() -> None:
    title, _, own_row, peer_row = record_table(record(ENCODE, PEER))
    assert cells(title)[:3] == ["case", "program", "setting"]
    assert cells(title)[-3:] == ["ratio", "min IoU", "logits error"]
    assert cells(own_row)[1] == "masklet"
    assert cells(own_row)[-3:] == ["", "", ""]
    assert cells(peer_row)[1:4] == ["sam2", "fp32", "200.0 ms"]
    assert cells(peer_row)[-3:] == ["0.50", "0.9999", "3.1e-06"]


def test_a_missing_measurement_has_a_note() -> None:
    without = record(ENCODE, replace(PEER, samples=(), note="no such verb"))
    assert cells(record_table(without)[-1])[3:9] == ["not here", "", "", "", "", ""]
    assert "encode, sam2, fp32: no such verb" in record_notes(without)


def test_notes_name_machine_versions_and_limits() -> None:
    first, second = record_notes(
        replace(record(ENCODE), versions={"sam2": "1.1.0"}, commit="abc", date="2026-11-23T12:00:00+00:00")
    )
    assert first.startswith("builtin; a processor, 2 cores, 1 thread(s), cpu, torch 2.13")
    assert first.endswith("masklet 0.1.0, sam2 1.1.0, abc; 2026-11-23.")
    assert "100 G operations/s in fp32, 200 in bf16, copying 10.0 GB/s" in second


def test_amounts_have_their_units() -> None:
    assert [format_amount(value, "s") for value in (None, 0.0391, 2.5)] == ["", "39.1 ms", "2.50 s"]
    assert format_amount(485.0, "MB") == "485.0 MB"
