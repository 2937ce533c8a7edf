"""`masklet bench video`: seconds a frame by number of objects, memory by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import make_record, parse_positive_ints, show_record
from masklet.cli.bench.peer_options import (
    DEFAULT_PEER_MODEL,
    PeerPythons,
    Peers,
    measure_with_progress,
    peer_interpreters,
    reject_with_peers,
)
from masklet.cli.console import progress_bar
from masklet.cli.shared_options import Device, EvalModel, ImageSize, Precision, ReportFile

if TYPE_CHECKING:
    from masklet.benchmark.peers.interleaved import ComparisonResult
    from masklet.benchmark.record import BenchmarkCase, BenchmarkRecord, OptionValue
    from masklet.benchmark.roofline import HardwareLimits
    from masklet.benchmark.video import VideoBenchmarkJob

__all__ = ["video"]

EXIT_MEMORY_GREW = 1
"""The exit code where memory is not flat."""


def video(
    model: EvalModel = None,
    objects: Annotated[str, typer.Option(help="Numbers of objects, 1 to 64, with commas between them.")] = "1,2,4,8",
    frames: Annotated[int, typer.Option(help="Counted, behind seven that are not.", min=1)] = 20,
    memory_at: Annotated[
        str | None, typer.Option(help="Frames at which memory is read too, such as 100,1000,10000.")
    ] = None,
    breakdown: Annotated[bool, typer.Option("--parts", help="Also where the time of a frame goes.")] = False,
    api: Annotated[str, typer.Option(help="live: frames are handed in; session: it reads the video.")] = "live",
    memory_from_frame: Annotated[int, typer.Option(help="The frame from which on memory must be flat.", min=1)] = 100,
    memory_tolerance_mb: Annotated[float, typer.Option(help="MB that memory may rise from there on.", min=0)] = 24.0,
    peers: Peers = None,
    peer_python: PeerPythons = None,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Annotated[int | None, typer.Option(help="Of PyTorch; default: as it likes.", min=1)] = None,
    image_size: ImageSize = None,
    report_file: ReportFile = None,
) -> None:
    """How long a frame takes with as many objects, all memories full; and whether memory grows with the video.

    Every number of objects is a process of its own. Memory by length is read while the most of them are followed, and
    where it is not flat the command ends with 1. Parts are encode, track, remember, masks at full size and the rest.

    With --peers masklet and these programs follow the same objects by turns, frame by frame, and what they find is
    compared; the model is then one that they have too, SAM 2.1 tiny where none is named.

    \b
    Examples:
      masklet bench video --objects 1,2,4,8 --json video.json
      masklet bench video --objects 1 --parts
      masklet bench video --objects 5 --lengths 100,1000,5000,10000 --through session
      masklet bench video --peers sam2 --objects 1,2 --frames 3
    """
    import torch

    from masklet.benchmark.video import MEMORY_RISE_CASE, VideoBenchmarkJob
    from masklet.runtime import resolve_device

    if threads:
        torch.set_num_threads(threads)
    counts = list(dict.fromkeys(parse_positive_ints(objects, "--objects")))
    if peers:
        reject_with_peers({"--lengths": memory_at is not None, "--parts": breakdown, "--through": api != "live"})
    pythons = peer_interpreters(peers, peer_python)
    how = VideoBenchmarkJob(
        model or (DEFAULT_PEER_MODEL if pythons else "builtin"),
        frames=frames,
        precision=precision,
        device=resolve_device(device),
        threads=threads,
        image_size=image_size,
        breakdown=breakdown,
        api=api,
        memory_from_frame=memory_from_frame,
        memory_tolerance_mb=memory_tolerance_mb,
    )
    if pythons:
        show_record(_compare_with_peers(how, counts, pythons, report_file))
        return
    record = _bench_alone(
        how, counts, sorted(set(parse_positive_ints(memory_at, "--lengths"))) if memory_at else [], report_file
    )
    show_record(record)
    if any(case.name == MEMORY_RISE_CASE and (case.median or 0) > memory_tolerance_mb for case in record.cases):
        raise typer.Exit(EXIT_MEMORY_GREW)


def _bench_alone(
    base_job: VideoBenchmarkJob, counts: list[int], memory_at: list[int], report_file: Path | None
) -> BenchmarkRecord:
    from masklet.benchmark import subprocess_runner
    from masklet.benchmark.roofline import measure_hardware_limits
    from masklet.benchmark.video import PROTOCOL

    jobs = [replace(base_job, objects=count) for count in counts]
    if memory_at:
        jobs.append(replace(base_job, objects=max(counts), memory_at=tuple(memory_at)))
    told: dict[str, OptionValue] = {"lengths": memory_at, "parts": base_job.breakdown, "through": base_job.api}
    options = (
        _record_options(base_job, counts)
        | told
        | {"settle": base_job.memory_from_frame, "bound": base_job.memory_tolerance_mb}
    )
    cases: list[BenchmarkCase] = []

    def record(limits: HardwareLimits) -> BenchmarkRecord:
        return make_record(PROTOCOL, base_job.model, options, base_job.device, limits, cases, report_file)

    def done(case: BenchmarkCase) -> None:
        cases.append(case)
        if report_file is not None:
            record(limits)
        step()

    limits = measure_hardware_limits(base_job.device)
    with progress_bar("readings", None, enabled=True) as step:
        for job in jobs:
            subprocess_runner.run_in_subprocess(job, done)
    return record(limits.maximum(measure_hardware_limits(base_job.device)))


def _compare_with_peers(
    video_job: VideoBenchmarkJob, counts: Sequence[int], pythons: Mapping[str, Path], report_file: Path | None
) -> BenchmarkRecord:
    import torch

    from masklet.benchmark.peers import video
    from masklet.benchmark.roofline import measure_hardware_limits

    job = video.VideoComparisonJob(
        video_job.model,
        tuple(counts),
        video_job.frames,
        video_job.precision,
        video_job.device,
        video_job.threads or torch.get_num_threads(),
        video_job.image_size,
        video_job.frame_size,
    )

    def record(found: ComparisonResult, limits: HardwareLimits) -> BenchmarkRecord:
        told = _record_options(video_job, counts) | {"peers": list(pythons)[1:], "weights": found.weights.source_label}
        model, protocol = found.weights.model, video.PROTOCOL
        return make_record(protocol, model, told, video_job.device, limits, found.cases, report_file, found.versions)

    limits = measure_hardware_limits(video_job.device)
    found = measure_with_progress(
        "numbers of objects",
        len(counts),
        lambda done: video.compare_videos(job, pythons, done),
        lambda found: record(found, limits),
    )
    return record(found, limits.maximum(measure_hardware_limits(video_job.device)))


def _record_options(video_job: VideoBenchmarkJob, counts: Sequence[int]) -> dict[str, OptionValue]:
    return {
        "objects": list(counts),
        "frames": video_job.frames,
        "precision": video_job.precision,
        "image_size": video_job.image_size,
        "picture": list(video_job.frame_size),
    }
