"""The options of tracking, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from masklet.errors import InputError
from masklet.video.memory_policies import MEMORY_POLICIES, MemoryPolicy
from masklet.video.memory_selection import MemorySelector

__all__ = ["AutoTrackOptions", "MemoryName", "TrackOptions"]

MemoryName: TypeAlias = Literal["sam2", "sam2long", "samurai", "dam4sam"]
"""A key of `MEMORY_POLICIES`."""


@dataclass(frozen=True)
class TrackOptions:
    """How objects are tracked through a video.

    Example:
        >>> TrackOptions(retain="all", non_overlapping=True).fill_hole_area
        8

    Raises:
        InputError: if a value is outside its range.
    """

    retain: Literal["recent", "all"] = "recent"
    """recent: frames that can still be attended to, so that memory does not grow. all: every frame, to edit later."""
    memory: MemoryName = "sam2"
    """Which memories are kept and attended to, and which of three masks is taken; see
    `masklet.video.memory_policies`."""
    memory_selector: MemorySelector | None = None
    """Your own rule of which earlier frames a frame attends to; None: that of `memory`."""
    corrections: Literal["kept", "sam2"] = "kept"
    """kept: a corrected frame counts as a prompted one from then on, and an object has the very mask that it was
    prompted with. sam2: as in facebookresearch/sam2 1.1, a correction is attended to only until the frame is tracked
    again, and a mask prompt is answered with what the network's cells keep of it."""
    non_overlapping: bool | None = None
    """True: objects do not overlap, each position belongs to the most certain one before memory is encoded. False: they
    may, and each is tracked as if it were alone, as published. None: objects exclude each other, except those that lay
    in another where they were prompted, or in the frame before."""
    fill_hole_area: int = 8
    """Holes and specks of at most this many cells at stride 4 are cleared from the results; 0: none."""
    objects_per_batch: int = 8
    """Objects in one batch; more of them take turns, so that memory stays bounded."""
    scene_cuts: bool = True
    """Cuts are noticed: memories and labels of the shot before are not used after one, except those of prompts. False:
    time runs on, as published."""
    verify_returns: bool = True
    """An object that was out of sight, or in another shot, is back only if it looks like itself; for networks that
    match labels (the built-in model). False: whatever the network finds is the object."""
    lost_after: int = 25
    """Frames out of sight after which an object is "lost", no longer "occluded"."""

    def __post_init__(self) -> None:
        choices = {"retain": ("recent", "all"), "corrections": ("kept", "sam2"), "memory": tuple(MEMORY_POLICIES)}
        _check_fields(self, choices, {"fill_hole_area": 0, "objects_per_batch": 1, "lost_after": 1})

    def as_published(self) -> TrackOptions:
        """Return these options without what masklet adds to SAM 2: objects that exclude each other, and scene cuts."""
        return replace(self, non_overlapping=False, scene_cuts=False)

    @property
    def memory_policy(self) -> MemoryPolicy:
        """The policy that `memory` names, with `memory_selector` if there is one."""
        policy, selector = MEMORY_POLICIES[self.memory], self.memory_selector
        return policy if selector is None else replace(policy, selector=selector, weights_keys=False)


@dataclass(frozen=True)
class AutoTrackOptions:
    """How objects are detected without prompts, matched with those already tracked, and ended.

    Example:
        >>> AutoTrackOptions(detect_every=5, max_objects=12).match_iou
        0.5

    Raises:
        InputError: if a value is outside its range.
    """

    detect_every: int = 10
    """The detector runs on the first frame and on every so many-th after it."""
    identities: bool = True
    """Objects keep their ids through the video. False: every frame stands alone, its objects are 1, 2, ..."""
    max_objects: int = 32
    """Objects tracked at the same time. Those that are tracked stay; new ones wait until a track has ended."""
    sort_by: Literal["score", "area"] = "score"
    """The order of detections where only some can be tracked, and which of two is the object and which the part:
    "score", the most certain first, or "area", the largest first."""
    max_missing_frames: int = 25
    """Consecutive frames out of sight after which a track ends."""
    max_undetected: int | None = None
    """Consecutive detector runs without a match, while it is visible, after which a track ends; None: never."""
    reinit_on_match: bool = False
    """A track restarts from each detection that matches it: for a tracker that drifts and a detector that does not."""
    match_iou: float = 0.5
    """IoU from which two masks are one object."""
    part_overlap: float = 0.7
    """Fraction of a detection that has to lie on tracks of its class for it to be a part, and not a new object."""
    parts: bool = False
    """Track parts too: only a detection that matches a track is not new."""
    background_area: float = 0.5
    """Fraction of the frame from which an object is a background: what lies in it is no part of it."""
    min_area: float = 2e-4
    """Fraction of the frame below which a detection is ignored."""
    reidentify: bool = True
    """A new object that looks like a track that is out of sight, or has ended so, continues it. False: it has a new
    id."""
    min_similarity: float = 0.9
    """Similarity of appearance, 0 to 1, from which two objects of one class look alike."""

    def __post_init__(self) -> None:
        minimums = {"detect_every": 1, "max_objects": 1, "max_missing_frames": 1}
        if self.max_undetected is not None:
            minimums["max_undetected"] = 1
        _check_fields(self, {"sort_by": ("score", "area")}, minimums)
        for name in ("match_iou", "part_overlap", "background_area", "min_area", "min_similarity"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)!r} must be a fraction, from 0 to 1")


def _check_fields(
    options: TrackOptions | AutoTrackOptions, choices: Mapping[str, tuple[str, ...]], minimums: dict[str, int]
) -> None:
    for name, allowed in choices.items():
        if getattr(options, name) not in allowed:
            known = " or ".join(map(repr, allowed))
            raise InputError(f"{name}={getattr(options, name)!r} is unknown; choose {known}")
    for name, minimum in minimums.items():
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise InputError(f"{name}={value!r} must be a whole number, {minimum} or more")
