"""How many threads PyTorch has: by quota, by what other programs use, and as the user chose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from masklet import cpu_threads
from masklet.benchmark.busy_machine import busy_machine
from masklet.cpu_threads import (
    LoadReading,
    ThreadChooser,
    adapt_threads,
    adaptive_threads,
    cgroup_quota,
    choose_threads,
    fix_threads,
    read_load,
    take_share,
    thread_limit,
)
from masklet.errors import InputError

STAT = """cpu  5000 100 500 9000 300 0 40 60 7 0
cpu0 1000 20 300 4000 100 0 30 50 7 0
cpu1 4000 80 200 5000 200 0 10 10 0 0
intr 1 2 3
"""


class MadeLoad:
    """Readings of two cores, a window apart, of which other programs use `others` and this one the rest."""

    def __init__(self) -> None:
        self.others = 0.0
        self.now = LoadReading(0.0, 0.0, 0.0)

    def __call__(self) -> LoadReading:
        own = 2.0 - self.others
        self.now = LoadReading(self.now.at + 0.2, self.now.busy + 0.4, self.now.own + 0.2 * own)
        return self.now


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeLoad]:
    """A process of two threads on two cores with a made load; every call within a block takes a reading."""
    made, before = MadeLoad(), torch.get_num_threads()
    chooser = ThreadChooser(default=2, most=2, cores=2, read=made)
    monkeypatch.setattr(cpu_threads, "_chooser", chooser)
    monkeypatch.setattr(cpu_threads, "_chooser_made", True)
    monkeypatch.setattr(cpu_threads, "_caller", cpu_threads.CallerThreads())
    monkeypatch.setattr(cpu_threads.time, "monotonic", lambda: float("1e9"))
    torch.set_num_threads(2)
    yield made
    torch.set_num_threads(before)


def test_processor_time_of_the_cores_of_this_process_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stat"
    path.write_text(STAT)
    both, first = read_load(frozenset({0, 1}), path), read_load(frozenset({0}), path)
    assert both is not None
    assert first is not None
    ticks = cpu_threads.TICKS_PER_S
    assert first.busy == pytest.approx((1000 + 20 + 300 + 30 + 50) / ticks)  # neither idle, nor twice the guest's
    assert both.busy == pytest.approx(first.busy + (4000 + 80 + 200 + 10 + 10) / ticks)
    assert 0 < both.own <= first.own
    assert read_load(frozenset({0}), tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {}, None),
        ("0::/a/b", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "200000 100000", "cpu.max": "max 100000"}, 0.5),
        ("4:memory:/x\n2:cpu,cpuacct:/job", {"cpu,cpuacct/job/cpu.cfs_quota_us": "300000"}, None),  # no period
        (
            "4:memory:/x\n2:cpu,cpuacct:/of/the/host",  # a container sees its group as the root
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        ("1:cpu:/\n0::/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("1:cpu:/\n0::/x", {"unified/x/cpu.max": "100000 50000"}, 2.0),
    ],
)
def test_the_smallest_quota_of_the_control_groups(
    tmp_path: Path, lines: str, files: dict[str, str], quota: float | None
) -> None:
    own = tmp_path / "cgroup"
    own.write_text(lines + "\n")
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text + "\n")
    assert cgroup_quota(tmp_path / "fs", own) == quota
    assert cgroup_quota(tmp_path / "fs", tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("now", "most", "free", "chosen"),
    [
        (2, 2, 2.0, 2),
        (2, 2, 1.7, 2),  # others use less than LOWER_AT
        (2, 2, 1.5, 1),
        (1, 2, 1.7, 1),  # it stays until they use less than RAISE_AT
        (1, 2, 1.85, 2),
        (2, 2, 0.0, 1),
        (1, 1, 8.0, 1),
        (16, 16, 11.0, 11),
        (11, 16, 14.0, 14),
        (8, 8, 12.0, 8),  # two logical cores for each thread
    ],
)
def test_threads_for_the_cores_that_others_leave(now: int, most: int, free: float, chosen: int) -> None:
    assert choose_threads(now, most, free) == chosen


def test_the_number_follows_the_load_within_one_window(load: MadeLoad) -> None:
    with adaptive_threads():
        assert torch.get_num_threads() == 2
        load.others = 1.0  # begins within the block
        adapt_threads()
        assert torch.get_num_threads() == 1
        load.others = 0.3
        adapt_threads()
        assert torch.get_num_threads() == 1
        load.others = 0.1
        adapt_threads()
        assert torch.get_num_threads() == 2
        load.others = 1.0
        adapt_threads()
    assert torch.get_num_threads() == 2  # the caller's


def test_no_reading_is_taken_before_a_window_has_passed(load: MadeLoad, monkeypatch: pytest.MonkeyPatch) -> None:
    chooser = cpu_threads._chooser
    assert chooser is not None
    monkeypatch.setattr(cpu_threads.time, "monotonic", lambda: chooser.due - 0.01)
    load.others, before = 1.0, load.now
    with adaptive_threads():
        assert torch.get_num_threads() == 2
    assert load.now is before


def test_readings_of_a_parent_or_none_change_nothing(load: MadeLoad) -> None:
    chooser = cpu_threads._chooser
    assert chooser is not None
    load.others = 1.0
    load.now = LoadReading(load.now.at, load.now.busy, -5.0)  # the child of a fork begins with little time
    chooser.update()
    assert chooser.chosen == 2
    chooser.read = lambda: None
    chooser.update()
    assert (chooser.chosen, chooser.due) == (2, float("inf"))


def test_an_error_and_a_block_within_a_block_keep_the_number_of_the_caller(load: MadeLoad) -> None:
    load.others = 1.0
    seen = []

    @adaptive_threads()
    def fail() -> None:
        with adaptive_threads():
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())
        raise ValueError("within")

    with pytest.raises(ValueError, match="within"):
        fail()
    assert seen == [1, 1]
    assert torch.get_num_threads() == 2


def test_a_number_that_the_program_set_is_kept(load: MadeLoad) -> None:
    load.others = 1.0
    with adaptive_threads():
        pass
    torch.set_num_threads(3)
    with adaptive_threads():
        adapt_threads()
        assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    load.others = 0.0
    with adaptive_threads():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 1
    assert thread_limit() == 1


def test_a_thread_that_begins_under_load_has_all_threads_afterwards(load: MadeLoad) -> None:
    """It inherits the number of the block in which it begins, which no user chose."""
    load.others, seen = 1.0, []

    def work() -> None:
        torch.get_num_threads()
        load.others = 0.0
        with adaptive_threads():
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    with adaptive_threads():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [2, 2]


def test_a_share_of_the_threads_shrinks_with_the_load(load: MadeLoad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_threads, "_chooser", ThreadChooser(default=8, most=8, cores=8, read=None))
    chooser = cpu_threads._chooser
    assert chooser is not None
    torch.set_num_threads(8)
    take_share(4, thread_limit())
    with adaptive_threads():
        assert torch.get_num_threads() == 4
        chooser.chosen = 6
        adapt_threads()
        assert torch.get_num_threads() == 3
        chooser.chosen = 1
        adapt_threads()
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
    take_share(8, 8)
    assert torch.get_num_threads() == 8


def test_a_quota_limits_the_threads_of_a_block(load: MadeLoad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_threads, "_chooser", ThreadChooser(default=2, most=1, cores=2, read=load))
    assert thread_limit() == 1
    with adaptive_threads():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_the_environment_chooses_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        assert ThreadChooser.for_process({name: "2"}) is None
    fixed = ThreadChooser.for_process({"MASKLET_THREADS": "3", "OMP_NUM_THREADS": "2"})
    assert fixed is not None
    assert (fixed.most, fixed.read) == (3, None)
    for wrong in ("two", "0", "-1", "1.5"):
        with pytest.raises(InputError, match=r"MASKLET_THREADS='.*' must be a whole number from 1 to 1024: set"):
            ThreadChooser.for_process({"MASKLET_THREADS": wrong})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 777)  # no number of cores: the program set it
    assert ThreadChooser.for_process({}) is None


def test_a_number_of_masklet_threads_holds_within_blocks_alone(load: MadeLoad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_threads, "_chooser", ThreadChooser.for_process({"MASKLET_THREADS": "1"}))
    assert thread_limit() == 1
    with adaptive_threads():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_a_fixed_number_ends_the_choice(load: MadeLoad) -> None:
    load.others = 1.0
    fix_threads(2)
    with adaptive_threads():
        assert torch.get_num_threads() == 2


BESIDE = """
import json, sys
import numpy as np, torch
from masklet import SAM, cpu_threads

rgb = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
sam = SAM()
numbers = set()
for _ in range(int(sys.argv[1])):
    rgb = rgb + np.uint8(1)  # encoded again
    sam(rgb, points=[40, 30])
    numbers.add(cpu_threads._chooser.chosen)
    if min(numbers) < torch.get_num_threads():
        break
print(json.dumps([sorted(numbers), torch.get_num_threads()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="reads /proc/stat")
def test_beside_busy_processes_a_model_has_fewer_threads() -> None:
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        pytest.skip("takes two cores")
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MASKLET_OFFLINE": "1"}
    with busy_machine(beside=cores):
        done = subprocess.run(
            [sys.executable, "-c", BESIDE, "100"], env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    numbers, after = json.loads(done.stdout)
    assert numbers[0] < after
