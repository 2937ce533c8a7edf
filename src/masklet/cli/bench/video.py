"""`masklet bench video`: seconds per frame by number of objects, memory over time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import (
    Beside,
    CpuQuota,
    make_record,
    parse_positive_ints,
    show_record,
    split_commas,
)
from masklet.cli.console import progress_bar
from masklet.cli.shared_options import (
    Device,
    EvalModel,
    GraphCache,
    ImageSize,
    Memories,
    MemoryPooling,
    Pointers,
    Precision,
    Providers,
    ReportFile,
    Threads,
    parse_runtime,
)

if TYPE_CHECKING:
    from masklet.benchmark.record import BenchmarkCase, OptionValue

__all__ = ["video"]

EXIT_MEMORY_GREW = 1
"""The exit code if memory is not flat."""


def video(
    model: EvalModel = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Several models instead: names, files and exported folders. A published model that is not on this "
            "machine gets random weights: they take the same time.",
        ),
    ] = None,
    objects: Annotated[str, typer.Option(help="Numbers of objects, 1 to 64, separated by commas.")] = "1,2,4,8",
    frames: Annotated[int, typer.Option(help="Timed frames, after seven warm-up frames.", min=1)] = 20,
    memory_at: Annotated[
        str | None, typer.Option("--memory-at", help="Frames at which memory is read, such as 100,1000,10000.")
    ] = None,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Also time the parts of a frame.")] = False,
    api: Annotated[
        str, typer.Option("--api", help="live: frames are passed in; session: it reads the video.")
    ] = "live",
    memory_from_frame: Annotated[
        int, typer.Option("--memory-from-frame", help="The frame from which on memory must be flat.", min=1)
    ] = 100,
    memory_tolerance_mb: Annotated[
        float, typer.Option("--memory-tolerance-mb", help="MB that memory may rise from there on.", min=0)
    ] = 24.0,
    device: Device = None,
    precision: Precision = "auto",
    precisions: Annotated[
        str | None,
        typer.Option(metavar="P,Q,...", help="Several precisions instead; of exported folders for OpenVINO's."),
    ] = None,
    threads: Threads = None,
    memories: Memories = 6,
    pointers: Pointers = 16,
    memory_pooling: MemoryPooling = 1,
    providers: Providers = None,
    graph_cache: GraphCache = None,
    beside: Beside = 0,
    cpu_quota: CpuQuota = None,
    image_size: ImageSize = None,
    report_file: ReportFile = None,
) -> None:
    """Time a frame by number of objects, all memories full; check whether memory grows with the video.

    Each number of objects runs in a separate process. Memory over time is read with the largest number; if it is not
    flat, the exit code is 1. The parts of a frame are encode, track, remember, masks at full size and the rest.
    With --models and --precisions, each model is timed in each precision.
    With --beside and --cpu-quota frames are timed on a busy machine and with a quota, too.

    \b
    Examples:
      masklet bench video --objects 1,2,4,8 --report video.json
      masklet bench video --objects 1 --breakdown
      masklet bench video --models builtin,edgetam.pt,efficienttam_ti.pt --precisions fp32,bf16 --objects 1,4
      masklet bench video --objects 1 --beside 1
      masklet bench video --objects 5 --memory-at 100,1000,5000,10000 --api session
    """
    from masklet.benchmark import roofline, subprocess_runner
    from masklet.benchmark.video import MEMORY_RISE_CASE, PROTOCOL, VideoBenchmarkJob
    from masklet.cpu_threads import fix_threads
    from masklet.exported import is_exported_folder
    from masklet.exported.manifest import read_manifest
    from masklet.runtime import resolve_device

    if threads:
        fix_threads(threads)
    runtime = parse_runtime(threads, providers, graph_cache)
    counts = list(dict.fromkeys(parse_positive_ints(objects, "--objects")))
    memory_frames = sorted(set(parse_positive_ints(memory_at, "--memory-at"))) if memory_at else []
    base = VideoBenchmarkJob(
        model or "builtin",
        frames=frames,
        precision=precision,
        device=resolve_device(device),
        threads=threads,
        memories=memories,
        pointers=pointers,
        memory_pooling=memory_pooling,
        providers=runtime.providers,
        graph_cache=None if graph_cache is None else str(graph_cache),
        image_size=image_size,
        breakdown=breakdown,
        api=api,
        memory_from_frame=memory_from_frame,
        memory_tolerance_mb=memory_tolerance_mb,
    )
    busy = dict.fromkeys([(0, None), (beside, None), (0, cpu_quota)])
    names = split_commas(models) if models else [base.model]
    modes = split_commas(precisions) if precisions else [precision]
    settings = [
        replace(base, model=name, precision=mode, names_model=models is not None)
        for name in names
        for mode in (["fp32"] if is_exported_folder(name) and read_manifest(Path(name)).format != "openvino" else modes)
    ]
    jobs = [
        replace(job, objects=count, beside=other, cpu_quota=quota)
        for job in settings
        for count in counts
        for other, quota in busy
    ]
    if memory_frames:
        jobs.append(replace(base, objects=max(counts), memory_at=tuple(memory_frames)))
    options: dict[str, OptionValue] = {
        "objects": counts,
        "frames": frames,
        "precision": ",".join(modes),
        "image_size": image_size,
        "image": list(base.frame_size),
        "memory_at": memory_frames,
        "breakdown": breakdown,
        "api": api,
        "memories": memories,
        "pointers": pointers,
        "memory_pooling": memory_pooling,
        "beside": beside,
        "cpu_quota": cpu_quota,
        "memory_from_frame": memory_from_frame,
        "memory_tolerance_mb": memory_tolerance_mb,
    }
    cases: list[BenchmarkCase] = []

    limits = roofline.measure_hardware_limits(base.device)  # before and after: the higher count
    with progress_bar("readings", None, enabled=True) as step:

        def on_case(case: BenchmarkCase) -> None:
            cases.append(case)
            if report_file is not None:
                make_record(PROTOCOL, ", ".join(names), options, base.device, limits, cases, report_file)
            step()

        for job in jobs:
            subprocess_runner.run_in_subprocess(job, on_case)
    higher = limits.maximum(roofline.measure_hardware_limits(base.device))
    result = make_record(PROTOCOL, ", ".join(names), options, base.device, higher, cases, report_file)
    show_record(result)
    if any(case.name == MEMORY_RISE_CASE and (case.median or 0) > memory_tolerance_mb for case in result.cases):
        raise typer.Exit(EXIT_MEMORY_GREW)
