"""`masklet eval`: held-out figures, by the protocols of `masklet.evaluate.stills` and `masklet.evaluate.films`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli import predicting, scoring, sets
from masklet.cli.options import EvalModel, FigureFile, FilmPrompt, ImageSize, Precision
from masklet.cli.output import counting

if TYPE_CHECKING:
    from masklet.evaluate import FilmFigures, FilmRow
    from masklet.evaluate.clicks import ClickedObject, ClicksReport

__all__ = ["app"]

app = typer.Typer(help="Measure how good a model is.", no_args_is_help=True)
app.command("davis17")(predicting.davis17)
app.command("ytvos")(predicting.ytvos)
app.command("sav")(predicting.sav)
app.command("score")(scoring.score)
app.command("sets")(sets.sets)


@app.callback()
def _group() -> None:
    """Measure how good a model is."""


@app.command("stills")
def stills(
    root: Annotated[Path, typer.Argument(help="Folder of sources, each with images/ID.jpg and masks/ID.json.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    objects: Annotated[int, typer.Option(help="Asked for in each picture, at most.", min=1)] = 10,
    limit: Annotated[int, typer.Option(help="Only every picture number N x this; 1: all.", min=1)] = 1,
    report_file: FigureFile = None,
) -> None:
    """Mean IoU by box, by one click, and after three and five corrective clicks, with a line a source.

    \b
    Example:
      masklet eval stills heldout --json figures.json
    """
    from masklet import SAM
    from masklet.evaluate import evaluate_stills, report, stills_under
    from masklet.evaluate.record import still_lines

    found = stills_under(root)[::limit]
    predictor, rows = SAM(model, image_size=image_size, precision=precision).predictor, []
    with counting("pictures", len(found), wanted=True) as step:
        for row in evaluate_stills(predictor, found, objects):
            rows.append(row)
            step()
    figures = report(rows)
    for line in still_lines(figures):
        typer.echo(line)
    if report_file is not None:
        from masklet.files import write_text

        write_text(report_file, json.dumps(asdict(figures), indent=2))


@app.command("clicks")
def clicks(
    root: Annotated[Path, typer.Argument(help="Folder of GrabCut, Berkeley, DAVIS-345, SBD, or any data with masks.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    kind: Annotated[
        str | None, typer.Option(help="grabcut, berkeley, davis345, sbd or a layout of masklet val; default: seen.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="A part of the data; of SBD: val.")] = None,
    objects: Annotated[int | None, typer.Option(help="Of each picture, at most; default: all.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many pictures, spread evenly.", min=1)] = None,
    report_file: FigureFile = None,
) -> None:
    """Clicks that an object needs: NoC@85 and NoC@90 of at most 20, failures, the curve of IoU and its area.

    Each click is on the deepest pixel of what is wrong. After Ctrl-C the figures of what was done are shown and
    written.

    \b
    Examples:
      masklet eval clicks GrabCut --json grabcut.json
      masklet eval clicks SBD --limit 200
    """
    from masklet import SAM
    from masklet.evaluate.click_data import click_pictures
    from masklet.evaluate.clicks import evaluate_clicks

    found = click_pictures(root, kind=kind, split=split, limit=limit)
    predictor, rows = SAM(model, image_size=image_size, precision=precision).predictor, []
    try:
        with counting("pictures", len(found), wanted=True) as step:
            for row in evaluate_clicks(predictor, found, objects, step):
                rows.append(row)  # noqa: PERF402  what is done by Ctrl-C is kept
    finally:
        _tell_clicks(rows, report_file)


@app.command("davis")
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


@app.command("synthetic")
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


def _tell_clicks(rows: Sequence[ClickedObject], report_file: Path | None) -> None:
    """Figures of what was clicked on, of something at least; else the error of `click_report`, unless there is one."""
    from masklet.evaluate.clicks import click_report
    from masklet.files import write_text

    if not rows and sys.exc_info()[0] is not None:
        return
    found = click_report(rows)
    for line in _click_lines(found):
        typer.echo(line)
    if report_file is not None:
        write_text(report_file, found.to_json())


def _click_lines(of: ClicksReport) -> list[str]:
    lines = [f"{of.objects} objects in {of.pictures} pictures; {of.seconds / of.objects:.2f} s an object"]
    lines += [f"NoC@{target} {clicks:.2f}, not reached {of.nof[target]}" for target, clicks in of.noc.items()]
    some = (1, 2, 3, 5, 10, 15, 20)
    lines.append(f"{'clicks':<12}" + "".join(f"{n:>8}" for n in some))
    lines.append(f"{'mean IoU':<12}" + "".join(f"{of.curve[n - 1]:>8.3f}" for n in some))
    return [*lines, f"AUC {of.auc:.3f}"]


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
