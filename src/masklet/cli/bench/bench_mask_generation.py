"""`masklet bench everything`: everything in an image, beside other programs."""

from __future__ import annotations

from collections.abc import Mapping
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
    validate_choices,
)
from masklet.cli.shared_options import Device, EvalModel, Precision, ReportFile

if TYPE_CHECKING:
    from masklet.benchmark.peers.interleaved import ComparisonResult
    from masklet.benchmark.peers.mask_generation import MaskGenerationComparisonJob
    from masklet.benchmark.record import BenchmarkRecord, OptionValue
    from masklet.benchmark.roofline import HardwareLimits

__all__ = ["everything"]


def everything(
    model: EvalModel = None,
    peers: Peers = None,
    peer_python: PeerPythons = None,
    cases: Annotated[
        str, typer.Option(help="thresholds, small, all, crops, second pass with commas between them.")
    ] = "thresholds,small,all",
    points: Annotated[int, typer.Option(help="Points a side of the grid.", min=1)] = 16,
    repeats: Annotated[int, typer.Option(help="Rounds; every one is counted.", min=1)] = 1,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Annotated[int | None, typer.Option(help="Of PyTorch; default: as it likes.", min=1)] = None,
    image_size: Annotated[int, typer.Option("--image-size", help="Side that the image is brought to.")] = 512,
    image_path: ImageFile = None,
    report_file: ReportFile = None,
) -> None:
    """How long everything in an image takes beside other programs, and whether all find the same.

    Programs take turns, by the clock and in processor time, with the same image, weights, threads and options.

    \b
    Examples:
      masklet bench everything --peers sam2 --threads 1 --json everything.json
      masklet bench everything --peers sam2 --points 6 --cases "crops,second pass"
    """
    import torch

    from masklet.benchmark.peers.mask_generation import OPTION_SETS, MaskGenerationComparisonJob
    from masklet.benchmark.peers.process import resolve_interpreters
    from masklet.image.predictor import PRECISIONS
    from masklet.runtime import resolve_device

    validate_choices([precision], PRECISIONS, "precision")
    names = validate_choices(split_commas(cases), OPTION_SETS, "cases")
    pythons = peer_interpreters(peers, peer_python) or resolve_interpreters([])
    if threads:
        torch.set_num_threads(threads)
    job = MaskGenerationComparisonJob(
        model or DEFAULT_PEER_MODEL, names, points, repeats, precision, resolve_device(device),
        torch.get_num_threads(), image_size, image_path,
    )  # fmt: skip
    _compare_with_peers(job, pythons, report_file)


def _compare_with_peers(
    job: MaskGenerationComparisonJob, pythons: Mapping[str, Path], report_file: Path | None
) -> None:
    from masklet.benchmark.peers.mask_generation import PROTOCOL, compare_mask_generation
    from masklet.benchmark.roofline import measure_hardware_limits

    def record(found: ComparisonResult, limits: HardwareLimits) -> BenchmarkRecord:
        options: dict[str, OptionValue] = {
            "peers": list(pythons)[1:],
            "weights": found.weights.source_label,
            "cases": list(job.cases),
            "points": job.points_per_side,
            "repeats": job.repeats,
            "precision": job.precision,
            "image_size": job.image_size,
            "picture": job.image_path.name if job.image_path else list(job.sample_size),
        }
        return make_record(
            PROTOCOL, found.weights.model, options, job.device, limits, found.cases, report_file, found.versions
        )

    limits = measure_hardware_limits(job.device)
    found = measure_with_progress(
        "cases",
        len(job.cases),
        lambda done: compare_mask_generation(job, pythons, done),
        lambda found: record(found, limits),
    )
    show_record(record(found, limits.maximum(measure_hardware_limits(job.device))))
