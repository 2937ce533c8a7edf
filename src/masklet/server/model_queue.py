"""One model for all sessions: a thread that does one piece of work after the other, what is urgent first."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, TypeVar

from masklet.server.api_errors import ApiError
from masklet.server.server_metrics import ServerMetrics
from masklet.server.server_options import ServerLimits

if TYPE_CHECKING:
    from masklet.sam import SAM

__all__ = ["CLICK", "IDLE", "TRACK", "ModelQueue"]

T = TypeVar("T")
CLICK, TRACK, IDLE = 0, 1, 2
"""How urgent work is: somebody waits for a click; tracking goes one frame at a time between clicks; the rest waits."""


class ModelQueue:
    """Loads a model when it is first used, and runs all that needs it on one thread.

    Example:
        >>> queue = ModelQueue(lambda: "model", ServerLimits(), ServerMetrics())
        >>> queue.run(lambda model: len(model))
        5
        >>> queue.close()
    """

    def __init__(self, load: Callable[[], Any], limits: ServerLimits, metrics: ServerMetrics) -> None:
        self.load, self.limits, self.metrics = load, limits, metrics
        self.model: SAM | None = None
        self.on_release: list[Callable[[], None]] = []
        """Called on the thread of the model before it is released."""
        self._ready = threading.Condition()
        self._numbers = itertools.count()
        self._heap: list[tuple[int, int, Future[Any], Callable[[SAM], Any]]] = []
        self._last_used = time.monotonic()
        self._num_running = 0
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, name="masklet-model", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """How much work waits."""
        with self._ready:
            return sum(not future.cancelled() for _, _, future, _ in self._heap)

    def submit(self, work: Callable[[SAM], T], urgency: int = CLICK, *, bounded: bool = True) -> Future[T]:
        """Queue work, which is called with the model; cancel the future while it waits.

        Without `bounded` it is taken however much waits: the server cleans up.

        Raises:
            ApiError: if too much waits already, or the server stops.
        """
        future: Future[T] = Future()
        with self._ready:
            if not self._is_open:
                raise ApiError(503, "the server is stopping: start it again")
            self._heap = [one for one in self._heap if not one[2].cancelled()]
            heapq.heapify(self._heap)
            if bounded and len(self._heap) >= self.limits.max_queue:
                raise ApiError(
                    429, f"{len(self._heap)} requests wait for the model, max_queue is reached: repeat this one later"
                )
            heapq.heappush(self._heap, (urgency, next(self._numbers), future, work))
            self._ready.notify()
        return future

    def run(self, work: Callable[[SAM], T], urgency: int = CLICK) -> T:
        """Queue work and wait for its result.

        Raises:
            ApiError: if the queue is full, or the work has not begun within `max_wait_s`.
        """
        future = self.submit(work, urgency)
        try:
            return future.result(self.limits.max_wait_s)
        except FutureTimeoutError:
            if future.cancel():
                raise ApiError(
                    429, f"the model was busy for max_wait_s={self.limits.max_wait_s:g} s: repeat the request later"
                ) from None
            return future.result()
        except CancelledError:
            raise ApiError(503, "the server is stopping: start it again") from None

    def run_waiting(self) -> None:
        """Do the urgent work that waits; tracking calls this, on the thread of the model, during a long step."""
        while True:
            with self._ready:
                if not self._heap or self._heap[0][0] != CLICK:
                    return
                _, _, future, work = heapq.heappop(self._heap)
            self._do(future, work)

    def release_idle(self) -> bool:
        """Release the model if it was not used for `idle_model_s`, and return whether that is so."""
        idle = time.monotonic() - self._last_used
        if self.model is None or self._num_running or self.depth or idle < self.limits.idle_model_s:
            return False

        def release(model: SAM) -> None:
            for callback in self.on_release:
                callback()
            self.model = None

        self.submit(release, bounded=False).result()
        return True

    def close(self) -> None:
        """End the thread after the work under way; what waits is cancelled."""
        with self._ready:
            self._is_open = False
            for _, _, future, _ in self._heap:
                future.cancel()
            self._heap.clear()
            self._ready.notify_all()
        self._thread.join()
        self.model = None

    def _serve(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._heap or not self._is_open)
                if not self._heap:
                    return
                _, _, future, work = heapq.heappop(self._heap)
            self._do(future, work)
            del future, work

    def _do(self, future: Future[Any], work: Callable[[SAM], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        start = time.monotonic()
        self._num_running += 1
        try:
            if self.model is None:
                self.model = self.load()
            future.set_result(work(self.model))
        except BaseException as error:  # a fault in one piece of work must not end the thread
            future.set_exception(error)
        self._num_running -= 1
        self._last_used = time.monotonic()
        self.metrics.add("masklet_model_jobs_total")
        self.metrics.add("masklet_model_seconds_total", self._last_used - start)
