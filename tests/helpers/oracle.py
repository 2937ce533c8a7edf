"""A tracker that cannot err: frames are painted with the numbers of their objects, and it reads them.

With it births, deaths and duplicates are tested by themselves, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from masklet.models.types import (
    PIXEL_MEAN,
    PIXEL_STD,
    FrameMemory,
    ImageFeatures,
    MaskPrediction,
    MemoryContext,
    PromptTensors,
    SelectedMasks,
)
from masklet.video import Detection, FrameDetector
from masklet.video.association import RgbArray

SIZE = (64, 64)
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
    """The verbs of a `VideoNetwork`, answered from the painted numbers; a pointer is the object's number.

    Frames are as large as its input, so that their numbers come through `preprocess_frame` unchanged. `lost` are
    numbers that cannot be tracked: they are out of sight on every frame after the one they were prompted on.
    """

    device, matching, edge_radius, memory_limits = torch.device("cpu"), None, None, None
    encodes_ahead = weights_keys = False

    def __init__(self, lost: Iterable[int] = (), swaps: dict[int, int] | None = None) -> None:
        self.lost, self.swaps = set(lost), swaps or {}
        self.tracked: list[int] = []
        """Objects on each frame."""

    def frame_input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        return SIZE

    def encode_image(self, pixels_B3HW: Tensor) -> ImageFeatures:
        numbers = (pixels_B3HW[:, :1] * PIXEL_STD[0] + PIXEL_MEAN[0]) * 255
        return ImageFeatures(numbers.round())

    def add_no_memory_embedding(self, features: ImageFeatures) -> ImageFeatures:
        return features

    def condition_on_memory(self, features: ImageFeatures, memory_context: MemoryContext) -> ImageFeatures:
        return ImageFeatures(features.embed_BCHW, (memory_context.pointers[0],))

    def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None) -> MaskPrediction:
        if prompts is not None:
            x1, y1, x2, y2 = prompts.points_BN2.round().int().flatten().tolist()
            inside = torch.zeros(SIZE, dtype=torch.bool)
            inside[y1:y2, x1:x2] = True
            return self._predict(features, [self._commonest(features, inside)])
        numbers = [int(number) for number in features.high_res_features[0].flatten()]
        self.tracked.append(len(numbers))
        numbers = [self.swaps.get(n, n) for n in numbers]
        return self._predict(features, [0 if n in self.lost else n for n in numbers], pointers=numbers)

    def select_mask(self, prediction: MaskPrediction, multimask: bool, **policy: object) -> SelectedMasks:
        return SelectedMasks(
            prediction.logits_BKHW, prediction.iou_BK, prediction.object_score_B1, prediction.tokens_BKC[:, 0]
        )

    def use_mask_as_output(self, features: ImageFeatures, mask_B1SS: Tensor) -> SelectedMasks:
        inside = mask_B1SS[0, 0] > 0
        masks = self.select_mask(self._predict(features, [self._commonest(features, inside)]), multimask=False)
        return replace(masks, logits_B1HW=torch.where(inside, 5.0, -5.0)[None, None])

    def encode_memory(self, features: ImageFeatures, masks: SelectedMasks, *, prompted: bool = False) -> FrameMemory:
        return FrameMemory(torch.zeros(len(masks.iou_B1), 1, 1, 1), masks.pointer_BC)

    def _commonest(self, features: ImageFeatures, inside: Tensor) -> int:
        numbers = features.embed_BCHW[0, 0][inside].long()
        counts = torch.bincount(numbers[numbers > 0], minlength=1)
        return int(counts.argmax()) if counts.any() else 0

    def _predict(
        self, features: ImageFeatures, numbers: Sequence[int], pointers: Sequence[int] | None = None
    ) -> MaskPrediction:
        inside = torch.cat([(features.embed_BCHW == number) & (number > 0) for number in numbers])
        there = inside.flatten(1).any(1, keepdim=True).float()
        tokens = torch.tensor(numbers if pointers is None else pointers).float().view(-1, 1, 1)
        return MaskPrediction(torch.where(inside, 5.0, -5.0), torch.full_like(there, 0.9), 10 * there - 5, tokens)
