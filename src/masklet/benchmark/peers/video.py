"""Objects followed by masklet and by other programs, which take turns frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import write_image
from masklet.benchmark.flops import frame_work_by_objects
from masklet.benchmark.image import load_predictor
from masklet.benchmark.peers.interleaved import (
    ComparisonResult,
    Timings,
    min_iou,
    peer_versions,
    run_interleaved,
    start_programs,
    time_ratio,
)
from masklet.benchmark.peers.process import MASKLET, PeerProcess, ProgramJob
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.roofline import Work
from masklet.benchmark.sample_video import SAMPLE_VIDEO_SIZE, object_centers, object_radius, sample_video
from masklet.benchmark.video import WARMUP_FRAMES
from masklet.benchmark.weights import ModelWeights, resolve_weights
from masklet.errors import InputError
from masklet.models.sam2 import SAM2

__all__ = ["PROTOCOL", "VideoComparisonJob", "compare_videos", "sample_prompts"]

PROTOCOL = (
    "A made video as a folder of JPEG files, a disc for each object, points and boxes in turn on the first frame; every "  # noqa: E501
    "program a process of its own with the same video, prompts, weights and threads, all of them anew for every number "
    "of objects. Seven frames are not counted, so that all memories are full; then programs take turns, frame by "
    "frame. a frame: from asking for it to masks at its size; masklet reads the file meanwhile, others have read the "
    "video while loading. load: the weights and the video, imports not counted. prompts: all of them. No program fills "
    "holes. ratio: masklet's time by the peer's, the median over frames; lowest IoU and logits error: over the objects "
    "on all counted frames, between masklet and the peer in the same precision. floor: the longer of what masklet's "
    "operations take at the measured matrix rate and what moving the bytes takes at the measured rate of copying "
    "(weights, memories, frame and masks once); bound says which. Spread: from the first to the third quarter."
)
FRAME_CASE = "a frame"
WEIGHTS_SALT = "c"
"""Of weights that are made: with these the objects stay in sight."""
Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VideoComparisonJob:
    """What programs are compared on."""

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
        """As tables name it."""
        return f"{objects} object{'s' if objects > 1 else ''}, {self.precision}"


def compare_videos(
    job: VideoComparisonJob, pythons: Mapping[str, Path], on_update: Callable[[ComparisonResult], None]
) -> ComparisonResult:
    """Seconds, memory and agreement of all programs by number of objects; `step` gets what is there after each.

    Example:
        >>> found = compare_followed(FollowJob("sam2.1_t.pt", objects=(1,)), pythons_of(["sam2"]), lambda _: None)
        >>> [(case.program, case.median, case.ratio) for case in found.cases if case.name == FRAME]
        [('masklet', 2.29, None), ('sam2', 5.43, 0.42)]

    Raises:
        UnknownModelError, InputError: a model that the programs do not have.
        StateError: a program ended early.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = ComparisonResult(resolve_weights(job.model, folder, WEIGHTS_SALT))
        works = _measure_work(found.weights, job)
        for count in job.objects:
            with start_programs(pythons, _program_job(job, found.weights, count, folder), folder) as programs:
                measured = _measure_cases(programs, job, count, folder)
                cases = tuple(_attach_work(case, works[count]) for case in measured)
                found = replace(found, cases=found.cases + cases, versions=peer_versions(programs))
            on_update(found)
    return found


def _measure_work(weights: ModelWeights, job: VideoComparisonJob) -> dict[int, Work]:
    """Of a frame by number of objects, counted before there is anything to measure."""
    network = load_predictor(str(weights.path), job.image_size).model
    assert isinstance(network, SAM2)
    return dict(zip(job.objects, frame_work_by_objects(network, job.frame_size, job.objects), strict=True))


def _attach_work(case: BenchmarkCase, work: Work) -> BenchmarkCase:
    return replace(case, work=work) if case.name == FRAME_CASE else case


def sample_prompts(size: tuple[int, int], objects: int) -> list[dict[str, object]]:
    """Points and boxes in turn, one on each disc of the first frame.

    Example:
        >>> prompts_of((480, 854), 1)
        [{'id': 1, 'point': [469.7, 240.0], 'box': None}]
    """
    far = object_radius(size, objects)
    return [
        {
            "id": i + 1,
            "point": None if i % 2 else [x, y],
            "box": [x - far, y - far, x + far, y + far] if i % 2 else None,
        }
        for i, (x, y) in enumerate(object_centers(size, objects, 0))
    ]


def _program_job(job: VideoComparisonJob, weights: ModelWeights, num_objects: int, folder: Path) -> ProgramJob:
    return {
        "kind": "film",
        "model": weights.model,
        "weights": str(weights.path),
        "precision": job.precision,
        "device": job.device,
        "threads": job.threads,
        "image_size": job.image_size,
        "film": str(_write_frames(job, num_objects, folder / f"film{num_objects}")),
        "prompts": sample_prompts(job.frame_size, num_objects),
        "kept_from": WARMUP_FRAMES,
    }


def _write_frames(job: VideoComparisonJob, num_objects: int, folder: Path) -> Path:
    """The form of video that all programs open without another decoder."""
    for number, rgb in enumerate(islice(sample_video(job.frame_size, num_objects), WARMUP_FRAMES + job.frames)):
        write_image(folder / f"{number:05d}.jpg", rgb)
    return folder


def _measure_cases(
    programs: Sequence[PeerProcess], job: VideoComparisonJob, num_objects: int, folder: Path
) -> Iterator[BenchmarkCase]:
    able = [program for program in programs if program.supports("step")]
    loaded = run_interleaved(able, "load", 1, warmup=0)
    prompted = run_interleaved(able, "prompt", 1, warmup=0)
    stepped = run_interleaved(able, "step", job.frames, warmup=WARMUP_FRAMES)
    kept = {program.name: program.save_results(folder / f"{program.name}.npz") for program in able}
    setting = job.setting_for(num_objects)
    for program in programs:
        name = program.name
        if name not in kept:
            yield BenchmarkCase(FRAME_CASE, setting, "s", note="follows no objects", program=name)
            continue
        yield replace(_frame_case(stepped, name, kept), setting=setting)
        yield BenchmarkCase("load", setting, "s", _seconds(loaded, name), program=name)
        yield BenchmarkCase("prompts", setting, "s", _seconds(prompted, name), program=name)
        yield from _memory_cases(setting, name, loaded, stepped)


def _seconds(turns: Timings, name: str) -> tuple[float, ...]:
    return tuple(taken.seconds for taken in turns[name])


def _memory_cases(setting: str, name: str, loaded: Timings, stepped: Timings) -> Iterator[BenchmarkCase]:
    figures = {"memory with weights and video": loaded[name][0].rss_mb, "peak memory": stepped[name][-1].peak_mb}
    for title, value in figures.items():
        if value is not None:
            yield BenchmarkCase(title, setting, "MB", (value,), program=name)


def _frame_case(stepped: Timings, name: str, files: Mapping[str, Path]) -> BenchmarkCase:
    case = BenchmarkCase(FRAME_CASE, "", "s", _seconds(stepped, name), program=name)
    if name == MASKLET:
        return case
    with np.load(files[MASKLET]) as ours, np.load(files[name]) as theirs:
        ious = [min_iou(ours[key], theirs[key]) for key in theirs if key.endswith(".masks")]
        errors = [_logits_error(ours[key], theirs[key]) for key in theirs if key.endswith(".logits")]
    alike = [iou for iou in ious if iou is not None]
    return replace(
        case,
        peer_ratio=time_ratio(stepped, name),
        min_iou=min(alike, default=None),
        max_logits_error=max((error for error in errors if error is not None), default=None),
        note=None if len(alike) == len(ious) else "other numbers of masks than masklet on some frames",
    )


def _logits_error(logits: Maps, reference: Maps) -> float | None:
    """Of the objects of one frame; one that is out of sight has one logit everywhere, and that is compared."""
    if logits.shape != reference.shape:
        return None
    deviation = np.maximum(reference.std((1, 2)), 1.0)
    return float((np.abs(logits - reference).max((1, 2)) / deviation).max())
