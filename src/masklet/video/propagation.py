"""The state of a pass through a video: plain values, so that it can be saved and resumed."""

from __future__ import annotations

from dataclasses import dataclass

from masklet.video.memory_bank import TrackedObject
from masklet.video.postprocess import CompressedResults

__all__ = ["PropagationState"]


@dataclass
class PropagationState:
    """A pass from `start` to before `stop` (None: the end), and the frame that comes next."""

    start: int
    stop: int | None
    reverse: bool
    next_frame: int
    bidirectional: bool = False
    """Every object is tracked back from its first prompt too."""
    initial_ids: frozenset[int] | None = None
    """Objects known on the first frame: they take part at once, the others from their prompts on.

    None until the pass begins.
    """
    backward_results: dict[int, CompressedResults] | None = None
    """By frame, the results of the backward part of a bidirectional pass; None until it is done."""

    def includes(self, obj: TrackedObject, frame_idx: int) -> bool:
        """Whether an object is tracked on a frame."""
        if not obj.prompts:
            return False
        if self.initial_ids is not None and obj.id in self.initial_ids:
            return True
        return frame_idx <= max(obj.prompts) if self.reverse else frame_idx >= obj.first_prompt_frame
