"""Tiny images, videos and projects for the tests of projects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from masklet.projects import Project, open_project

SIZE = (24, 32)
"""(height, width) of all images."""


def save_image(path: Path, value: int = 90) -> Path:
    """Write an image of one color, whose bytes differ from those of other values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), value, np.uint8)).save(path)
    return path


def save_frames(folder: Path, count: int = 6) -> Path:
    """Write a video as a folder of images."""
    for number in range(count):
        save_image(folder / f"{number:05d}.png", 10 + number)
    return folder


def square(left: int = 4, top: int = 3, side: int = 9) -> np.ndarray:
    """A mask of a square."""
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def small_project(folder: Path, *, author: str = "anna") -> Project:
    """A project beside its files: the image photo.png with one object, the video clip with two, masks and a prompt."""
    project = open_project(folder / "zoo.masklet", author=author, durable=False)
    photo, clip = project.add_source(save_image(folder / "photo.png")), project.add_source(save_frames(folder / "clip"))
    dog, cat = project.add_class("dog", color="#1e90ff"), project.add_class("cat")
    rex = project.add_object(photo, dog, name="Rex")
    first, second = project.add_object(clip, dog), project.add_object(clip, cat)
    project.set_mask(rex, 0, square(), score=0.5)
    for frame in range(3):
        project.set_mask(first, frame, square(2 + frame, 4), origin="track", score=0.75, author="masklet-builtin 6")
        project.set_mask(second, frame, square(15, 12), origin="edit")
    project.set_prompt(first, 0, points=[[5, 5], [30, 2]], labels=[1, 0])
    return project
