"""Label the videos of a project with a model: everything mode finds objects, and tracking carries them.

What people have verified or drawn stays, and the model tracks these objects from it. All others are found again by each
model, but for those that lie on an object of a person.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from masklet.data_engine.loop_state import LoopOptions
from masklet.masks.ops import iou
from masklet.projects import Project, ProjectSource
from masklet.results import Results
from masklet.video import AutoTrackOptions

if TYPE_CHECKING:
    from masklet.sam import SAM

__all__ = ["label_video"]

FRAMES_PER_ACTION = 16
SAME_OBJECT_IOU = 0.5


def label_video(project: Project, source: ProjectSource, model: SAM, options: LoopOptions) -> Iterator[int]:
    """Label a video, and yield the number of each frame that is done.

    Raises:
        SourceError: if the video cannot be read.
        ModelError: if the model is for images only.
    """
    seen = {one.object_id for one in project.masks(source, with_rle=False) if one.is_of_person}
    seen |= {object_id for object_id, _ in project.verified(source)}
    for obj in project.objects(source):
        if obj.id not in seen:
            project.delete_object(obj)
    if seen:
        for _ in project.track(source, model, bidirectional=True):
            pass
    tracks = dict[int, int | None]()
    by = model.info().name
    tracking = AutoTrackOptions(detect_every=options.detect_every, max_objects=options.max_objects)
    with (
        project.open_source(source) as video,
        model.track(video, everything=options.everything, auto_options=tracking) as stream,
    ):
        while frames := list(islice(stream, FRAMES_PER_ACTION)):
            with project.action("track", by, source.name):
                for results in frames:
                    _store_frame(project, source, results, tracks, by)
            yield from (results.frame_idx or 0 for results in frames)


def _store_frame(
    project: Project, source: ProjectSource, results: Results, tracks: dict[int, int | None], by: str
) -> None:
    """Store the masks of a frame; `tracks` has the object of each track, None for one that the project has already."""
    frame_idx = results.frame_idx or 0
    for row, track_id in enumerate(results.ids.tolist()):
        assert results.masks is not None
        mask = results.masks.data[row]
        if track_id not in tracks:
            if not mask.any():
                continue
            there = project.masks(source, frame_idx, frame_idx + 1)
            known = any(iou(one.mask, mask) >= SAME_OBJECT_IOU for one in there if one.rle is not None)
            tracks[track_id] = None if known else project.add_object(source, author=by).id
        object_id = tracks[track_id]
        if object_id is not None:
            state = "visible" if results.states is None else results.states[row]
            score = min(1.0, max(0.0, float(results.scores[row])))
            project.set_mask(object_id, frame_idx, mask, state=state, score=score, origin="track", author=by)
