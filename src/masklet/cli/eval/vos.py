"""`masklet eval davis` and `synthetic`: objects followed from their first mask, by one protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import Asked, Measurement, measure
from masklet.cli.shared_options import EvalModel, FigureFile, FilmPrompt, ImageSize, Precision, Resume, Workers

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate import DavisSequence, FilmFigures, FilmRow
    from masklet.evaluate.synthetic import Scene, SyntheticReport

__all__ = ["davis", "synthetic"]


def davis(
    root: Annotated[Path, typer.Option(help="Folder with JPEGImages/480p and Annotations/480p (DAVIS 2016 or 2017).")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    prompt: FilmPrompt = "mask",
    subset: Annotated[str | None, typer.Option("--set", help="A list of ImageSets, as 2017/val; default: all.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A sequence to leave out; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many sequences, the first by name.", min=1)] = None,
    workers: Workers = 1,
    report_file: FigureFile = None,
    resume: Resume = True,
) -> None:
    """J, F and frames a second of objects that are followed from their first mask, with a line a sequence.

    J is the IoU of regions, F the agreement of boundaries, both 0 to 1, means over objects; the first and the last
    frame are not measured. With --json the same command goes on where it was stopped.

    \b
    Example:
      masklet eval davis --root DAVIS --set 2017/val --json figures.json
    """
    from masklet.evaluate import FilmRow, davis_under, films_report
    from masklet.evaluate.semi_supervised_vos import check_prompt

    check_prompt(prompt)
    found = davis_under(root, subset, exclude or ())[:limit]
    work = Measurement(
        protocol="davis",
        what="sequences",
        units=found,
        names=[sequence.name for sequence in found],
        answer=partial(_followed, prompt=prompt),
        row=FilmRow,
        figures=lambda rows: asdict(films_report(rows)),
        lines=lambda rows: [_film_line("all objects", films_report(rows).total)] if rows else [],
        options={"prompt": prompt, "set": subset, "exclude": exclude or [], "limit": limit},
        of="frames",
        steps=[len(sequence.frames) for sequence in found],
        line=lambda row: _film_line(row.name, row.figures),
        heading=_heading(),
    )
    measure(Asked(model, image_size, precision, workers, report_file, resume), work)


def _followed(
    sam: SAM, sequence: DavisSequence, known: Sequence[FilmRow], each: Callable[[], None], *, prompt: str
) -> list[FilmRow]:
    from masklet.evaluate import evaluate_film

    return [evaluate_film(sam, sequence, prompt, each)]


def synthetic(
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    difficulty: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="occlusion, twins, reentry, fast, small, long, thin or transparency; may be repeated; default: all.",
        ),
    ] = None,
    prompt: FilmPrompt = "mask",
    workers: Workers = 1,
    report_file: FigureFile = None,
    resume: Resume = True,
) -> None:
    """J, F and frames a second on made clips, with a line a difficulty and their mean; nothing is downloaded.

    The clips are made anew each time, the same ones; protocol and columns are those of masklet eval davis. The last
    line says how often it was told right whether an object is in sight. With --json the same command goes on
    where it was stopped.

    \b
    Examples:
      masklet eval synthetic --json figures.json
      masklet eval synthetic --difficulty twins --difficulty occlusion --prompt click
    """
    from masklet.evaluate import FilmRow
    from masklet.evaluate.semi_supervised_vos import check_prompt
    from masklet.evaluate.synthetic import scenes, synthetic_report

    check_prompt(prompt)
    found = scenes(difficulty or ())
    work = Measurement(
        protocol="synthetic",
        what="clips",
        units=found,
        names=[scene.name for scene in found],
        answer=partial(_scene_followed, prompt=prompt),
        row=FilmRow,
        figures=lambda rows: asdict(synthetic_report(rows)),
        lines=lambda rows: _synthetic_lines(synthetic_report(rows)),
        options={"prompt": prompt, "difficulty": difficulty or []},
        of="frames",
        steps=[scene.frames for scene in found],
    )
    measure(Asked(model, image_size, precision, workers, report_file, resume), work)


def _scene_followed(
    sam: SAM, scene: Scene, known: Sequence[FilmRow], each: Callable[[], None], *, prompt: str
) -> list[FilmRow]:
    from masklet.evaluate.synthetic import evaluate_scene

    return [evaluate_scene(sam, scene, prompt, each)]


def _synthetic_lines(of: SyntheticReport) -> list[str]:
    named = {**of.by_difficulty, "mean of difficulties": of.mean}
    seen = of.presence
    said = (
        f"in sight or not: said right in {seen.share:.3f} of {seen.frames} frames of objects (always in sight: "
        f"{seen.always:.3f})"
    )
    return [_heading(), *(_film_line(name, own) for name, own in named.items()), said]


def _heading() -> str:
    return f"{'':<22}" + "".join(f"{name:>9}" for name in ("objects", "frames", "J", "F", "J&F", "fps"))


def _film_line(name: str, of: FilmFigures) -> str:
    return f"{name:<22}{of.objects:>9}{of.frames:>9}{of.j:>9.3f}{of.f:>9.3f}{of.jf:>9.3f}{of.fps:>9.2f}"
