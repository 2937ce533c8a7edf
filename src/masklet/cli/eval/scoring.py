"""`masklet eval score`, `report` and `datasets`: score stored predictions, and check the data sets of benchmarks."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, print_notice
from masklet.cli.shared_options import ObjectReportFile

if TYPE_CHECKING:
    from masklet.evaluate.benchmark_scoring import BenchmarkScore

__all__ = ["SeenFile", "UnseenFile", "datasets", "format_score", "report", "score"]

SeenFile = Annotated[
    Path | None, typer.Option("--seen", help="ytvos: categories of training; its meta.json, or a text file.")
]
UnseenFile = Annotated[
    Path | None,
    typer.Option("--unseen", help="lvos: text file of unseen videos; default: unseen_videos.txt next to the truth."),
]
_Predictions = Annotated[Path, typer.Argument(help="Folder with a folder of PNG files for each sequence.")]
_Truth = Annotated[Path, typer.Argument(help="The data set, or its folder of annotations.")]
_Benchmark = Annotated[str, typer.Option(help="Scoring rules: davis17, davis16, sav, ytvos, mose or lvos.")]
_ListSplit = Annotated[str | None, typer.Option("--split", help="davis17: a list of ImageSets, such as val.")]
_Partial = Annotated[bool, typer.Option("--partial", help="Only the sequences that are predicted.")]


def score(
    predictions: _Predictions,
    truth: _Truth,
    benchmark: _Benchmark,
    split: _ListSplit = None,
    seen: SeenFile = None,
    unseen: UnseenFile = None,
    partial: _Partial = False,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="sav: measure the first and the last frame too.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Parallel processes.", min=1)] = 1,
    report_file: ObjectReportFile = None,
) -> None:
    """Score predictions in the format of a benchmark, J and F by the rules of its authors.

    \b
    Examples:
      masklet eval score predictions DAVIS --benchmark davis17 --split val
      masklet eval score predictions sav_val --benchmark sav --report score.json
    """
    from masklet.atomic_files import write_text
    from masklet.evaluate.benchmark_scoring import BenchmarkOptions, score_predictions

    options = BenchmarkOptions(split, seen, partial, every_frame, workers, unseen_list=unseen)
    result = score_predictions(benchmark, predictions, truth, options)
    for line in format_score(result):
        typer.echo(line)
    if result.skipped_objects:
        print_notice(f"{', '.join(result.skipped_objects)}: not in the truth of any measured frame; they do not count")
    if report_file is not None:
        write_text(report_file, result.to_json())


def format_score(result: BenchmarkScore) -> list[str]:
    """Return a line per metric, below a headline."""
    sequences = len({row.sequence for row in result.objects})
    head = f"{result.benchmark}: {len(result.objects)} objects in {sequences} sequences"
    return [head, *(f"{name:<12}{value:8.4f}" for name, value in result.metrics.items())]


def report(
    predictions: _Predictions,
    truth: _Truth,
    benchmark: _Benchmark,
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.md and its images.")] = Path("report"),
    images_dir: Annotated[
        Path | None,
        typer.Option("--images", help="The data set, or its folder of images; default: masks are shown on gray."),
    ] = None,
    model: Annotated[str, typer.Option(help="Name in the report; default: as stored with the predictions.")] = "",
    worst_frames: Annotated[int, typer.Option("--worst", help="Frames to show, the worst first.", min=0)] = 12,
    split: _ListSplit = None,
    seen: SeenFile = None,
    unseen: UnseenFile = None,
    partial: _Partial = False,
) -> None:
    """Write a page about predictions: results compared with published ones, bars, curves, and the worst frames.

    The HTML is one file that needs nothing else; the images of the Markdown are written next to it.

    \b
    Example:
      masklet eval report predictions DAVIS --benchmark davis17 --images DAVIS --out report
    """
    from masklet.evaluate.benchmark_scoring import BenchmarkOptions, score_predictions
    from masklet.evaluate.report import ReportOptions, write_report

    options = BenchmarkOptions(split, seen, partial, unseen_list=unseen)
    result = score_predictions(benchmark, predictions, truth, options)
    for path in write_report(result, predictions, truth, out, ReportOptions(images_dir, model, worst_frames)):
        typer.echo(path)


def datasets(
    name: Annotated[str | None, typer.Argument(help="One of the data sets; default: list all.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder that should hold it.")] = None,
) -> None:
    """List the data sets of published benchmarks and where to get them, or check that a folder holds one completely.

    Nothing is downloaded. The exit code is 2 if something is missing.

    \b
    Examples:
      masklet eval datasets
      masklet eval datasets davis17 --root DAVIS
    """
    from masklet.errors import InputError
    from masklet.evaluate.benchmark_datasets import BENCHMARK_DATASETS, missing_files

    if name is None:
        for known, dataset in BENCHMARK_DATASETS.items():
            typer.echo(f"{known:<10}{dataset.description}\n{'':<10}{dataset.url}")
        return
    if name not in BENCHMARK_DATASETS:
        raise InputError(f"no data set {name!r} is known; choose among {', '.join(BENCHMARK_DATASETS)}")
    if root is None:
        raise InputError(f"--root is missing: name the folder of {name}")
    dataset, missing = BENCHMARK_DATASETS[name], missing_files(name, root)
    for line in missing:
        typer.echo(line)
    verdict = f"get it from {dataset.url}" if missing else "complete; measure with"
    typer.echo(f"{dataset.description}: {verdict}")
    if missing:
        raise typer.Exit(ExitCode.ERROR)
    for command in dataset.commands:
        typer.echo(f"  {command.format(root=shlex.quote(str(root)))}")
