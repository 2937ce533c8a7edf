"""Records are stored as JSON and read again, also those of earlier versions; comparisons mark what differs."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from masklet.benchmark.machine import (
    MachineInfo,
    describe_machine,
    git_commit,
    peak_mb,
    resident_mb,
    time_call,
)
from masklet.benchmark.markdown_tables import compare_records, setup_differences
from masklet.benchmark.model_family import FamilyRow, MaskGenerationSpeed, PromptedSpeed
from masklet.benchmark.record import BenchmarkCase, BenchmarkRecord, create_record, read_record
from masklet.benchmark.roofline import HardwareLimits, Work
from masklet.errors import InputError
from masklet.runtime import processor_name

MACHINE = MachineInfo("a processor", 2, 1, "cpu", "2.13", "3.11", "here")
ENCODE = BenchmarkCase("encode", "fp32", "s", (4.0, 1.0, 2.0, 3.0, 5.0), lower_bound=1.5)


def record(*cases: BenchmarkCase) -> BenchmarkRecord:
    return create_record("how", "builtin", {"repeats": 5}, MACHINE, HardwareLimits(100.0, 200.0, 10.0), cases, "0.1.0")


def test_figures_of_a_case() -> None:
    assert (ENCODE.median, ENCODE.minimum, ENCODE.iqr, ENCODE.fraction_of_limit) == (3, 1, 2, 0.5)
    alone = BenchmarkCase("peak memory", "fp32", "MB", (7.0,))
    assert (alone.median, alone.iqr, alone.fraction_of_limit) == (7, None, None)
    nothing = BenchmarkCase("encode", "fp32, compiled", "s", note="not here: no compiler")
    assert (nothing.median, nothing.minimum, nothing.iqr) == (None, None, None)


def test_the_lower_bound_is_the_longer_of_operations_and_bytes() -> None:
    limits, work = HardwareLimits(100.0, 200.0, 10.0), Work(flops=50 * 10**9, elements=10**9, bytes=10**9)
    assert limits.lower_bound(work, "fp32") == (0.5, "operations")  # 5 GB take as long; of equal times this is named
    assert limits.lower_bound(work, "bf16") == (0.3, "bytes")
    assert HardwareLimits(100.0, 50.0, 10.0).lower_bound(replace(work, elements=0), "bf16") == (0.5, "operations")


def test_a_case_has_the_lower_bound_of_its_precision() -> None:
    limits, work = HardwareLimits(100.0, 200.0, 1e9), Work(10**9, 0, 0)
    bounds = {
        setting: replace(ENCODE, setting=setting, work=work).with_lower_bound(limits).lower_bound
        for setting in ("fp32", "bf16, compiled", "8 objects, fp16")
    }
    assert bounds == {"fp32": 0.01, "bf16, compiled": 0.005, "8 objects, fp16": 0.005}
    assert ENCODE.with_lower_bound(limits) == ENCODE
    nothing = BenchmarkCase("encode", "fp32", "s", note="not here", work=work)
    assert nothing.with_lower_bound(limits).lower_bound is None


def test_the_maximum_of_two_readings() -> None:
    assert HardwareLimits(1.0, 5.0, 3.0).maximum(HardwareLimits(2.0, 4.0, 3.0)) == HardwareLimits(2.0, 5.0, 3.0)


def test_a_record_is_read_as_written(tmp_path: Path) -> None:
    written = record(ENCODE, BenchmarkCase("encode", "bf16", "s", note="not here: no"))
    path = tmp_path / "a.json"
    path.write_text(written.to_json())
    assert read_record(path) == written
    stored = json.loads(path.read_text())
    assert [*stored][:3] == ["protocol", "model", "options"]
    assert stored["cases"][0]["median"] == 3
    assert stored["cases"][0]["samples"] == [4, 1, 2, 3, 5]
    assert stored["masklet_version"] == "0.1.0"
    assert stored["date"].startswith("20")


def test_rows_of_peers_are_read_as_written(tmp_path: Path) -> None:
    peer = BenchmarkCase(
        "encode", "fp32", "s", (2.0,), program="sam2", peer_ratio=0.5, min_iou=0.999, max_logits_error=3e-6
    )
    peer = replace(peer, work=Work(3, 2, 1)).with_lower_bound(HardwareLimits(1.0, 1.0, 1.0))
    written = replace(record(ENCODE, peer), versions={"sam2": "1.1.0"}, command="masklet bench image")
    path = tmp_path / "a.json"
    path.write_text(written.to_json())
    assert read_record(path) == written


def test_records_without_peers_are_read(tmp_path: Path) -> None:
    stored = json.loads(record(ENCODE).to_json())
    for name in ("versions", "command"):
        del stored[name]
    for name in ("program", "peer_ratio", "min_iou", "max_logits_error", "work", "limited_by"):
        del stored["cases"][0][name]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(stored))
    found = read_record(path)
    assert found.cases == (ENCODE,)
    assert (dict(found.versions), found.command) == ({}, None)


def test_records_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """With the keys of an earlier version."""
    old = read_record(Path(__file__).parent / "old_record.json")
    assert old.masklet_version == "0.1.0"
    case = BenchmarkCase(
        "encode", "fp32", "s", (2.0,), 0.5, program="sam2", peer_ratio=0.5, min_iou=0.999, max_logits_error=3e-6
    )
    assert old.cases == (replace(case, work=Work(3, 2, 1), limited_by="bytes"),)
    assert old.models == (
        FamilyRow(
            "sam_vit_b",
            "SAM ViT-B",
            93735472,
            93.7,
            375.0,
            False,
            1024,
            PromptedSpeed(4485.6, 15.6),
            MaskGenerationSpeed(14.5, 1024, False),
        ),
    )
    assert old.options == {
        "objects": [1],
        "image_size": None,
        "image": [480, 854],
        "points_per_side": 16,
        "memory_at": [100],
        "breakdown": True,
        "api": "live",
        "memory_from_frame": 100,
        "memory_tolerance_mb": 24.0,
        "max_seconds": 60.0,
    }
    path = tmp_path / "new.json"
    path.write_text(old.to_json())
    assert read_record(path) == old


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"cases": 3}', '{"machine": {}, "limits": null, "cases": []}']
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no record of masklet bench"):
        read_record(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_record(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no record"):
        read_record(tmp_path / "binary.json")


def test_ratios_and_marks() -> None:
    near = replace(ENCODE, samples=tuple(value + 1.5 for value in ENCODE.samples))
    far = replace(ENCODE, samples=tuple(value + 3.0 for value in ENCODE.samples))
    (one,), (other,) = compare_records(record(ENCODE), record(near)), compare_records(record(ENCODE), record(far))
    assert (one.ratio, one.is_significant) == (1.5, False)
    assert (other.ratio, other.is_significant) == (2.0, True)
    assert compare_records(record(far), record(ENCODE))[0].is_significant


def test_programs_are_compared_with_themselves() -> None:
    peer = replace(ENCODE, program="sam2", samples=(6.0,), peer_ratio=0.5)
    pairs = compare_records(record(ENCODE, peer), record(peer, ENCODE))
    assert [(pair.before.program, pair.after.program, pair.ratio) for pair in pairs] == [
        ("masklet", "masklet", 1),
        ("sam2", "sam2", 1),
    ]


def test_single_samples_are_never_marked() -> None:
    memory = BenchmarkCase("peak memory", "fp32", "MB", (100.0,))
    (pair,) = compare_records(record(memory), record(replace(memory, samples=(900.0,))))
    assert (pair.ratio, pair.is_significant) == (9.0, False)


def test_only_common_cases_are_compared() -> None:
    other = replace(ENCODE, setting="bf16")
    assert [pair.before for pair in compare_records(record(ENCODE, other), record(other))] == [other]
    for unlike in (other, replace(ENCODE, samples=()), replace(ENCODE, unit="MB")):
        with pytest.raises(InputError, match="no case in common"):
            compare_records(record(ENCODE), record(unlike))


def test_other_machines_and_options_are_reported() -> None:
    first_run = record(ENCODE)
    second_run = replace(first_run, machine=replace(MACHINE, threads=4), options={"repeats": 3})
    assert setup_differences(first_run, first_run) == []
    assert setup_differences(first_run, second_run) == ["threads: 1 and 4", "repeats: 5 and 3"]
    first, second = (replace(first_run, versions={"sam2": version}) for version in ("1.0", "1.1"))
    assert setup_differences(first, second) == ["sam2: 1.0 and 1.1"]


def test_a_call_is_timed() -> None:
    assert time_call(lambda: time.sleep(0.02)) >= 0.02


def test_this_machine_is_named() -> None:
    machine = describe_machine()
    assert machine.processor == processor_name() != ""
    assert machine.cores >= 1
    assert machine.device == "cpu"
    resident, peak = resident_mb(), peak_mb()
    if resident is not None and peak is not None:
        assert 10 < resident <= peak


def test_the_commit_is_that_of_the_checkout_that_tracks_the_folder(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "__init__.py").write_text("")
    assert git_commit(tmp_path) is None  # in a checkout, but not tracked
    git("add", "__init__.py")
    git("commit", "-m", "first")
    clean = git_commit(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "__init__.py").write_text("1\n")
    assert git_commit(tmp_path) == f"{clean}-dirty"
