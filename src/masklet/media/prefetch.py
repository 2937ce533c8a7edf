"""Read an iterator ahead on a thread: bounded, and stopped when nobody reads any more.

The thread knows the iterator and the queue, never the reader: a reader that is no longer referenced is collected, and
that stops the thread. Only the thread touches the iterator, also to close it, because a decoder must not be closed
while another thread is inside it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["JOIN_TIMEOUT_S", "OverflowPolicy", "Prefetcher"]

OverflowPolicy = Literal["drop", "wait"]
Item = TypeVar("Item")

JOIN_TIMEOUT_S = 2.0
"""How long close() waits for the thread.

A source that never answers must not block the caller; the thread is a daemon and ends as soon as the source returns.
"""


class _Queue(Generic[Item]):
    """The state that thread and reader share. The lock is re-entrant: the garbage collector may run inside it."""

    def __init__(self, capacity: int, policy: OverflowPolicy) -> None:
        self.items: deque[Item] = deque()
        self.capacity = capacity
        self.policy = policy
        self.condition = threading.Condition(threading.RLock())
        self.stopped = False
        self.ended = False
        self.error: BaseException | None = None
        self.dropped = 0

    def put(self, item: Item) -> bool:
        """Queue one item; False: the reader is gone."""
        with self.condition:
            while len(self.items) >= self.capacity and not self.stopped:
                if self.policy == "drop":
                    self.items.popleft()
                    self.dropped += 1
                else:
                    self.condition.wait()
            if not self.stopped:
                self.items.append(item)
                self.condition.notify_all()
            return not self.stopped

    def end(self, error: BaseException | None) -> None:
        with self.condition:
            self.error = error
            self.ended = True
            self.condition.notify_all()

    def get(self) -> Item:
        with self.condition:
            while not self.items and not self.ended and not self.stopped:
                self.condition.wait()
            if self.items and not self.stopped:
                self.condition.notify_all()
                return self.items.popleft()
            error, self.error = self.error, None
        raise error if error is not None and not self.stopped else StopIteration

    def stop(self) -> None:
        with self.condition:
            self.stopped = True
            self.items.clear()
            self.condition.notify_all()


class Prefetcher(Iterator[Item]):
    """An iterator that a thread reads at most `capacity` items ahead.

    `policy="wait"` blocks the thread while the queue is full; `"drop"` discards the oldest item and counts it in
    `dropped`, for sources that do not wait. An exception of the source is raised here, after the items before it.
    `close()`, the end of a `with` block and garbage collection stop the thread.

    Example:
        >>> with Prefetcher(range(3), capacity=2) as numbers:
        ...     list(numbers)
        [0, 1, 2]
    """

    def __init__(self, items: Iterable[Item], capacity: int, policy: OverflowPolicy = "wait") -> None:
        assert capacity >= 1
        queue: _Queue[Item] = _Queue(capacity, policy)
        thread = threading.Thread(target=_read_items, args=(queue, items), name="masklet read-ahead", daemon=True)
        self._queue = queue
        # Also runs when the interpreter ends, before daemon threads are frozen inside a decoder.
        self._close = weakref.finalize(self, _stop_thread, queue, thread)
        thread.start()

    @property
    def dropped(self) -> int:
        """Number of items discarded because they came too fast."""
        return self._queue.dropped

    def __next__(self) -> Item:
        return self._queue.get()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the thread and release what it has read; may be called twice."""
        self._close()


def _read_items(queue: _Queue[Item], items: Iterable[Item]) -> None:
    try:
        for item in items:
            if not queue.put(item):
                break
        if isinstance(items, Generator):
            items.close()
    except BaseException as error:  # whatever it is, the reader has to see it
        queue.end(error)
    else:
        queue.end(None)


def _stop_thread(queue: _Queue[Item], thread: threading.Thread) -> None:
    queue.stop()
    if thread is not threading.current_thread():
        thread.join(JOIN_TIMEOUT_S)
