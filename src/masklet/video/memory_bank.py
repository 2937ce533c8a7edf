"""Store what is known of each tracked object: plain records, keyed by the caller's own ids.

Removing an object is one `del`. Shapes: B objects, C channels of a pointer, M of a spatial memory, H and W at stride 4
for logits and at stride 16 for memories; a leading 1 is one object.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from masklet.errors import PromptError
from masklet.models.sam2.config import MatchingConfig
from masklet.models.sam2.label_matching import label_from_mask
from masklet.models.types import FrameMemory, MemoryContext, SelectedMasks
from masklet.prompts import ObjectPrompt, Points, parse_object_prompt
from masklet.tensors import Tensor, torch
from masklet.video.box_motion import BoxMotion
from masklet.video.memory_selection import AvailableMemory, MemorySelection, MemorySelector
from masklet.video.reidentification import Appearance

__all__ = [
    "FrameState",
    "MemoryBank",
    "MemoryStore",
    "TrackedObject",
    "build_memory_context",
    "merge_prompts",
    "parse_object_prompt",
    "validate_object_id",
]

MAX_OBJECT_ID = 2**31 - 1


@dataclass(frozen=True)
class FrameState:
    """One object on one frame."""

    iou: float
    object_score: float
    """Above 0 the object is in the image."""
    pointer_1C: Tensor
    logits_11HW: Tensor | None
    spatial_1MHW: Tensor | None = None
    """In bfloat16, as sam2 stores it; None: not encoded yet, or released."""
    reverse: bool | None = None
    """The direction in which the frame was tracked; None: it has only been prompted."""
    label_11HW: Tensor | None = None
    """Soft label at stride 8 that later frames copy, in float16; None: the mask is the label."""
    area: int | None = None
    """Cells of the mask at stride 4; None: not measured, as the memory policy does not ask for it."""
    box_agreement: float | None = None
    """IoU of the mask's box with the box that the object's motion predicted; None: no motion was known."""
    is_anchor: bool = False
    """Whether the frame shows what tells the object from a similar one."""

    @classmethod
    def from_masks(cls, masks: SelectedMasks) -> FrameState:
        """Store the mask that the network selected for one object."""
        return cls(float(masks.iou_B1), float(masks.object_score_B1), masks.pointer_BC, masks.logits_B1HW)

    def to_masks(self) -> SelectedMasks:
        """Return the mask as the network's verbs take it."""
        assert self.logits_11HW is not None
        device = self.pointer_1C.device
        return SelectedMasks(
            self.logits_11HW.float(),
            torch.full((1, 1), self.iou, device=device),
            torch.full((1, 1), self.object_score, device=device),
            self.pointer_1C,
        )

    def with_memory(self, memory: FrameMemory) -> FrameState:
        """Return the same state with its encoded memory."""
        return replace(self, spatial_1MHW=memory.spatial_BMHW.to(torch.bfloat16), pointer_1C=memory.pointer_BC)


@dataclass
class MemoryBank:
    """The stored frames of one object, by frame number."""

    prompted: dict[int, FrameState] = field(default_factory=dict)
    tracked: dict[int, FrameState] = field(default_factory=dict)

    def __getitem__(self, frame_idx: int) -> FrameState:
        return self.prompted[frame_idx] if frame_idx in self.prompted else self.tracked[frame_idx]

    def get(self, frame_idx: int) -> FrameState | None:
        """Return the state of a frame, or None."""
        return self.prompted.get(frame_idx) or self.tracked.get(frame_idx)

    def spatial(self, frame_idx: int) -> Tensor:
        """Return the spatial memory of a frame, (1, M, H, W) in fp32."""
        memory_1MHW = self[frame_idx].spatial_1MHW
        assert memory_1MHW is not None, f"frame {frame_idx} has no spatial memory"
        return memory_1MHW.float()

    def pointer(self, frame_idx: int) -> Tensor:
        """Return the object pointer of a frame, (1, C)."""
        return self[frame_idx].pointer_1C

    def label(self, frame_idx: int) -> Tensor:
        """Return what other frames copy from a frame, (1, 1, H, W) at stride 8 in 0..1."""
        state = self[frame_idx]
        if state.label_11HW is not None:
            return state.label_11HW.float()
        assert state.logits_11HW is not None, f"frame {frame_idx} has no mask"
        return label_from_mask(state.logits_11HW)

    def labeled_frames(self, frame_idx: int, config: MatchingConfig, *, reverse: bool) -> tuple[int, ...]:
        """Return the frames whose labels `frame_idx` copies, the nearest last: the first prompted frame, other prompted
        ones near it, and the frames just before it in the direction of tracking."""
        prompted = sorted(self.prompted, key=lambda frame: abs(frame - frame_idx))
        chosen = {*sorted(self.prompted)[:1], *prompted[: config.prompted - 1]}
        sign = -1 if reverse else 1
        for age in range(1, config.recent + 1):
            state = self.get(frame_idx - sign * age)
            if state is not None and state.logits_11HW is not None:
                chosen.add(frame_idx - sign * age)
        return tuple(sorted(chosen, key=lambda frame: (-abs(frame - frame_idx), frame)))

    @property
    def available(self) -> AvailableMemory:
        """The frames that a `MemorySelector` may choose from."""
        encoded = tuple(f for f, state in self.prompted.items() if state.spatial_1MHW is not None)
        with_spatial = tuple(f for f, state in self.tracked.items() if state.spatial_1MHW is not None)
        scores: ChainMap[int, FrameState] = ChainMap(self.prompted, self.tracked)
        return AvailableMemory(encoded, self.tracked.keys(), with_spatial, scores)

    def prune(self, selector: MemorySelector, centers: tuple[int, ...], selected: MemorySelection) -> None:
        """Release what is far from all frames of `centers` and not `selected` or held next; prompted frames stay."""
        memories, pointers = selector.max_distance
        spatial = {*(frame for frame, _ in selected.spatial), *selected.held}
        kept = spatial | {frame for frame, _ in selected.pointers}
        for frame, state in list(self.tracked.items()):
            distance = min(abs(frame - center) for center in centers)
            if distance > pointers and frame not in kept:
                del self.tracked[frame]
            elif distance > memories and frame not in spatial and state.spatial_1MHW is not None:
                self.tracked[frame] = replace(state, spatial_1MHW=None, logits_11HW=None, label_11HW=None)


class MemoryStore(Protocol):
    """Stored memories by frame number: a `MemoryBank` of one object, or a batch in training."""

    def spatial(self, frame_idx: int, /) -> Tensor:
        """Return the spatial memory of a frame, (B, M, H, W)."""

    def pointer(self, frame_idx: int, /) -> Tensor:
        """Return the object pointers of a frame, (B, C)."""


def build_memory_context(memory: Sequence[tuple[MemoryStore, MemorySelection]]) -> MemoryContext:
    """Collect the selected memories of several stores into one batch.

    All selections have the same ages and offsets; the frames themselves may differ.
    """
    first = memory[0][1]
    spatial = [
        [store.spatial(selection.spatial[i][0]) for store, selection in memory] for i in range(len(first.spatial))
    ]
    pointers = [
        [store.pointer(selection.pointers[i][0]) for store, selection in memory] for i in range(len(first.pointers))
    ]
    weights: list[Tensor | None] = []
    for part in ("spatial_weights", "pointer_weights"):
        rows = [getattr(selection, part) for _, selection in memory]
        weights.append(torch.tensor(rows, device=spatial[0][0].device) if rows[0] else None)
    return MemoryContext(
        tuple(torch.cat(rows) if len(rows) > 1 else rows[0] for rows in spatial),
        tuple(age for _, age in first.spatial),
        tuple(torch.cat(rows) if len(rows) > 1 else rows[0] for rows in pointers),
        tuple(offset for _, offset in first.pointers),
        first.max_pointers,
        *weights,
    )


@dataclass
class TrackedObject:
    """One object, under the id its owner gave it."""

    id: int
    prompts: dict[int, ObjectPrompt] = field(default_factory=dict)
    bank: MemoryBank = field(default_factory=MemoryBank)
    frames_unseen: int = 0
    """Consecutive frames, up to now, on which it was not visible."""
    corrected_frames: set[int] = field(default_factory=set)
    """Frames corrected after the frames around them had been tracked."""
    motion: BoxMotion | None = None
    """Of its box, after the frame that was tracked last; None: not followed, or to be measured again."""
    looks: list[Appearance] = field(default_factory=list)
    """Its appearance where it was prompted first, and lately; empty: too small, or not followed."""

    @property
    def first_prompt_frame(self) -> int:
        """The first frame with a prompt."""
        return min(self.prompts)


def validate_object_id(value: object) -> int:
    """Return a caller's object id as an int.

    Raises:
        PromptError: if it is no whole number from 0 to 2147483647.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= int(value) <= MAX_OBJECT_ID:
        return int(value)
    raise PromptError(f"object id {value!r} must be a whole number from 0 to {MAX_OBJECT_ID}, such as 1")


def merge_prompts(previous: ObjectPrompt | None, new: ObjectPrompt) -> ObjectPrompt:
    """Add a prompt to those already given on a frame: points accumulate, a box or a mask replaces everything."""
    if previous is None or new.box is not None or new.mask is not None:
        return new
    if previous.points is None or new.points is None:
        return replace(previous, points=new.points or previous.points, refine=True)
    xy = np.concatenate([previous.points.xy, new.points.xy])
    labels = np.concatenate([previous.points.labels, new.points.labels])
    return replace(previous, points=Points(xy, labels), refine=True)
