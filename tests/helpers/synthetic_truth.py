"""Images and videos with masks, written to a folder, and a model that knows the truth."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from helpers.dataset_files import codes, png, text
from masklet.image import Prediction
from masklet.prompts import ObjectPrompt
from masklet.results import Masks, Results

HEIGHT, WIDTH, FRAMES = 60, 80, 6


def two_objects() -> np.ndarray:
    """Masks (2, H, W) of one image."""
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 5:25, 10:40] = True
    masks[1, 30:50, 45:70] = True
    return masks


def store_image(source: Path, name: str, masks: np.ndarray) -> None:
    """An image of the native format, all black."""
    (source / "images").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(source / "images" / f"{name}.jpg"), np.zeros((*masks.shape[1:], 3), np.uint8))
    text(source / "masks" / f"{name}.json", codes(masks))


def late() -> np.ndarray:
    """Label maps (T, H, W): object 1 from the first frame on, object 2 from frame 2, both moving down by 2 a frame."""
    labels = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    for t in range(FRAMES):
        labels[t, 10 + 2 * t : 30 + 2 * t, 5:25] = 1
        if t >= 2:
            labels[t, 20 + 2 * t : 30 + 2 * t, 45:65] = 2
    return labels


def store_video(
    root: Path,
    name: str,
    labels: np.ndarray,
    *,
    shown: np.ndarray | None = None,
    annotated: Collection[int] = (0, 2, 4),
    palette: bool = True,
) -> None:
    """A video of YouTube-VOS: all images, which show `shown` if not `labels`, and annotations of some frames."""
    images, maps = root / "JPEGImages" / name, root / "Annotations" / name
    images.mkdir(parents=True)
    for t, frame in enumerate(labels):
        rgb = np.zeros((*frame.shape, 3), np.uint8)
        rgb[(labels if shown is None else shown)[t] > 0] = (30, 60, 220)
        cv2.imwrite(str(images / f"{t:05d}.jpg"), rgb)
        if t in annotated:
            png(maps / f"{t:05d}.png", frame, palette=palette)


class Oracle:
    """Predicts the truth, moved to the right by some pixels, or nothing; prompts identify the objects.

    `images` (N, H, W) are the objects of every image, `videos` label maps (T, H, W) of every video.
    """

    model = SimpleNamespace(score_family="builtin")

    def __init__(self, images: np.ndarray, videos: np.ndarray, *, shift: int = 0, empty: bool = False) -> None:
        self.images, self.videos, self.shift, self.empty = images, videos, shift, empty
        self.predictor = self
        self.encoded = 0
        self.click_counts: list[int] = []
        """Points of the first prompt of each prediction; 0 for a box."""
        self.opened_images: list[Path] = []
        self.prompts: dict[int, tuple[int, ObjectPrompt]] = {}
        self.video = SimpleNamespace(size=videos.shape[1:])

    def info(self) -> SimpleNamespace:
        return SimpleNamespace(name="oracle", path=__file__, precision="fp32", device="cpu")

    def moved(self, mask: np.ndarray) -> np.ndarray:
        return np.zeros_like(mask) if self.empty else np.roll(mask, self.shift, axis=-1)

    # a predictor

    def set_image(self, rgb: np.ndarray) -> None:
        assert rgb.shape == (*self.images.shape[1:], 3)
        self.encoded += 1

    def predict_prompts(
        self, prompts: list[ObjectPrompt], *, mask_input: Any = None, multimask_output: bool | None = None
    ) -> Prediction:
        count = 3 if multimask_output else 1
        self.click_counts.append(0 if prompts[0].points is None else len(prompts[0].points.labels))
        masks = np.stack([self.moved(self.object_at(prompt, self.images)) for prompt in prompts])
        masks = np.repeat(masks[:, None], count, axis=1)
        masks[:, : count - 1] = False  # the last candidate is the good one, and scored as such
        scores = np.tile(np.linspace(0.1, 0.9, count, dtype=np.float32), (len(prompts), 1))
        return Prediction(masks, scores, np.zeros((*masks.shape[:2], 8, 8), np.float32))

    def object_at(self, prompt: ObjectPrompt, objects: np.ndarray) -> np.ndarray:
        return max(objects, key=lambda mask: mask[middle(prompt)])

    # a tracker

    def session(self, source: Any, *, options: object = None) -> Oracle:
        self.opened_images += source
        self.prompts = {}
        return self

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *problem: object) -> None:
        pass

    def add_object_prompt(self, object_id: int, frame_idx: int, prompt: ObjectPrompt) -> None:
        self.prompts[object_id] = frame_idx, prompt

    def propagate(self, stop: int | None = None) -> Iterator[Results]:
        for t in range(min(frame for frame, _ in self.prompts.values()), stop or len(self.videos)):
            yield self.results(t, {number: one for number, one in self.prompts.items() if one[0] <= t})

    def label(self, number: int, frame: int, prompt: ObjectPrompt) -> int:
        return int(self.videos[frame][middle(prompt)])

    def results(self, t: int, prompts: dict[int, tuple[int, ObjectPrompt]]) -> Results:
        labels = [self.label(number, frame, prompt) for number, (frame, prompt) in prompts.items()]
        masks = np.stack([self.moved(self.videos[t] == label) for label in labels])
        scores = np.ones(len(prompts), np.float32)
        return Results(
            np.zeros((*self.videos.shape[1:], 3), np.uint8),
            f"{t:05d}.jpg",
            Masks(masks),
            scores,
            ids=np.array(list(prompts), np.int32),
            classes=np.zeros(len(prompts), np.int32),
            names={0: "object"},
            speed={},
            frame_idx=t,
            object_scores=scores,
            states=("visible",) * len(prompts),
        )


def middle(prompt: ObjectPrompt) -> tuple[int, int]:
    """A pixel (y, x) of the object."""
    if prompt.mask is not None:
        y, x = np.argwhere(prompt.mask.mask)[len(np.argwhere(prompt.mask.mask)) // 2]
        return int(y), int(x)
    if prompt.box is not None:
        return int(prompt.box.y1 + prompt.box.y2) // 2, int(prompt.box.x1 + prompt.box.x2) // 2
    assert prompt.points is not None
    x, y = prompt.points.xy[0]
    return int(y), int(x)
