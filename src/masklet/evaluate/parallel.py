"""Units of work (videos, images) answered by one model after the other, or by several processes side by side.

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
from masklet.evaluate.benchmark_predictions import NO_OPTIONS, BenchmarkVideo, predict_video, write_manifest
from masklet.evaluate.semi_supervised_vos import VideoModel

__all__ = ["ResultCallback", "UnitEvaluator", "predict_parallel", "run_parallel"]

Model = TypeVar("Model")
Unit = TypeVar("Unit")
Row = TypeVar("Row")
UnitEvaluator: TypeAlias = Callable[[Model, Unit, Sequence[Row], Callable[[], None]], Iterable[Row]]
"""Yields the rows of a unit. It is given a model, the unit, those of its rows that an earlier run left, which it may
yield instead of measuring them again, and what it calls after every frame or image."""
ResultCallback: TypeAlias = Callable[[int, Sequence[Row], bool], None]
"""Takes the number of a unit, its rows so far, and whether these are all."""
NO_RESULTS: Mapping[int, Sequence[Any]] = MappingProxyType({})
POLL_INTERVAL_S = 0.2
"""How often it is looked how far the processes are."""


def run_parallel(
    model_factory: Callable[[], Model],
    units: Mapping[int, Unit],
    evaluate: UnitEvaluator[Model, Unit, Row],
    on_result: ResultCallback[Row],
    *,
    previous_results: Mapping[int, Sequence[Row]] = NO_RESULTS,
    workers: int = 1,
    on_progress: Callable[[], None] = lambda: None,
) -> None:
    """Answer units, by their numbers, in `workers` processes, each with a model of its own; one alone in this one.

    `keep` is called here, with each unit as soon as it is done, in any order; after an error or Ctrl-C also with what
    there is of units that are not done. `known` are such rows of an earlier run. `step` is called as often as `answer`
    calls what it is given. `opener` and `answer` are sent to the processes: functions of a module, or a
    `functools.partial` of one; a script that calls this does so below `if __name__ == "__main__":`.

    Example:
        >>> rows = {}
        >>> go_through(SAM, dict(enumerate(videos)), followed, lambda n, some, whole: rows.update({n: some}), workers=4)

    Raises:
        InputError: no workers.
        StateError: a process was ended from outside.
        MaskletError: what `opener` or `answer` raises.
    """
    _check_workers(workers)
    if not units:
        return
    if min(workers, len(units)) == 1:
        _run_serial(model_factory(), units, evaluate, on_result, previous_results, on_progress)
    else:
        _ParallelRunner(model_factory, evaluate, on_result, on_progress, min(workers, len(units))).run(
            units, previous_results
        )


def _check_workers(workers: int) -> None:
    if workers < 1:
        raise InputError(f"workers={workers} is too few; 1 or more processes are needed: leave it out for one")


def _run_serial(
    model: Model,
    units: Mapping[int, Unit],
    evaluate: UnitEvaluator[Model, Unit, Row],
    on_result: ResultCallback[Row],
    previous_results: Mapping[int, Sequence[Row]],
    on_progress: Callable[[], None],
) -> None:
    for number, unit in units.items():
        rows: list[Row] = []
        for row in evaluate(model, unit, previous_results.get(number, ()), on_progress):
            rows.append(row)
            on_result(number, tuple(rows), False)
        on_result(number, tuple(rows), True)


@dataclass(frozen=True)
class _UnitResult(Generic[Row]):
    """The rows of a unit, and what ended it early."""

    results: tuple[Row, ...]
    error: BaseException | None = None


@dataclass
class _ParallelRunner(Generic[Model, Unit, Row]):
    """Processes, and what is kept of what they answer."""

    model_factory: Callable[[], Model]
    evaluate: UnitEvaluator[Model, Unit, Row]
    on_result: ResultCallback[Row]
    on_progress: Callable[[], None]
    workers: int
    mp_context: SpawnContext = field(default_factory=lambda: multiprocessing.get_context("spawn"))

    def __post_init__(self) -> None:
        self.stop_event, self.step_counter, self.reported_steps = (
            self.mp_context.Event(),
            self.mp_context.Value("Q", 0),
            0,
        )
        self.pending: dict[Future[_UnitResult[Row]], int] = {}
        """Those whose answer was not kept yet."""

    def run(self, units: Mapping[int, Unit], previous_results: Mapping[int, Sequence[Row]]) -> None:
        worker = _Worker(self.model_factory, self.evaluate, self.stop_event, self.step_counter)
        given = worker, max(1, torch.get_num_threads() // self.workers)
        with ProcessPoolExecutor(self.workers, self.mp_context, _init_process, given) as pool:
            try:
                self.pending = {
                    pool.submit(_run_unit_in_process, unit, tuple(previous_results.get(n, ()))): n
                    for n, unit in units.items()
                }
                self._collect()
            except BaseException as error:  # Ctrl-C too: those at work end at their next frame, others do not begin
                self.stop_event.set()
                pool.shutdown(cancel_futures=True)
                self._store_finished()
                if isinstance(error, BrokenProcessPool):
                    raise self._process_died_error() from error
                raise

    def _collect(self) -> None:
        while self.pending:
            done, _ = wait(self.pending, timeout=POLL_INTERVAL_S, return_when=FIRST_COMPLETED)
            self._report_progress()
            for future in sorted(done, key=self.pending.__getitem__):
                part = future.result()
                self._store(future, part)
                if part.error is not None:
                    raise part.error

    def _store(self, future: Future[_UnitResult[Row]], result: _UnitResult[Row]) -> None:
        number = self.pending.pop(future)
        if result.results or result.error is None:
            self.on_result(number, result.results, result.error is None)

    def _store_finished(self) -> None:
        for future in list(self.pending):
            if future.done() and not future.cancelled() and future.exception() is None:
                self._store(future, future.result())

    def _report_progress(self) -> None:
        while self.reported_steps < self.step_counter.value:
            self.reported_steps += 1
            self.on_progress()

    def _process_died_error(self) -> StateError:
        return StateError(
            f"one of {self.workers} processes was ended from outside, as where memory is out; take fewer workers: what "
            "is written is gone on with"
        )


@dataclass
class _Worker(Generic[Model, Unit, Row]):
    """What a process keeps from unit to unit."""

    model_factory: Callable[[], Model]
    evaluate: UnitEvaluator[Model, Unit, Row]
    stop_event: Any
    """The event that ends the run."""
    step_counter: Any
    """The number of steps that all processes have taken."""
    model: Model | None = None

    def count_step(self) -> None:
        """One step more; KeyboardInterrupt when the run is over."""
        if self.stop_event.is_set():
            raise KeyboardInterrupt
        with self.step_counter.get_lock():
            self.step_counter.value += 1

    def run_unit(self, unit: Unit, previous_results: Sequence[Row]) -> _UnitResult[Row]:
        rows: list[Row] = []
        try:
            if self.stop_event.is_set():
                raise KeyboardInterrupt
            if self.model is None:  # here and not when the process begins: its error comes out as it is
                self.model = self.model_factory()
            rows.extend(self.evaluate(self.model, unit, previous_results, self.count_step))
        except (MaskletError, KeyboardInterrupt) as error:  # others are sent by the pool, with where they happened
            return _UnitResult(tuple(rows), error)
        return _UnitResult(tuple(rows))


_process_workers: list[_Worker[Any, Any, Any]] = []
"""In a process of the pool, its own one."""


def _init_process(worker: _Worker[Any, Any, Any], threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; who started them tells them
    torch.set_num_threads(threads)
    _process_workers.append(worker)


def _run_unit_in_process(unit: Any, previous_results: Sequence[Any]) -> _UnitResult[Any]:
    return _process_workers[-1].run_unit(unit, previous_results)


def predict_parallel(
    model_factory: Callable[[], VideoModel],
    videos: Sequence[BenchmarkVideo],
    out: str | Path,
    prompt: str = "mask",
    *,
    workers: int,
    model_name: str = "",
    options: Mapping[str, str | int] = NO_OPTIONS,
    on_progress: Callable[[], None] | None = None,
) -> Path:
    """As `predict`, in `workers` processes, each with a model that `opener()` opens; of one video or worker in this one.

    `opener` is sent to the processes, so it is a function or class of a module, or a `functools.partial` of one; a
    script that calls this does so below `if __name__ == "__main__":`.

    Example:
        >>> predict_apart(SAM, videos_of("davis17", "DAVIS"), "predictions", workers=4)
        PosixPath('predictions')

    Raises:
        InputError: no workers, or an unknown prompt.
        OutputError, SourceError, ModelError: as of `predict`, and whatever `opener` raises.
        StateError: a process was ended from outside.
    """  # noqa: E501
    _check_workers(workers)
    folder = write_manifest(videos, out, prompt, model_name, options)
    left = {number: video for number, video in enumerate(videos) if not video.is_complete(folder)}
    tell = on_progress or (lambda: None)
    for _ in range(len(videos) - len(left)):
        tell()
    run_parallel(
        model_factory, left, partial(_predict_unit, out=folder, prompt=prompt), lambda *_: tell(), workers=workers
    )
    return folder


def _predict_unit(
    model: VideoModel,
    video: BenchmarkVideo,
    previous_results: Sequence[None],
    on_frame: Callable[[], None],
    *,
    out: Path,
    prompt: str,
) -> tuple[None, ...]:
    """No rows: what it answers is in its files."""
    predict_video(model, video, out, prompt, on_frame=on_frame)
    return ()
