"""How to follow, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field

from masklet.errors import InputError
from masklet.video.memory_selection import RecallRule, Recent

__all__ = ["FollowOptions", "TrackOptions"]


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
            _check_whole(name, getattr(self, name), least)


@dataclass(frozen=True)
class FollowOptions:
    """How objects that nobody pointed at are found, joined with those that are followed, and let go of.

    Example:
        >>> model.follow("clip.mp4", options=FollowOptions(every=5, max_objects=12))

    Raises:
        InputError: a value outside its range.
    """

    every: int = 10
    """The finder looks at the first frame and at every so many-th after it."""
    identities: bool = True
    """Objects keep their ids through the film. False: every frame is looked at by itself and numbered anew."""
    max_objects: int = 32
    """So many are followed at once. Those that are keep their places; newcomers wait until one has gone."""
    first: str = "score"
    """Who comes first where places are few, and who is the whole and who the part: "score", the surest, or "area",
    the largest."""
    forget_after: int = 25
    """Frames in a row out of sight after which an object dies."""
    unfound_after: int | None = None
    """Looks in a row in which the finder did not find an object that is in sight, after which it dies; None: never."""
    renew: bool = False
    """An object that is found again is followed on from what was found: as it is to be with a tracker that drifts and
    a finder that does not."""
    same_iou: float = 0.5
    """Two masks that agree so far are one object."""
    inside: float = 0.7
    """A find of which so much lies on followed objects of its class is a part of them, and not born."""
    parts: bool = False
    """Parts are objects too: only what is the same as a followed object is not born."""
    background: float = 0.5
    """What covers so much of the frame is a background: what lies in it is no part of it."""
    smallest: float = 2e-4
    """Share of the frame under which nothing is born."""

    def __post_init__(self) -> None:
        for name in ("every", "max_objects", "forget_after"):
            _check_whole(name, getattr(self, name), 1)
        if self.unfound_after is not None:
            _check_whole("unfound_after", self.unfound_after, 1)
        for name in ("same_iou", "inside", "background", "smallest"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)!r} must be a share, from 0 to 1")
        if self.first not in ("score", "area"):
            raise InputError(f"first={self.first!r} is unknown; choose 'score' or 'area'")


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}={value!r} must be a whole number, {least} or more")
