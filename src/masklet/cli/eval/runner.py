"""What commands of `masklet eval` share that measure film by film or picture by picture.

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

from masklet.cli.console import counting, note

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate.parallel import Answer
    from masklet.evaluate.results_file import Kept, Option

__all__ = ["Asked", "Measurement", "measure"]

Unit = TypeVar("Unit")
Row = TypeVar("Row")


@dataclass(frozen=True)
class Asked:
    """With what is measured, and where the figures go."""

    model: str | None
    image_size: int | None
    precision: str
    workers: int = 1
    file: Path | None = None
    resume: bool = True

    def opener(self) -> partial[SAM]:
        """Opens the model, here or in a process."""
        from masklet import SAM

        return partial(SAM, self.model, image_size=self.image_size, precision=self.precision)


@dataclass(frozen=True)
class Measurement(Generic[Unit, Row]):
    """What is measured, by which protocol, and how its figures are shown and written.

    `what` says what the units are ("films") and `names` how each is called. `steps` are how often each calls what it
    is given (None: nobody knows), and `of` are what is counted then ("frames").
    """

    protocol: str
    """Another one where it gives something else than an earlier masklet: a file is gone on with by its name."""
    what: str
    units: Sequence[Unit]
    names: Sequence[str]
    answer: Answer[SAM, Unit, Row]
    row: type[Row]
    figures: Callable[[Sequence[Row]], Mapping[str, Any]]
    """Of the file."""
    lines: Callable[[Sequence[Row]], Sequence[str]]
    """Of all rows, at the end."""
    options: Mapping[str, Option] | Callable[[SAM], Mapping[str, Option]]
    """What the figures hang on besides model, size and precision; the model may be asked for some."""
    of: str = ""
    steps: Sequence[int] | None = None
    line: Callable[[Row], str] | None = None
    """Of a row, as soon as it and those before it are there."""
    heading: str = ""
    """Above these."""


def measure(asked: Asked, work: Measurement[Unit, Row]) -> None:
    """Measure what is left, and show and write it all.

    Raises:
        OutputError: the file holds something else, or cannot be written.
        MaskletError: whatever measuring raises, after the figures of what was done.
    """
    from masklet.evaluate.parallel import go_through

    opener = asked.opener()
    sam = opener()  # in any case: a model that cannot be had is told before anything is begun
    run = _Run(work, _kept(asked, work, sam))
    left = run.begin()
    try:
        with counting(work.of or work.what, run.total, wanted=True) as step:
            run.skip(step)
            go_through(
                opener if asked.workers > 1 else lambda: sam,
                left,
                work.answer,
                run.keep,
                known=run.kept.by_unit,
                workers=asked.workers,
                step=step,
            )
    except BaseException:  # Ctrl-C too
        run.stopped()
        raise
    run.end()


def _kept(asked: Asked, work: Measurement[Unit, Row], sam: SAM) -> Kept[Row]:
    from masklet.evaluate.results_file import Kept, Made, hash_of

    info = sam.info()
    weights = hash_of(info.path) if asked.file is not None else ""
    more = work.options(sam) if callable(work.options) else work.options
    options = {"image_size": asked.image_size, "precision": info.precision, "device": info.device, **more}
    made = Made(work.protocol, asked.model or info.name, weights, options, tuple(work.names))
    kept = Kept(asked.file, made, work.row, work.figures)
    if asked.resume:
        kept.read()
    return kept


@dataclass
class _Run(Generic[Unit, Row]):
    """Rows that are kept, and how many of them have been shown."""

    work: Measurement[Unit, Row]
    kept: Kept[Row]
    shown: int = 0
    earlier: list[int] = field(default_factory=list)
    """Units that an earlier run has done."""

    @property
    def total(self) -> int | None:
        """Steps of all units."""
        steps = self.work.steps
        return None if steps is None else sum(steps)

    def begin(self) -> dict[int, Unit]:
        """Say what is there of an earlier run; the units that are left."""
        self.earlier = sorted(self.kept.done)
        if self.kept.rows and self.kept.left:
            note(f"going on with {self.kept.file}: {self._share()}")
        elif self.kept.rows:
            note(f"{self.kept.file} is finished, {self._share()}: these are its figures; --anew measures again")
        if self.work.heading:
            typer.echo(self.work.heading)
        self._show()
        return {number: self.work.units[number] for number in self.kept.left}

    def skip(self, step: Callable[[], None]) -> None:
        """Steps of units that are done."""
        for _ in range(sum((self.work.steps or [0] * len(self.work.units))[number] for number in self.earlier)):
            step()

    def keep(self, number: int, rows: Sequence[Row], whole: bool) -> None:
        """See `masklet.evaluate.parallel.Keep`."""
        self.kept.keep(number, rows, whole)
        self._show()

    def stopped(self) -> None:
        """What was done, where that is anything, and how it is gone on with."""
        if self.kept.rows:
            self.end()
        if self.kept.rows and self.kept.file is not None:
            note(f"{self._share()}; the same command goes on with {self.kept.file}")

    def end(self) -> None:
        """Figures of all rows, shown and written."""
        for line in self.work.lines(self.kept.rows):
            typer.echo(line)
        self.kept.write()

    def _share(self) -> str:
        return f"{len(self.kept.done)} of {len(self.work.units)} {self.work.what} are done"

    def _show(self) -> None:
        """Lines of rows before which nothing is missing."""
        if self.work.line is None:
            return
        first = next(iter(self.kept.left), len(self.work.units))
        rows = [row for number in range(first + 1) for row in self.kept.by_unit.get(number, ())]
        for row in rows[self.shown :]:
            print(self.work.line(row), flush=True)  # a bar that is drawn lets this through, and not typer.echo
        self.shown = max(self.shown, len(rows))
