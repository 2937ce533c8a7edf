"""Choose which masks people review first, and see which they have reviewed.

The masks of a video are ranked by `masklet.video.doubts`: an uncertain mask, a jump, a change of size. Videos are
ranked together. What a person has verified is done; an object that a person deleted is done as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from masklet.data_engine.loop_state import LoopOptions, QueueEntry
from masklet.projects import Project, ProjectMask, ProjectSource
from masklet.video.doubts import Observation, observe, rank_doubts

__all__ = ["build_queue", "open_entries"]

STRIDE = 4
"""Pixels of a cell of the observed masks, as in `Session.doubts`."""
SEEN, UNSEEN = 6.0, -6.0
"""Object scores (logits) of the states that a project stores."""


def build_queue(project: Project, options: LoopOptions, round_number: int) -> tuple[QueueEntry, ...]:
    """Return the masks to look at in a round, the most doubtful first; each video that has objects takes part.

    Of each object that nobody has verified yet, the first mask is among them: it says what the object is.
    """
    ranked: list[QueueEntry] = []
    for source in project.sources:
        done = set(project.verified(source))
        ranked += [one for one in _entries(project, source) if (one.object_id, one.frame) not in done]
    if options.selection == "random":
        chooser = random.Random(f"{options.seed} {round_number}")
        everything = [
            QueueEntry(source.name, one.object_id, one.frame, 0.0)
            for source in project.sources
            for one in project.masks(source, with_rle=False)
            if not one.is_verified and one.state == "visible"
        ]
        ranked = chooser.sample(everything, len(everything))
    else:
        ranked.sort(key=lambda one: (-one.score, one.source, one.frame, one.object_id))
    return tuple(ranked[: options.reviews])


def _entries(project: Project, source: ProjectSource) -> Iterator[QueueEntry]:
    masks = project.masks(source)
    verified = {object_id for object_id, _ in project.verified(source)}
    observations = [one for _, frame in groupby(masks, lambda one: one.frame) for one in _observe(list(frame))]
    firsts = {one.object_id: one for one in reversed(masks) if one.state == "visible"}
    entries = {
        (doubt.object_id, doubt.frame_idx): QueueEntry(
            source.name, doubt.object_id, doubt.frame_idx, round(doubt.score, 4), doubt.reasons
        )
        for doubt in (rank_doubts(observations) if observations else [])
    }
    for object_id, first in firsts.items():
        if object_id not in verified:
            score = 1 - (first.score or 0.0)
            entries[object_id, first.frame] = QueueEntry(
                source.name, object_id, first.frame, round(score, 4), ("found here",)
            )
    yield from entries.values()


def _observe(masks: Sequence[ProjectMask]) -> list[Observation]:
    """Reduce the stored masks of a frame to what doubts compare."""
    readable = [one for one in masks if one.rle is not None]
    if not readable:
        return []
    return observe(
        readable[0].frame,
        [one.object_id for one in readable],
        np.stack([one.mask[::STRIDE, ::STRIDE] for one in readable]),
        [0.0 if one.score is None else one.score for one in readable],
        [SEEN if one.state == "visible" else UNSEEN for one in readable],
        [one.object_id for one in readable if one.is_of_person],
    )


def open_entries(project: Project, queue: Sequence[QueueEntry]) -> list[QueueEntry]:
    """Return the entries that nobody has reviewed yet: neither verified, nor is their object deleted."""
    objects = {one.id for one in project.objects()}
    verified = {key for source in project.sources for key in project.verified(source)}
    return [one for one in queue if one.object_id in objects and (one.object_id, one.frame) not in verified]
