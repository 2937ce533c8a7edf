"""`masklet eval davis` and `synthetic`: objects followed from their first mask, by one protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.options import EvalModel, FigureFile, FilmPrompt, ImageSize, Precision
from masklet.cli.output import counting

if TYPE_CHECKING:
    from masklet.evaluate import FilmFigures, FilmRow

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
    report_file: FigureFile = None,
) -> None:
    """J, F and frames a second of objects that are followed from their first mask, with a line a sequence.

    J is the IoU of regions, F the agreement of boundaries, both 0 to 1, means over objects; the first and the last
    frame are not measured. The file of --json is written anew after every sequence.

    \b
    Example:
      masklet eval davis --root DAVIS --set 2017/val --json figures.json
    """
    from masklet import SAM
    from masklet.evaluate import davis_under, evaluate_film, films_report
    from masklet.evaluate.films import check_prompt

    check_prompt(prompt)
    found = davis_under(root, subset, exclude or ())[:limit]
    tracker = SAM(model, image_size=image_size, precision=precision)
    rows: list[FilmRow] = []
    typer.echo(_heading())
    for sequence in found:
        with counting(sequence.name, len(sequence.frames), wanted=True) as step:
            rows.append(evaluate_film(tracker, sequence, prompt, step))
        typer.echo(_film_line(sequence.name, rows[-1].figures))
        if report_file is not None:
            _write_films(report_file, model or tracker.info().name, prompt, rows)
    typer.echo(_film_line("all objects", films_report(rows).total))


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
    report_file: FigureFile = None,
) -> None:
    """J, F and frames a second on made clips, with a line a difficulty and their mean; nothing is downloaded.

    The clips are made anew each time, the same ones; protocol and columns are those of masklet eval davis. The last
    line says how often it was told right whether an object is in sight. The file of --json is written anew after
    every clip.

    \b
    Examples:
      masklet eval synthetic --json figures.json
      masklet eval synthetic --difficulty twins --difficulty occlusion --prompt click
    """
    from masklet import SAM
    from masklet.evaluate.films import check_prompt
    from masklet.evaluate.synthetic import evaluate_synthetic, scenes, synthetic_report

    check_prompt(prompt)
    found = scenes(difficulty or ())
    tracker = SAM(model, image_size=image_size, precision=precision)
    rows: list[FilmRow] = []
    with counting("frames", sum(scene.frames for scene in found), wanted=True) as step:
        for row in evaluate_synthetic(tracker, prompt, difficulty or (), step):
            rows.append(row)
            if report_file is not None:
                _write_synthetic(report_file, model or tracker.info().name, prompt, rows)
    figures = synthetic_report(rows)
    typer.echo(_heading())
    for name, own in {**figures.by_difficulty, "mean of difficulties": figures.mean}.items():
        typer.echo(_film_line(name, own))
    seen = figures.presence
    typer.echo(
        f"in sight or not: said right in {seen.share:.3f} of {seen.frames} frames of objects (always in sight: "
        f"{seen.always:.3f})"
    )


def _write_synthetic(path: Path, model: str, prompt: str, rows: Sequence[FilmRow]) -> None:
    from masklet.evaluate.synthetic import synthetic_report
    from masklet.files import write_text

    write_text(path, json.dumps({"model": model, "prompt": prompt, **asdict(synthetic_report(rows))}, indent=2))


def _write_films(path: Path, model: str, prompt: str, rows: Sequence[FilmRow]) -> None:
    from masklet.evaluate import films_report
    from masklet.files import write_text

    write_text(path, json.dumps({"model": model, "prompt": prompt, **asdict(films_report(rows))}, indent=2))


def _heading() -> str:
    return f"{'':<22}" + "".join(f"{name:>9}" for name in ("objects", "frames", "J", "F", "J&F", "fps"))


def _film_line(name: str, of: FilmFigures) -> str:
    return f"{name:<22}{of.objects:>9}{of.frames:>9}{of.j:>9.3f}{of.f:>9.3f}{of.jf:>9.3f}{of.fps:>9.2f}"
