"""`masklet bench image`: encoding, prompts and everything on one picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.benchmarking.showing import listed, show_record, written
from masklet.cli.options import Device, EvalModel, FigureFile, ImageSize
from masklet.cli.output import counting

if TYPE_CHECKING:
    from masklet.bench.image import ImageJob
    from masklet.bench.limits import Limits
    from masklet.bench.record import Answer, Case, Option

__all__ = ["image"]


def image(
    model: EvalModel = None,
    precisions: Annotated[str, typer.Option(help="fp32, bf16, fp16 with commas between them.")] = "fp32",
    repeats: Annotated[int, typer.Option(help="Rounds after one that is not counted.", min=1)] = 5,
    points: Annotated[int, typer.Option(help="Points a side of the grid of everything.", min=1)] = 32,
    device: Device = None,
    threads: Annotated[int | None, typer.Option(help="Of PyTorch; default: as it likes.", min=1)] = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="The encoder by torch.compile too.")] = False,
    image_size: ImageSize = None,
    report_file: FigureFile = None,
) -> None:
    """How long encoding, one prompt, 64 prompts and everything take, and how much memory.

    Every precision is measured in a process of its own. What the machine can do at best is measured before and after;
    the floor of encoding is what its operations take at that rate, and share how much of the rate is reached.

    \b
    Examples:
      masklet bench image --precisions fp32,bf16 --json before.json
      masklet bench image --model sam2.1_t.pt --points 16 --repeats 3 --compiled
    """
    import torch

    from masklet.bench import worker
    from masklet.bench.image import PROTOCOL, ImageJob
    from masklet.bench.limits import measure_limits
    from masklet.devices import device_of

    if threads:
        torch.set_num_threads(threads)
    place, name = device_of(device), model or "builtin"
    jobs = _jobs(ImageJob(name, "", place, repeats, points, threads, image_size), listed(precisions), compiled=compiled)
    limits = measure_limits(place)
    answers: list[Answer] = []
    with counting("settings", len(jobs), wanted=True) as step:
        for job in jobs:
            answers.append(worker.ask(job))
            step()
    limits = limits.best(measure_limits(place))
    cases = [case for job, found in zip(jobs, answers, strict=True) for case in _with_floor(found, job, limits)]
    options: dict[str, Option] = {
        "precisions": precisions,
        "repeats": repeats,
        "points": points,
        "compiled": compiled,
        "image_size": image_size,
        "picture": list(jobs[0].picture),
    }
    show_record(written(PROTOCOL, name, options, place, limits, cases, report_file))


def _jobs(job: ImageJob, precisions: list[str], *, compiled: bool) -> list[ImageJob]:
    from masklet.errors import InputError
    from masklet.image.predictor import PRECISIONS

    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown or not precisions:
        raise InputError(f"precisions {', '.join(unknown) or 'none'}: choose from {', '.join(PRECISIONS)}")
    ways = (False, True) if compiled else (False,)
    return [replace(job, precision=name, compiled=way) for name in precisions for way in ways]


def _with_floor(answer: Answer, job: ImageJob, limits: Limits) -> list[Case]:
    floor = limits.floor_s(answer.operations, job.precision)
    return [replace(case, floor=floor) if case.name == "encode" and case.samples else case for case in answer.cases]
