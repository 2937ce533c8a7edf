"""Collect what `masklet.video.doubts` compares from the stored frames of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from masklet.errors import StateError
from masklet.video.doubts import Doubt, disagreements, observe, rank_doubts
from masklet.video.memory_bank import MemoryBank, TrackedObject
from masklet.video.scene_cuts import SceneCuts
from masklet.video.tracker import Tracker

__all__ = ["session_doubts", "track_back"]

FrameMasks = dict[tuple[int, int], npt.NDArray[np.bool_]]
"""Masks (H, W) at stride 4 by (frame, object id)."""


def session_doubts(tracker: Tracker, limit: int | None, *, check_backward: bool) -> list[Doubt]:
    """Rank the tracked frames of all objects; see `Session.doubts`.

    Raises:
        StateError: if no frame has been tracked.
        InputError: if `limit` is malformed.
    """
    masks: FrameMasks = {}
    for one in tracker.objects.values():
        for frame, state in {**one.bank.tracked, **one.bank.prompted}.items():
            if state.logits_11HW is not None and state.reverse is not None:
                masks[frame, one.id] = (state.logits_11HW[0, 0] > 0).cpu().numpy()
    if not masks:
        raise StateError("nothing has been tracked yet: add a prompt and propagate first")
    observations = []
    for frame in sorted({frame for frame, _ in masks}):
        objects = [one for one in tracker.objects.values() if (frame, one.id) in masks]
        states, ids = [one.bank[frame] for one in objects], [one.id for one in objects]
        observations += observe(
            frame,
            ids,
            np.stack([masks[frame, number] for number in ids]),
            [state.iou for state in states],
            [state.object_score for state in states],
            [one.id for one in objects if frame in one.prompts],
        )
    difference = disagreements(masks, track_back(tracker, masks)) if check_backward else None
    return rank_doubts(observations, limit, difference)


def track_back(tracker: Tracker, masks: Mapping[tuple[int, int], npt.NDArray[np.bool_]]) -> FrameMasks:
    """Track copies of all objects back to the first frame of `masks`, each from its last visible mask alone."""
    copy = Tracker(tracker.network, tracker.frames, replace(tracker.options, retain="recent"))
    copy.cache, copy.keys, copy.cuts = tracker.cache, dict(tracker.keys), SceneCuts(tracker.cuts.frames)
    starts: dict[int, int] = {}
    for (frame, number), mask in masks.items():
        if mask.any():
            starts[number] = max(frame, starts.get(number, frame))
    for number, frame in starts.items():
        state = replace(tracker.objects[number].bank[frame], reverse=None, spatial_1MHW=None, label_11HW=None)
        copy.objects[number] = TrackedObject(number, bank=MemoryBank({frame: state}))
    backward: FrameMasks = {}
    if not starts:
        return backward
    first, copy.propagation_start = min(frame for frame, _ in masks), max(starts.values())
    for image in copy.frames.iterate(copy.propagation_start, first - 1 if first else None, True):
        active = [one for one in copy.objects.values() if image.index <= starts[one.id]]
        for one, state in copy.track_frame(image, active, True):
            assert state.logits_11HW is not None
            backward[image.index, one.id] = (state.logits_11HW[0, 0] > 0).cpu().numpy()
    return backward
