"""Describe the machine that figures depend on, and read its clock and memory."""

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

from masklet.runtime import processor_name

__all__ = [
    "MachineInfo",
    "describe_machine",
    "git_commit",
    "peak_mb",
    "resident_mb",
    "synchronize",
    "time_call",
]


@dataclass(frozen=True)
class MachineInfo:
    """The machine, the device and the versions of a measurement."""

    processor: str
    cores: int
    threads: int
    device: str
    torch: str
    python: str
    platform: str


def describe_machine(device: str = "cpu") -> MachineInfo:
    """Describe this machine and the device.

    Example:
        >>> describe_machine().processor
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


def git_commit(folder: Path) -> str | None:
    """Return the commit of the checkout that tracks `folder`, with -dirty if files were changed; None without one.

    Example:
        >>> git_commit(Path(masklet.__file__).parent)
        '9d146d7b...'
    """
    # A package installed into an environment that lies within another checkout is not part of that checkout.
    is_tracked = ["git", "ls-files", "--error-unmatch", "__init__.py"]
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        for command in (is_tracked, describe):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                return None
    except OSError:
        return None
    return done.stdout.strip()


def resident_mb(field: str = "VmRSS", pid: int | str = "self") -> float | None:
    """Return the resident memory of a process (VmHWM: its peak) in MB of 10^6 bytes; None except on Linux."""
    try:
        match = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1.024e-3 if match else None


def peak_mb() -> float | None:
    """Return the peak memory of this process in MB of 10^6 bytes; None on Windows.

    On Linux it is read from /proc, since the peak of `getrusage` is inherited from the parent process there.
    """
    peak = resident_mb("VmHWM")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)


def synchronize(device: str) -> None:
    """Wait until the device has finished its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def time_call(function: Callable[[], object], device: str = "cpu", clock: Callable[[], float] | None = None) -> float:
    """Measure the seconds of a call, including its work on the device.

    `clock` returns seconds; None: wall time.

    Example:
        >>> time_call(lambda: predictor.set_image(rgb))
        0.039
    """
    clock = clock or time.perf_counter
    synchronize(device)
    start = clock()
    function()
    synchronize(device)
    return clock() - start
