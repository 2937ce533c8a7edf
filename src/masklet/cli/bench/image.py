"""`masklet bench image`: encoding, prompts and everything on one image.

`masklet bench startup`: from a command to its first mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import make_record, show_record, split_commas
from masklet.cli.bench.peer_options import (
    DEFAULT_PEER_MODEL,
    ImageFile,
    PeerPythons,
    Peers,
    measure_with_progress,
    peer_interpreters,
    reject_with_peers,
    validate_choices,
)
from masklet.cli.console import progress_bar
from masklet.cli.shared_options import Device, EvalModel, ImageSize, ReportFile

if TYPE_CHECKING:
    from masklet.benchmark.image import ImageBenchmarkJob
    from masklet.benchmark.peers.image import ImageComparisonJob
    from masklet.benchmark.peers.interleaved import ComparisonResult
    from masklet.benchmark.record import BenchmarkCase, BenchmarkRecord, OptionValue
    from masklet.benchmark.roofline import HardwareLimits

__all__ = ["image", "startup"]


def startup(
    model: EvalModel = None,
    repeats: Annotated[int, typer.Option(help="Rounds after one that is not counted.", min=1)] = 5,
    device: Device = None,
    report_file: ReportFile = None,
) -> None:
    """How long `import masklet` takes, and a command to its first mask, as whole processes.

    \b
    Examples:
      masklet bench startup
      masklet bench startup --repeats 3 --device cpu --json startup.json
    """
    from masklet.benchmark.startup import PROTOCOL, measure_startup
    from masklet.runtime import resolve_device

    place, name = resolve_device(device), model or "builtin"
    cases = measure_startup(name, place, repeats)
    show_record(make_record(PROTOCOL, name, {"repeats": repeats}, place, None, cases, report_file))


def image(
    model: EvalModel = None,
    peers: Peers = None,
    peer_python: PeerPythons = None,
    precisions: Annotated[str, typer.Option(help="fp32, bf16, fp16 with commas between them.")] = "fp32",
    repeats: Annotated[int, typer.Option(help="Rounds after one that is not counted.", min=1)] = 5,
    points: Annotated[int, typer.Option(help="Points a side of the grid of everything.", min=1)] = 32,
    device: Device = None,
    threads: Annotated[int | None, typer.Option(help="Of PyTorch; default: as it likes.", min=1)] = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="The encoder by torch.compile too.")] = False,
    image_size: ImageSize = None,
    image_path: ImageFile = None,
    report_file: ReportFile = None,
) -> None:
    """How long encoding, one prompt, 64 prompts and everything take, and how much memory.

    Every precision is measured in a process of its own. What the machine can do at best is measured before and after;
    floor is what operations or bytes take at that rate (bound says which), and share how much of it is reached.
    With peers all programs take turns with the same weights, and masks are compared; `masklet bench everything` has
    everything beside them.

    \b
    Examples:
      masklet bench image --precisions fp32,bf16 --json before.json
      masklet bench image --model sam2.1_t.pt --points 16 --repeats 3 --compiled
      masklet bench image --peers sam2,transformers --threads 2 --json beside.json
    """
    import torch

    from masklet.benchmark.image import ImageBenchmarkJob
    from masklet.benchmark.peers.image import ImageComparisonJob
    from masklet.image.predictor import PRECISIONS
    from masklet.runtime import resolve_device

    if peers:
        reject_with_peers({"--compiled": compiled})
    pythons = peer_interpreters(peers, peer_python)
    if threads:
        torch.set_num_threads(threads)
    names, place = validate_choices(split_commas(precisions), PRECISIONS, "precisions"), resolve_device(device)
    if pythons:
        beside = ImageComparisonJob(
            model or DEFAULT_PEER_MODEL, names, repeats, place, torch.get_num_threads(), image_size, image_path
        )
        _compare_with_peers(beside, pythons, report_file)
        return
    first = ImageBenchmarkJob(
        model or "builtin",
        "",
        place,
        repeats,
        points,
        threads,
        image_size,
        image_path=str(image_path) if image_path else None,
    )
    ways = (False, True) if compiled else (False,)
    _bench_alone([replace(first, precision=name, compiled=way) for name in names for way in ways], report_file)


def _bench_alone(jobs: list[ImageBenchmarkJob], report_file: Path | None) -> None:
    from masklet.benchmark import subprocess_runner
    from masklet.benchmark.image import PROTOCOL
    from masklet.benchmark.roofline import measure_hardware_limits

    first = jobs[0]
    options: dict[str, OptionValue] = {
        "precisions": list(dict.fromkeys(job.precision for job in jobs)),
        "repeats": first.repeats,
        "points": first.points_per_side,
        "compiled": any(job.compiled for job in jobs),
        "image_size": first.image_size,
        "picture": Path(first.image_path).name if first.image_path else list(first.sample_size),
    }
    cases: list[BenchmarkCase] = []

    def record(limits: HardwareLimits) -> BenchmarkRecord:
        return make_record(PROTOCOL, first.model, options, first.device, limits, cases, report_file)

    limits = measure_hardware_limits(first.device)
    with progress_bar("settings", len(jobs), enabled=True) as step:
        for job in jobs:
            cases.extend(subprocess_runner.run_in_subprocess(job).cases)
            record(limits)
            step()
    show_record(record(limits.maximum(measure_hardware_limits(first.device))))


def _compare_with_peers(job: ImageComparisonJob, pythons: Mapping[str, Path], report_file: Path | None) -> None:
    from masklet.benchmark.peers.image import PROTOCOL, compare_image
    from masklet.benchmark.roofline import measure_hardware_limits

    def record(found: ComparisonResult, limits: HardwareLimits) -> BenchmarkRecord:
        options: dict[str, OptionValue] = {
            "peers": list(pythons)[1:],
            "weights": found.weights.source_label,
            "precisions": list(job.precisions),
            "repeats": job.repeats,
            "image_size": job.image_size,
            "picture": job.image_path.name if job.image_path else list(job.sample_size),
        }
        return make_record(
            PROTOCOL, found.weights.model, options, job.device, limits, found.cases, report_file, found.versions
        )

    limits = measure_hardware_limits(job.device)
    found = measure_with_progress(
        "settings",
        len(job.precisions),
        lambda done: compare_image(job, pythons, done),
        lambda found: record(found, limits),
    )
    show_record(record(found, limits.maximum(measure_hardware_limits(job.device))))
