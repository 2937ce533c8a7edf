"""Compare tracking with other programs, interleaved frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from benchmarks.interleaved import (
    ComparisonResult,
    Timings,
    min_iou,
    peer_versions,
    run_interleaved,
    start_programs,
    time_ratio,
)
from benchmarks.process import MASKLET, PeerProcess, ProgramJob
from benchmarks.weights import ModelWeights, resolve_weights
from masklet.atomic_files import write_image
from masklet.benchmark.flops import frame_work_by_objects
from masklet.benchmark.image import load_predictor
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.roofline import Work
from masklet.benchmark.sample_video import SAMPLE_VIDEO_SIZE, object_centers, object_radius, sample_video
from masklet.benchmark.video import WARMUP_FRAMES
from masklet.errors import InputError
from masklet.models.sam2 import SAM2

__all__ = ["PROTOCOL", "VideoComparisonJob", "compare_videos", "sample_prompts"]

PROTOCOL = (
    "A synthetic video as a folder of JPEG files, a disc per object, alternately a point and a box on the first frame; "
    "each program in its own process with the same video, prompts, weights and threads, started again for each number "
    "of objects. Seven frames are not counted, so that all memories are full; then programs are interleaved, frame by "
    "frame. a frame: from the request to masks at its size; masklet reads the file within, others have read the video "
    "while loading. load: the weights and the video, without imports. prompts: all of them. No program fills holes. "
    "ratio: masklet's time divided by the peer's, the median over frames; min IoU and logits error: over the objects "
    "on all counted frames, between masklet and the peer in the same precision. lower bound: the longer of the times "
    "for masklet's operations at the measured matrix rate and for moving the bytes at the measured copy rate (weights, "
    "memories, frame and masks once); limited by says which. IQR: interquartile range."
)
FRAME_CASE = "a frame"
WEIGHTS_SALT = "c"
"""Salt of the synthetic weights: with these the objects stay visible."""
Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VideoComparisonJob:
    """The settings of a comparison."""

    model: str
    objects: tuple[int, ...] = (1, 2, 4, 8)
    frames: int = 3
    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    image_size: int | None = None
    frame_size: tuple[int, int] = SAMPLE_VIDEO_SIZE
    """Height and width of the frames."""

    def __post_init__(self) -> None:
        if not all(1 <= count <= 64 for count in self.objects) or self.frames < 1:
            counts = ", ".join(map(str, self.objects))
            raise InputError(f"objects {counts} and frames {self.frames} must be 1 to 64, and 1 or more")

    def setting_for(self, objects: int) -> str:
        """Return the setting in tables."""
        return f"{objects} object{'s' if objects > 1 else ''}, {self.precision}"


def compare_videos(
    job: VideoComparisonJob, pythons: Mapping[str, Path], on_update: Callable[[ComparisonResult], None]
) -> ComparisonResult:
    """Measure seconds, memory and agreement of all programs; `on_update` gets the results after each number of objects.

    Example:
        >>> job = VideoComparisonJob("sam2.1_t.pt", objects=(1,))
        >>> result = compare_videos(job, resolve_interpreters(["sam2"]), lambda _: None)
        >>> [(case.program, case.median, case.peer_ratio) for case in result.cases if case.name == FRAME_CASE]
        [('masklet', 2.29, None), ('sam2', 5.43, 0.42)]

    Raises:
        UnknownModelError, InputError: if the programs do not have the model.
        StateError: if a program ends early.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        result = ComparisonResult(resolve_weights(job.model, folder, WEIGHTS_SALT))
        works = _measure_work(result.weights, job)
        for count in job.objects:
            with start_programs(pythons, _program_job(job, result.weights, count, folder), folder) as programs:
                measured = _measure_cases(programs, job, count, folder)
                cases = tuple(
                    replace(case, work=works[count]) if case.name == FRAME_CASE else case for case in measured
                )
                result = replace(result, cases=result.cases + cases, versions=peer_versions(programs))
            on_update(result)
    return result


def _measure_work(weights: ModelWeights, job: VideoComparisonJob) -> dict[int, Work]:
    """Count the work of a frame by number of objects, before measuring."""
    network = load_predictor(str(weights.path), job.image_size).model
    assert isinstance(network, SAM2)
    return dict(zip(job.objects, frame_work_by_objects(network, job.frame_size, job.objects), strict=True))


def sample_prompts(size: tuple[int, int], objects: int) -> list[dict[str, object]]:
    """Return alternately a point and a box, one on each disc of the first frame.

    Example:
        >>> sample_prompts((480, 854), 1)
        [{'id': 1, 'point': [469.7, 240.0], 'box': None}]
    """
    radius = object_radius(size, objects)
    return [
        {
            "id": i + 1,
            "point": None if i % 2 else [x, y],
            "box": [x - radius, y - radius, x + radius, y + radius] if i % 2 else None,
        }
        for i, (x, y) in enumerate(object_centers(size, objects, 0))
    ]


def _program_job(job: VideoComparisonJob, weights: ModelWeights, num_objects: int, folder: Path) -> ProgramJob:
    video_dir = folder / f"video{num_objects}"  # JPEG files: every program opens them without another decoder
    for number, rgb in enumerate(islice(sample_video(job.frame_size, num_objects), WARMUP_FRAMES + job.frames)):
        write_image(video_dir / f"{number:05d}.jpg", rgb)
    return {
        "kind": "video",
        "model": weights.model,
        "weights": str(weights.path),
        "precision": job.precision,
        "device": job.device,
        "threads": job.threads,
        "image_size": job.image_size,
        "video_dir": str(video_dir),
        "prompts": sample_prompts(job.frame_size, num_objects),
        "keep_from_frame": WARMUP_FRAMES,
    }


def _measure_cases(
    programs: Sequence[PeerProcess], job: VideoComparisonJob, num_objects: int, folder: Path
) -> Iterator[BenchmarkCase]:
    able = [program for program in programs if program.supports("step")]
    loaded = run_interleaved(able, "load", 1, warmup=0)
    prompted = run_interleaved(able, "prompt", 1, warmup=0)
    stepped = run_interleaved(able, "step", job.frames, warmup=WARMUP_FRAMES)
    files = {program.name: program.save_results(folder / f"{program.name}.npz") for program in able}
    setting = job.setting_for(num_objects)
    for name in (program.name for program in programs):
        if name not in files:
            yield BenchmarkCase(FRAME_CASE, setting, "s", note="does not track objects", program=name)
            continue
        yield replace(_frame_case(stepped, name, files), setting=setting)
        yield BenchmarkCase("load", setting, "s", _seconds(loaded, name), program=name)
        yield BenchmarkCase("prompts", setting, "s", _seconds(prompted, name), program=name)
        figures = {"memory with weights and video": loaded[name][0].rss_mb, "peak memory": stepped[name][-1].peak_mb}
        for title, value in figures.items():
            if value is not None:
                yield BenchmarkCase(title, setting, "MB", (value,), program=name)


def _seconds(timings: Timings, name: str) -> tuple[float, ...]:
    return tuple(timing.seconds for timing in timings[name])


def _frame_case(stepped: Timings, name: str, files: Mapping[str, Path]) -> BenchmarkCase:
    case = BenchmarkCase(FRAME_CASE, "", "s", _seconds(stepped, name), program=name)
    if name == MASKLET:
        return case
    with np.load(files[MASKLET]) as ours, np.load(files[name]) as theirs:
        ious = [min_iou(ours[key], theirs[key]) for key in theirs if key.endswith(".masks")]
        errors = [_logits_error(ours[key], theirs[key]) for key in theirs if key.endswith(".logits")]
    known = [iou for iou in ious if iou is not None]
    return replace(
        case,
        peer_ratio=time_ratio(stepped, name),
        min_iou=min(known, default=None),
        max_logits_error=max((error for error in errors if error is not None), default=None),
        note=None if len(known) == len(ious) else "not as many masks as masklet on some frames",
    )


def _logits_error(logits: Maps, reference: Maps) -> float | None:
    """Return the largest error of the objects of one frame; a hidden object has the same logit everywhere."""
    if logits.shape != reference.shape:
        return None
    deviation = np.maximum(reference.std((1, 2)), 1.0)
    return float((np.abs(logits - reference).max((1, 2)) / deviation).max())
