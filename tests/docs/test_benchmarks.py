"""The commands of docs/benchmarks.md about `masklet bench` run as written, on a small model and a small image."""

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
from masklet.benchmark.peers import environments, interleaved, process
from masklet.benchmark.peers.process import Timing

from helpers.networks import small_network
from helpers.yolo_files import TINY_SEG
from masklet import SAM
from masklet.benchmark import image, model_family, roofline, startup, subprocess_runner, video, weights
from masklet.benchmark.image import ImageBenchmarkJob
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase, read_record
from masklet.benchmark.video import VideoBenchmarkJob
from masklet.cli.main import run
from masklet.errors import StateError
from masklet.models.yolo import YOLOv8

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
LINES = re.findall(r"^masklet bench .*$", PAGE, re.MULTILINE)


class Answering:
    """As a program in a process of its own would answer; all of them find the same."""

    version, torch = "of " + __name__, "2"
    before_mb = 1.0

    def __init__(self, name: str, python: Path, job: Mapping[str, object], folder: Path) -> None:
        self.name, self.verbs = name, set[str]()

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def has(self, verb: str) -> bool:
        return True

    def do(self, verb: str, **more: object) -> Timing:
        self.verbs.add(verb)
        return Timing(0.5, 0.5, 100.0, 200.0, masks=2)

    def keep(self, path: Path) -> Path:
        maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
        found = {"masks": np.ones((2, 3), np.uint8), "logits": maps}
        np.savez(path, **{f"{verb}.{kind}": value for verb in self.verbs for kind, value in found.items()})
        return path


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are left alone: left at 1, later tests find other last bits than the processes that they compare with."""
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None, tracker: SAM) -> Path:
    """A folder; measuring is done in this process, small."""
    usual = roofline.measure_hardware_limits
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "compile", lambda work: work)
    monkeypatch.setattr(
        image, "load_labels", lambda name: SimpleNamespace(network=small_network().requires_grad_(False))
    )
    monkeypatch.setattr(
        roofline, "measure_hardware_limits", lambda device: usual(device, side=16, megabytes=1, rounds=1)
    )
    monkeypatch.setattr(video, "WARMUP_FRAMES", 1)
    monkeypatch.setattr(video, "SAM", lambda *_, **__: tracker)
    monkeypatch.setattr(startup, "_time_process", lambda words: 0.5)
    monkeypatch.setattr(subprocess_runner, "ask", in_this_process)
    monkeypatch.setattr(model_family, "SAMPLE_IMAGE_SIZE", (60, 90))
    monkeypatch.setattr(model_family, "_build_network", lambda card: small_family(card.family))
    monkeypatch.setattr(model_family, "is_downloaded", lambda card: False)
    monkeypatch.setattr(model_family, "_time_grid", lambda *_: 1.0)
    monkeypatch.setattr(weights, "filled", lambda shapes, salt: {})
    monkeypatch.setattr(weights, "is_downloaded", lambda card: False)
    monkeypatch.setattr(interleaved, "PeerProcess", Answering)
    monkeypatch.setattr(interleaved, "convert_weights", lambda program, model, weights, folder: weights)
    monkeypatch.setattr(process, "environment_python", lambda peer: Path(sys.executable))
    monkeypatch.setattr(environments, "_run_command", installed)
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path / "home"))
    return tmp_path


def installed(words: list[str], *_: object) -> str:
    """As the module venv and pip would do what they are asked, and what pip lists."""
    if "venv" in words:
        Path(words[-1]).mkdir(parents=True)
    return "[]"


def small_family(kind: str) -> torch.nn.Module:
    return YOLOv8(TINY_SEG) if kind in ("yolo", "fastsam") else small_network()


def in_this_process(
    job: ImageBenchmarkJob | VideoBenchmarkJob, step: subprocess_runner.CaseCallback = lambda _: None
) -> BenchmarkAnswer:
    """As a process of its own would answer a smaller job."""
    if isinstance(job, VideoBenchmarkJob):
        return video.measure_video(shorter(job), step)
    return image.measure_image(replace(job, image=(60, 90), points=2))


def shorter(job: VideoBenchmarkJob) -> VideoBenchmarkJob:
    """The same of few objects on small frames, where each stands for five hundred."""
    lengths = tuple(max(length // 500, 1) for length in job.memory_at)
    few = min(job.objects, 8)
    return replace(job, objects=few, frames=1, lengths=lengths, settle=1, bound=1000.0, image=(48, 64))


def masklet(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as left:
        run(shlex.split(line, comments=True)[1:])
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


def test_the_commands_run_as_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in LINES:  # in their order: later ones read what earlier ones wrote
        code, out, err = masklet(line, capsys)
        assert code == 0, (line, err)
        assert re.search(r"^\| (case|model|peer|record) ", out, re.MULTILINE), (line, out)
        assert all((here / name).stat().st_size for name in re.findall(r"--json (\S+)", line))


def test_the_page_has_the_commands() -> None:
    assert {line.split()[2] for line in LINES} >= {"image", "video", "startup", "compare", "family", "peers"}


def test_videos_beside_peers_are_compared_by_number_of_objects(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = masklet("masklet bench video --peers sam2 --objects 2,1 --frames 4 --json a.json", capsys)
    assert code == 0
    heading, _, *rows = ([cell.strip() for cell in line.split("|")] for line in out.splitlines() if "|" in line)
    (ratio,) = {row[heading.index("ratio")] for row in rows if row[1:3] == ["a frame", "sam2"]}
    assert ratio == "1.00"
    told = json.loads((here / "a.json").read_text())
    assert (told["model"], told["versions"]) == ("sam2.1_hiera_tiny", {"sam2": Answering.version})
    assert (told["options"]["peers"], told["options"]["weights"]) == (["sam2"], "made from names")
    frames = [case for case in told["cases"] if case["name"] == "a frame" and case["program"] == "sam2"]
    assert [case["setting"] for case in frames] == ["2 objects, fp32", "1 object, fp32"]
    assert {(case["lowest_iou"], case["logits_error"], len(case["samples"])) for case in frames} == {(1.0, 0.0, 4)}


def test_the_table_has_floor_and_limits(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = masklet("masklet bench image --precisions fp32,bf16 --repeats 2 --points 2 --json a.json", capsys)
    assert code == 0
    assert "Measured limits" in out
    told = json.loads((here / "a.json").read_text())
    encoded = [case for case in told["cases"] if case["name"] == "encode"]
    assert [case["setting"] for case in encoded] == ["fp32", "bf16"]
    assert all(case["floor"] > 0 and case["share"] > 0 for case in encoded)
    assert told["limits"].keys() == {"fp32_gflops", "bf16_gflops", "copy_gbytes"}


def test_what_was_not_measured_alike_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, repeats in (("a", 1), ("b", 2)):
        masklet(f"masklet bench image --repeats {repeats} --json {name}.json", capsys)
    _, out, _ = masklet("masklet bench compare a.json b.json", capsys)
    assert "Not measured alike, so read ratios with care: repeats: 1 and 2." in out
    _, out, _ = masklet("masklet bench compare a.json a.json", capsys)
    assert "alike" not in out
    assert "1.00" in out


def test_memory_that_grows_ends_with_1(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([100.0, 190.0])
    monkeypatch.setattr(video, "resident_mb", lambda: next(readings))

    def ask(job: VideoBenchmarkJob, step: subprocess_runner.CaseCallback) -> BenchmarkAnswer:
        return video.measure_video(replace(shorter(job), bound=job.memory_tolerance_mb), step)

    monkeypatch.setattr(subprocess_runner, "ask", ask)
    code, out, _ = masklet("masklet bench video --objects 1 --lengths 500,1000 --bound 20 --json a.json", capsys)
    assert code == 1
    assert "NOT FLAT: at most 90.0 MB from frame 1 on, 20 allowed" in out
    told = json.loads((here / "a.json").read_text())
    assert (told["options"]["settle"], told["options"]["bound"]) == (100, 20)
    assert told["cases"][-1]["samples"] == [90]


def test_a_video_that_is_broken_off_leaves_its_readings(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(job: VideoBenchmarkJob, step: subprocess_runner.CaseCallback) -> BenchmarkAnswer:
        if job.memory_at:
            step(BenchmarkCase("resident memory at frame 1", job.setting, "MB", (100.0,)))
            raise StateError("the process that measures ended with -9")
        return in_this_process(job, step)

    monkeypatch.setattr(subprocess_runner, "ask", ask)
    code, _, err = masklet("masklet bench video --objects 1 --lengths 1,1000 --json a.json", capsys)
    assert code == 2
    assert "ended with -9" in err
    names = [case.name for case in read_record(here / "a.json").cases]
    assert names == ["a frame", "peak memory", "resident memory at frame 1"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("masklet bench image --precisions fp8", "precisions fp8: choose from fp32"),
        ("masklet bench image --device mars", "'mars' cannot be used here"),
        ("masklet bench video --objects 0", "--objects '0' must be whole numbers from 1"),
        ("masklet bench video --objects 65", "objects 65 and frames 20 must be 1 to 64"),
        ("masklet bench video --through hope", "through 'hope' is no way in: choose from live, session"),
        ("masklet bench video --peers sam2 --parts --through session", "--parts, --through cannot go with --peers"),
        ("masklet bench video --peers sam2 --objects 65", "objects 65 and frames 20 must be 1 to 64"),
        ("masklet bench video --peers sam2 --model builtin", "is not one that other programs have"),
        ("masklet bench video --lengths ten", "--lengths 'ten' must be whole numbers"),
        ("masklet bench compare none.json none.json", "none.json cannot be read"),
    ],
)
def test_mistakes_are_one_line(here: Path, capsys: pytest.CaptureFixture[str], line: str, why: str) -> None:
    code, _, err = masklet(line, capsys)
    assert code == 2
    assert why in err
    assert len(err.strip().splitlines()) == 1
