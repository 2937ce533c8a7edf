"""Images with objects of every difficulty, made for the tests of dataset writers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from helpers.dataset_files import BOX, HEIGHT, RING, WIDTH, write_image
from masklet.datasets import LabeledImage, LabeledObject

NAMES = {0: "dog", 1: "a leash", 2: 'tr"ee: <ö>'}
PARTS = np.zeros((HEIGHT, WIDTH), bool)
PARTS[2:8, 2:9] = PARTS[30:39, 5:20] = PARTS[10, 55] = True
DISC = np.hypot(*np.mgrid[-20:20, -20:40]) < 13.3
OVER = np.roll(DISC, 8, axis=1)
NOTHING = np.zeros((HEIGHT, WIDTH), bool)
FLAT = (BOX, RING)
"""Objects that do not overlap."""


def blobs(seed: int, size: tuple[int, int] = (60, 80), fraction: float = 0.5) -> np.ndarray:
    """Smooth shapes with holes and parts, some of them at the border."""
    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.asarray(smooth > np.quantile(smooth, fraction))


def labeled(root: Path, name: str, *objects: LabeledObject, split: str | None = None, seed: int = 0) -> LabeledImage:
    """An image of HEIGHT x WIDTH on disk, and its objects; in a folder video/ it is a frame of a video."""
    path = write_image(root / f"{name}.jpg", seed)
    video = "video" if name.startswith("video/") else None
    return LabeledImage(path, name, (HEIGHT, WIDTH), objects, video=video, split=split)


def plain(root: Path, splits: tuple[str | None, ...] = (None,)) -> list[LabeledImage]:
    """Images that every format stores without loss: no overlaps, no holes, in folders; the last has no object."""
    images = []
    for number, name in enumerate(("b10", "zoo/b2", "empty")):
        objects = [LabeledObject.from_mask(BOX, 1), LabeledObject.from_mask(DISC & ~BOX & ~RING, 0)]
        split = splits[number % len(splits)]
        images.append(labeled(root, name, *(objects if name != "empty" else ()), split=split, seed=number))
    return images
