"""What to look at in a tracked video: frames in doubt, and what a new run of tracking has changed.

Both are computed from what the project stores, so that they cost no tracking. T frames, N objects.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from masklet.masks import rle
from masklet.masks.ops import iou
from masklet.projects import Project, ProjectMask, ProjectSource
from masklet.video.doubts import Doubt, Observation, observe, rank_doubts

__all__ = ["DoubtFinder", "MaskDifference", "find_differences", "frame_keys", "observed_step"]

FrameKey = tuple[tuple[ProjectMask, bool], ...]
"""The masks of a frame without their content, and whether each has a prompt."""

OBSERVED_CELLS = 160
"""Masks are compared with about so many cells along the longer side."""
SEEN_SCORE = 6.0
"""Logit of presence that a stored state stands for: visible above 0, occluded or lost below."""
CHANGED_IOU = 0.999
"""A mask with a larger IoU with the one before has not changed."""


@dataclass(frozen=True)
class MaskDifference:
    """The IoU of a mask with what it was before; 0 if it came or went."""

    object: int
    frame: int
    iou: float


def frame_keys(project: Project, source: ProjectSource) -> dict[int, FrameKey]:
    """Return what tells the masks of each frame of a source from later ones."""
    prompted = {(one.object_id, one.frame) for one in project.prompts(source)}
    listed: dict[int, list[ProjectMask]] = {}
    for one in project.masks(source, with_rle=False):
        listed.setdefault(one.frame, []).append(one)
    return {
        frame: tuple((one, (one.object_id, frame) in prompted) for one in known)
        for frame, known in sorted(listed.items())
    }


def observed_step(source: ProjectSource) -> int:
    """Return of how many rows and columns one is observed."""
    return max(1, round(max(source.size) / OBSERVED_CELLS))


class DoubtFinder:
    """Finds doubts in the sources of a project, and reduces again only frames whose masks have changed since."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._lock = threading.Lock()
        self._seen: dict[int, dict[int, tuple[FrameKey, list[Observation]]]] = {}
        """What was observed on each frame, by source and frame, and of which masks."""
        self._backward: dict[int, dict[int, tuple[FrameKey, dict[int, float]]]] = {}
        """How much tracking backward differs from which masks, by source, frame and object."""

    def set_backward(self, source: int, keys: Mapping[int, FrameKey], found: Mapping[tuple[int, int], float]) -> None:
        """Take the `disagreements` of a source by (frame, object), which concern the masks of these keys."""
        by_frame: dict[int, tuple[FrameKey, dict[int, float]]] = {}
        for (frame, object_id), value in found.items():
            by_frame.setdefault(frame, (keys[frame], {}))[1][object_id] = value
        with self._lock:
            self._backward[source] = by_frame

    def backward(self, source: ProjectSource) -> dict[tuple[int, int], float]:
        """Return the disagreements of a source by (frame, object), of frames whose masks are the same since."""
        return self._backward_of(source.id, frame_keys(self.project, source))

    def _backward_of(self, source: int, keys: Mapping[int, FrameKey]) -> dict[tuple[int, int], float]:
        with self._lock:
            known = dict(self._backward.get(source, {}))
        return {
            (frame, object_id): value
            for frame, (key, values) in known.items()
            if keys.get(frame) == key
            for object_id, value in values.items()
        }

    def find(self, source: ProjectSource, limit: int | None) -> list[Doubt]:
        """Rank the frames of a source by `masklet.video.doubts.rank_doubts`.

        Frames that people set or verified count as prompted.

        Raises:
            InputError: if the limit is below 1.
        """
        project, step, keys = self.project, observed_step(source), frame_keys(self.project, source)
        with self._lock:
            before, now = self._seen.get(source.id, {}), {}
            for frame, key in keys.items():
                now[frame] = before[frame] if frame in before and before[frame][0] == key else (key, [])
                if now[frame] is before.get(frame):
                    continue
                rows = [one for one in project.masks(source, frame, frame + 1) if one.rle is not None]
                if rows:
                    observed = observe(
                        frame,
                        [one.object_id for one in rows],
                        np.stack([one.mask[::step, ::step] for one in rows]),
                        [1.0 if one.score is None else one.score for one in rows],
                        [SEEN_SCORE if one.state == "visible" else -SEEN_SCORE for one in rows],
                        [one.object_id for one, has_prompt in key if one.is_of_person or has_prompt],
                    )
                    now[frame] = (key, observed)
            self._seen[source.id] = now
        observations = [one for _, observed in now.values() for one in observed]
        return rank_doubts(observations, limit, self._backward_of(source.id, keys))


def find_differences(project: Project, source: ProjectSource, since: int) -> list[MaskDifference]:
    """Compare the masks of a source with what they were at a revision; those that are the same are left out."""
    before: dict[tuple[int, int], str | None] = {}
    revision = since
    while changes := project.changes_since(revision):
        revision = changes[-1].revision
        for change in changes:
            row = change.before or change.after
            if change.table == "masks" and row is not None:
                content = None if change.before is None else change.before["content"]
                before.setdefault((int(row["object"]), int(row["frame"])), content)
    ids = {one.id for one in project.objects(source)}
    found = []
    for (object_id, frame), content in sorted(before.items(), key=lambda item: (item[0][1], item[0][0])):
        if object_id not in ids:
            continue
        now = project.mask(object_id, frame)
        old = None if content is None else project.mask_content(content)
        if old is None or now is None or now.rle is None:
            if old is not None or (now is not None and content is None):
                found.append(MaskDifference(object_id, frame, 0.0))
            continue
        if old == now.rle["counts"]:
            continue
        same = iou(now.mask, rle.decode({"size": list(source.size), "counts": old}))
        if same < CHANGED_IOU:
            found.append(MaskDifference(object_id, frame, round(same, 4)))
    return found
