"""A busy machine: other processes that load cores, and a quota of processor time, while something is timed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from masklet.cpu_threads import cgroup_folders
from masklet.errors import InputError, StateError

__all__ = ["busy_machine", "busy_setting", "check_busy_options"]

BUSY_LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
"""A process that loads one core until its parent ends."""
START_S = 0.5
"""Seconds that the processes have to start."""
PERIOD_US = 100_000
"""The period of a quota, in microseconds, as containers have it."""


def check_busy_options(beside: int, cpu_quota: float | None) -> None:
    """Check the options of `busy_machine`.

    Raises:
        InputError: if a number is outside of its bounds.
    """
    if not 0 <= beside <= 256:
        raise InputError(
            f"beside {beside} must be 0 to 256 processes, each of which loads one core: choose such a number"
        )
    if cpu_quota is not None and not 0.1 <= cpu_quota <= 256:
        raise InputError(f"cpu_quota {cpu_quota:g} must be 0.1 to 256 cores: choose such a number, or leave it out")


def busy_setting(setting: str, beside: int, cpu_quota: float | None) -> str:
    """Return the setting in tables, with what it was measured beside.

    Example:
        >>> busy_setting("fp32", beside=1, cpu_quota=1.5)
        'fp32, beside 1 busy process, quota of 1.5 cores'
    """
    parts = [setting]
    if beside:
        parts.append(f"beside {beside} busy process{'es' if beside > 1 else ''}")
    if cpu_quota is not None:
        parts.append(f"quota of {cpu_quota:g} core{'' if cpu_quota == 1 else 's'}")
    return ", ".join(parts)


@contextmanager
def busy_machine(
    beside: int = 0, cpu_quota: float | None = None, root: Path = Path("/sys/fs/cgroup")
) -> Iterator[None]:
    """Run a block beside `beside` busy processes, and with a quota of `cpu_quota` cores for this process.

    Example:
        >>> with busy_machine(beside=1):
        ...     time_call(lambda: predictor.set_image(rgb))

    Raises:
        InputError: if a number is outside of its bounds.
        StateError: if the system does not let this process set a quota.
    """
    check_busy_options(beside, cpu_quota)
    with ExitStack() as stack:
        for _ in range(beside):  # before the quota, which is not for them
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY_LOOP]))
            stack.callback(process.kill)
        if cpu_quota is not None:
            groups = cgroup_folders(root)
            parent, version = next(iter(groups.items()), (root, 2))
            group, own = parent / f"masklet-bench-{os.getpid()}", str(os.getpid())
            quota = str(round(cpu_quota * PERIOD_US))
            try:
                if version == 2:
                    (parent / "cgroup.subtree_control").write_text("+cpu")
                group.mkdir()
                stack.callback(group.rmdir)
                if version == 2:
                    (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
                else:
                    (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                    (group / "cpu.cfs_quota_us").write_text(quota)
                (group / "cgroup.procs").write_text(own)
                stack.callback((parent / "cgroup.procs").write_text, own)
            except OSError as error:
                raise StateError(
                    f"cpu_quota {cpu_quota:g} cannot be set here ({error.strerror}): it takes a control group, which "
                    "root may make; or run the command in a container with such a quota"
                ) from None
        if beside:
            time.sleep(START_S)
        yield
