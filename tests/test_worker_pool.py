"""Worker processes: items as they come, states made once, errors, warnings, dead workers and early ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from masklet.errors import InputError, MaskletWarning, SourceError, StateError
from masklet.worker_pool import WorkerPool

Emit = Callable[[Any], None]


class UnpicklableError(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__("both of them")


def make_state() -> list[str]:
    return []


def no_state() -> list[str]:
    raise SourceError("no model of that name; choose another")


def work(state: list[str], task: str, emit: Emit) -> None:
    state.append(task)
    for part in range(3):
        if task == "fails" and part == 1:
            raise SourceError("fails is bad; repair it")
        if task == "raises":
            raise UnpicklableError(1, 2)
        if task == "dies" and part == 1:
            os._exit(3)
        emit((task, part, os.getpid(), len(state)))


def work_slowly(state: list[str], task: str, emit: Emit) -> None:
    for part in range(3000):
        emit(part)
        time.sleep(0.01)


def warns(state: list[str], task: str, emit: Emit) -> None:
    for part in range(2):
        warnings.warn(f"{task} is odd", MaskletWarning, stacklevel=1)
        emit(part)
    warnings.warn("of another library", UserWarning, stacklevel=1)


def dies_among_others(state: list[str], task: str, emit: Emit) -> None:
    if task == "dies":
        time.sleep(0.5)
        os._exit(3)
    work_slowly(state, task, emit)


def ignores_stop(state: list[str], task: str, emit: Emit) -> None:
    emit(os.getpid())
    time.sleep(300)


def pool(how: Any = work, workers: int = 2, **options: Any) -> WorkerPool[list[str], str, Any]:
    return WorkerPool(make_state, how, workers, name="masklet test", **options)


def test_items_keep_their_order_within_a_task_and_a_state_is_made_once() -> None:
    names = [f"task {n}" for n in range(9)]
    requested: list[str] = []

    def tasks() -> Iterator[str]:
        for name in names:
            requested.append(name)
            yield name

    with pool() as workers:
        found: dict[int, list[Any]] = {}
        for number, item in workers.run(tasks()):
            found.setdefault(number, []).append(item)
            assert len(requested) <= len(found) + 4  # tasks are taken as they are needed
    assert [[(task, part) for task, part, *_ in found[n]] for n in range(9)] == [
        [(name, part) for part in range(3)] for name in names
    ]
    by_process: dict[int, list[int]] = {}
    for number in range(9):
        _, _, process, count = found[number][0]
        by_process.setdefault(process, []).append(count)
    assert len(by_process) <= 2
    assert all(sorted(counts) == list(range(1, len(counts) + 1)) for counts in by_process.values())


def test_an_error_comes_after_the_items_before_it_and_leaves_no_process() -> None:
    before = multiprocessing.active_children()
    items: list[tuple[str, int]] = []
    with pool(workers=1) as workers, pytest.raises(SourceError, match="fails is bad"):
        items.extend((task, part) for _, (task, part, *_) in workers.run(["good", "fails", "more"]))
    assert items == [("good", 0), ("good", 1), ("good", 2), ("fails", 0)]
    assert multiprocessing.active_children() == before
    with pytest.raises(SourceError, match="no model of that name"), WorkerPool(no_state, work, 2) as workers:
        list(workers.run(["good"]))
    with pytest.raises(RuntimeError, match="UnpicklableError: both of them"), pool() as workers:
        list(workers.run(["raises"]))
    with pytest.raises(InputError, match="workers=0"):
        pool(workers=0)


def test_a_dead_worker_is_named_and_what_arrived_is_kept() -> None:
    items: list[tuple[str, int]] = []
    message = r"masklet test 0 ended unexpectedly \(exit code 3\).*__main__.*fewer workers"
    with pool(workers=1) as workers:
        with pytest.raises(StateError, match=message):
            items.extend((task, part) for _, (task, part, *_) in workers.run(["good", "dies"]))
        items += [(task, part) for _, (task, part, *_) in workers.drain()]
    assert items == [("good", 0), ("good", 1), ("good", 2), ("dies", 0)]


def test_the_dead_worker_is_named_not_those_that_its_death_ends() -> None:
    with pool(dies_among_others, workers=3) as workers:
        stream = workers.run(["slow", "dies", "slow"])
        assert next(stream) in ((0, 0), (2, 0))
        started = time.monotonic()
        with pytest.raises(StateError, match=r"test \d .*\(exit code 3\)"):
            list(stream)
    assert time.monotonic() - started < 15  # the others would go on for half a minute, and their items never pause
    assert not multiprocessing.active_children()


def test_no_more_tasks_are_pulled_than_the_consumer_keeps_up_with() -> None:
    pulled: list[int] = []

    def tasks() -> Iterator[str]:
        for number in range(12):
            pulled.append(number)
            yield f"task {number}"

    with pool() as workers:
        stream = workers.run(tasks())
        next(stream)
        time.sleep(1)  # the workers could do all tasks by now
        assert pulled == [0, 1, 2, 3]
        assert len(list(stream)) == 12 * 3 - 1


def test_warnings_of_masklet_reach_the_process_that_collects(capfd: pytest.CaptureFixture[str]) -> None:
    tasks = ["a", "b", "c"]
    with pool(warns) as workers, pytest.warns(MaskletWarning) as every:
        assert len(list(workers.run(tasks))) == 6
    assert sorted(str(one.message) for one in every) == sorted(f"{task} is odd" for task in tasks * 2)
    assert {Path(one.filename).name for one in every} == {Path(__file__).name}
    with pool(warns) as workers, warnings.catch_warnings(record=True) as once:
        warnings.simplefilter("default")  # a repeated warning is shown once, also if several workers raise it
        list(workers.run(["a"] * 3))
    assert [str(one.message) for one in once] == ["a is odd"]
    with pool(warns) as workers, pytest.raises(MaskletWarning, match="a is odd"):  # pytest makes it an error
        list(workers.run(["a"]))
    errors = capfd.readouterr().err
    assert "UserWarning: of another library" in errors
    assert "is odd" not in errors


def test_a_closed_pool_stops_its_workers_at_the_next_item() -> None:
    with pool(work_slowly) as workers:
        stream = workers.run(["a", "b", "c"])
        first = [next(stream) for _ in range(5)]
        started = time.monotonic()
        rest = list(workers.drain())
    assert time.monotonic() - started < 10
    for number in (0, 1):
        parts = [part for own, part in [*first, *rest] if own == number]
        assert parts == list(range(len(parts)))
    assert 2 not in {number for number, _ in rest}  # a task that waited does not begin
    assert not multiprocessing.active_children()


def test_a_worker_that_does_not_stop_in_time_is_terminated() -> None:
    with pool(ignores_stop, workers=1, stop_timeout_s=0.1) as workers:
        [process] = [item for _, item in [next(workers.run(["a"]))]]
        started = time.monotonic()
    assert time.monotonic() - started < 20
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_worker_pool import ignores_stop, pool
if __name__ == "__main__":
    for _, process in pool(ignores_stop, workers=1).run(["a"]):
        print(process, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, str(tmp_path / "script.py"), str(Path(__file__).parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    for _ in range(100):
        if not is_running(worker):
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def is_running(process: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
