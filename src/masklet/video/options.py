"""How to follow, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field

from masklet.errors import InputError
from masklet.video.recall import RecallRule, Recent

__all__ = ["TrackOptions"]


@dataclass(frozen=True)
class TrackOptions:
    """How objects are followed through a film.

    Example:
        >>> model.session("clip.mp4", options=TrackOptions(keep="all", exclusive=True))

    Raises:
        InputError: a value outside its range.
    """

    keep: str = "recent"
    """recent: what can still be looked at, memory does not grow. all: everything, to come back and edit."""
    recall: RecallRule = field(default_factory=Recent)
    """Which earlier frames to look at."""
    corrections: str = "kept"
    """kept: a corrected frame counts as a prompted one from then on. published: as facebookresearch/sam2 1.1 does, it
    is looked at only until it is tracked again."""
    exclusive: bool = False
    """Objects do not overlap: each place belongs to the one that is surest, before memory is written."""
    clean: int = 8
    """Holes and specks of at most so many cells of the mask map are cleared from what is shown; 0: none."""
    objects_at_once: int = 8
    """Objects in one batch; more take turns, so that memory stays bounded."""
    lost_after: int = 25
    """Frames out of sight after which an object is called lost, no longer occluded."""

    def __post_init__(self) -> None:
        for name, choices in (("keep", ("recent", "all")), ("corrections", ("kept", "published"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name}={getattr(self, name)!r} is unknown; choose {' or '.join(map(repr, choices))}")
        for name, least in (("clean", 0), ("objects_at_once", 1), ("lost_after", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r} must be a whole number, {least} or more")
