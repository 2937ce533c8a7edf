"""Batches of images, worked at here or by several processes side by side.

A process is started afresh (spawned), opens its own models, and is handed one batch after another through a pipe, with
one more waiting so that it is never idle. What is under way is bounded: one batch a process, and one that waits.
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
"""Batches that a worker has: one at work, one that waits."""
JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class _WorkerError:
    """An error in a worker, and where it happened."""

    error: BaseException
    traceback_text: str


def run_batches(batches: Iterable[Batch], options: AnnotateOptions, temp_dir: Path) -> Iterator[FrameDone | BatchDone]:
    """What came of each batch, as soon as it is done: in the order of the batches with one worker, else in any.

    A batch is some images, or one video; `scratch` is a folder for what videos need on the way.

    Example:
        >>> for step in worked([list_items("photos")], AnnotateOptions("everything"), Path("out")):
        ...     print(len(step.done))

    Raises:
        MaskletError: a model that cannot be had, and the like.
        InputError: several workers, and a detector that cannot be sent to them.
        StateError: a worker died.
    """
    if options.workers == 1:
        finder = Labeler(options)
        for batch in batches:
            yield from finder.annotate(batch, temp_dir)
        return
    _check_picklable(options)
    pool = _WorkerPool(options, temp_dir)
    try:
        yield from pool.run(iter(batches))
    finally:
        pool.stop()


class _WorkerPool:
    """Processes and the pipes to them."""

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
        """Hand out batches and collect what comes of them, until there are no more."""
        idle = deque(connection for _ in range(BATCHES_PER_WORKER) for connection in self._processes)
        while True:
            while idle and (batch := next(batches, None)) is not None:
                self._send(idle.popleft(), batch)
            busy = [connection for connection, given in self._num_pending.items() if given]
            if not busy:
                return
            for connection in cast("list[Connection]", wait(busy)):
                step = self._receive(connection)
                if isinstance(step, BatchDone):
                    self._num_pending[connection] -= 1
                    idle.append(connection)
                yield step

    def stop(self) -> None:
        """End the processes, at once; what they were at is done again by the next run."""
        for connection, process in self._processes.items():
            process.terminate()
            connection.close()
        for process in self._processes.values():
            process.join(JOIN_TIMEOUT_S)

    def _send(self, connection: Connection, batch: Batch) -> None:
        try:
            connection.send(batch)
        except OSError as error:
            raise self._worker_died_error(connection) from error
        self._num_pending[connection] += 1

    def _receive(self, connection: Connection) -> FrameDone | BatchDone:
        try:
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise self._worker_died_error(connection) from error
        if isinstance(answer, _WorkerError):
            if isinstance(answer.error, MaskletError):
                raise answer.error
            raise answer.error from RuntimeError(f"in a worker:\n{answer.traceback_text}")
        assert isinstance(answer, (FrameDone, BatchDone))
        return answer

    def _worker_died_error(self, connection: Connection) -> StateError:
        process = self._processes[connection]
        process.join(JOIN_TIMEOUT_S)
        return StateError(
            f"{process.name} ended without a word (exit code {process.exitcode}); most often memory ran out, or a "
            "script that calls auto_annotate with workers lacks 'if __name__ == \"__main__\":'. What was found is "
            "kept: run the same again with fewer workers, it goes on from there"
        )


def _worker_main(connection: Connection, options: AnnotateOptions, temp_dir: Path) -> None:
    """What a worker does until nobody hands it anything any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that collects
    try:
        _limit_threads(options.workers)
        finder = Labeler(options)
        while True:
            for step in finder.annotate(connection.recv(), temp_dir):
                connection.send(step)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except BaseException as error:
        with suppress(OSError):  # nobody is there to be told
            connection.send(_WorkerError(_picklable_error(error), traceback.format_exc()))


def _limit_threads(workers: int) -> None:
    """The cores are shared out, unless somebody has said how; torch is not imported for it."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    share = max(1, (os.cpu_count() or 1) // workers)
    os.environ["OMP_NUM_THREADS"] = str(share)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(share)


def _picklable_error(error: BaseException) -> BaseException:
    """The error itself, or its words where it does not survive the way to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _check_picklable(options: AnnotateOptions) -> None:
    try:
        pickle.dumps(options)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the detector {options.det_model!r:.80} cannot be sent to other processes ({error}); define it at the top "
            "of a module, or leave workers at 1"
        ) from error
