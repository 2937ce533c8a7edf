"""What to look at in a tracked video: frames in doubt, and what a new run of tracking has changed.

Both are computed from what the project stores, so that they cost no tracking. T frames, N objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from masklet.masks import rle
from masklet.projects import Project, ProjectSource
from masklet.video.doubts import Doubt, observe, rank_doubts

__all__ = ["MaskDifference", "find_differences", "find_doubts"]

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


def find_doubts(project: Project, source: ProjectSource, limit: int | None) -> list[Doubt]:
    """Rank the frames of a source by `masklet.video.rank_doubts`; frames that people set or verified count as prompted.

    Raises:
        InputError: if the limit is below 1.
    """
    step = max(1, round(max(source.size) / OBSERVED_CELLS))
    prompted = {(one.object_id, one.frame) for one in project.prompts(source)}
    observations = []
    frames: dict[int, list[int]] = {}
    for one in project.masks(source, with_rle=False):
        frames.setdefault(one.frame, []).append(one.object_id)
    for frame in sorted(frames):
        rows = [one for one in project.masks(source, frame, frame + 1) if one.rle is not None]
        if rows:
            observations += observe(
                frame,
                [one.object_id for one in rows],
                np.stack([one.mask[::step, ::step] for one in rows]),
                [1.0 if one.score is None else one.score for one in rows],
                [SEEN_SCORE if one.state == "visible" else -SEEN_SCORE for one in rows],
                [one.object_id for one in rows if one.is_of_person or (one.object_id, frame) in prompted],
            )
    return rank_doubts(observations, limit)


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
        mask, other = now.mask, rle.decode({"size": list(source.size), "counts": old})
        union = int(np.count_nonzero(mask | other))
        iou = int(np.count_nonzero(mask & other)) / union if union else 1.0
        if iou < CHANGED_IOU:
            found.append(MaskDifference(object_id, frame, round(iou, 4)))
    return found
