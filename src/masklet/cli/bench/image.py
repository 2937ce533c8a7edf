"""`masklet bench image`: encoding, prompts and everything on one picture.

`masklet bench startup`: from a command to its first mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import listed, show_record, written
from masklet.cli.bench.peer_options import (
    USUAL_MODEL,
    PeerPythons,
    Peers,
    PictureFile,
    interpreters,
    known,
    measured,
    refuse_with_peers,
)
from masklet.cli.console import counting
from masklet.cli.shared_options import Device, EvalModel, FigureFile, ImageSize

if TYPE_CHECKING:
    from masklet.benchmark.image import ImageJob
    from masklet.benchmark.peers.image import BesideJob
    from masklet.benchmark.peers.interleaved import Compared
    from masklet.benchmark.record import Case, Option, Record
    from masklet.benchmark.roofline import Limits

__all__ = ["image", "startup"]


def startup(
    model: EvalModel = None,
    repeats: Annotated[int, typer.Option(help="Rounds after one that is not counted.", min=1)] = 5,
    device: Device = None,
    report_file: FigureFile = None,
) -> None:
    """How long `import masklet` takes, and a command to its first mask, as whole processes.

    \b
    Examples:
      masklet bench startup
      masklet bench startup --repeats 3 --device cpu --json startup.json
    """
    from masklet.benchmark.startup import PROTOCOL, measure_startup
    from masklet.runtime import device_of

    place, name = device_of(device), model or "builtin"
    cases = measure_startup(name, place, repeats)
    show_record(written(PROTOCOL, name, {"repeats": repeats}, place, None, cases, report_file))


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
    picture: PictureFile = None,
    report_file: FigureFile = None,
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

    from masklet.benchmark.image import ImageJob
    from masklet.benchmark.peers.image import BesideJob
    from masklet.image.predictor import PRECISIONS
    from masklet.runtime import device_of

    if peers:
        refuse_with_peers({"--compiled": compiled})
    pythons = interpreters(peers, peer_python)
    if threads:
        torch.set_num_threads(threads)
    names, place = known(listed(precisions), PRECISIONS, "precisions"), device_of(device)
    if pythons:
        beside = BesideJob(model or USUAL_MODEL, names, repeats, place, torch.get_num_threads(), image_size, picture)
        _beside(beside, pythons, report_file)
        return
    first = ImageJob(
        model or "builtin", "", place, repeats, points, threads, image_size, file=str(picture) if picture else None
    )
    ways = (False, True) if compiled else (False,)
    _alone([replace(first, precision=name, compiled=way) for name in names for way in ways], report_file)


def _alone(jobs: list[ImageJob], report_file: Path | None) -> None:
    from masklet.benchmark import subprocess_runner
    from masklet.benchmark.image import PROTOCOL
    from masklet.benchmark.roofline import measure_limits

    first = jobs[0]
    options: dict[str, Option] = {
        "precisions": list(dict.fromkeys(job.precision for job in jobs)),
        "repeats": first.repeats,
        "points": first.points,
        "compiled": any(job.compiled for job in jobs),
        "image_size": first.image_size,
        "picture": Path(first.file).name if first.file else list(first.picture),
    }
    cases: list[Case] = []

    def record(limits: Limits) -> Record:
        return written(PROTOCOL, first.model, options, first.device, limits, cases, report_file)

    limits = measure_limits(first.device)
    with counting("settings", len(jobs), wanted=True) as step:
        for job in jobs:
            cases.extend(subprocess_runner.ask(job).cases)
            record(limits)
            step()
    show_record(record(limits.best(measure_limits(first.device))))


def _beside(job: BesideJob, pythons: Mapping[str, Path], report_file: Path | None) -> None:
    from masklet.benchmark.peers.image import PROTOCOL, compare_picture
    from masklet.benchmark.roofline import measure_limits

    def record(found: Compared, limits: Limits) -> Record:
        options: dict[str, Option] = {
            "peers": list(pythons)[1:],
            "weights": found.weights.told,
            "precisions": list(job.precisions),
            "repeats": job.repeats,
            "image_size": job.image_size,
            "picture": job.picture.name if job.picture else list(job.size),
        }
        return written(
            PROTOCOL, found.weights.model, options, job.device, limits, found.cases, report_file, found.versions
        )

    limits = measure_limits(job.device)
    found = measured(
        "settings",
        len(job.precisions),
        lambda done: compare_picture(job, pythons, done),
        lambda found: record(found, limits),
    )
    show_record(record(found, limits.best(measure_limits(job.device))))
