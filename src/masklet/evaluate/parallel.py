"""Units of work (films, pictures) answered by one model after the other, or by several processes side by side.

Each process is started afresh (spawned) and opens its own model once, when its first unit comes. The threads of torch
are shared out among them. An error of one ends the run, and so does Ctrl-C; the others stop at their next frame, and
what was answered by then is handed over, to be gone on with.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import SpawnContext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar

import torch

from masklet.errors import InputError, MaskletError, StateError
from masklet.evaluate.benchmark_predictions import NOTHING, Film, follow, record
from masklet.evaluate.semi_supervised_vos import Follows

__all__ = ["Answer", "Keep", "go_through", "predict_apart"]

Model = TypeVar("Model")
Unit = TypeVar("Unit")
Row = TypeVar("Row")
Answer: TypeAlias = Callable[[Model, Unit, Sequence[Row], Callable[[], None]], Iterable[Row]]
"""Yields the rows of a unit. It is given a model, the unit, those of its rows that an earlier run left, which it may
yield instead of measuring them again, and what it calls after every frame or picture."""
Keep: TypeAlias = Callable[[int, Sequence[Row], bool], None]
"""Takes the number of a unit, its rows so far, and whether these are all."""
NO_ROWS: Mapping[int, Sequence[Any]] = MappingProxyType({})
LOOK_S = 0.2
"""How often it is looked how far the processes are."""


def go_through(
    opener: Callable[[], Model],
    units: Mapping[int, Unit],
    answer: Answer[Model, Unit, Row],
    keep: Keep[Row],
    *,
    known: Mapping[int, Sequence[Row]] = NO_ROWS,
    workers: int = 1,
    step: Callable[[], None] = lambda: None,
) -> None:
    """Answer units, by their numbers, in `workers` processes, each with a model of its own; one alone in this one.

    `keep` is called here, with each unit as soon as it is done, in any order; after an error or Ctrl-C also with what
    there is of units that are not done. `known` are such rows of an earlier run. `step` is called as often as `answer`
    calls what it is given. `opener` and `answer` are sent to the processes: functions of a module, or a
    `functools.partial` of one; a script that calls this does so below `if __name__ == "__main__":`.

    Example:
        >>> rows = {}
        >>> go_through(SAM, dict(enumerate(films)), followed, lambda n, some, whole: rows.update({n: some}), workers=4)

    Raises:
        InputError: no workers.
        StateError: a process was ended from outside.
        MaskletError: what `opener` or `answer` raises.
    """
    _check_workers(workers)
    if not units:
        return
    if min(workers, len(units)) == 1:
        _here(opener(), units, answer, keep, known, step)
    else:
        _Apart(opener, answer, keep, step, min(workers, len(units))).run(units, known)


def _check_workers(workers: int) -> None:
    if workers < 1:
        raise InputError(f"workers={workers} is too few; 1 or more processes are needed: leave it out for one")


def _here(
    model: Model,
    units: Mapping[int, Unit],
    answer: Answer[Model, Unit, Row],
    keep: Keep[Row],
    known: Mapping[int, Sequence[Row]],
    step: Callable[[], None],
) -> None:
    for number, unit in units.items():
        rows: list[Row] = []
        for row in answer(model, unit, known.get(number, ()), step):
            rows.append(row)
            keep(number, tuple(rows), False)
        keep(number, tuple(rows), True)


@dataclass(frozen=True)
class _Part(Generic[Row]):
    """The rows of a unit, and what ended it early."""

    rows: tuple[Row, ...]
    error: BaseException | None = None


@dataclass
class _Apart(Generic[Model, Unit, Row]):
    """Processes, and what is kept of what they answer."""

    opener: Callable[[], Model]
    answer: Answer[Model, Unit, Row]
    keep: Keep[Row]
    step: Callable[[], None]
    workers: int
    context: SpawnContext = field(default_factory=lambda: multiprocessing.get_context("spawn"))

    def __post_init__(self) -> None:
        self.stop, self.steps, self.stepped = self.context.Event(), self.context.Value("Q", 0), 0
        self.asked: dict[Future[_Part[Row]], int] = {}
        """Those whose answer was not kept yet."""

    def run(self, units: Mapping[int, Unit], known: Mapping[int, Sequence[Row]]) -> None:
        worker = _Worker(self.opener, self.answer, self.stop, self.steps)
        given = worker, max(1, torch.get_num_threads() // self.workers)
        with ProcessPoolExecutor(self.workers, self.context, _begin, given) as pool:
            try:
                self.asked = {pool.submit(_one, unit, tuple(known.get(n, ()))): n for n, unit in units.items()}
                self._gather()
            except BaseException as error:  # Ctrl-C too: those at work end at their next frame, others do not begin
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                self._keep_rest()
                if isinstance(error, BrokenProcessPool):
                    raise self._broken() from error
                raise

    def _gather(self) -> None:
        while self.asked:
            done, _ = wait(self.asked, timeout=LOOK_S, return_when=FIRST_COMPLETED)
            self._show_steps()
            for future in sorted(done, key=self.asked.__getitem__):
                part = future.result()
                self._take(future, part)
                if part.error is not None:
                    raise part.error

    def _take(self, future: Future[_Part[Row]], part: _Part[Row]) -> None:
        number = self.asked.pop(future)
        if part.rows or part.error is None:
            self.keep(number, part.rows, part.error is None)

    def _keep_rest(self) -> None:
        for future in list(self.asked):
            if future.done() and not future.cancelled() and future.exception() is None:
                self._take(future, future.result())

    def _show_steps(self) -> None:
        while self.stepped < self.steps.value:
            self.stepped += 1
            self.step()

    def _broken(self) -> StateError:
        return StateError(
            f"one of {self.workers} processes was ended from outside, as where memory is out; take fewer workers: what "
            "is written is gone on with"
        )


@dataclass
class _Worker(Generic[Model, Unit, Row]):
    """What a process keeps from unit to unit."""

    opener: Callable[[], Model]
    answer: Answer[Model, Unit, Row]
    stop: Any
    """The event that ends the run."""
    steps: Any
    """The number of steps that all processes have taken."""
    model: Model | None = None

    def each(self) -> None:
        """One step more; KeyboardInterrupt when the run is over."""
        if self.stop.is_set():
            raise KeyboardInterrupt
        with self.steps.get_lock():
            self.steps.value += 1

    def part(self, unit: Unit, known: Sequence[Row]) -> _Part[Row]:
        rows: list[Row] = []
        try:
            if self.stop.is_set():
                raise KeyboardInterrupt
            if self.model is None:  # here and not when the process begins: its error comes out as it is
                self.model = self.opener()
            rows.extend(self.answer(self.model, unit, known, self.each))
        except (MaskletError, KeyboardInterrupt) as error:  # others are sent by the pool, with where they happened
            return _Part(tuple(rows), error)
        return _Part(tuple(rows))


_workers: list[_Worker[Any, Any, Any]] = []
"""In a process of the pool, its own one."""


def _begin(worker: _Worker[Any, Any, Any], threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; who started them tells them
    torch.set_num_threads(threads)
    _workers.append(worker)


def _one(unit: Any, known: Sequence[Any]) -> _Part[Any]:
    return _workers[-1].part(unit, known)


def predict_apart(
    opener: Callable[[], Follows],
    films: Sequence[Film],
    out: str | Path,
    prompt: str = "mask",
    *,
    workers: int,
    name: str = "",
    options: Mapping[str, str | int] = NOTHING,
    step: Callable[[], None] | None = None,
) -> Path:
    """As `predict`, in `workers` processes, each with a model that `opener()` opens; of one film or worker in this one.

    `opener` is sent to the processes, so it is a function or class of a module, or a `functools.partial` of one; a
    script that calls this does so below `if __name__ == "__main__":`.

    Example:
        >>> predict_apart(SAM, films_of("davis17", "DAVIS"), "predictions", workers=4)
        PosixPath('predictions')

    Raises:
        InputError: no workers, or an unknown prompt.
        OutputError, SourceError, ModelError: as of `predict`, and whatever `opener` raises.
        StateError: a process was ended from outside.
    """
    _check_workers(workers)
    folder = record(films, out, prompt, name, options)
    left = {number: film for number, film in enumerate(films) if not film.is_there(folder)}
    tell = step or (lambda: None)
    for _ in range(len(films) - len(left)):
        tell()
    go_through(opener, left, partial(_written, out=folder, prompt=prompt), lambda *_: tell(), workers=workers)
    return folder


def _written(
    model: Follows, film: Film, known: Sequence[None], each: Callable[[], None], *, out: Path, prompt: str
) -> tuple[None, ...]:
    """No rows: what it answers is in its files."""
    follow(model, film, out, prompt, each_frame=each)
    return ()
