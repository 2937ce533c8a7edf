"""Measure startup: complete processes, from start to end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from masklet.atomic_files import write_image
from masklet.benchmark.model_family import SAMPLE_IMAGE_SIZE, sample_image
from masklet.benchmark.record import BenchmarkCase
from masklet.errors import StateError

__all__ = ["PROTOCOL", "measure_startup"]

PROTOCOL = (
    "Complete processes in wall time, from start to end; one warm-up round each (files are then in the disk cache), "
    "then repeats. nothing: the interpreter alone. import masklet: only the import. first mask: the command "
    "`masklet segment` with one click on a synthetic image, until it has written its file."
)


def measure_startup(
    model: str = "builtin", device: str = "cpu", repeats: int = 5, image_size: tuple[int, int] = SAMPLE_IMAGE_SIZE
) -> tuple[BenchmarkCase, ...]:
    """Time the interpreter alone, `import masklet`, and a command to its first mask.

    Example:
        >>> [(case.name, case.median) for case in measure_startup(repeats=3)]
        [('nothing', 0.02), ('import masklet', 0.05), ('first mask', 2.1)]

    Raises:
        StateError: if a process failed, for instance without the model.
    """
    with TemporaryDirectory() as folder:
        source, out = Path(folder, "image.png"), Path(folder, "out")
        write_image(source, sample_image(image_size))
        click = f"{image_size[1] // 2},{image_size[0] // 2}"
        segment = ["segment", str(source), "--point", click, "--out", str(out), "--model", model, "--device", device]
        commands = {
            "nothing": ["-c", "pass"],
            "import masklet": ["-c", "import masklet"],
            "first mask": ["-m", "masklet", *segment],
        }
        return tuple(
            BenchmarkCase(name, device, "s", tuple(_time_process(command) for _ in range(repeats + 1))[1:])
            for name, command in commands.items()
        )


def _time_process(command: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StateError(f"the timed process ended with {done.returncode}: {last}")
    return seconds
