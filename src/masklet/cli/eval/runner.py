"""Run a protocol of `masklet eval` unit by unit (video or image): in parallel, resumable, in the order of units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import typer

from masklet.cli.console import print_notice, progress_bar
from masklet.cli.shared_options import track_options

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate.parallel import UnitEvaluator
    from masklet.evaluate.results_file import OptionValue, ResultsFile
    from masklet.evaluate.tracking import ModelWithOptions
    from masklet.video import TrackOptions

__all__ = ["EvalOptions", "EvalTask", "memory_option", "model_with_memory", "run_eval"]

Unit = TypeVar("Unit")
Row = TypeVar("Row")


@dataclass(frozen=True)
class EvalOptions:
    """The model and its settings, and where the results go."""

    model: str | None
    image_size: int | None
    precision: str
    workers: int = 1
    results_file: Path | None = None
    resume: bool = True
    memory_pooling: int = 1

    def model_factory(self) -> partial[SAM]:
        """Return what opens the model, here or in a worker process."""
        from masklet import SAM

        return partial(
            SAM,
            self.model,
            image_size=self.image_size,
            precision=self.precision,
            memory_pooling=self.memory_pooling,
        )


def memory_option(memory: str, memories: int = 6, pointers: int = 16, memory_pooling: int = 1) -> dict[str, str | int]:
    """Return what of the memory is not as usual, as options in a results file: earlier files lack them.

    Raises:
        InputError: if there is no such policy.
    """
    given = {"memory": track_options(memory).memory, "memories": memories, "pointers": pointers}
    given["memory_pooling"] = memory_pooling
    usual = {"memory": "sam2", "memories": 6, "pointers": 16, "memory_pooling": 1}
    return {name: value for name, value in given.items() if value != usual[name]}


def model_with_memory(model: SAM, options: TrackOptions) -> ModelWithOptions:
    """Return a model that tracks with options of memory; a published model as its authors evaluate it."""
    from masklet.evaluate.tracking import ModelWithOptions

    published = model.predictor.model.score_family != "builtin"
    return ModelWithOptions(model, options.as_published() if published else options)


@dataclass(frozen=True)
class EvalTask(Generic[Unit, Row]):
    """The units of a protocol, how each is evaluated, and how results are shown and written."""

    protocol: str
    """A new name if results differ from those of an earlier version: a file is resumed by it."""
    unit_label: str
    """Plural, such as "videos"."""
    units: Sequence[Unit]
    unit_names: Sequence[str]
    evaluate_unit: UnitEvaluator[Any, Unit]
    """A protocol of `masklet.evaluate`, with its options bound by `functools.partial`."""
    row_type: type[Row]
    summarize: Callable[[Sequence[Row]], Mapping[str, Any]]
    """The summary in the file."""
    format_summary: Callable[[Sequence[Row]], Sequence[str]]
    """Lines printed at the end."""
    options: Mapping[str, OptionValue] | Callable[[SAM], Mapping[str, OptionValue]]
    """What results depend on besides model, size and precision; a function if some depend on the model."""
    step_label: str = ""
    """What progress counts, if not units, such as "frames"."""
    steps_per_unit: Sequence[int] | None = None
    """Steps in each unit; None: unknown."""
    format_row: Callable[[Row], str] | None = None
    """The line of a row, printed when all rows before it are there."""
    header: str = ""
    """Printed above these."""
    prepare_model: Callable[[SAM], Any] | None = None
    """Returns what `evaluate_unit` takes as its model; None: the model itself. Sent to the workers."""


def _prepare_model(model_factory: Callable[[], SAM], prepare: Callable[[SAM], Any] | None) -> Any:
    model = model_factory()
    return model if prepare is None else prepare(model)


def run_eval(options: EvalOptions, task: EvalTask[Unit, Row]) -> None:
    """Evaluate the remaining units; print and write the results of all.

    Raises:
        OutputError: if the file holds another evaluation, or cannot be written.
        MaskletError: whatever the evaluation raises, after the results so far.
    """
    from masklet.evaluate.parallel import run_parallel
    from masklet.evaluate.results_file import ResultsFile, RunManifest, hash_file

    model_factory = options.model_factory()
    sam = model_factory()  # also with workers: a model that cannot be opened fails before anything begins
    info = sam.info()
    more = task.options(sam) if callable(task.options) else task.options
    manifest = RunManifest(
        task.protocol,
        options.model or info.name,
        hash_file(info.path) if options.results_file is not None else "",
        {"image_size": options.image_size, "precision": info.precision, "device": info.device, **more},
        tuple(task.unit_names),
    )
    results_file = ResultsFile(options.results_file, manifest, task.row_type, task.summarize)
    if options.resume:
        results_file.load()
    run = _EvalRun(task, results_file)
    remaining = run.begin()
    steps = task.steps_per_unit
    try:
        total = None if steps is None else sum(steps)
        with progress_bar(task.step_label or task.unit_label, total, enabled=True) as step:
            for _ in range(sum((steps or [0] * len(task.units))[number] for number in run.done_before)):
                step()
            run_parallel(
                partial(_prepare_model, model_factory if options.workers > 1 else lambda: sam, task.prepare_model),
                remaining,
                task.evaluate_unit,
                run.add_rows,
                previous_results=results_file.results_by_unit,
                workers=options.workers,
                on_progress=step,
            )
    except BaseException:  # Ctrl-C too
        if results_file.results:
            run.finish()
        if results_file.results and results_file.path is not None:
            print_notice(f"{run.done_text()}; the same command resumes {results_file.path}")
        raise
    run.finish()


@dataclass
class _EvalRun(Generic[Unit, Row]):
    """The rows of a run, and how many of them have been printed."""

    task: EvalTask[Unit, Row]
    results_file: ResultsFile[Row]
    rows_printed: int = 0
    done_before: list[int] = field(default_factory=list)
    """Units that an earlier run completed."""

    def begin(self) -> dict[int, Unit]:
        """Print the rows of an earlier run; returns the remaining units."""
        results = self.results_file
        self.done_before = sorted(results.done_units)
        if results.results and results.remaining_units:
            print_notice(f"resuming {results.path}: {self.done_text()}")
        elif results.results:
            print_notice(
                f"{results.path} is finished, {self.done_text()}: these are its results; --overwrite measures again"
            )
        if self.task.header:
            typer.echo(self.task.header)
        self._print_rows()
        return {number: self.task.units[number] for number in results.remaining_units}

    def add_rows(self, number: int, rows: Sequence[Row], complete: bool) -> None:
        """Store the rows of a unit; see `masklet.evaluate.parallel.ResultCallback`."""
        self.results_file.add(number, rows, complete)
        self._print_rows()

    def finish(self) -> None:
        """Print and write the summary of all rows."""
        for line in self.task.format_summary(self.results_file.results):
            typer.echo(line)
        self.results_file.write()

    def done_text(self) -> str:
        """Return the number of completed units as a sentence has it."""
        return f"{len(self.results_file.done_units)} of {len(self.task.units)} {self.task.unit_label} are done"

    def _print_rows(self) -> None:
        """Print the rows before which none is missing."""
        if self.task.format_row is None:
            return
        first = next(iter(self.results_file.remaining_units), len(self.task.units))
        rows = [row for number in range(first + 1) for row in self.results_file.results_by_unit.get(number, ())]
        for row in rows[self.rows_printed :]:
            print(self.task.format_row(row), flush=True)  # goes above a drawn bar; typer.echo does not
        self.rows_printed = max(self.rows_printed, len(rows))
