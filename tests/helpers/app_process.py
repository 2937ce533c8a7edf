"""`masklet app` in its own process, and an image on which to point."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import masklet
from helpers.forked_python import python_process

SIZE = (320, 240)
DISC, SQUARE = (60, 50, 160, 150), (200, 120, 280, 200)
ON_DISC, ON_SQUARE = (110, 100), (240, 160)


def write_shapes(path: Path, *, shift: int = 0) -> Path:
    """Write an image of a red disc and a green square on gray noise."""
    noise = np.random.default_rng(0).integers(90, 120, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    draw.ellipse([DISC[0] + shift, DISC[1], DISC[2] + shift, DISC[3]], fill=(205, 40, 40))
    draw.rectangle(SQUARE, fill=(40, 180, 60))
    image.save(path)
    return path


def disc_mask() -> np.ndarray:
    """Return the pixels of the disc."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    return np.asarray(
        (x - (DISC[0] + DISC[2]) / 2) ** 2 + (y - (DISC[1] + DISC[3]) / 2) ** 2 < ((DISC[2] - DISC[0]) / 2) ** 2
    )


@contextmanager
def running_app(*words: object, fresh: bool = False) -> Iterator[str]:
    """Run `masklet app`, on a free port unless one is named; yields the printed address, and ends as by Ctrl-C.

    `fresh` is as a user starts it, without what `python_process` has imported.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(masklet.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    port = [] if "--port" in words else ["--port", "0"]
    command = ["-m", "masklet", "app", *map(str, words), "--no-browser", *port]
    if fresh:
        process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True, env=environment)
    else:
        process = python_process(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            found = re.search(r"http://\S+", line)
            if found is not None:
                yield found[0]
                break
        else:
            raise AssertionError(f"the app did not start: {''.join(lines)}")
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert process.returncode in (0, 130), rest
    assert "Traceback" not in rest
