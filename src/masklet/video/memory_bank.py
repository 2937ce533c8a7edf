"""What is known of the objects that are followed: plain records, keyed by the caller's own ids.

Removing an object is one `del`. Shapes: C channels of a pointer, M of a memory, H and W at stride 4 for logits and at
stride 16 for memories; the leading 1 is the object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from masklet.errors import PromptError
from masklet.models.types import FrameMemory, SelectedMasks
from masklet.prompts import Box, MaskPrompt, ObjectPrompt, Points
from masklet.video.memory_selection import AvailableMemory, MemorySelector

__all__ = ["FrameState", "MemoryBank", "TrackedObject", "merge_prompts", "parse_object_prompt", "validate_object_id"]

MAX_OBJECT_ID = 2**31 - 1


@dataclass(frozen=True)
class FrameState:
    """One object on one frame."""

    iou: float
    object_score: float
    """Of presence; above 0 the object is in the image."""
    pointer_1C: Tensor
    logits_11HW: Tensor | None
    spatial_1MHW: Tensor | None = None
    """In bfloat16, as published; None: not written yet, or forgotten."""
    reverse: bool | None = None
    """The direction in which the frame was passed; None: it has only been prompted."""

    @classmethod
    def from_masks(cls, masks: SelectedMasks) -> FrameState:
        """What the network found of one object."""
        return cls(float(masks.iou_B1), float(masks.object_score_B1), masks.pointer_BC, masks.logits_B1HW)

    def to_masks(self) -> SelectedMasks:
        """As the network's verbs take it."""
        assert self.logits_11HW is not None
        device = self.pointer_1C.device
        return SelectedMasks(
            self.logits_11HW.float(),
            torch.full((1, 1), self.iou, device=device),
            torch.full((1, 1), self.object_score, device=device),
            self.pointer_1C,
        )

    def with_memory(self, memory: FrameMemory) -> FrameState:
        """The same, remembered."""
        return replace(self, spatial_1MHW=memory.spatial_BMHW.to(torch.bfloat16), pointer_1C=memory.pointer_BC)


@dataclass
class MemoryBank:
    """What is remembered of one object, by frame number."""

    prompted: dict[int, FrameState] = field(default_factory=dict)
    tracked: dict[int, FrameState] = field(default_factory=dict)

    def __getitem__(self, frame_idx: int) -> FrameState:
        return self.prompted[frame_idx] if frame_idx in self.prompted else self.tracked[frame_idx]

    def get(self, frame_idx: int) -> FrameState | None:
        """What is known of `frame`, or None."""
        return self.prompted.get(frame_idx) or self.tracked.get(frame_idx)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted({*self.prompted, *self.tracked}))

    @property
    def available(self) -> AvailableMemory:
        """As a rule of recall sees it: prompted frames that are remembered, and the others."""
        written = tuple(f for f, kept in self.prompted.items() if kept.spatial_1MHW is not None)
        whole = tuple(f for f, kept in self.tracked.items() if kept.spatial_1MHW is not None)
        return AvailableMemory(written, self.tracked.keys(), whole)

    def prune(self, selector: MemorySelector, centers: tuple[int, ...]) -> None:
        """Drop what cannot be looked at from the frames `centers` any more; prompted frames stay."""
        memories, pointers = selector.max_distance
        for frame, kept in list(self.tracked.items()):
            distance = min(abs(frame - center) for center in centers)
            if distance > pointers:
                del self.tracked[frame]
            elif distance > memories and kept.spatial_1MHW is not None:
                self.tracked[frame] = replace(kept, spatial_1MHW=None, logits_11HW=None)


@dataclass
class TrackedObject:
    """One object, under the id its owner gave it."""

    id: int
    prompts: dict[int, ObjectPrompt] = field(default_factory=dict)
    bank: MemoryBank = field(default_factory=MemoryBank)
    frames_unseen: int = 0
    """Frames in a row on which it was not seen."""
    corrected_frames: set[int] = field(default_factory=set)
    """Frames that were corrected after the frames around them had been tracked."""

    @property
    def first_prompt_frame(self) -> int:
        """Where it was first prompted."""
        return min(self.prompts)


def validate_object_id(value: Any) -> int:
    """A caller's id as a number.

    Raises:
        PromptError: no whole number from 0 to 2147483647.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not whole or not 0 <= int(value) <= MAX_OBJECT_ID:
        raise PromptError(f"object id {value!r} must be a whole number from 0 to {MAX_OBJECT_ID}, such as 1")
    return int(value)


def parse_object_prompt(
    points: Any, labels: Any, box: Any, mask: Any, *, size: tuple[int, int], refine: bool
) -> ObjectPrompt:
    """What was said about one object on one frame, checked against the frame's (height, width).

    `points` is [x, y] or [[x, y], ...], all of this object; `refine`: there is a mask already, so that a point off the
    object can stand alone.

    Raises:
        PromptError: nothing, or something that cannot be meant.
    """
    if points is None and labels is not None:
        raise PromptError(f"labels {labels!r} came without points: give points=[x, y] or [[x, y], ...] with them")
    clicks = None if points is None else _parse_points(points, labels)
    corners = None if box is None else _parse_box(box)
    rough = None if mask is None else MaskPrompt(mask)
    if clicks is None and corners is None and rough is None:
        raise PromptError("points, box and mask are all None: say what the object is, such as points=[x, y]")
    return ObjectPrompt(clicks, corners, rough, refine=refine).fit_to_image(size)


def _parse_points(points: Any, labels: Any) -> Points:
    try:
        single = np.ndim(points) == 1
    except ValueError:  # lists of different lengths: Points says so
        single = False
    nested: Any = [points] if single else points
    given = [1] * len(nested) if labels is None else labels
    return Points(nested, np.atleast_1d(given))


def _parse_box(box: Any) -> Box:
    numbers = np.asarray(box, dtype=object)
    if numbers.shape != (4,):
        raise PromptError(f"box {box!r} must be four numbers, x1, y1, x2, y2 in pixels of the frame")
    return Box(*numbers.tolist())


def merge_prompts(previous: ObjectPrompt | None, new: ObjectPrompt) -> ObjectPrompt:
    """What is now said about an object on a frame: points add up; a box or a mask starts anew."""
    if previous is None or new.box is not None or new.mask is not None:
        return new
    if previous.points is None or new.points is None:
        return replace(previous, points=new.points or previous.points, refine=True)
    xy = np.concatenate([previous.points.xy, new.points.xy])
    labels = np.concatenate([previous.points.labels, new.points.labels])
    return replace(previous, points=Points(xy, labels), refine=True)
