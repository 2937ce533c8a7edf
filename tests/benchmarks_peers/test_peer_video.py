"""A video in several programs: requests, comparisons, and the real sam2 if it is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import video
from benchmarks.interleaved import ComparisonResult
from benchmarks.video import VideoComparisonJob, compare_videos, sample_prompts
from benchmarks.weights import ModelWeights
from helpers.peers import SAM2, use_adapters_in
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.roofline import Work
from masklet.benchmark.sample_video import object_radius, sample_video
from masklet.benchmark.video import WARMUP_FRAMES
from masklet.errors import InputError, StateError

FAKE = """
import json
from pathlib import Path
import numpy as np
from serving import MaskOutput, serve

class FakeVideoProgram:
    version = "{version}"
    frame = -1

    def load(self, job):
        self.job, self.frames = job, sorted(Path(job.video_dir).glob("*.jpg"))
        if job.precision == "fp16":
            raise ValueError("no fp16 in {version}")

    def prompt(self, prompts):
        Path("{log}").open("a").write(json.dumps([len(self.frames), len(prompts), self.job.precision]) + "\\n")
        self.prompts = prompts

    def step(self):
        self.frame += 1
        masks = np.ones((len(self.prompts), 4, 8), bool)
        logits = np.arange(float(self.frame), self.frame + 8).reshape(1, 2, 4).repeat(len(masks), 0)
        {change}
        return MaskOutput(masks, logits)

class FakeImageProgram:
    version = "{version}"

serve({kind})
"""
LAST = f"if self.frame == {WARMUP_FRAMES + 2}:"
"""The last counted frame of three."""


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for fake adapters, without weights."""
    monkeypatch.setattr(video, "resolve_weights", lambda model, folder, salt: ModelWeights(model, tmp_path / "w", True))
    monkeypatch.setattr(video, "_measure_work", lambda weights, job: {n: Work(n * 10**9, 0, 0) for n in job.objects})
    return use_adapters_in(tmp_path, monkeypatch)


def fake(folder: Path, name: str, change: str = "pass", kind: str = "video_program=FakeVideoProgram") -> Path:
    file = folder / f"{name}_adapter.py"
    file.write_text(FAKE.format(version=f"of {name}", log=folder / f"{name}.requests", change=change, kind=kind))
    return Path(sys.executable)


def rows(cases: tuple[BenchmarkCase, ...], name: str) -> dict[str, BenchmarkCase]:
    return {case.program: case for case in cases if case.name == name}


JOB = VideoComparisonJob("tiny", objects=(1, 3), frames=3, frame_size=(24, 32))


def test_programs_track_the_same_video_and_are_compared(adapters: Path) -> None:
    change = f"{LAST} masks[-1, 0, :2] = False; logits[0] += 0.5"
    pythons = {"masklet": fake(adapters, "masklet"), "sam2": fake(adapters, "sam2", change)}
    updates: list[ComparisonResult] = []
    found = compare_videos(JOB, pythons, updates.append)
    assert [len({case.setting for case in some.cases}) for some in updates] == [1, 2]  # each part can be stored
    assert found == updates[-1]
    assert found.versions == {"sam2": "of sam2"}
    assert {case.setting for case in found.cases} == {"1 object, fp32", "3 objects, fp32"}
    frames = rows(found.cases, "a frame")
    assert len(frames["masklet"].samples) == len(frames["sam2"].samples) == 3  # without the warm-up frames
    assert frames["masklet"].peer_ratio is frames["masklet"].min_iou is None
    ratios = [a / b for a, b in zip(frames["masklet"].samples, frames["sam2"].samples, strict=True)]
    assert frames["sam2"].peer_ratio == pytest.approx(np.median(ratios))
    assert frames["sam2"].min_iou == pytest.approx(30 / 32)  # of the worst object on the worst frame
    assert frames["sam2"].max_logits_error == pytest.approx(0.5 / np.arange(8).std())
    works = {(case.name, case.setting[0], case.work) for case in found.cases if case.work}
    assert works == {("a frame", str(n), Work(n * 10**9, 0, 0)) for n in (1, 3)}
    for program in ("masklet", "sam2"):
        for name in ("load", "prompts", "memory with weights and video", "peak memory"):
            assert rows(found.cases, name)[program].samples[0] > 0
        requests = [json.loads(line) for line in (adapters / f"{program}.requests").read_text().splitlines()]
        assert requests == [[WARMUP_FRAMES + 3, 1, "fp32"], [WARMUP_FRAMES + 3, 3, "fp32"]]


def test_different_numbers_of_masks_are_not_compared(adapters: Path) -> None:
    pythons = {"masklet": fake(adapters, "masklet"), "sam2": fake(adapters, "sam2", "masks, logits = masks[:0], None")}
    pythons["images"] = fake(adapters, "images", kind="image_program=FakeImageProgram")
    frames = rows(
        compare_videos(VideoComparisonJob("tiny", (1,), 1, frame_size=(24, 32)), pythons, print).cases, "a frame"
    )
    assert (frames["images"].samples, frames["images"].note) == ((), "does not track objects")
    row = frames["sam2"]
    assert row.peer_ratio is not None
    assert row.min_iou is row.max_logits_error is None
    assert row.note == "not as many masks as masklet on some frames"


def test_a_failing_program_is_named(adapters: Path) -> None:
    pythons = {"masklet": fake(adapters, "masklet")}
    with pytest.raises(StateError, match=r"masklet \(tiny, fp16\) .* no fp16 in of masklet"):
        compare_videos(VideoComparisonJob("tiny", (1,), 1, "fp16", frame_size=(24, 32)), pythons, print)


def test_prompts_are_on_the_discs() -> None:
    size = (240, 320)
    first = next(sample_video(size, 5))
    prompts = sample_prompts(size, 5)
    assert [one["id"] for one in prompts] == [1, 2, 3, 4, 5]
    assert [one["box"] is None for one in prompts] == [True, False, True, False, True]
    for one in prompts:
        point, box = one["point"], one["box"]
        assert (point is None) != (box is None)
        x, y = point or ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        disc = np.zeros(size, np.uint8)
        cv2.circle(disc, (round(x), round(y)), object_radius(size, 5), 1, cv2.FILLED)
        assert len(np.unique(first[disc > 0], axis=0)) == 1
        if box is not None:
            ys, xs = disc.nonzero()
            assert np.allclose([xs.min(), ys.min(), xs.max(), ys.max()], box, atol=1)


@pytest.mark.parametrize("wrong", [{"objects": (1, 65)}, {"objects": (0,)}, {"frames": 0}])
def test_invalid_numbers_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="must be 1 to 64, and 1 or more"):
        VideoComparisonJob("tiny", **wrong)


@pytest.mark.skipif(not SAM2.is_file(), reason=f"sam2's environment is not here: {SAM2}")
def test_sam2_gives_the_same_masks() -> None:
    job = VideoComparisonJob("sam2.1_hiera_tiny", (2,), 2, image_size=128, frame_size=(120, 160))
    found = compare_videos(job, {"masklet": Path(sys.executable), "sam2": SAM2}, print)
    row = rows(found.cases, "a frame")["sam2"]
    assert found.versions.keys() == {"sam2"}
    assert row.peer_ratio is not None
    assert row.min_iou is not None
    assert row.max_logits_error is not None
    assert row.min_iou > 0.99
    assert row.max_logits_error < 0.02
    assert row.work is not None
    assert row.work.flops > 1e9
