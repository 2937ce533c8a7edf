"""`masklet bench video`: seconds a frame by number of objects, memory by length."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.benchmarking.showing import numbers, show_record, written
from masklet.cli.options import Device, EvalModel, FigureFile, ImageSize, Precision
from masklet.cli.output import counting

if TYPE_CHECKING:
    from masklet.bench.record import Case, Option
    from masklet.bench.video import VideoJob

__all__ = ["video"]

GREW = 1
"""The exit code where memory is not flat."""


def video(
    model: EvalModel = None,
    objects: Annotated[str, typer.Option(help="Numbers of objects, 1 to 64, with commas between them.")] = "1,2,4,8",
    frames: Annotated[int, typer.Option(help="Counted, behind seven that are not.", min=1)] = 20,
    lengths: Annotated[
        str | None, typer.Option(help="Frames at which memory is read too, such as 100,1000,10000.")
    ] = None,
    parts: Annotated[bool, typer.Option("--parts", help="Also where the time of a frame goes.")] = False,
    through: Annotated[str, typer.Option(help="live: frames are handed in; session: it reads the film.")] = "live",
    settle: Annotated[int, typer.Option(help="The frame from which on memory must be flat.", min=1)] = 100,
    bound: Annotated[float, typer.Option(help="MB that memory may rise from there on.", min=0)] = 24.0,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Annotated[int | None, typer.Option(help="Of PyTorch; default: as it likes.", min=1)] = None,
    image_size: ImageSize = None,
    report_file: FigureFile = None,
) -> None:
    """How long a frame takes with as many objects, all memories full; and whether memory grows with the film.

    Every number of objects is a process of its own. Memory by length is read while the most of them are followed, and
    where it is not flat the command ends with 1. Parts are encode, track, remember, masks at full size and the rest.

    \b
    Examples:
      masklet bench video --objects 1,2,4,8 --json video.json
      masklet bench video --objects 1 --parts
      masklet bench video --objects 5 --lengths 100,1000,5000,10000 --through session
    """
    import torch

    from masklet.bench.limits import measure_limits
    from masklet.bench.video import PROTOCOL, RISE, VideoJob
    from masklet.devices import device_of

    if threads:
        torch.set_num_threads(threads)
    place, name, counts = device_of(device), model or "builtin", numbers(objects, "--objects")
    first = VideoJob(
        name, 1, frames, (), precision, place, threads, image_size,
        parts=parts, through=through, settle=settle, bound=bound,
    )  # fmt: skip
    jobs = [replace(first, objects=count) for count in counts]
    if lengths:
        jobs.append(replace(first, objects=max(counts), lengths=tuple(sorted(set(numbers(lengths, "--lengths"))))))
    limits, cases = measure_limits(place), _measured(jobs)
    options = _options(first, objects, lengths)
    show_record(written(PROTOCOL, name, options, place, limits, cases, report_file))
    if any(case.name == RISE and (case.median or 0) > bound for case in cases):
        raise typer.Exit(GREW)


def _measured(jobs: list[VideoJob]) -> tuple[Case, ...]:
    from masklet.bench import worker

    cases: list[Case] = []
    with counting("settings", len(jobs), wanted=True) as step:
        for job in jobs:
            cases += worker.ask(job).cases
            step()
    return tuple(cases)


def _options(job: VideoJob, objects: str, lengths: str | None) -> dict[str, Option]:
    return {
        "objects": objects,
        "frames": job.frames,
        "lengths": lengths,
        "precision": job.precision,
        "image_size": job.image_size,
        "picture": list(job.picture),
        "parts": job.parts,
        "through": job.through,
        "settle": job.settle,
        "bound": job.bound,
    }
