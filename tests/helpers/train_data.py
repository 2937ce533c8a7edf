"""Small data sets and runs to train on: samples that show which frames were read, discs, moving squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from helpers.dataset_files import codes, png, text
from masklet.datasets import AnnotatedFrame
from masklet.errors import SourceError
from masklet.train.config import AugmentConfig, PromptConfig, TrainConfig, TrainStage
from masklet.train.data import ClipBatch, SamplePool

PLAIN = AugmentConfig(
    flip_prob=0.0,
    affine_prob=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    grayscale_prob=0.0,
    frame_brightness=0.0,
    frame_contrast=0.0,
    frame_saturation=0.0,
)
"""No augmentation."""

QUICK = PromptConfig(max_objects=2, round_probs=(0.5, 0.5), correction_clicks=1)
TINY = TrainConfig(
    model="tiny",
    stages=(TrainStage(image_size=64, batch=1, steps=4, lr=1e-3, lr_end=1e-4, prompts=QUICK, clip_length=3),),
    augment=PLAIN,
    precision="fp32",
    grad_clip=1.0,
    save_every=2,
    log_every=1,
    image_every=0,
)
"""A run of the network of the fixture `tiny_network`; it takes a second."""


def tiny(**changes: object) -> TrainConfig:
    """Return TINY with other values, also those of its stage."""
    stage = {name: changes.pop(name) for name in list(changes) if name in TrainStage.__dataclass_fields__}
    return replace(TINY, stages=(replace(TINY.stages[0], **stage),), **changes)


@dataclass(frozen=True)
class FakeSample:
    """A sample whose frame k has brightness 5 k; its objects, 1 to `objects`, are adjacent squares."""

    name: str
    frame_indices: tuple[int, ...] = (0,)
    objects: int = 1
    hidden: tuple[tuple[int, int], ...] = ()
    """(frame, object)."""
    broken: bool = False

    @property
    def source(self) -> tuple[Path, ...]:
        return ()

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        if self.broken:
            raise SourceError(f"{self.name}.jpg is no image")
        return [self.frame(number) for number in frame_indices]

    def frame(self, number: int) -> AnnotatedFrame:
        masks = {}
        for k in range(self.objects):
            mask = np.zeros((64, 64), bool)
            if (number, k + 1) not in self.hidden:
                mask[10:20, 2 + 12 * k : 12 + 12 * k] = True
            masks[k + 1] = mask
        return AnnotatedFrame(np.full((64, 64, 3), 5 * number, np.uint8), masks)


def video_pool(*entries: FakeSample, weight: float = 1.0) -> SamplePool:
    return SamplePool(entries, weight, is_video=True)


def image_pool(*entries: FakeSample, weight: float = 1.0) -> SamplePool:
    return SamplePool(entries, weight, is_video=False)


def frame_numbers(batch: ClipBatch) -> list[list[int]]:
    """Return the frames of a `FakeSample` that each clip shows."""
    return (batch.pixels_BT3SS.float().mean((2, 3, 4)) / 5).round().int().tolist()


def store_still(folder: Path, name: str, rgb: np.ndarray, masks: Sequence[np.ndarray]) -> Path:
    """Write an image in the native format; return its path."""
    path = folder / "images" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    text(folder / "masks" / f"{name}.json", codes(masks))
    return path


def store_video(root: Path, name: str, frames: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> None:
    """Write a DAVIS video with a label map for every frame."""
    (root / "JPEGImages" / name).mkdir(parents=True, exist_ok=True)
    for t, (rgb, own) in enumerate(zip(frames, labels, strict=True)):
        cv2.imwrite(str(root / "JPEGImages" / name / f"{t:05d}.jpg"), rgb[..., ::-1])
        png(root / "Annotations" / name / f"{t:05d}.png", own)


def disc(shape: tuple[int, int], x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def store_discs(folder: Path, count: int, seed: int = 0) -> Path:
    """Write images (96 x 128) of two colored discs on a dark background."""
    random = np.random.default_rng(seed)
    for i in range(count):
        rgb = random.integers(0, 60, (96, 128, 3)).astype(np.uint8)
        masks = []
        for x, y in ((30, 40), (90, 50)):
            place = random.integers(-8, 8, 2)
            masks.append(disc((96, 128), x + place[0], y + place[1], random.integers(12, 24)))
            rgb[masks[-1]] = random.integers(120, 255, 3)
        store_still(folder, f"{i:02d}", rgb, masks)
    return folder


def store_squares(root: Path, count: int, frames: int = 8, seed: int = 0) -> Path:
    """Write videos (64 x 96) of a bright square that moves to the right over noise."""
    random = np.random.default_rng(seed)
    for i in range(count):
        ground, color = random.integers(0, 80, (64, 96, 3)), random.integers(140, 255, 3)
        top, left, step = random.integers(6, 30), random.integers(2, 14), random.integers(3, 7)
        images, labels = [], []
        for t in range(frames):
            label = np.zeros((64, 96), np.uint8)
            label[top : top + 26, left + step * t : left + step * t + 28] = 1
            images.append(np.where(label[..., None] > 0, color, ground).astype(np.uint8))
            labels.append(label)
        store_video(root, f"video{i}", images, labels)
    return root


def moving_square(frames: int = 4, hidden: int | None = None) -> ClipBatch:
    """Return a clip of a bright square that moves to the right over noise; it is hidden on frame `hidden`."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 60, (1, frames, 3, 64, 64), generator=random, dtype=torch.uint8)
    masks = torch.zeros(1, frames, 64, 64, dtype=torch.bool)
    for t in range(frames):
        if t != hidden:
            masks[0, t, 20:44, 8 + 6 * t : 32 + 6 * t] = True
            pixels[0, t, :, masks[0, t]] = 220
    return ClipBatch(pixels, masks, torch.zeros(1, dtype=torch.long))


def weights_of(run: Path, which: str = "ema") -> dict[str, torch.Tensor]:
    return torch.load(run / "state.pt", weights_only=True)[which]


def different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of tensors that are not equal bit for bit."""
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}
