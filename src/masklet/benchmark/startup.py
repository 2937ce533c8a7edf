"""How long it takes until something is there: whole processes, from being started to their end."""

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
    "Whole processes by the clock, from being started to their end; of each one round that is not counted (files are "
    "then in the cache), then repeats. nothing: the interpreter alone. import masklet: and no more. first mask: the "
    "command `masklet segment` with one click on a made image, to the file that it writes. Spread: from the first "
    "to the third quarter."
)


def measure_startup(
    model: str = "builtin", device: str = "cpu", repeats: int = 5, image_size: tuple[int, int] = SAMPLE_IMAGE_SIZE
) -> tuple[BenchmarkCase, ...]:
    """Seconds of the interpreter alone, of `import masklet`, and of a command to its first mask.

    Example:
        >>> [(case.name, case.median) for case in measure_startup(repeats=3)]
        [('nothing', 0.02), ('import masklet', 0.05), ('first mask', 2.1)]

    Raises:
        StateError: a process failed, such as for want of the model.
    """
    with TemporaryDirectory() as folder:
        source, out = Path(folder, "made.png"), Path(folder, "out")
        write_image(source, sample_image(image_size))
        click = f"{image_size[1] // 2},{image_size[0] // 2}"
        segment = ["segment", str(source), "--point", click, "--out", str(out), "--model", model, "--device", device]
        commands = {
            "nothing": ["-c", "pass"],
            "import masklet": ["-c", "import masklet"],
            "first mask": ["-m", "masklet", *segment],
        }
        return tuple(
            BenchmarkCase(name, device, "s", _time_samples(words, repeats)) for name, words in commands.items()
        )


def _time_samples(command: list[str], repeats: int) -> tuple[float, ...]:
    return tuple(_time_process(command) for _ in range(repeats + 1))[1:]


def _time_process(command: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise StateError(f"a process that was to be timed ended with {done.returncode}: {last}")
    return seconds
