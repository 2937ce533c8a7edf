"""A pass through a film while it is under way: plain values, so that it can be saved and gone on with."""

from __future__ import annotations

from dataclasses import dataclass

from masklet.video.memory_bank import TrackedObject
from masklet.video.postprocess import HeldRows

__all__ = ["Pass"]


@dataclass
class Pass:
    """From `start` to before `stop` (None: the end), and which frame comes next."""

    start: int
    stop: int | None
    reverse: bool
    next: int
    begun: frozenset[int] = frozenset()
    """Objects that were known of where it began: they take part at once, the others where they are prompted."""
    held: dict[int, HeldRows] | None = None
    """By frame, what was found looking back; None: this pass does not look back, or has not yet."""
    both: bool = False
    """Every object is followed back from its first prompt too."""

    def takes(self, one: TrackedObject, index: int) -> bool:
        """Whether an object is followed on frame `index`."""
        if not one.prompts:
            return False
        if one.id in self.begun:
            return True
        return index <= max(one.prompts) if self.reverse else index >= one.first

    def passed(self, index: int) -> None:
        """Frame `index` is done."""
        self.next = index - 1 if self.reverse else index + 1
