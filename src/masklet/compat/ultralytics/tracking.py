"""The `track` of detectors: a detector finds objects, and the memory of a SAM 2 follows them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from masklet import sam
from masklet.compat.ultralytics.sources import InputImage
from masklet.errors import InputError
from masklet.media import Frame, SourceImage
from masklet.results import Results
from masklet.runtime import DeviceLike
from masklet.video import AutoTrackOptions, Detection
from masklet.video.auto_tracker import AutoTracker

__all__ = ["ObjectTracks", "open_tracker"]

ASSOCIATION_TRACKERS = ("botsort.yaml", "bytetrack.yaml")
"""Trackers of ultralytics by name: both are the model inside masklet here."""
OPTIONS = AutoTrackOptions(detect_every=1, max_missing_frames=30)


def open_tracker(tracker: str | os.PathLike[str], device: DeviceLike | None) -> sam.SAM:
    """Open the SAM 2 that follows objects: the model inside masklet, or one by its name or file.

    Raises:
        InputError: if it is another configuration of a tracker.
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
    """
    name = os.fspath(tracker)
    if name in ASSOCIATION_TRACKERS:
        return sam.SAM(device=device)
    if name.lower().endswith((".yaml", ".yml")):
        raise InputError(
            f"tracker={name!r:.60} is not possible here; {', '.join(ASSOCIATION_TRACKERS)} or a SAM 2 such as "
            "'sam2.1_t.pt' is, and masklet.SAM(...).track(video, detector=..., auto_options=AutoTrackOptions(...)) has "
            "options"
        )
    return sam.SAM(tracker, device=device)


class ObjectTracks:
    """Objects with their ids through the frames of one video after the other.

    Raises:
        ModelError: if the model is for images only.
    """

    def __init__(self, model: sam.SAM) -> None:
        self.model = model
        self._tracker: AutoTracker | None = None
        self._of: tuple[str, tuple[int, int]] | None = None
        self._next_index = 0

    def step(self, image: InputImage, detect: Callable[[SourceImage], Results]) -> Results:
        """Follow all objects into the next frame, and begin with those that are new.

        Frames of another video or of another size begin again, with ids from 1. Objects that are not visible have no
        row.
        """
        video = image.image.path if image.frame_idx is not None else ""
        if self._tracker is None or self._of != (video, image.image.size):
            network = self.model.live().tracker.network
            self._tracker = AutoTracker(network, lambda rgb: [], OPTIONS)
            self._of, self._next_index = (video, image.image.size), 0
        self._tracker.detector = lambda rgb: _detections(detect(SourceImage(rgb, image.image.path)))
        index = self._next_index if image.frame_idx is None else image.frame_idx
        self._next_index = index + 1
        found = self._tracker.step(Frame(image.image.rgb, image.image.path, index))
        if found.masks is not None:
            found = found[np.flatnonzero(found.masks.data.any(axis=(1, 2)))]
        return replace(found, frame_idx=image.frame_idx)


def _detections(found: Results) -> list[Detection]:
    """Return the rows of a detector's results."""
    return [
        Detection(
            float(found.scores[i]),
            mask=None if found.masks is None else found.masks.data[i],
            box=found.boxes.xyxy[i],
            class_id=int(found.classes[i]),
            name=found.names.get(int(found.classes[i]), str(int(found.classes[i]))),
        )
        for i in range(len(found))
    ]
