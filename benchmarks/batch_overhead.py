"""Measure what `masklet batch` adds to a plain loop, and how its memory grows.

    python benchmarks/batch_overhead.py 100:200 20000:0

Each argument is COUNT:MILLISECONDS. A stage that sleeps stands for a model; items are files of 100 kB, rows have 20
masks of 1 kB.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from masklet.scale import ItemSource
from masklet.scale.run_batch import run_batch
from masklet.scale.stage_rows import InputColumns, OutputColumns


def measure(count: int, seconds: float) -> None:
    """Print the time of a loop, of a batch, and of the batch again when nothing is left to do."""

    def stage(batch: InputColumns) -> OutputColumns:
        time.sleep(seconds)
        return {"item": list(batch["item"]), "masks": [["x" * 1000] * 20], "error": [""]}

    with tempfile.TemporaryDirectory() as folder:
        photos, out = Path(folder) / "photos", Path(folder) / "out"
        photos.mkdir()
        for number in range(count):
            (photos / f"{number}.jpg").write_bytes(b"x" * 100_000)
        started = time.monotonic()
        for path in sorted(photos.iterdir()):
            path.read_bytes()
            stage({"item": [path.name]})
        loop = time.monotonic() - started
        times = []
        for _ in range(2):
            started = time.monotonic()
            assert sum(1 for _ in run_batch(ItemSource([photos]), stage, out)) == count
            times.append(time.monotonic() - started)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{count} items of {1000 * seconds:g} ms: loop {loop:.1f} s, batch {times[0]:.1f} s, "
        f"{times[1]:.1f} s with nothing left; {memory} MB at most",
        flush=True,
    )


def main(arguments: Sequence[str]) -> None:
    """Measure each case."""
    for argument in arguments:
        count, milliseconds = argument.split(":")
        measure(int(count), float(milliseconds) / 1000)


if __name__ == "__main__":
    main(sys.argv[1:])
