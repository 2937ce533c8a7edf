"""The policies of `TrackOptions(memory=...)`: which memories are kept and how they are weighted, which mask is taken.

- "sam2": the most recent frames, as published (`RecentFrames`).
- "sam2long": the most recent frames on which the object was found well; keys are weighted by its score there. After
  Ding et al. 2024, arXiv 2410.16268, without their tree of several paths.
- "samurai": masks are chosen, and frames judged, by how well they agree with the object's motion. After Yang et al.
  2024, arXiv 2411.11922.
- "dam4sam": half of the memory for frames that tell the object from a similar one. After Videnovic et al. 2025,
  arXiv 2411.17576.

All rules work in both directions of time, and on each object by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from masklet.video.box_motion import MotionRule
from masklet.video.distractors import AnchorRule
from masklet.video.memory_selection import AvailableMemory, MemorySelection, MemorySelector, RecentFrames

__all__ = ["MEMORY_POLICIES", "DistractorAwareFrames", "MemoryPolicy", "ReliableFrames", "key_weights"]

PROMPTED_SCORE = 10.0
"""The object score by which a prompted frame is ranked."""


@dataclass(frozen=True)
class ReliableFrames:
    """The most recent frames on which the object was visible and found well, and always the frame before.

    Example:
        >>> from types import SimpleNamespace
        >>> ious = {1: 0.9, 2: 0.1, 3: 0.9, 4: 0.1}
        >>> scores = {i: SimpleNamespace(iou=iou, object_score=5.0, box_agreement=None) for i, iou in ious.items()}
        >>> available = AvailableMemory(prompted=(0,), tracked=range(1, 5), scores=scores)
        >>> ReliableFrames(min_iou=0.5).select(5, available, reverse=False, length=None).spatial
        ((0, 0), (1, 3), (3, 2), (4, 1))
    """

    min_iou: float
    """Frames with a lower predicted IoU are left out; so are those on which the object was absent."""
    min_box_agreement: float | None = None
    """Frames whose box agreed with the object's motion no better than this are left out; None: boxes do not count."""
    selects_pointers: bool = False
    """Pointers are of the same frames, all but the farthest, and their offsets count these frames. False: pointers are
    of the most recent frames, as in SAM 2."""
    weights: tuple[float, float] | None = None
    """The factors of the keys, of the lowest and of the highest object score; None: all are 1. Where a single spatial
    memory is attended to, none is weighted."""
    recent: RecentFrames = field(default_factory=RecentFrames)
    """How many memories and pointers there are, and which prompted frames."""

    @property
    def max_distance(self) -> tuple[int, int]:
        """Distance in frames up to which spatial memories, and pointers, stay stored."""
        return self.recent.max_distance

    def select(
        self, frame_idx: int, available: AvailableMemory, *, reverse: bool, length: int | None
    ) -> MemorySelection:
        """Select what `frame_idx` attends to; ages count selected frames, not those in between."""
        usual = self.recent.select(frame_idx, available, reverse=reverse, length=length)
        before = available.tracked_before(frame_idx, reverse=reverse)
        accepted = [frame for frame in before if self.accepts(available, frame)][: usual.max_pointers - 1]
        chosen = list(dict.fromkeys([*before[:1], *accepted]))  # the nearest first
        with_memory = [frame for frame in chosen if available.has_spatial(frame)][: self.recent.memories]
        prompted = tuple(each for each in usual.spatial if each[1] == 0)
        spatial = (*prompted, *((frame, age + 1) for age, frame in reversed(list(enumerate(with_memory)))))
        pointers = usual.pointers
        if self.selects_pointers:
            known = tuple(each for each in usual.pointers if each[0] in available.prompted)
            pointers = (*known, *((frame, age) for age, frame in enumerate(chosen[:-1], start=1)))
        held = tuple(chosen[-1:]) if self.selects_pointers else ()
        selection = MemorySelection(spatial, pointers, usual.max_pointers, held=held)
        if self.weights is None or len(spatial) < 2:
            return selection
        low, high = self.weights
        ranked = [[self._rank(available, frame) for frame, _ in part] for part in (spatial, pointers)]
        spatial_weights, pointer_weights = (key_weights(scores, low, high) for scores in ranked)
        return replace(selection, spatial_weights=spatial_weights, pointer_weights=pointer_weights)

    def accepts(self, available: AvailableMemory, frame_idx: int) -> bool:
        """Whether the object was found well on a tracked frame."""
        scores, least = available.scores[frame_idx], self.min_box_agreement
        agrees = least is None or scores.box_agreement is None or scores.box_agreement > least
        return scores.iou > self.min_iou and scores.object_score > 0 and agrees

    @staticmethod
    def _rank(available: AvailableMemory, frame_idx: int) -> float:
        return PROMPTED_SCORE if frame_idx in available.prompted else available.scores[frame_idx].object_score


def key_weights(scores: Sequence[float], low: float, high: float) -> tuple[float, ...]:
    """Return a weight for each memory, evenly spaced by the rank of its score; a single memory has the lowest.

    Example:
        >>> key_weights([10.0, 2.0, 7.0], 0.95, 1.05)
        (1.05, 0.95, 1.0)
    """
    by_score = sorted(range(len(scores)), key=lambda i: scores[i])
    step = (high - low) / max(len(scores) - 1, 1)
    weight_of = {i: low + step * rank for rank, i in enumerate(by_score)}
    return tuple(weight_of[i] for i in range(len(scores)))


@dataclass(frozen=True)
class DistractorAwareFrames:
    """Prompted frames and anchors, without age; then the nearest frame on which the object was visible, and every fifth
    one before that.

    Anchors count among the others only if they are the frame before. Pointers are of prompted frames, anchors, and the
    most recent frames on which the object was visible.
    """

    resolving: int = 4
    """Slots for prompted frames and anchors."""
    slots: int = 7
    """Slots in total."""
    stride: int = 5
    """Of the frames before the nearest visible one, those whose number is a multiple of this."""
    recent: RecentFrames = field(default_factory=RecentFrames)
    """Which prompted frames there are, and how many pointers."""

    @property
    def max_distance(self) -> tuple[int, int]:
        """Distance in frames up to which spatial memories, and pointers, stay stored."""
        return self.recent.max_distance

    def select(
        self, frame_idx: int, available: AvailableMemory, *, reverse: bool, length: int | None
    ) -> MemorySelection:
        """Select what `frame_idx` attends to; ages count selected frames, not those in between."""
        usual = self.recent.select(frame_idx, available, reverse=reverse, length=length)
        prompted = tuple(each for each in usual.spatial if each[1] == 0)
        before = frame_idx + 1 if reverse else frame_idx - 1
        seen = [
            frame
            for frame in available.tracked_before(frame_idx, reverse=reverse)
            if self._is_visible(available, frame) and available.has_spatial(frame)
        ]
        known = [frame for frame in seen if frame != before and available.scores[frame].is_anchor]
        anchors = known[: max(self.resolving - len(prompted), 0)]
        slots = self.slots - min(len(prompted) + len(anchors), self.resolving)
        recent = [frame for frame in seen if frame == before or not available.scores[frame].is_anchor]
        others = [*recent[:1], *(frame for frame in recent[1:] if frame % self.stride == 0)][: slots + 1]
        others, held = others[:slots], others[slots:]  # one more for when an anchor is no longer the frame before
        pointers = (
            *(each for each in usual.pointers if each[0] in available.prompted),
            *((frame, abs(frame_idx - frame)) for frame in anchors),
            *(
                each
                for each in usual.pointers
                if each[0] not in available.prompted and each[0] not in anchors and self._is_visible(available, each[0])
            ),
        )
        spatial = (
            *prompted,
            *((frame, 0) for frame in reversed(anchors)),
            *((frame, age + 1) for age, frame in reversed(list(enumerate(others)))),
        )
        return MemorySelection(spatial, pointers, usual.max_pointers, held=tuple(held))

    @staticmethod
    def _is_visible(available: AvailableMemory, frame_idx: int) -> bool:
        scores = available.scores[frame_idx]
        return scores.object_score > 0 and scores.area != 0


@dataclass(frozen=True)
class MemoryPolicy:
    """What of tracking a policy decides."""

    selector: MemorySelector = field(default_factory=RecentFrames)
    """Which memories a frame attends to, and with which weights."""
    motion: MotionRule | None = None
    """How masks are chosen by the motion of their boxes; None: by predicted IoU alone."""
    anchors: AnchorRule | None = None
    """Which frames are anchors; None: none."""
    min_object_score: float = 0.0
    """The object score above which an object is visible."""
    weights_keys: bool = False
    """Whether the network has to weight keys."""

    @property
    def judges_frames(self) -> bool:
        """Whether tracked frames are judged by more than the network says of them."""
        return self.motion is not None or self.anchors is not None


MEMORY_POLICIES: Mapping[str, MemoryPolicy] = MappingProxyType(
    {
        "sam2": MemoryPolicy(),
        "sam2long": MemoryPolicy(
            ReliableFrames(min_iou=0.3, selects_pointers=True, weights=(0.95, 1.05)), weights_keys=True
        ),
        "samurai": MemoryPolicy(
            ReliableFrames(min_iou=0.5, min_box_agreement=0.0), motion=MotionRule(), min_object_score=-1.0
        ),
        "dam4sam": MemoryPolicy(DistractorAwareFrames(), anchors=AnchorRule()),
    }
)
"""By name, with the figures of the papers."""
