"""A pass through a video while it is under way: plain values, so that it can be saved and gone on with."""

from __future__ import annotations

from dataclasses import dataclass

from masklet.video.memory_bank import TrackedObject
from masklet.video.postprocess import CompressedResults

__all__ = ["PropagationState"]


@dataclass
class PropagationState:
    """From `start` to before `stop` (None: the end), and which frame comes next."""

    start: int
    stop: int | None
    reverse: bool
    next_frame: int
    initial_ids: frozenset[int] = frozenset()
    """Objects that were known of where it began: they take part at once, the others where they are prompted."""
    backward_results: dict[int, CompressedResults] | None = None
    """By frame, what was found looking back; None: this pass does not look back, or has not yet."""
    bidirectional: bool = False
    """Every object is followed back from its first prompt too."""

    def includes(self, obj: TrackedObject, frame_idx: int) -> bool:
        """Whether an object is followed on frame `index`."""
        if not obj.prompts:
            return False
        if obj.id in self.initial_ids:
            return True
        return frame_idx <= max(obj.prompts) if self.reverse else frame_idx >= obj.first_prompt_frame

    def advance(self, frame_idx: int) -> None:
        """Frame `index` is done."""
        self.next_frame = frame_idx - 1 if self.reverse else frame_idx + 1
