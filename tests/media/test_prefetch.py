"""The thread reads no further than it may, passes on what goes wrong, and is gone when nobody reads."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from masklet.media import prefetch
from masklet.media.prefetch import Prefetcher


def soon(true: Callable[[], bool]) -> bool:
    """Whether something becomes true within five seconds."""
    for _ in range(500):
        if true():
            return True
        time.sleep(0.01)
    return False


def threads() -> int:
    return sum(thread.name == "masklet read-ahead" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert soon(lambda: threads() == 0)
    yield
    gc.collect()
    assert soon(lambda: threads() == 0)


class Numbers(Iterator[int]):
    """Counts how far it was read."""

    def __init__(self, end: int = 1000) -> None:
        self.taken = 0
        self.end = end

    def __next__(self) -> int:
        if self.taken == self.end:
            raise StopIteration
        self.taken += 1
        return self.taken - 1


def test_order_and_end() -> None:
    with Prefetcher(Numbers(20), capacity=3) as reader:
        assert list(reader) == list(range(20))
        assert list(reader) == []


def test_it_reads_ahead_but_no_further() -> None:
    numbers = Numbers()
    with Prefetcher(numbers, capacity=4) as reader:
        assert soon(lambda: numbers.taken == 5)  # four wait, one is in the thread's hand
        time.sleep(0.05)
        assert numbers.taken == 5
        assert next(reader) == 0
        assert soon(lambda: numbers.taken == 6)


def test_items_that_come_too_fast_are_dropped_and_counted() -> None:
    numbers = Numbers(10)
    with Prefetcher(numbers, capacity=3, policy="drop") as reader:
        assert soon(lambda: threads() == 0)
        assert list(reader) == [7, 8, 9]
        assert reader.dropped == 7


def test_errors_come_after_what_was_read() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("third")

    with Prefetcher(broken(), capacity=5) as reader:
        assert [next(reader), next(reader)] == [1, 2]
        with pytest.raises(KeyError, match="third"):
            next(reader)
        with pytest.raises(StopIteration):
            next(reader)


def test_closing_half_way_closes_the_source_on_its_thread() -> None:
    closed: list[str] = []

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    reader = Prefetcher(source(), capacity=2)
    assert next(reader) == 0
    reader.close()
    reader.close()
    assert closed == ["masklet read-ahead"]
    assert list(reader) == []


def test_an_unreferenced_reader_stops_its_thread() -> None:
    reader = Prefetcher(Numbers(), capacity=2)
    next(reader)
    assert threads() == 1
    del reader
    gc.collect()
    assert soon(lambda: threads() == 0)


def test_a_reader_in_a_reference_cycle_stops_its_thread() -> None:
    circle: list[object] = [Prefetcher(Numbers(), capacity=2)]
    circle.append(circle)
    del circle
    gc.collect()
    assert soon(lambda: threads() == 0)


def test_a_source_that_never_answers_does_not_block_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "JOIN_TIMEOUT_S", 0.05)
    answer = threading.Event()

    def silent() -> Iterator[int]:
        yield 1
        answer.wait(10)

    reader = Prefetcher(silent(), capacity=2)
    assert next(reader) == 1
    begin = time.monotonic()
    reader.close()
    assert time.monotonic() - begin < 1
    answer.set()


def test_close_wakes_a_waiting_reader() -> None:
    answer = threading.Event()
    reader: Prefetcher[int] = Prefetcher(iter(lambda: answer.wait(10) and 0, 1), capacity=2)
    threading.Timer(0.05, answer.set).start()
    threading.Timer(0.02, reader._queue.stop).start()
    assert list(reader) == []


END = """
import itertools, sys
from masklet.media.prefetch import Prefetcher
reader = Prefetcher(itertools.count(), 2)
print(next(reader))
if "raise" in sys.argv: raise KeyboardInterrupt
"""


@pytest.mark.parametrize("how", ["end", "raise"])
def test_the_interpreter_ends_with_a_reader_open(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", END, how], capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n"
    assert ("KeyboardInterrupt" in done.stderr) == (how == "raise")
    assert "Fatal" not in done.stderr
