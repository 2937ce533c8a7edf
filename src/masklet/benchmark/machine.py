"""What figures depend on beside the model: the machine, the versions, and what is left of its memory."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = [
    "MachineInfo",
    "describe_machine",
    "git_commit",
    "peak_mb",
    "processor_name",
    "resident_mb",
    "synchronize",
    "time_call",
]


@dataclass(frozen=True)
class MachineInfo:
    """Where something was measured."""

    processor: str
    cores: int
    threads: int
    device: str
    torch: str
    python: str
    platform: str


def describe_machine(device: str = "cpu") -> MachineInfo:
    """This machine, and what computes on it.

    Example:
        >>> this_machine().processor
        'AMD EPYC'
    """
    return MachineInfo(
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        torch=torch.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
    )


def processor_name() -> str:
    """The processor as it calls itself.

    Example:
        >>> processor_name()
        'AMD EPYC'
    """
    try:
        told = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        told = []
    names = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout that keeps `folder`, with -dirty where tracked files differ; None outside of one.

    Example:
        >>> commit_of(Path(masklet.__file__).parent)
        '9d146d7b...'
    """
    # A package installed into an environment that lies within somebody's checkout is not of that checkout.
    kept = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") if kept else None


def resident_mb() -> float | None:
    """Memory that this process has now, in MB of 10^6 bytes; None where it is not known (all but Linux)."""
    return _proc_status_mb("VmRSS")


def peak_mb() -> float | None:
    """The most memory that this process ever had, in MB of 10^6 bytes; None on Windows.

    On Linux it is read from /proc: what `getrusage` gives there is handed down from the process that started this one.
    """
    found = _proc_status_mb("VmHWM")
    if found is not None or sys.platform == "win32":
        return found
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)


def synchronize(device: str) -> None:
    """Wait until what was asked of the device is done, so that a clock read now has all of it."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def time_call(function: Callable[[], object], device: str = "cpu", clock: Callable[[], float] | None = None) -> float:
    """Seconds of a call, with all that it asks of the device and nothing of what was asked before.

    `clock` tells seconds; without one it is what hangs on the wall.

    Example:
        >>> timed(lambda: predictor.set_image(rgb))
        0.039
    """
    clock = clock or time.perf_counter
    synchronize(device)
    began = clock()
    function()
    synchronize(device)
    return clock() - began


def _proc_status_mb(name: str) -> float | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1.024e-3 if found else None


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
