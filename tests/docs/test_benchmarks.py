"""The commands of docs/benchmarks.md and benchmarks/README.md run as written, on a small model and a small image."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import __main__ as comparisons
from benchmarks import environments, interleaved, process, weights
from benchmarks.process import Timing
from helpers.networks import small_network
from helpers.yolo_files import TINY_SEG
from masklet import SAM
from masklet.benchmark import app_latency, image, model_family, roofline, startup, subprocess_runner, video
from masklet.benchmark.image import ImageBenchmarkJob
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase, read_record
from masklet.benchmark.video import VideoBenchmarkJob
from masklet.cli.main import run
from masklet.errors import StateError
from masklet.models.yolo import YOLOv8

ROOT = Path(__file__).parents[2]
PAGE = "\n".join((ROOT / page).read_text() for page in ("docs/benchmarks.md", "benchmarks/README.md"))
LINES = re.findall(r"^(?:masklet bench|python -m benchmarks) .*$", PAGE, re.MULTILINE)


class FakeProcess:
    """A program that needs no process; all programs give the same masks."""

    version, torch = "of " + __name__, "2"
    startup_mb = 1.0

    def __init__(self, name: str, python: Path, job: Mapping[str, object], folder: Path) -> None:
        self.name, self.verbs = name, set[str]()

    def __enter__(self) -> FakeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def supports(self, verb: str) -> bool:
        return True

    def run(self, verb: str, **payload: object) -> Timing:
        self.verbs.add(verb)
        return Timing(0.5, 0.5, 100.0, 200.0, masks=2)

    def save_results(self, path: Path) -> Path:
        maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
        results = {"masks": np.ones((2, 3), np.uint8), "logits": maps}
        np.savez(path, **{f"{verb}.{kind}": value for verb in self.verbs for kind, value in results.items()})
        return path


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the number of threads: with 1, later tests get other last bits than the processes they compare with."""
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None, tracker: SAM) -> Path:
    """A folder; small measurements are done in this process."""
    measure_limits = roofline.measure_hardware_limits
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "compile", lambda work: work)
    monkeypatch.setattr(image, "load", lambda name: SimpleNamespace(network=small_network().requires_grad_(False)))
    monkeypatch.setattr(
        roofline, "measure_hardware_limits", lambda device: measure_limits(device, side=16, megabytes=1, rounds=1)
    )
    monkeypatch.setattr(video, "WARMUP_FRAMES", 1)
    monkeypatch.setattr(video, "SAM", lambda *_, **__: tracker)
    monkeypatch.setattr(startup, "_time_process", lambda words: 0.5)
    monkeypatch.setattr(subprocess_runner, "run_in_subprocess", in_this_process)
    monkeypatch.setattr(  # tests/benchmark/test_app_latency.py starts a server
        app_latency, "measure_app", lambda job, on_case: on_case(BenchmarkCase("hover", "60 x 90", "s", (0.01,)))
    )
    monkeypatch.setattr(model_family, "SAMPLE_IMAGE_SIZE", (60, 90))
    monkeypatch.setattr(model_family, "_build_network", lambda card: small_family(card.family))
    monkeypatch.setattr(model_family, "is_downloaded", lambda card: False)
    monkeypatch.setattr(model_family, "_time_grid", lambda *_: 1.0)
    monkeypatch.setattr(weights, "synthetic_weights", lambda shapes, salt: {})
    monkeypatch.setattr(weights, "is_downloaded", lambda card: False)
    monkeypatch.setattr(interleaved, "PeerProcess", FakeProcess)
    monkeypatch.setattr(interleaved, "convert_weights", lambda program, model, weights, folder: weights)
    monkeypatch.setattr(process, "environment_python", lambda peer: Path(sys.executable))
    monkeypatch.setattr(environments, "_run_command", fake_command)
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path / "home"))
    return tmp_path


def fake_command(words: list[str], *_: object) -> str:
    """Create the folder of an environment; return what pip lists."""
    if "venv" in words:
        Path(words[-1]).mkdir(parents=True)
    return "[]"


def small_family(kind: str) -> torch.nn.Module:
    return YOLOv8(TINY_SEG) if kind in ("yolo", "fastsam") else small_network()


def in_this_process(
    job: ImageBenchmarkJob | VideoBenchmarkJob, step: subprocess_runner.CaseCallback = lambda _: None
) -> BenchmarkAnswer:
    """Run a smaller job in this process."""
    if isinstance(job, VideoBenchmarkJob):
        return video.measure_video(shorter(job), step)
    return image.measure_image(replace(job, sample_size=(60, 90), points_per_side=2, repeats=1))


def shorter(job: VideoBenchmarkJob) -> VideoBenchmarkJob:
    """Return a job of few objects on small frames, where each frame stands for five hundred."""
    memory_at = tuple(max(frame // 500, 1) for frame in job.memory_at)
    return replace(
        job,
        objects=min(job.objects, 3),
        frames=1,
        memory_at=memory_at,
        memory_from_frame=1,
        memory_tolerance_mb=1000.0,
        frame_size=(48, 64),
    )


def run_line(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str, str]:
    words = shlex.split(line, comments=True)
    command, args = (comparisons.run, words[3:]) if words[0] == "python" else (run, words[1:])
    with pytest.raises(SystemExit) as left:
        command(args)
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


@pytest.mark.slow
def test_the_commands_run_as_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in LINES:  # in their order: later ones read what earlier ones wrote
        code, out, err = run_line(line, capsys)
        assert code == 0, (line, err)
        assert re.search(r"^\| (case|model|peer|record) ", out, re.MULTILINE), (line, out)
        assert all((here / name).stat().st_size for name in re.findall(r"--report (\S+)", line))


def test_the_page_has_the_commands() -> None:
    words = {tuple(line.split()[:4]) for line in LINES}
    assert {line[2] for line in words if line[0] == "masklet"} >= {"image", "video", "startup", "compare", "models"}
    assert {line[3] for line in words if line[0] == "python"} == {"image", "video", "mask-generation", "environments"}


@pytest.mark.slow
def test_videos_are_compared_by_number_of_objects(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_line("python -m benchmarks video --peers sam2 --objects 2,1 --frames 4 --report a.json", capsys)
    assert code == 0
    heading, _, *rows = ([cell.strip() for cell in line.split("|")] for line in out.splitlines() if "|" in line)
    (ratio,) = {row[heading.index("ratio")] for row in rows if row[1:3] == ["a frame", "sam2"]}
    assert ratio == "1.00"
    stored = json.loads((here / "a.json").read_text())
    assert (stored["model"], stored["versions"]) == ("sam2.1_hiera_tiny", {"sam2": FakeProcess.version})
    assert (stored["options"]["peers"], stored["options"]["weights"]) == (["sam2"], "synthetic")
    frames = [case for case in stored["cases"] if case["name"] == "a frame" and case["program"] == "sam2"]
    assert [case["setting"] for case in frames] == ["2 objects, fp32", "1 object, fp32"]
    assert {(case["min_iou"], case["max_logits_error"], len(case["samples"])) for case in frames} == {(1.0, 0.0, 4)}


def test_the_table_has_lower_bounds_and_limits(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_line("masklet bench image --precisions fp32,bf16 --repeats 2 --points 2 --report a.json", capsys)
    assert code == 0
    assert "Measured limits" in out
    stored = json.loads((here / "a.json").read_text())
    encoded = [case for case in stored["cases"] if case["name"] == "encode"]
    assert [case["setting"] for case in encoded] == ["fp32", "bf16"]
    assert all(case["lower_bound"] > 0 and case["fraction_of_limit"] > 0 for case in encoded)
    assert stored["limits"].keys() == {"fp32_gflops", "bf16_gflops", "copy_gbytes"}


def test_differences_of_the_setup_are_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, repeats in (("a", 1), ("b", 2)):
        run_line(f"masklet bench image --repeats {repeats} --report {name}.json", capsys)
    _, out, _ = run_line("masklet bench compare a.json b.json", capsys)
    assert "Not measured alike, so read ratios with care: repeats: 1 and 2." in out
    _, out, _ = run_line("masklet bench compare a.json a.json", capsys)
    assert "alike" not in out
    assert "1.00" in out


@pytest.mark.slow
def test_several_models_are_rows_of_one_table(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tracker: SAM
) -> None:
    def open_model(model: str, *, precision: str, **_: object) -> SAM:
        monkeypatch.setattr(tracker, "video_precision", precision)
        return tracker

    monkeypatch.setattr(video, "SAM", open_model)
    monkeypatch.setattr(video, "is_downloaded", lambda card: True)
    line = "masklet bench video --models builtin,edgetam.pt --precisions fp32,bf16 --objects 1,2 --report a.json"
    assert run_line(line, capsys)[0] == 0
    record = read_record(here / "a.json")
    assert [case.setting for case in record.cases if case.name == "a frame"] == [
        f"{name}, {count}, {precision}"
        for name in ("builtin", "edgetam")
        for precision in ("fp32", "bf16")
        for count in ("1 object", "2 objects")
    ]
    assert record.model == "builtin, edgetam.pt"


def test_memory_that_grows_ends_with_1(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([100.0, 190.0])
    monkeypatch.setattr(video, "resident_mb", lambda: next(readings))

    def ask(job: VideoBenchmarkJob, step: subprocess_runner.CaseCallback) -> BenchmarkAnswer:
        return video.measure_video(replace(shorter(job), memory_tolerance_mb=job.memory_tolerance_mb), step)

    monkeypatch.setattr(subprocess_runner, "run_in_subprocess", ask)
    code, out, _ = run_line(
        "masklet bench video --objects 1 --memory-at 500,1000 --memory-tolerance-mb 20 --report a.json", capsys
    )
    assert code == 1
    assert "NOT FLAT: at most 90.0 MB from frame 1 on, 20 allowed" in out
    stored = json.loads((here / "a.json").read_text())
    assert (stored["options"]["memory_from_frame"], stored["options"]["memory_tolerance_mb"]) == (100, 20)
    assert stored["cases"][-1]["samples"] == [90]


def test_an_interrupted_video_leaves_its_readings(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(job: VideoBenchmarkJob, step: subprocess_runner.CaseCallback) -> BenchmarkAnswer:
        if job.memory_at:
            step(BenchmarkCase("resident memory at frame 1", job.setting, "MB", (100.0,)))
            raise StateError("the process that measures ended with -9")
        return in_this_process(job, step)

    monkeypatch.setattr(subprocess_runner, "run_in_subprocess", ask)
    code, _, err = run_line("masklet bench video --objects 1 --memory-at 1,1000 --report a.json", capsys)
    assert code == 2
    assert "ended with -9" in err
    names = [case.name for case in read_record(here / "a.json").cases]
    assert names == ["a frame", "peak memory", "resident memory at frame 1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("masklet bench image --precisions fp8", "precisions fp8: choose from fp32"),
        ("masklet bench image --device mars", "'mars' cannot be used here"),
        ("masklet bench video --objects 0", "--objects '0' must be whole numbers from 1"),
        ("masklet bench video --objects 65", "objects 65 and frames 20 must be 1 to 64"),
        ("masklet bench video --api hope", "api 'hope' is unknown; choose from live, session"),
        ("python -m benchmarks video --peers sam2 --objects 65", "objects 65 and frames 20 must be 1 to 64"),
        ("python -m benchmarks video --peers sam2 --model builtin", "is not one that other programs have"),
        ("masklet bench video --memory-at ten", "--memory-at 'ten' must be whole numbers"),
        ("masklet bench compare none.json none.json", "none.json cannot be read"),
    ],
)
def test_mistakes_are_one_line(here: Path, capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    code, _, err = run_line(line, capsys)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
