"""How to follow, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field

from masklet.errors import InputError
from masklet.video.memory_selection import MemorySelector, RecentFrames

__all__ = ["AutoTrackOptions", "TrackOptions"]


@dataclass(frozen=True)
class TrackOptions:
    """How objects are followed through a video.

    Example:
        >>> model.session("clip.mp4", options=TrackOptions(keep="all", exclusive=True))

    Raises:
        InputError: a value outside its range.
    """

    retain: str = "recent"
    """recent: what can still be looked at, memory does not grow. all: everything, to come back and edit."""
    memory_selector: MemorySelector = field(default_factory=RecentFrames)
    """Which earlier frames to look at."""
    corrections: str = "kept"
    """kept: a corrected frame counts as a prompted one from then on. published: as facebookresearch/sam2 1.1 does, it
    is looked at only until it is tracked again."""
    non_overlapping: bool = False
    """Objects do not overlap: each place belongs to the one that is surest, before memory is written."""
    fill_hole_area: int = 8
    """Holes and specks of at most so many cells of the mask map are cleared from what is shown; 0: none."""
    objects_per_batch: int = 8
    """Objects in one batch; more take turns, so that memory stays bounded."""
    lost_after: int = 25
    """Frames out of sight after which an object is called lost, no longer occluded."""

    def __post_init__(self) -> None:
        for name, choices in (("keep", ("recent", "all")), ("corrections", ("kept", "published"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name}={getattr(self, name)!r} is unknown; choose {' or '.join(map(repr, choices))}")
        for name, least in (("clean", 0), ("objects_at_once", 1), ("lost_after", 1)):
            _check_integer(name, getattr(self, name), least)


@dataclass(frozen=True)
class AutoTrackOptions:
    """How objects that nobody pointed at are found, joined with those that are followed, and let go of.

    Example:
        >>> model.follow("clip.mp4", options=FollowOptions(every=5, max_objects=12))

    Raises:
        InputError: a value outside its range.
    """

    detect_every: int = 10
    """The finder looks at the first frame and at every so many-th after it."""
    identities: bool = True
    """Objects keep their ids through the video. False: every frame is looked at by itself and numbered anew."""
    max_objects: int = 32
    """So many are followed at once. Those that are keep their places; newcomers wait until one has gone."""
    sort_by: str = "score"
    """Who comes first where places are few, and who is the whole and who the part: "score", the surest, or "area",
    the largest."""
    max_missing_frames: int = 25
    """Frames in a row out of sight after which an object dies."""
    max_undetected: int | None = None
    """Looks in a row in which the finder did not find an object that is in sight, after which it dies; None: never."""
    reinit_on_match: bool = False
    """An object that is found again is followed on from what was found: as it is to be with a tracker that drifts and
    a finder that does not."""
    match_iou: float = 0.5
    """Two masks that agree so far are one object."""
    part_overlap: float = 0.7
    """A find of which so much lies on followed objects of its class is a part of them, and not born."""
    parts: bool = False
    """Parts are objects too: only what is the same as a followed object is not born."""
    background_area: float = 0.5
    """What covers so much of the frame is a background: what lies in it is no part of it."""
    min_area: float = 2e-4
    """Share of the frame under which nothing is born."""

    def __post_init__(self) -> None:
        for name in ("every", "max_objects", "forget_after"):
            _check_integer(name, getattr(self, name), 1)
        if self.max_undetected is not None:
            _check_integer("unfound_after", self.max_undetected, 1)
        for name in ("same_iou", "inside", "background", "smallest"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)!r} must be a share, from 0 to 1")
        if self.sort_by not in ("score", "area"):
            raise InputError(f"first={self.sort_by!r} is unknown; choose 'score' or 'area'")


def _check_integer(name: str, value: object, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise InputError(f"{name}={value!r} must be a whole number, {minimum} or more")
