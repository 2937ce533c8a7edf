"""Images that are easy to label, and a detector for them: blobs of pure red and pure green."""

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
from masklet.resume_store import ResumeStore

NAMES = {0: "red", 1: "green"}
COLORS = {0: (255, 0, 0), 1: (0, 255, 0)}


class Blobs:
    """Detect the blobs of an image with their masks, and log the images.

    `kill_at` and `interrupt_at` are the numbers of the image (from 1) at which the process is killed or interrupted.
    """

    names = NAMES

    def __init__(self, log: Path | None = None, *, kill_at: int = 0, interrupt_at: int = 0) -> None:
        self.log, self.kill_at, self.interrupt_at = log, kill_at, interrupt_at
        self.num_images = 0

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        return [self._one(rgb) for rgb in images]

    def _one(self, rgb: np.ndarray) -> Detections:
        self.num_images += 1
        if self.num_images == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.num_images == self.interrupt_at:
            raise KeyboardInterrupt
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(hashlib.sha256(rgb.tobytes()).hexdigest() + "\n")
        objects = [(class_id, mask) for class_id, color in COLORS.items() for mask in blobs(rgb, color)]
        masks = np.stack([mask for _, mask in objects]) if objects else np.zeros((0, *rgb.shape[:2]), bool)
        boxes = [box_of(mask) for _, mask in objects]
        scores = [0.9 - 0.01 * row for row in range(len(objects))]
        return Detections(np.array(boxes).reshape(-1, 4), scores, [class_id for class_id, _ in objects], NAMES, masks)


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
        path = folder / ("deep/er" if number % 3 == 2 else "") / f"p{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_image(number)).save(path)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 cut short")
    Image.fromarray(np.full((32, 40, 3), 90, np.uint8)).save(folder / "nothing.png")
    return folder


def downgrade_log(out: Path) -> tuple[Path, Path]:
    """Replace the log by that of an earlier version: a JSON document of the options, and JSON lines."""
    path = out / ".masklet" / "annotate.sqlite"
    with ResumeStore(path, busy="") as store:
        settings = store.settings
        lines = [json.dumps({"names": settings.pop("class_names")})]
        for name, entry in store.items():
            header = {"item": name, "stamp": entry["fingerprint"], "records": entry["count"], "failed": entry["failed"]}
            lines += [json.dumps(header), *store.lines(name)]
    path.unlink()
    path.with_suffix(".json").write_text(json.dumps(settings, indent=1) + "\n")
    path.with_suffix(".jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path.with_suffix(".json"), path.with_suffix(".jsonl")


def contents(out: Path) -> dict[str, bytes]:
    """Every file below `out` except the log; the summary without what depends on the clock and the run."""
    files = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".masklet" not in path.parts
    }
    summary = json.loads(files["summary.json"])
    for name in ("seconds", "done_before", "out", "files"):
        del summary[name]
    return {**files, "summary.json": json.dumps(summary).encode()}
