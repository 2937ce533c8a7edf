"""Evaluate units (videos, images) one after the other, or side by side in several processes.

An evaluator is a function such as `evaluate_sequence`, with its options bound by `functools.partial`. Each process
opens one model and evaluates unit after unit. The threads of torch are divided among the processes. The first error
ends the run, as does Ctrl-C; the results that exist by then are handed over, so that a later run can resume.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import torch

from masklet.evaluate.argument_checks import validate_positive_int
from masklet.evaluate.benchmark_predictions import NO_OPTIONS, BenchmarkVideo, predict_video, write_manifest
from masklet.evaluate.tracking import VideoModel
from masklet.worker_pool import WorkerPool

__all__ = ["ResultCallback", "UnitEvaluator", "predict_parallel", "run_parallel"]

Model = TypeVar("Model")
Unit = TypeVar("Unit")
Row = TypeVar("Row")
ModelArg = TypeVar("ModelArg", contravariant=True)
UnitArg = TypeVar("UnitArg", contravariant=True)
ResultCallback: TypeAlias = Callable[[int, Sequence[Row], bool], None]
"""Takes the number of a unit, its results so far, and whether the unit is complete."""
NO_RESULTS: Mapping[int, Sequence[Any]] = MappingProxyType({})


class UnitEvaluator(Protocol[ModelArg, UnitArg]):
    """Evaluates one unit: returns a result, an iterable of results, or None; calls `on_progress` for each frame.

    Resuming inside a unit is optional: an evaluator that has a parameter `previous_results` is given the results that
    an earlier run left of an incomplete unit.
    """

    def __call__(self, model: ModelArg, unit: UnitArg, /, *, on_progress: Callable[[], None]) -> Any:
        """Evaluate the unit."""


def run_parallel(
    model_factory: Callable[[], Model],
    units: Mapping[int, Unit],
    evaluate: UnitEvaluator[Model, Unit],
    on_result: ResultCallback[Row],
    *,
    previous_results: Mapping[int, Sequence[Row]] = NO_RESULTS,
    workers: int = 1,
    on_progress: Callable[[], None] = lambda: None,
) -> None:
    """Evaluate numbered units in `workers` processes; with one worker, or one unit, in this process.

    `on_result` is called in this process as results come: units arrive in any order, incomplete ones too. After an
    error or Ctrl-C it is called for the results that were under way. `model_factory` and `evaluate` are sent to the
    processes, so they are functions or classes of a module, or a `functools.partial` of one; a script that calls this
    does so below `if __name__ == "__main__":`.

    Example:
        >>> rows = {}
        >>> def store(number, results, complete):
        ...     rows[number] = results
        >>> run_parallel(SAM, dict(enumerate(videos)), evaluate_sequence, store, workers=4)  # doctest: +SKIP

    Raises:
        InputError: if `workers` is less than 1.
        StateError: if a process dies.
        MaskletError: whatever `model_factory` or `evaluate` raises.
    """
    validate_positive_int("workers", workers)
    workers = min(workers, len(units))
    results: dict[int, tuple[Row, ...]] = dict.fromkeys(units, ())

    def handle(number: int, update: _Update | None) -> None:
        if update is None:
            on_progress()
        else:
            results[number] += update.results
            on_result(number, results[number], update.complete)

    if workers == 1:
        model = model_factory()
        for number, unit in units.items():
            _evaluate_unit(evaluate, model, (unit, previous_results.get(number, ())), partial(handle, number))
    elif workers:
        numbers = list(units)
        tasks = ((unit, tuple(previous_results.get(number, ()))) for number, unit in units.items())
        threads = max(1, torch.get_num_threads() // workers)
        work = partial(_evaluate_unit, evaluate)
        with WorkerPool(model_factory, work, workers, name="masklet evaluate", threads_per_worker=threads) as pool:
            try:
                for task_number, update in pool.run(tasks):
                    handle(numbers[task_number], update)
            except BaseException:
                for task_number, update in pool.drain():
                    if update is not None:
                        handle(numbers[task_number], update)
                raise


class _Update(NamedTuple):
    """Further results of a unit."""

    results: tuple[Any, ...]
    complete: bool


def _evaluate_unit(
    evaluate: UnitEvaluator[Model, Unit],
    model: Model,
    task: tuple[Unit, Sequence[Any]],
    emit: Callable[[_Update | None], None],
) -> None:
    """Emit each result of a generator as it comes, other results at once, and None for each step.

    `task` is a unit and the results that an earlier run left of it.
    """
    unit, previous_results = task
    resumable = "previous_results" in inspect.signature(evaluate).parameters
    resuming = {"previous_results": previous_results} if resumable else {}
    found = evaluate(model, unit, on_progress=lambda: emit(None), **resuming)
    if isinstance(found, Iterator):
        for result in found:
            emit(_Update((result,), complete=False))
        emit(_Update((), complete=True))
    elif found is None:
        emit(_Update((), complete=True))
    else:
        emit(_Update(tuple(found) if isinstance(found, Iterable) else (found,), complete=True))


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
    """Predict videos as `predict` does, in `workers` processes, each with the model that `model_factory()` opens.

    `model_factory` is sent to the processes; see `run_parallel`. A single video or worker runs in this process.

    Example:
        >>> predict_parallel(SAM, benchmark_videos("davis17", "DAVIS"), "out", workers=4)  # doctest: +SKIP
        PosixPath('out')

    Raises:
        InputError: if `workers` is less than 1 or the prompt is unknown.
        StateError: if a process dies.
        OutputError, SourceError, ModelError: as `predict`, and whatever `model_factory` raises.
    """
    validate_positive_int("workers", workers)
    folder = write_manifest(videos, out, prompt, model_name, options)
    remaining = {number: video for number, video in enumerate(videos) if not video.is_complete(folder)}
    notify = on_progress or (lambda: None)
    for _ in range(len(videos) - len(remaining)):
        notify()
    evaluate = partial(predict_video, out=folder, prompt=prompt)
    run_parallel(model_factory, remaining, evaluate, lambda number, results, complete: notify(), workers=workers)
    return folder
