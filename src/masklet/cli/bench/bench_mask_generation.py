"""`masklet bench everything`: everything in a picture, beside other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import listed, show_record, written
from masklet.cli.bench.peer_options import USUAL_MODEL, PeerPythons, Peers, PictureFile, interpreters, known, measured
from masklet.cli.shared_options import Device, EvalModel, FigureFile, Precision

if TYPE_CHECKING:
    from masklet.benchmark.peers.interleaved import Compared
    from masklet.benchmark.peers.mask_generation import EverythingJob
    from masklet.benchmark.record import Option, Record
    from masklet.benchmark.roofline import Limits

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
    image_size: Annotated[int, typer.Option("--image-size", help="Side that the picture is brought to.")] = 512,
    picture: PictureFile = None,
    report_file: FigureFile = None,
) -> None:
    """How long everything in a picture takes beside other programs, and whether all find the same.

    Programs take turns, by the clock and in processor time, with the same picture, weights, threads and options.

    \b
    Examples:
      masklet bench everything --peers sam2 --threads 1 --json everything.json
      masklet bench everything --peers sam2 --points 6 --cases "crops,second pass"
    """
    import torch

    from masklet.benchmark.peers.mask_generation import CASES, EverythingJob
    from masklet.benchmark.peers.process import pythons_of
    from masklet.image.predictor import PRECISIONS
    from masklet.runtime import device_of

    known([precision], PRECISIONS, "precision")
    names = known(listed(cases), CASES, "cases")
    pythons = interpreters(peers, peer_python) or pythons_of([])
    if threads:
        torch.set_num_threads(threads)
    job = EverythingJob(
        model or USUAL_MODEL, names, points, repeats, precision, device_of(device),
        torch.get_num_threads(), image_size, picture,
    )  # fmt: skip
    _compared(job, pythons, report_file)


def _compared(job: EverythingJob, pythons: Mapping[str, Path], report_file: Path | None) -> None:
    from masklet.benchmark.peers.mask_generation import PROTOCOL, compare_everything
    from masklet.benchmark.roofline import measure_limits

    def record(found: Compared, limits: Limits) -> Record:
        options: dict[str, Option] = {
            "peers": list(pythons)[1:],
            "weights": found.weights.told,
            "cases": list(job.cases),
            "points": job.points,
            "repeats": job.repeats,
            "precision": job.precision,
            "image_size": job.image_size,
            "picture": job.picture.name if job.picture else list(job.size),
        }
        return written(
            PROTOCOL, found.weights.model, options, job.device, limits, found.cases, report_file, found.versions
        )

    limits = measure_limits(job.device)
    found = measured(
        "cases",
        len(job.cases),
        lambda done: compare_everything(job, pythons, done),
        lambda found: record(found, limits),
    )
    show_record(record(found, limits.best(measure_limits(job.device))))
