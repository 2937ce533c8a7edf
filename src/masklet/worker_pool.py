"""Run tasks in worker processes and stream their items back.

Each worker is a fresh (spawned) process. It makes its state (a model, for example) once, when its first task arrives,
and sends every item of a task as soon as it exists. The processes belong to `concurrent.futures`; items travel through
one pipe, because a future carries only a final value. Tasks are pulled lazily: each worker has one task at work and one
that waits. The next task is pulled when the items of an earlier one are consumed, so the items in memory are bounded.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from types import TracebackType
from typing import Any, Generic, NamedTuple, TextIO, TypeAlias, TypeVar

from masklet.errors import InputError, MaskletWarning, StateError

__all__ = ["WorkerPool"]

State = TypeVar("State")
Task = TypeVar("Task")
Item = TypeVar("Item")

TASKS_PER_WORKER = 2
"""Tasks that a worker has: one at work, one that waits."""
POLL_INTERVAL_S = 0.2
"""Waiting is cut into parts of this length, because Ctrl-C does not interrupt a wait on every system."""
EXIT_TIMEOUT_S = 5.0
"""How long to wait for the exit code of a process that has ended."""


class WorkerPool(Generic[State, Task, Item]):
    """Processes that work on tasks side by side and send back items as they come.

    `work(state, task, emit)` does one task and calls `emit(item)` for each item. `make_state()` makes the state of a
    worker. Both are sent to the processes: they are functions or classes of a module, or a `functools.partial` of one,
    and a script that uses a pool does so below `if __name__ == "__main__":`.

    When the pool closes early, each worker stops at its next `emit`; workers that need longer than `stop_timeout_s`
    (None: no limit) are terminated. Workers ignore Ctrl-C, which is for the process that collects, and end when that
    process ends. A `MaskletWarning` of a worker is raised in the process that collects, whose filters decide about it.

    Args:
        name: what the processes are called, followed by a number; an error names the process that died.
        threads_per_worker: threads of each worker; None divides the cores, unless OMP_NUM_THREADS is set.

    Example:
        >>> with WorkerPool(open_model, annotate, workers=4) as pool:  # doctest: +SKIP
        ...     for number, item in pool.run(tasks):
        ...         print(number, item)

    Raises:
        InputError: if `workers` is less than 1.
    """

    def __init__(
        self,
        make_state: Callable[[], State],
        work: Callable[[State, Task, Callable[[Item], None]], object],
        workers: int,
        *,
        name: str = "masklet worker",
        threads_per_worker: int | None = None,
        stop_timeout_s: float | None = None,
    ) -> None:
        if workers < 1:
            raise InputError(f"workers={workers} is too few; use 1 or more")
        if threads_per_worker is None and "OMP_NUM_THREADS" not in os.environ:
            threads_per_worker = max(1, (os.cpu_count() or 1) // workers)
        context = _NamingContext(name)
        self._reader, self._writer = context.Pipe(duplex=False)
        self._stop = context.Event()
        worker = _Worker(make_state, work, self._writer, context.Lock(), self._stop)
        self._executor = ProcessPoolExecutor(workers, context, _start_worker, (worker, threads_per_worker))
        self._workers, self._context, self._stop_timeout_s = workers, context, stop_timeout_s
        self._futures: dict[int, Future[None]] = {}
        self._death: StateError | None = None
        self._warning_registry: dict[str | tuple[str, type[Warning], int], int] = {}
        self._messages: queue.SimpleQueue[_Message | Exception] = queue.SimpleQueue()
        self._receiver = threading.Thread(target=self._receive, daemon=True)
        self._receiver.start()

    def __enter__(self) -> WorkerPool[State, Task, Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Item]]:
        """Yield (number of the task, item) as items come, until every task is done. A pool runs once.

        Items of one task keep their order; items of different tasks interleave.

        Raises:
            StateError: if a worker dies.
            MaskletWarning: if a worker warns and the filters make it an error.
            Exception: whatever `make_state` or `work` raises.
        """
        numbered = enumerate(tasks)
        self._submit(islice(numbered, TASKS_PER_WORKER * self._workers))
        look_at = time.monotonic() + POLL_INTERVAL_S
        while self._futures:
            if time.monotonic() > look_at:  # the executor does not watch the process that it started last
                look_at = time.monotonic() + POLL_INTERVAL_S
                if self._ended_processes():
                    self._messages.put(self._death_error())
            try:
                message = self._messages.get(timeout=POLL_INTERVAL_S)
            except queue.Empty:
                continue
            if isinstance(message, Exception):
                raise message
            if isinstance(message, _TaskItem):
                yield message.number, message.item
            elif isinstance(message, _WorkerWarning):
                warnings.warn_explicit(*message, registry=self._warning_registry)
            else:
                try:
                    self._futures[message.number].result()
                except BrokenProcessPool:  # another worker died just now; the error that names it is on its way
                    continue
                del self._futures[message.number]
                self._submit(islice(numbered, 1))

    def drain(self) -> Iterator[tuple[int, Item]]:
        """Close the pool and yield the items that arrived meanwhile, after an error or Ctrl-C."""
        self.close()
        while not self._messages.empty():
            message = self._messages.get()
            if isinstance(message, _TaskItem):
                yield message.number, message.item

    def close(self) -> None:
        """Stop the workers and wait until they have ended."""
        self._stop.set()

        def terminate_all() -> None:
            for process in self._context.started_processes():
                process.terminate()

        timer = threading.Timer(self._stop_timeout_s or 0, terminate_all)
        if self._stop_timeout_s is not None:
            timer.start()
        self._executor.shutdown(cancel_futures=True)
        timer.cancel()
        self._writer.close()  # nobody writes any more, so the receiver reaches the end
        self._receiver.join()
        self._reader.close()

    def _submit(self, tasks: Iterable[tuple[int, Task]]) -> None:
        for number, task in tasks:
            try:
                future = self._executor.submit(_run_task, number, pickle.dumps(task))
            except BrokenProcessPool:
                self._executor.shutdown()  # after it, every callback of a future has run
                raise self._death_error() from None
            self._futures[number] = future
            future.add_done_callback(self._report_death)

    def _receive(self) -> None:
        """Move messages from the pipe into the queue; a thread, since a killed worker may leave half a message."""
        while True:
            try:
                self._messages.put(self._reader.recv())
            except (EOFError, OSError):
                return
            except Exception as error:  # an item that cannot be unpickled
                self._messages.put(error)

    def _report_death(self, future: Future[None]) -> None:
        """Its first call precedes the end of the other processes by the executor: only the dead one has ended then."""
        if not future.cancelled() and isinstance(future.exception(), BrokenProcessPool):
            self._messages.put(self._death_error())

    def _ended_processes(self) -> list[SpawnProcess]:
        processes = self._context.started_processes()
        ended = wait([process.sentinel for process in processes], timeout=0)
        return [process for process in processes if process.sentinel in ended]

    def _death_error(self) -> StateError:
        """Return the error that names the process that ended first, the same at each call."""
        ended = self._ended_processes()  # before the test: once the executor ends other processes, the error exists
        if self._death is None:
            process = (ended or self._context.processes)[0]
            process.join(EXIT_TIMEOUT_S)
            self._death = StateError(
                f"{process.name} ended unexpectedly (exit code {process.exitcode}). When a worker ended without an "
                "error message, usually memory ran out, or a script that starts workers lacks "
                "'if __name__ == \"__main__\":'. Finished work is stored: run the same again with fewer workers to "
                "resume"
            )
        return self._death


class _NamingContext(SpawnContext):
    """A spawn context that names its processes and lists them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.processes = name, list[SpawnProcess]()

    def Process(self, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        process = SpawnProcess(name=f"{self.name} {len(self.processes)}", **kwargs)
        self.processes.append(process)
        return process

    def started_processes(self) -> list[SpawnProcess]:
        """Return the processes without one that another thread is starting at this moment."""
        return [process for process in self.processes if process.pid is not None]


class _TaskItem(NamedTuple):
    number: int
    item: Any


class _TaskEnd(NamedTuple):
    number: int


class _WorkerWarning(NamedTuple):
    text: str
    category: type[MaskletWarning]
    filename: str
    lineno: int


_Message: TypeAlias = "_TaskItem | _TaskEnd | _WorkerWarning"


@dataclass
class _Worker(Generic[State, Task, Item]):
    """What a worker process holds from task to task."""

    make_state: Callable[[], State]
    work: Callable[[State, Task, Callable[[Item], None]], object]
    writer: Connection[Any, Any]
    lock: Any
    stop: Any
    states: list[State] = field(default_factory=list)
    """The state, once it is made."""

    def emit(self, number: int, item: Item) -> None:
        """Send an item. Raises KeyboardInterrupt if the pool was closed."""
        self.send(_TaskItem(number, item))
        if self.stop.is_set():
            raise KeyboardInterrupt

    def send(self, message: _Message) -> None:
        with self.lock:
            self.writer.send(message)

    def forward_warnings(self) -> None:
        """Send the warnings of masklet; other ones are shown by this process."""
        show_warning = warnings.showwarning

        def send_warning(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, MaskletWarning):
                self.send(_WorkerWarning(str(message), category, filename, lineno))
            else:
                show_warning(message, category, filename, lineno, file, line)

        warnings.showwarning = send_warning
        warnings.simplefilter("always", MaskletWarning)  # repetitions are for the filters of the other process


_process_worker: list[_Worker[Any, Any, Any]] = []
"""The worker of this process, in a process of a pool."""


def _start_worker(worker: _Worker[Any, Any, Any], threads: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # for a torch that is imported later
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
    worker.forward_warnings()
    _process_worker.append(worker)


def _exit_with_parent() -> None:
    """End this process when its parent was killed: an executor's processes would wait for tasks forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_task(number: int, pickled_task: bytes) -> None:
    worker = _process_worker[0]
    try:
        task = pickle.loads(pickled_task)
        if worker.stop.is_set():
            raise KeyboardInterrupt
        if not worker.states:  # here rather than when the process starts: an error of it comes out as it is
            worker.states.append(worker.make_state())
        worker.work(worker.states[0], task, partial(worker.emit, number))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # it would not survive the way to the other process
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise
    finally:
        worker.send(_TaskEnd(number))
