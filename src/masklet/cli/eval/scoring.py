"""`masklet eval score`: folders of predictions, by `masklet.evaluate.benchmark_scoring`.

`masklet eval report`: a score as a page, by `masklet.evaluate.report`.

`masklet eval sets`: the data sets of benchmarks, and what of one is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import print_notice
from masklet.cli.shared_options import ObjectReportFile

if TYPE_CHECKING:
    from masklet.evaluate.benchmark_scoring import BenchmarkScore
import shlex

__all__ = ["SeenFile", "UnseenFile", "datasets", "format_score", "report", "score"]

SeenFile = Annotated[
    Path | None, typer.Option("--seen", help="ytvos: what was trained on; its meta.json, or a text of categories.")
]
UnseenFile = Annotated[
    Path | None,
    typer.Option("--unseen", help="lvos: a text of unseen videos; default: unseen_videos.txt beside the truth."),
]


def score(
    predictions: Annotated[Path, typer.Argument(help="Folder with a folder of PNG files for each sequence.")],
    truth: Annotated[Path, typer.Argument(help="The data set, or its folder of annotations.")],
    benchmark: Annotated[str, typer.Option(help="Whose rules: davis17, davis16, sav, ytvos, mose or lvos.")],
    split: Annotated[str | None, typer.Option("--set", help="davis17: a list of ImageSets, as val.")] = None,
    seen: SeenFile = None,
    unseen: UnseenFile = None,
    partial: Annotated[bool, typer.Option("--partial", help="Only the sequences that are predicted.")] = False,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="sav: measure the first and the last frame too.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Sequences at once.", min=1)] = 1,
    report_file: ObjectReportFile = None,
) -> None:
    """J and F of predictions in the layout of a benchmark, by the rules of its authors.

    \b
    Examples:
      masklet eval score predictions DAVIS --kind davis17 --set val
      masklet eval score predictions sav_val --kind sav --json score.json
    """
    from masklet.atomic_files import write_text
    from masklet.evaluate.benchmark_scoring import BenchmarkOptions
    from masklet.evaluate.benchmark_scoring import score_predictions as score_of

    options = BenchmarkOptions(split, seen, partial, every_frame, workers, unseen_list=unseen)
    found = score_of(benchmark, predictions, truth, options)
    for line in format_score(found):
        typer.echo(line)
    if found.skipped_objects:
        print_notice(
            f"{', '.join(found.skipped_objects)}: the truth shows nothing of them on a measured frame; they do not count"  # noqa: E501
        )
    if report_file is not None:
        write_text(report_file, found.to_json())


def format_score(result: BenchmarkScore) -> list[str]:
    """A line a figure, below what they are of."""
    sequences = len({one.sequence for one in result.objects})
    head = f"{result.benchmark}: {len(result.objects)} objects in {sequences} sequences"
    return [head, *(f"{name:<12}{value:8.4f}" for name, value in result.metrics.items())]


def report(
    predictions: Annotated[Path, typer.Argument(help="Folder with a folder of PNG files for each sequence.")],
    truth: Annotated[Path, typer.Argument(help="The data set, or its folder of annotations.")],
    benchmark: Annotated[str, typer.Option(help="Whose rules: as of masklet eval score.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.md and its images.")] = Path("report"),
    images_dir: Annotated[
        Path | None, typer.Option(help="The data set, or its folder of images; default: masks are shown on gray.")
    ] = None,
    model: Annotated[str, typer.Option(help="Said in the report; default: as the predictions' record says.")] = "",
    worst_frames: Annotated[int, typer.Option(help="Frames to show, the worst first.", min=0)] = 12,
    split: Annotated[str | None, typer.Option("--set", help="davis17: a list of ImageSets, as val.")] = None,
    seen: SeenFile = None,
    unseen: UnseenFile = None,
    partial: Annotated[bool, typer.Option("--partial", help="Only the sequences that are predicted.")] = False,
) -> None:
    """A page about predictions: figures beside published ones, bars, curves, and the frames that went worst.

    The HTML is one file that needs nothing else; the images of the Markdown lie beside it.

    \b
    Example:
      masklet eval report predictions DAVIS --kind davis17 --images DAVIS --out report
    """
    from masklet.evaluate.benchmark_scoring import BenchmarkOptions, score_predictions
    from masklet.evaluate.report import ReportOptions, write_report

    found = score_predictions(benchmark, predictions, truth, BenchmarkOptions(split, seen, partial, unseen_list=unseen))
    for path in write_report(found, predictions, truth, out, ReportOptions(images_dir, model, worst_frames)):
        typer.echo(path)


def datasets(
    name: Annotated[str | None, typer.Argument(help="One of the sets; without it, all are listed.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder that should hold it.")] = None,
) -> None:
    """The data sets that figures are published on, where to get them, and what a folder lacks of one.

    Nothing is downloaded. The exit code is 2 where something is missing.

    \b
    Examples:
      masklet eval sets
      masklet eval sets davis17 --root DAVIS
    """
    from masklet.errors import InputError
    from masklet.evaluate.benchmark_datasets import BENCHMARK_DATASETS, missing_files

    if name is None:
        for known, one in BENCHMARK_DATASETS.items():
            typer.echo(f"{known:<10}{one.description}\n{'':<10}{one.url}")
        return
    if name not in BENCHMARK_DATASETS or root is None:
        missing = f"--root is missing: name the folder of {name}" if name in BENCHMARK_DATASETS else ""
        raise InputError(missing or f"no data set {name!r} is known; choose among {', '.join(BENCHMARK_DATASETS)}")
    wrong = missing_files(name, root)
    for line in wrong:
        typer.echo(line)
    said = f"get it from {BENCHMARK_DATASETS[name].url}" if wrong else "whole; measure with"
    typer.echo(f"{BENCHMARK_DATASETS[name].description}: {said}")
    for command in () if wrong else BENCHMARK_DATASETS[name].commands:
        typer.echo(f"  {command.format(root=shlex.quote(str(root)))}")
    raise typer.Exit(2 if wrong else 0)
