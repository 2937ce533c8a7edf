"""Choose the number of threads of PyTorch on a CPU: all, or fewer while other programs use the cores or a quota is set.

A parallel operation ends when its slowest thread ends, and threads of OpenMP spin while they wait. If another program
has taken the core of one thread, the others wait for its next time slice in each of thousands of small operations:
two threads are then up to ten times slower than one.

`adaptive_threads` is the block in which the number may change, and `adapt_threads` is called within long loops; both
cost less than a microsecond, except for one reading of /proc/stat in `WINDOW_S`. After the block the caller has its
number again. Nothing changes where the number was chosen: by OMP_NUM_THREADS, MKL_NUM_THREADS, MASKLET_THREADS or
`torch.set_num_threads`, nor on systems without /proc/stat.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from masklet.errors import InputError
from masklet.tensors import HAS_TORCH, torch

__all__ = [
    "LoadReading",
    "ThreadChooser",
    "adapt_threads",
    "adaptive_threads",
    "cgroup_folders",
    "cgroup_quota",
    "choose_runtime_threads",
    "choose_threads",
    "fix_threads",
    "read_load",
    "take_share",
    "thread_limit",
]

WINDOW_S = 0.15
"""Seconds between two readings. The system counts time in steps of 10 ms, so less would be too coarse."""
LOWER_AT, RAISE_AT = 0.4, 0.2
"""Fractions of a core: a thread ends when others use more than the one, and returns when they use less than the other.

Between them the number stays, so that a load about the threshold does not change it in every window.
"""
TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
IDLE_COLUMNS = (3, 4)
"""Columns of /proc/stat that are no work: idle, and idle while a disk is read."""
GUEST_COLUMN = 8
"""From this column on, time is counted a second time."""


@dataclass(frozen=True)
class LoadReading:
    """Seconds of processor time until now."""

    at: float
    """Of the clock."""
    busy: float
    """Of all programs, on the cores that this process may use."""
    own: float
    """Of this process."""


def read_load(cpus: frozenset[int], stat: Path = Path("/proc/stat")) -> LoadReading | None:
    """Read the load of `cpus`, numbers of cores; None if the system does not say.

    Time that a hypervisor took counts as that of other programs.
    """
    try:
        lines = stat.read_bytes().splitlines()
    except OSError:
        return None
    at, own, busy = time.monotonic(), time.process_time(), 0
    for line in lines[1:]:
        name, *columns = line.split()
        if not name.startswith(b"cpu"):
            break
        if int(name[3:]) in cpus:
            ticks = [int(column) for column in columns[:GUEST_COLUMN]]
            busy += sum(ticks) - sum(ticks[i] for i in IDLE_COLUMNS)
    return LoadReading(at, busy / TICKS_PER_S, own)


def cgroup_folders(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> dict[Path, int]:
    """Return the control groups of this process that may limit its processor time, and the version of each: 1 or 2.

    The group of the process comes first, then those around it. A container sees its own group as the root.
    """
    folders: dict[Path, int] = {}
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (root / controllers, root / "cpu") if controllers else (root, root / "unified"):
            group = mount / path.lstrip("/")
            around = [folder for folder in (group, *group.parents) if folder.is_relative_to(mount)]
            folders.update((folder, 1 if controllers else 2) for folder in around if folder.is_dir())
    return folders


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return how many cores the control groups of this process allow, such as 1.5; None without a quota.

    The smallest quota on the way from the group of the process to the root of the mount counts, in either version.
    """
    quotas = []
    for folder, version in cgroup_folders(root, own).items():
        names = ["cpu.max"] if version == 2 else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue  # a group without this controller
        if quota.isdecimal() and int(period) > 0:  # otherwise "max" or -1: no quota
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def choose_threads(now: int, most: int, free: float) -> int:
    """Return how many threads to use, if there are `now`, at most `most`, and others leave `free` cores.

    Example:
        >>> choose_threads(now=2, most=2, free=1.2), choose_threads(now=1, most=2, free=1.7)
        (1, 1)
    """
    keep = max(1, min(most, math.floor(free + LOWER_AT)))
    reach = max(1, min(most, math.floor(free + RAISE_AT)))
    return keep if keep < now else max(now, reach)


class ThreadChooser:
    """The number of threads for this process, by the load of the last window; `read` returns a reading.

    Example:
        >>> chooser = ThreadChooser(default=2, most=2, cores=2, read=lambda: read_load(frozenset({0, 1})))
        >>> chooser.update()
        >>> chooser.chosen
        2
    """

    def __init__(self, default: int, most: int, cores: int, read: Callable[[], LoadReading | None] | None) -> None:
        self.default, self.most, self.cores, self.read = default, most, cores, read
        self.chosen = most
        self.used = {default}
        """All numbers that a thread of Python may have inherited from another one."""
        self.due = math.inf
        """When the next reading is worth taking."""
        self._lock = threading.Lock()
        self._last = read() if read is not None else None
        if self._last is not None:
            self.due = self._last.at + WINDOW_S

    @classmethod
    def for_process(cls, environment: Mapping[str, str]) -> ThreadChooser | None:
        """Return the chooser of this process; None if `environment` or the program has chosen the number.

        Raises:
            InputError: if MASKLET_THREADS is no whole number from 1.
        """
        fixed, default = environment.get("MASKLET_THREADS", ""), torch.get_num_threads()
        if fixed:
            if not fixed.isdecimal() or not 1 <= int(fixed) <= 1024:
                raise InputError(
                    f"MASKLET_THREADS={fixed!r:.40} must be a whole number from 1 to 1024: set such a number, "
                    "or unset it to let masklet choose"
                )
            return cls(default, int(fixed), int(fixed), None)
        cpus = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset[int]()
        topology = Path("/sys/devices/system/cpu")
        try:  # PyTorch's own choice is the number of physical cores, or of all
            siblings = {(topology / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in cpus}
        except OSError:
            siblings = set()
        if {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & environment.keys() or default not in (len(cpus), len(siblings)):
            return None
        quota = cgroup_quota()
        most = default if quota is None else max(1, min(default, math.floor(quota + 0.5)))
        return cls(default, most, len(cpus), lambda: read_load(cpus))

    def update(self) -> None:
        """Take a reading and choose by what others used since the last one; another thread may be doing it."""
        if self.read is None or not self._lock.acquire(blocking=False):
            return
        try:
            last, now = self._last, self.read()
            if now is None or last is None:
                self.due = math.inf
                return
            self._last, self.due = now, now.at + WINDOW_S
            if now.at > last.at and now.own >= last.own:  # it is less after a fork
                others = (now.busy - last.busy - (now.own - last.own)) / (now.at - last.at)
                self.chosen = choose_threads(self.chosen, self.most, self.cores - max(0.0, others))
                self.used.add(self.chosen)
        finally:
            self._lock.release()


class CallerThreads(threading.local):
    """What a thread of Python has: its share of the threads, and the number that is set in its block."""

    share: int | None = None
    """The number without load, where it is not the process's; None: the process's."""
    known = False
    """Whether this thread was in a block before, so that a number that is not ours is the user's."""
    applied = 0
    """The number that is set in the block; 0: there is none."""


_caller = CallerThreads()
_chooser: ThreadChooser | None = None
_chooser_made = False


def _get_chooser() -> ThreadChooser | None:
    """Return the chooser of this process, made at the first call."""
    global _chooser, _chooser_made
    if not _chooser_made:
        _chooser, _chooser_made = ThreadChooser.for_process(os.environ) if HAS_TORCH else None, True
    return _chooser


@contextmanager
def adaptive_threads() -> Iterator[None]:
    """Run a block, or a decorated function, with the number of threads that suits the load, and restore it then.

    Example:
        >>> with adaptive_threads():
        ...     for layer in layers:
        ...         adapt_threads()
        ...         x = layer(x)

    Raises:
        InputError: if MASKLET_THREADS is no whole number from 1.
    """
    chooser, caller = _get_chooser(), _caller
    if chooser is None or caller.applied:
        adapt_threads()
        yield
        return
    found = torch.get_num_threads()
    inherited = not caller.known and caller.share is None and found in chooser.used
    caller.known = True
    if found != (caller.share or chooser.default) and not inherited:  # chosen by the program
        yield
        return
    caller.applied = found
    try:
        adapt_threads()
        yield
    finally:
        usual = caller.share or chooser.default
        if torch.get_num_threads() == caller.applied != usual:
            torch.set_num_threads(usual)
        caller.applied = 0


def adapt_threads() -> None:
    """Change the number of threads if the load has changed; outside of `adaptive_threads` do nothing."""
    applied, chooser = _caller.applied, _chooser
    if not applied or chooser is None:
        return
    if time.monotonic() >= chooser.due:
        chooser.update()
    share = _caller.share
    number = chooser.chosen if share is None else max(1, share * chooser.chosen // chooser.most)
    if number != applied:
        torch.set_num_threads(number)
        _caller.applied = number


def thread_limit() -> int:
    """Return how many threads a block has at most, whatever the load is: as set, by PyTorch or by a quota."""
    found, chooser = torch.get_num_threads(), _get_chooser()
    if chooser is None or found != chooser.default:
        return found
    return chooser.most


def choose_runtime_threads() -> int:
    """Return how many threads another runtime than PyTorch takes: MASKLET_THREADS, else the cores within the quota.

    Raises:
        InputError: if MASKLET_THREADS is no whole number from 1.
    """
    if HAS_TORCH:
        return thread_limit()
    chooser = ThreadChooser.for_process(os.environ)
    return torch.get_num_threads() if chooser is None else chooser.most


def take_share(number: int, limit: int) -> None:
    """Give this thread of Python `number` of the `limit` threads of `thread_limit`, and fewer in blocks under load.

    `limit` of `limit` gives it all again.
    """
    torch.get_num_threads()  # the first use in a thread takes the number that any thread set last
    chooser = _get_chooser()
    adapts = chooser is not None and limit == chooser.most
    if adapts and chooser is not None:
        _caller.share = number if number < limit else None
    torch.set_num_threads(chooser.default if adapts and chooser is not None and number == limit else number)


def fix_threads(number: int) -> None:
    """Use `number` threads in this process from now on, whatever the load is."""
    global _chooser, _chooser_made
    _chooser, _chooser_made = None, True
    torch.set_num_threads(number)
