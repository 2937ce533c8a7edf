"""What commands of `masklet eval` share that measure video by video or image by image.

Lines as figures come, the same ones whatever order they come in; several processes; a file that is gone on with; and
after Ctrl-C or an error the figures of what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import typer

from masklet.cli.console import print_notice, progress_bar

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate.parallel import UnitEvaluator
    from masklet.evaluate.results_file import OptionValue, ResultsFile

__all__ = ["EvalOptions", "EvalTask", "run_eval"]

Unit = TypeVar("Unit")
Row = TypeVar("Row")


@dataclass(frozen=True)
class EvalOptions:
    """With what is measured, and where the figures go."""

    model: str | None
    image_size: int | None
    precision: str
    workers: int = 1
    results_file: Path | None = None
    resume: bool = True

    def model_factory(self) -> partial[SAM]:
        """Opens the model, here or in a process."""
        from masklet import SAM

        return partial(SAM, self.model, image_size=self.image_size, precision=self.precision)


@dataclass(frozen=True)
class EvalTask(Generic[Unit, Row]):
    """What is measured, by which protocol, and how its figures are shown and written.

    `what` says what the units are ("videos") and `names` how each is called. `steps` are how often each calls what it
    is given (None: nobody knows), and `of` are what is counted then ("frames").
    """

    protocol: str
    """Another one where it gives something else than an earlier masklet: a file is gone on with by its name."""
    unit_label: str
    units: Sequence[Unit]
    unit_names: Sequence[str]
    evaluate_unit: UnitEvaluator[Any, Unit]
    """One of `masklet.evaluate`, with its options bound by `functools.partial`."""
    row_type: type[Row]
    summarize: Callable[[Sequence[Row]], Mapping[str, Any]]
    """Of the file."""
    format_summary: Callable[[Sequence[Row]], Sequence[str]]
    """Of all rows, at the end."""
    options: Mapping[str, OptionValue] | Callable[[SAM], Mapping[str, OptionValue]]
    """What the figures hang on besides model, size and precision; the model may be asked for some."""
    step_label: str = ""
    steps_per_unit: Sequence[int] | None = None
    format_row: Callable[[Row], str] | None = None
    """Of a row, as soon as it and those before it are there."""
    header: str = ""
    """Above these."""
    prepare_model: Callable[[SAM], Any] | None = None
    """Returns what `evaluate_unit` takes as its model; None: the model itself. A function of a module."""


def run_eval(options: EvalOptions, task: EvalTask[Unit, Row]) -> None:
    """Measure what is left, and show and write it all.

    Raises:
        OutputError: the file holds something else, or cannot be written.
        MaskletError: whatever measuring raises, after the figures of what was done.
    """
    from masklet.evaluate.parallel import run_parallel

    opener = options.model_factory()
    sam = opener()  # in any case: a model that cannot be had is told before anything is begun
    run = _EvalRun(task, _open_results_file(options, task, sam))
    left = run.begin()
    try:
        with progress_bar(task.step_label or task.unit_label, run.total, enabled=True) as step:
            run.skip(step)
            run_parallel(
                partial(_prepare_model, opener if options.workers > 1 else lambda: sam, task.prepare_model),
                left,
                task.evaluate_unit,
                run.add_rows,
                previous_results=run.results_file.results_by_unit,
                workers=options.workers,
                on_progress=step,
            )
    except BaseException:  # Ctrl-C too
        run.on_interrupt()
        raise
    run.finish()


def _prepare_model(model_factory: Callable[[], SAM], prepare: Callable[[SAM], Any] | None) -> Any:
    model = model_factory()
    return model if prepare is None else prepare(model)


def _open_results_file(eval_options: EvalOptions, task: EvalTask[Unit, Row], sam: SAM) -> ResultsFile[Row]:
    from masklet.evaluate.results_file import ResultsFile, RunManifest, hash_file

    info = sam.info()
    weights = hash_file(info.path) if eval_options.results_file is not None else ""
    more = task.options(sam) if callable(task.options) else task.options
    options = {"image_size": eval_options.image_size, "precision": info.precision, "device": info.device, **more}
    made = RunManifest(task.protocol, eval_options.model or info.name, weights, options, tuple(task.unit_names))
    kept = ResultsFile(eval_options.results_file, made, task.row_type, task.summarize)
    if eval_options.resume:
        kept.load()
    return kept


@dataclass
class _EvalRun(Generic[Unit, Row]):
    """Rows that are kept, and how many of them have been shown."""

    task: EvalTask[Unit, Row]
    results_file: ResultsFile[Row]
    rows_printed: int = 0
    done_before: list[int] = field(default_factory=list)
    """Units that an earlier run has done."""

    @property
    def total(self) -> int | None:
        """Steps of all units."""
        steps = self.task.steps_per_unit
        return None if steps is None else sum(steps)

    def begin(self) -> dict[int, Unit]:
        """Say what is there of an earlier run; the units that are left."""
        self.done_before = sorted(self.results_file.done_units)
        if self.results_file.results and self.results_file.remaining_units:
            print_notice(f"going on with {self.results_file.path}: {self._done_text()}")
        elif self.results_file.results:
            print_notice(
                f"{self.results_file.path} is finished, {self._done_text()}: these are its figures; --anew measures again"  # noqa: E501
            )
        if self.task.header:
            typer.echo(self.task.header)
        self._print_rows()
        return {number: self.task.units[number] for number in self.results_file.remaining_units}

    def skip(self, step: Callable[[], None]) -> None:
        """Steps of units that are done."""
        for _ in range(
            sum((self.task.steps_per_unit or [0] * len(self.task.units))[number] for number in self.done_before)
        ):
            step()

    def add_rows(self, number: int, rows: Sequence[Row], complete: bool) -> None:
        """See `masklet.evaluate.parallel.Keep`."""
        self.results_file.add(number, rows, complete)
        self._print_rows()

    def on_interrupt(self) -> None:
        """What was done, where that is anything, and how it is gone on with."""
        if self.results_file.results:
            self.finish()
        if self.results_file.results and self.results_file.path is not None:
            print_notice(f"{self._done_text()}; the same command goes on with {self.results_file.path}")

    def finish(self) -> None:
        """Figures of all rows, shown and written."""
        for line in self.task.format_summary(self.results_file.results):
            typer.echo(line)
        self.results_file.write()

    def _done_text(self) -> str:
        return f"{len(self.results_file.done_units)} of {len(self.task.units)} {self.task.unit_label} are done"

    def _print_rows(self) -> None:
        """Lines of rows before which nothing is missing."""
        if self.task.format_row is None:
            return
        first = next(iter(self.results_file.remaining_units), len(self.task.units))
        rows = [row for number in range(first + 1) for row in self.results_file.results_by_unit.get(number, ())]
        for row in rows[self.rows_printed :]:
            print(self.task.format_row(row), flush=True)  # a bar that is drawn lets this through, and not typer.echo
        self.rows_printed = max(self.rows_printed, len(rows))
