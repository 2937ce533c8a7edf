"""Annotate batches in this process, or in several worker processes.

A worker is spawned, loads its models, and gets one batch after another through a pipe, with one more queued so that it
is never idle. The work in progress is bounded: one batch per worker, and one queued.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeAlias, cast

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.annotate.events import BatchDone, FrameDone
from masklet.annotate.inputs import InputFile
from masklet.annotate.labeler import Labeler
from masklet.errors import InputError, MaskletError, StateError

__all__ = ["run_batches"]

Batch: TypeAlias = "Sequence[InputFile]"
BATCHES_PER_WORKER = 2
"""One in progress, one queued."""
JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class _WorkerError:
    """An error in a worker, with its traceback."""

    error: BaseException
    traceback_text: str


def run_batches(batches: Iterable[Batch], options: AnnotateOptions, temp_dir: Path) -> Iterator[FrameDone | BatchDone]:
    """Annotate batches and yield their events: in the order of the batches with one worker, else in any order.

    A batch is some images, or one video; `temp_dir` is a folder for the records of videos in progress.

    Example:
        >>> for event in run_batches([list_inputs("photos")], options, Path("out")):  # doctest: +SKIP
        ...     print(len(event.done))

    Raises:
        MaskletError: if a model cannot be loaded.
        InputError: if there are several workers and the detector cannot be pickled.
        StateError: if a worker process ended unexpectedly.
    """
    if options.workers == 1:
        labeler = Labeler(options)
        for batch in batches:
            yield from labeler.annotate(batch, temp_dir)
        return
    try:
        pickle.dumps(options)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the detector {options.det_model!r:.80} cannot be sent to other processes ({error}); define it at the top "
            "of a module, or use one worker"
        ) from error
    pool = _WorkerPool(options, temp_dir)
    try:
        yield from pool.run(iter(batches))
    finally:
        pool.stop()


class _WorkerPool:
    """The worker processes, by the pipes to them."""

    def __init__(self, options: AnnotateOptions, temp_dir: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, SpawnProcess] = {}
        self._num_pending: dict[Connection, int] = {}
        for number in range(options.workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_worker_main, args=(theirs, options, temp_dir), name=f"masklet annotate {number}", daemon=True
            )
            process.start()
            theirs.close()
            self._processes[ours], self._num_pending[ours] = process, 0

    def run(self, batches: Iterator[Batch]) -> Iterator[FrameDone | BatchDone]:
        """Send batches to the workers and yield their events, until there are no more batches."""
        idle = deque(connection for _ in range(BATCHES_PER_WORKER) for connection in self._processes)
        while True:
            while idle and (batch := next(batches, None)) is not None:
                connection = idle.popleft()
                try:
                    connection.send(batch)
                except OSError as error:
                    raise self._worker_died_error(connection) from error
                self._num_pending[connection] += 1
            busy = [connection for connection, pending in self._num_pending.items() if pending]
            if not busy:
                return
            for connection in cast("list[Connection]", wait(busy)):
                try:
                    event = connection.recv()
                except (EOFError, OSError) as error:
                    raise self._worker_died_error(connection) from error
                if isinstance(event, _WorkerError):
                    if isinstance(event.error, MaskletError):
                        raise event.error
                    raise event.error from RuntimeError(f"in a worker:\n{event.traceback_text}")
                assert isinstance(event, (FrameDone, BatchDone))
                if isinstance(event, BatchDone):
                    self._num_pending[connection] -= 1
                    idle.append(connection)
                yield event

    def stop(self) -> None:
        """Terminate the processes; the next run annotates their unfinished batches again."""
        for connection, process in self._processes.items():
            process.terminate()
            connection.close()
        for process in self._processes.values():
            process.join(JOIN_TIMEOUT_S)

    def _worker_died_error(self, connection: Connection) -> StateError:
        process = self._processes[connection]
        process.join(JOIN_TIMEOUT_S)
        return StateError(
            f"{process.name} ended without an error message (exit code {process.exitcode}); most often memory ran out, "
            "or a script that calls auto_annotate with workers lacks 'if __name__ == \"__main__\":'. All annotations "
            "so far are kept: run the same again with fewer workers to resume"
        )


def _worker_main(connection: Connection, options: AnnotateOptions, temp_dir: Path) -> None:
    """Annotate the batches that come through `connection` until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process
    try:
        if "OMP_NUM_THREADS" not in os.environ:
            threads = max(1, (os.cpu_count() or 1) // options.workers)
            os.environ["OMP_NUM_THREADS"] = str(threads)
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(threads)
        labeler = Labeler(options)
        while True:
            for event in labeler.annotate(connection.recv(), temp_dir):
                connection.send(event)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except BaseException as error:
        text = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        with suppress(OSError):  # the main process is gone
            connection.send(_WorkerError(error, text))
