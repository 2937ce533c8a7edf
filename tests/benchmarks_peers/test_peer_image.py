"""An image in several programs, with fake programs, and with the real sam2 if it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import image, mask_generation, process
from benchmarks.__main__ import run
from benchmarks.image import ImageComparisonJob, compare_image
from benchmarks.interleaved import ComparisonResult
from benchmarks.mask_generation import MaskGenerationComparisonJob, compare_mask_generation
from benchmarks.weights import ModelWeights
from helpers.peers import SAM2, use_adapters_in, write_image_adapter
from masklet.benchmark import roofline
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.roofline import HardwareLimits, Work

JOB = ImageComparisonJob("tiny", ("fp32", "bf16"), repeats=2, sample_size=(6, 8))
CHANGED = "MASKS = MASKS.copy()\nMASKS[0, 3] = True\nLOGITS = LOGITS + LOGITS.std() * (LOGITS > 10)"
"""One more row in the first mask, and one logit that is a deviation off."""
FEWER = "MASKS = MASKS[:1]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (image, mask_generation):
        monkeypatch.setattr(module, "resolve_weights", lambda model, folder: ModelWeights(model, tmp_path / "w", True))
    monkeypatch.setattr(image, "_measure_work", lambda weights, rgb, image_size: {"encode": Work(10**9, 0, 0)})
    monkeypatch.setattr(mask_generation, "_measure_work", lambda weights, rgb, job: Work(job.points_per_side**2, 0, 0))
    return use_adapters_in(tmp_path, monkeypatch)


def requests(folder: Path) -> list[list[object]]:
    return [json.loads(line) for line in (folder / "requests").read_text().splitlines()]


def pythons(folder: Path, change: str = CHANGED) -> dict[str, Path]:
    return {"masklet": write_image_adapter(folder, "masklet"), "fake": write_image_adapter(folder, "fake", change)}


def row(found: ComparisonResult, name: str, program: str, setting: str = "fp32") -> BenchmarkCase:
    (case,) = (c for c in found.cases if (c.name, c.program, c.setting) == (name, program, setting))
    return case


def test_programs_are_interleaved_and_compared(folder: Path) -> None:
    steps: list[ComparisonResult] = []
    found = compare_image(JOB, pythons(folder), steps.append)
    assert [(who, what) for who, precision, what, _ in requests(folder) if precision == "fp32"] == [
        (who, verb) for verb in ("encode", "click") for who in ("masklet", "fake", "fake", "masklet", "masklet", "fake")
    ]
    assert len(row(found, "encode", "masklet").samples) == 2
    assert len(row(found, "load", "fake").samples) == 1
    clicked = row(found, "1 prompt", "fake")
    assert clicked.peer_ratio is not None
    assert (clicked.min_iou, clicked.max_logits_error) == (0.75, pytest.approx(1, abs=0.3))
    assert row(found, "1 prompt", "masklet").min_iou is None
    assert found.versions == {"fake": "fake 1"}
    assert [len({case.setting for case in step.cases}) for step in steps] == [1, 2]


def test_another_precision_is_compared_with_fp32_too(folder: Path) -> None:
    found = compare_image(JOB, pythons(folder), lambda _: None)
    ours = row(found, "1 prompt", "masklet", "bf16")
    assert (ours.min_iou, ours.max_logits_error, ours.peer_ratio) == (1, 0, None)


def test_a_missing_verb_is_an_empty_cell(folder: Path) -> None:
    found = compare_image(JOB, pythons(folder), lambda _: None)
    boxed = row(found, "1 box", "fake")
    assert (boxed.samples, boxed.peer_ratio, boxed.min_iou) == ((), None, None)


def test_other_numbers_of_masks_are_not_compared(folder: Path) -> None:
    clicked = row(compare_image(JOB, pythons(folder, FEWER), lambda _: None), "1 prompt", "fake")
    assert clicked.peer_ratio is not None
    assert clicked.min_iou is None


def test_mask_generation_is_measured_in_wall_time_and_cpu_time(folder: Path) -> None:
    job = MaskGenerationComparisonJob("tiny", ("small", "crops"), points_per_side=4, repeats=2, sample_size=(6, 8))
    found = compare_mask_generation(job, pythons(folder), lambda _: None)
    assert [who for who, *_ in requests(folder)] == ["masklet", "fake", "fake", "masklet"] * 2
    assert requests(folder)[-1][3] == {"points_per_side": 4, **mask_generation.OPTION_SETS["crops"]}
    theirs = row(found, "small", "fake", job.setting)
    assert theirs.note == "2 masks, alike 100.0% of masklet's and 100.0% of the peer's, mean IoU 1.0000"
    assert (theirs.min_iou, len(theirs.samples)) == (1, 2)
    processor = row(found, "small, processor", "fake", job.setting)
    assert processor.peer_ratio is not None
    assert (theirs.work, processor.work) == (Work(16, 0, 0), None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("image --peers sam7", "'sam7' is no program that is compared with"),
        ("image --peers sam2 --peer-python sam2=/none", "--peer-python 'sam2=/none' must be one of --peers"),
        ("image --peers sam2 --peer-python sam2={python} --model builtin", "is not one that other programs have"),
        ("image --peers sam2 --peer-python sam2={python} --image none.png", "none.png"),
        ("mask-generation --cases most", "cases most: choose from thresholds"),
    ],
)
def test_mistakes_are_one_line(
    line: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roofline, "measure_hardware_limits", lambda device: HardwareLimits(1.0, 1.0, 1.0))
    with pytest.raises(SystemExit) as left:
        run(line.format(python=process.sys.executable).split())
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(not SAM2.is_file(), reason="no environment with sam2 (MASKLET_SAM2_PYTHON names its interpreter)")
def test_sam2_gives_the_same_masks() -> None:
    job = ImageComparisonJob("sam2.1_hiera_tiny", repeats=1, image_size=128, sample_size=(60, 80))
    found = compare_image(job, process.resolve_interpreters(["sam2"], [f"sam2={SAM2}"]), lambda _: None)
    rows = [row(found, name, "sam2") for name in ("1 prompt", "1 box", "64 prompts")]
    assert all(case.min_iou == 1 and case.max_logits_error < 1e-4 for case in rows)
    assert all(case.samples for case in found.cases)
    assert all(case.work for case in (*rows, row(found, "encode", "masklet"), row(found, "encode", "sam2")))
