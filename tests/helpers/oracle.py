"""A tracker that cannot err: frames are painted with the numbers of their objects, and it reads them.

With it births, deaths and duplicates are tested by themselves, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from masklet.models.types import FrameMemory, ImageFeatures, SelectedMasks
from masklet.video import Detection, FrameDetector
from masklet.video.association import RgbArray

SIZE = (48, 64)
Spot = tuple[int, int, int, int]
"""x1, y1, x2, y2 of an upright rectangle."""


def painted(spots: dict[int, Spot], size: tuple[int, int] = SIZE) -> RgbArray:
    """A frame whose object `number` is its rectangle; later ones are in front."""
    rgb = np.zeros((*size, 3), np.uint8)
    for number, (x1, y1, x2, y2) in spots.items():
        rgb[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = number
    return rgb


def make_video(frames: int, *spots: Callable[[int], dict[int, Spot]]) -> np.ndarray:
    """(T, H, W, 3): what each of `spots` says is on frame t."""
    return np.stack([painted({k: v for each in spots for k, v in each(t).items()}) for t in range(frames)])


def finder(
    numbers: Iterable[int] = range(1, 256), *, boxes: bool = False, calls: list[int] | None = None
) -> FrameDetector:
    """Finds the objects of these numbers, the lowest with the best score; class and name follow from the number."""
    wanted = list(numbers)

    def find(rgb: RgbArray) -> list[Detection]:
        if calls is not None:
            calls.append(1)
        present = [n for n in wanted if (rgb[..., 0] == n).any()]
        return [found(rgb[..., 0] == n, n, boxes=boxes) for n in present]

    return find


def found(mask: np.ndarray, number: int = 1, *, boxes: bool = False, class_id: int | None = None) -> Detection:
    kind = number % 10 if class_id is None else class_id
    whole = Detection(1 - number / 256, mask=mask, class_id=kind, name=f"kind{kind}")
    if not boxes:
        return whole
    return Detection(whole.score, box=whole.clipped_box(mask.shape), class_id=kind, name=whole.name)  # type: ignore[arg-type]


class Oracle:
    """The verbs of `Stepper`, answered from the painted numbers; a pointer is the object's number.

    `lost` are numbers that are not followed: they are out of sight on every frame after the one they were found on.
    """

    def __init__(self, lost: Iterable[int] = (), swaps: dict[int, int] | None = None) -> None:
        self.lost, self.swaps = set(lost), swaps or {}
        self.tracked: list[int] = []
        """Objects on each frame."""

    def features(self, frame: Any) -> ImageFeatures:
        return ImageFeatures(torch.from_numpy(frame.rgb[None, None, ..., 0].astype(np.float32)))

    def alone(self, features: ImageFeatures) -> ImageFeatures:
        return features

    def adopt(self, features: ImageFeatures, asked: Any) -> SelectedMasks:
        inside = torch.tensor(asked.mask.mask)
        masks = self._seen(features, self._commonest(features, inside))
        return SelectedMasks(torch.where(inside, 5.0, -5.0)[None, None], *list(vars(masks).values())[1:])

    def prompt(
        self, features: ImageFeatures, asked: Any, size: tuple[int, int], earlier: Tensor | None
    ) -> SelectedMasks:
        x1, y1, x2, y2 = asked.box.xyxy.astype(int).tolist()
        inside = torch.zeros(size, dtype=torch.bool)
        inside[y1:y2, x1:x2] = True
        return self._seen(features, self._commonest(features, inside))

    def track(self, features: ImageFeatures, looks: Sequence[tuple[Any, Any]]) -> list[SelectedMasks]:
        self.tracked.append(len(looks))
        numbers = [int(bank[recall.pointers[0][0]].pointer_1C) for bank, recall in looks]
        numbers = [self.swaps.get(n, n) for n in numbers]
        return [self._seen(features, 0 if n in self.lost else n, pointer=n) for n in numbers]

    def remember(self, features: ImageFeatures, found: Sequence[SelectedMasks], *, prompted: bool) -> list[FrameMemory]:
        return [FrameMemory(torch.zeros(1, 1, 1, 1), masks.pointer_BC) for masks in found]

    def _commonest(self, features: ImageFeatures, inside: Tensor) -> int:
        numbers = features.embed_BCHW[0, 0][inside].long()
        counts = torch.bincount(numbers[numbers > 0], minlength=1)
        return int(counts.argmax()) if counts.any() else 0

    def _seen(self, features: ImageFeatures, number: int, pointer: int | None = None) -> SelectedMasks:
        inside = features.embed_BCHW == number if number else torch.zeros_like(features.embed_BCHW, dtype=torch.bool)
        there = float(inside.any())
        return SelectedMasks(
            torch.where(inside, 5.0, -5.0),
            torch.full((1, 1), 0.9),
            torch.full((1, 1), 10 * there - 5),
            torch.full((1, 1), float(number if pointer is None else pointer)),
        )
