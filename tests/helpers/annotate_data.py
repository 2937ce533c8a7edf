"""Images that are easy to label, and a detector that labels them: blobs of pure red and pure green."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from masklet.detect import Detections

NAMES = {0: "red", 1: "green"}
COLORS = {0: (255, 0, 0), 1: (0, 255, 0)}


class Blobs:
    """Finds the blobs of an image with their masks, and keeps a log of what it looked at.

    `die_at` and `stop_at` are the numbers of the image (from 1) at which the process is killed or interrupted.
    """

    names = NAMES

    def __init__(self, log: Path | None = None, *, die_at: int = 0, stop_at: int = 0) -> None:
        self.log, self.die_at, self.stop_at = log, die_at, stop_at
        self.seen = 0

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        return [self._one(rgb) for rgb in images]

    def _one(self, rgb: np.ndarray) -> Detections:
        self.seen += 1
        if self.seen == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.seen == self.stop_at:
            raise KeyboardInterrupt
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(hashlib.sha256(rgb.tobytes()).hexdigest() + "\n")
        found = [(number, mask) for number, color in COLORS.items() for mask in blobs(rgb, color)]
        masks = np.stack([mask for _, mask in found]) if found else np.zeros((0, *rgb.shape[:2]), bool)
        boxes = [box_of(mask) for _, mask in found]
        scores = [0.9 - 0.01 * row for row in range(len(found))]
        return Detections(np.array(boxes).reshape(-1, 4), scores, [number for number, _ in found], NAMES, masks)


def blobs(rgb: np.ndarray, color: tuple[int, int, int]) -> list[np.ndarray]:
    count, labels = cv2.connectedComponents((rgb == color).all(axis=2).astype(np.uint8))
    return [labels == number for number in range(1, count)]


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def make_image(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A red square and, in every second image, a green one; no two images are the same."""
    rgb = np.full((*size, 3), (20, 20, 40 + number % 200), np.uint8)
    rgb[0, 0] = (number // 200, 7, 7)
    rgb[10:30, 8 + number % 8 : 28 + number % 8] = COLORS[0]
    if number % 2:
        rgb[20:44, 44:60] = COLORS[1]
    return rgb


def make_photos(folder: Path, count: int = 6) -> Path:
    """PNGs, every third in a folder below; one is broken, one is empty of objects."""
    for number in range(count):
        place = folder / ("deep/er" if number % 3 == 2 else "") / f"p{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_image(number)).save(place)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 cut short")
    Image.fromarray(np.full((32, 40, 3), 90, np.uint8)).save(folder / "nothing.png")
    return folder


def contents(out: Path) -> dict[str, bytes]:
    """Every file below `out` but the memory of runs; of the summary, what does not depend on the clock and the run."""
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".masklet" not in path.parts
    }
    summary = json.loads(found["summary.json"])
    for name in ("seconds", "earlier", "out", "files"):
        del summary[name]
    return {**found, "summary.json": json.dumps(summary).encode()}
