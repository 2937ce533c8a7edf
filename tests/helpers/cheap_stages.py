"""Stages that take as long as a test wants, and say what they did."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.video_files import Shot, make_video
from masklet.masks.ops import masks_to_boxes
from masklet.masks.rle import encode
from masklet.media import open_video
from masklet.scale.stage_base import Stage
from masklet.scale.stage_rows import ObjectMask, StageInput, StageOutput

LEAN_RAY = {
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}
"""Variables of a cluster for tests: no process starts before it is needed, which takes a second of processor time, and
none gives way to the programs beside it, which on a busy machine is for minutes.
"""


@dataclass(frozen=True)
class BrightPixels(Stage):
    """Mask what is bright, after a while; `state` gets a line for each item, and a file for each process."""

    seconds: float = 0.0
    state: str = ""
    crash_on: str = ""

    def process(self, rows: Sequence[StageInput]) -> list[StageOutput]:
        return [self._one(row) for row in rows]

    def _one(self, row: StageInput) -> StageOutput:
        if self.state:
            Path(self.state, "processes", str(os.getpid())).touch()
        time.sleep(self.seconds)
        if self.crash_on and self.crash_on in row.name:
            os._exit(9)
        if row.path.endswith(".mp4"):
            with open_video(row.path) as video:
                objects = [one for frame in video for one in bright_object(frame.rgb, frame.index)]
                size = video.size
        else:
            try:
                image = row.read_image()
            except ValueError as error:
                return StageOutput(row.name, error=str(error))
            objects, size = bright_object(image.rgb, 0), image.size
        if self.state:
            with open(Path(self.state, "items"), "a") as file:
                file.write(f"{row.name}\n")
        return StageOutput(row.name, size, tuple(objects))


def bright_object(rgb: np.ndarray, frame_idx: int) -> list[ObjectMask]:
    mask = rgb.max(axis=2) > 128
    box = tuple(masks_to_boxes(mask[None])[0].tolist())
    return [ObjectMask(encode(mask), box, 0.5, 1, frame_idx=frame_idx)] if mask.any() else []


def make_images(folder: Path, count: int) -> Path:
    """Images of 32 x 24 pixels with a bright square, each another one."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.zeros((24, 32, 3), np.uint8)
        pixels[number % 16 : number % 16 + 8, number // 16 % 24 : number // 16 % 24 + 8] = (200, number % 256, 90)
        Image.fromarray(pixels).save(folder / f"{number:05d}.png")
    return folder


def make_videos(folder: Path, count: int) -> Path:
    """Short videos of several lengths."""
    folder.mkdir(parents=True)
    for number in range(count):
        make_video(folder / f"{number:05d}.mp4", Shot(count=5 + number % 4))
    return folder
