"""`masklet bench video`: seconds a frame by number of objects, memory by length."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.benchmarking.showing import numbers, show_record
from masklet.cli.options import Device, EvalModel, FigureFile, ImageSize, Precision
from masklet.cli.output import counting

if TYPE_CHECKING:
    from masklet.bench.record import Case, Option

__all__ = ["video"]


def video(
    model: EvalModel = None,
    objects: Annotated[str, typer.Option(help="Numbers of objects, 1 to 64, with commas between them.")] = "1,2,4,8",
    frames: Annotated[int, typer.Option(help="Counted, behind seven that are not.", min=1)] = 20,
    lengths: Annotated[
        str | None, typer.Option(help="Frames at which resident memory is read too, with commas between them.")
    ] = None,
    device: Device = None,
    precision: Precision = "fp32",
    threads: Annotated[int | None, typer.Option(help="Of PyTorch; default: as it likes.", min=1)] = None,
    image_size: ImageSize = None,
    report_file: FigureFile = None,
) -> None:
    """How long a frame takes with as many objects, all memories full; and whether memory grows with the film.

    Every number of objects is a process of its own. Memory by length is read while one object is followed.

    \b
    Examples:
      masklet bench video --objects 1,2,4,8 --json video.json
      masklet bench video --objects 1 --lengths 100,1000
    """
    import torch

    from masklet import __version__
    from masklet.bench import worker
    from masklet.bench.limits import measure_limits
    from masklet.bench.machine import this_machine
    from masklet.bench.record import new_record
    from masklet.bench.video import PROTOCOL, VideoJob
    from masklet.devices import device_of
    from masklet.files import write_text

    if threads:
        torch.set_num_threads(threads)
    place, name = device_of(device), model or "builtin"
    first = VideoJob(name, 1, frames, (), precision, place, threads, image_size)
    jobs = [replace(first, objects=count) for count in numbers(objects, "--objects")]
    if lengths:
        jobs.append(replace(first, lengths=tuple(sorted(set(numbers(lengths, "--lengths"))))))
    limits = measure_limits(place)
    cases: list[Case] = []
    with counting("settings", len(jobs), wanted=True) as step:
        for job in jobs:
            cases += worker.ask_video(job).cases
            step()
    options: dict[str, Option] = {
        "objects": objects,
        "frames": frames,
        "lengths": lengths,
        "precision": precision,
        "image_size": image_size,
        "picture": list(first.picture),
    }
    record = new_record(PROTOCOL, name, options, this_machine(place), limits, tuple(cases), __version__)
    if report_file is not None:
        write_text(report_file, record.to_json())
    show_record(record)
