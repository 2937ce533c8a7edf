"""`masklet eval scribbles`: DAVIS interactive, films segmented by scribbles against the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import note
from masklet.cli.eval.runner import Asked, Measurement, measure
from masklet.cli.shared_options import EvalModel, ImageSize, ObjectFile, Precision, Resume

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate.scribble_report import ScribblesReport
    from masklet.evaluate.video_scribbles import Sample, ScribbledRow, ScribbleOptions

__all__ = ["scribbles"]


def scribbles(
    root: Annotated[Path, typer.Option(help="DAVIS 2017: JPEGImages/480p, Annotations/480p and Scribbles.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    interactions: Annotated[int, typer.Option(help="At most.", min=1)] = 8,
    seconds: Annotated[float, typer.Option(help="There are for each object and interaction.")] = 30.0,
    first: Annotated[
        str, typer.Option(help="Who draws first: person (the files of Scribbles; robot where there are none) or robot.")
    ] = "person",
    points: Annotated[int, typer.Option(help="A stroke is told by so many points.", min=1)] = 3,
    most: Annotated[int, typer.Option(help="Points on and off an object on a frame.", min=1)] = 8,
    subset: Annotated[str | None, typer.Option("--set", help="A list of ImageSets, as 2017/val; default: all.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many sequences, the first by name.", min=1)] = None,
    starts: Annotated[int | None, typer.Option(help="First scribbles of each, at most; default: all.", min=1)] = None,
    report_file: ObjectFile = None,
    resume: Resume = True,
) -> None:
    """DAVIS interactive: J&F at 60 seconds and the area below J&F over time, of films segmented by scribbles.

    A person's scribble begins; then the robot of the challenge draws on the frame with the lowest J&F, 8 times at most.
    The clock is on, so nothing else should run beside it. With --json the same command goes on where it was stopped.

    \b
    Examples:
      masklet eval scribbles --root DAVIS --set 2017/val --json scribbles.json
      masklet eval scribbles --root DAVIS --first robot --interactions 3 --limit 2
    """
    from masklet.evaluate.davis_sequences import davis_under
    from masklet.evaluate.scribble_report import scribbles_report
    from masklet.evaluate.video_scribbles import ScribbledRow, ScribbleOptions, samples_of

    options = ScribbleOptions(interactions, seconds, points, most)
    samples = samples_of(root, davis_under(root, subset)[:limit], starts, first=first)
    _tell_of_robot(samples, first)
    work = Measurement(
        protocol="davis-interactive",
        what="samples",
        units=samples,
        names=[sample.name for sample in samples],
        answer=partial(_scribbled, options=options),
        row=ScribbledRow,
        figures=lambda rows: scribbles_report(rows, options).to_dict(),
        lines=lambda rows: _total_lines(scribbles_report(rows, options)),
        options={**asdict(options), "first": first, "set": subset, "limit": limit, "starts": starts},
        of="frames",
        line=_sample_line,
    )
    measure(Asked(model, image_size, precision, file=report_file, resume=resume), work)


def _tell_of_robot(samples: Sequence[Sample], first: str) -> None:
    lacking = [sample.sequence.name for sample in samples if sample.file is None]
    if lacking and first == "person":
        note(f"Scribbles has none of {', '.join(lacking)}; the robot draws the first ones: no figures of the challenge")


def _scribbled(
    sam: SAM, sample: Sample, known: Sequence[ScribbledRow], each: Callable[[], None], *, options: ScribbleOptions
) -> Iterator[ScribbledRow]:
    from masklet.evaluate.video_scribbles import evaluate_scribbles

    yield evaluate_scribbles(sam, sample, options, each)


def _sample_line(row: ScribbledRow) -> str:
    who = f"{row.scribble:03d}" if row.scribble else "robot"
    shown = " ".join(f"{one.jf:.3f}" for one in row.interactions) or "-"
    frames = ", ".join(str(one.frame) for one in row.interactions) or "-"
    late = "; out of time" if row.out_of_time else ""
    return f"{row.sequence} {who}: J&F {shown}; frames {frames}; {sum(o.seconds for o in row.interactions):.1f} s{late}"


def _total_lines(of: ScribblesReport) -> list[str]:
    late = f", {of.out_of_time} out of time" if of.out_of_time else ""
    robot = f", {of.by_robot} begun by the robot" if of.by_robot else ""
    lines = [f"{of.samples} samples of {of.sequences} sequences{robot}{late}; {of.seconds:.1f} s"]
    for name, values in (
        ("seconds", [f"{p.seconds:.1f}" for p in of.curve]),
        ("J&F", [f"{p.jf:.3f}" for p in of.curve]),
        ("J", [f"{p.j:.3f}" for p in of.curve]),
        ("F", [f"{p.f:.3f}" for p in of.curve]),
    ):
        lines.append(f"{name:<8}" + "".join(f"{value:>8}" for value in values))
    return [*lines, f"AUC {of.auc:.3f}, J&F@60s {of.jf_at_60s:.3f}; of J alone {of.j_auc:.3f} and {of.j_at_60s:.3f}"]
