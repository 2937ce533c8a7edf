"""`masklet eval davis17`, `ytvos` and `sav`: predictions of a benchmark in its layout, and their score."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.evaluating.scoring import score_lines
from masklet.cli.options import EvalModel, ObjectFile
from masklet.cli.output import counting, note

if TYPE_CHECKING:
    from masklet.evaluate.predicting import Film

__all__ = ["davis17", "sav", "ytvos"]

_Root = Annotated[Path, typer.Option(help="The data set, as its owners pack it.")]
_Out = Annotated[
    Path | None, typer.Option(help="Keep the predictions there, and go on with those that are; default: figures only.")
]
_Prompt = Annotated[str, typer.Option(help="Said of each object where it comes: mask, box or click.")]
_Split = Annotated[str | None, typer.Option("--set", help="A list of ImageSets, or a folder of the data set.")]
_Limit = Annotated[int | None, typer.Option(help="Only so many films, the first by name.", min=1)]


def davis17(
    root: _Root,
    model: EvalModel = None,
    out: _Out = None,
    prompt: _Prompt = "mask",
    subset: _Split = None,
    limit: _Limit = None,
    report_file: ObjectFile = None,
) -> None:
    """J and F with mean, recall and decay, as the authors of DAVIS 2017 count them; or a zip for the server.

    Films are followed from their first annotation (of val, unless --set names another list). With --out label maps of
    every frame are kept, and OUT.zip beside them. Where the truth is not there (test-dev, MOSE) there is no score.

    \b
    Examples:
      masklet eval davis17 --root DAVIS --json davis17.json
      masklet eval davis17 --root DAVIS --set test-dev --out test-dev
    """
    _run("davis17", _films("davis17", root, subset, limit), root, model, out, prompt, report_file)


def ytvos(
    root: _Root,
    model: EvalModel = None,
    out: _Out = None,
    prompt: _Prompt = "mask",
    subset: _Split = None,
    limit: _Limit = None,
    seen: Annotated[Path | None, typer.Option(help="What was trained on: its meta.json, or a text.")] = None,
    report_file: ObjectFile = None,
) -> None:
    """Predictions for the server of YouTube-VOS, OUT.zip; where the truth is there, the score by its definition.

    Each object is followed from the first annotation that shows it (of valid, unless --set names another folder).

    \b
    Example:
      masklet eval ytvos --root YouTubeVOS --out ytvos
    """
    _run("ytvos", _films("ytvos", root, subset, limit), root, model, out, prompt, report_file, seen)


def sav(
    root: _Root,
    model: EvalModel = None,
    out: _Out = None,
    prompt: _Prompt = "mask",
    limit: _Limit = None,
    report_file: ObjectFile = None,
) -> None:
    """J and F on the val or test set of SA-V, as its evaluator counts them.

    Each object is followed from the first annotation that shows it; with --out a folder for each object is kept.

    \b
    Example:
      masklet eval sav --root sav_val --json sav.json
    """
    _run("sav", _films("sav", root, None, limit), root, model, out, prompt, report_file)


def _films(kind: str, root: Path, subset: str | None, limit: int | None) -> list[Film]:
    from masklet.evaluate.predicting import films_of

    return films_of(kind, root, split=subset, limit=limit)


def _run(
    kind: str,
    films: list[Film],
    root: Path,
    model: str | None,
    out: Path | None,
    prompt: str,
    report_file: Path | None,
    seen: Path | None = None,
) -> None:
    from masklet import SAM
    from masklet.evaluate.predicting import predict, zipped
    from masklet.evaluate.prompting import check_prompt

    check_prompt(prompt)
    tracker = SAM(model)
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="masklet-predictions-"))) / kind
        with counting("films", len(films), wanted=True) as step:
            predict(tracker, films, folder, prompt, name=model or tracker.info().name, step=step)
        if out is not None and kind != "sav":
            typer.echo(f"{zipped(films, out)}: {len(films)} films, as the server takes them")
        if all(film.has_truth for film in films):
            _score(folder, films, report_file, seen)
        else:
            note(f"{root} has no truth of these films, so there is no score; its server has it")


def _score(folder: Path, films: list[Film], report_file: Path | None, seen: Path | None) -> None:
    from masklet.evaluate.scoring import ScoreOptions, score
    from masklet.files import write_text

    options = ScoreOptions(seen=seen, names=tuple(film.name for film in films))
    found = score(films[0].kind, folder, films[0].truth, options)
    for line in score_lines(found):
        typer.echo(line)
    if report_file is not None:
        write_text(report_file, found.to_json())
