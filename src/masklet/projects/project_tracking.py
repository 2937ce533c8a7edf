"""Track the objects of a project with a session, and store the masks as they come.

Nothing of torch is imported: the model comes from the caller.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, MaskletWarning, StateError
from masklet.masks import rle
from masklet.media import Video
from masklet.projects.project_records import PERSON_ORIGINS, ProjectPrompt, ProjectSource
from masklet.results import Results

if TYPE_CHECKING:
    from masklet.projects.open_project import Project

__all__ = ["FRAMES_PER_ACTION", "TrackingModel", "TrackingSession", "track_objects"]

REMEMBERED_FRAMES = 6
"""Frames before the first tracked one whose stored masks are memory: as many as SAM 2 attends to."""
MIN_REMEMBERED_SCORE = 0.5
"""A mask of a model with a lower predicted IoU ends them: tracking may have gone wrong there already."""
FRAMES_PER_ACTION = 16
"""Frames whose masks are stored together; what a killed process loses at most."""


class TrackingSession(Protocol):
    """The part of `masklet.video.Session` that tracking into a project uses."""

    @property
    def add_prompt(self) -> Callable[..., Results]:
        """A method that prompts an object (first argument) on a frame with points, labels, a box or a mask."""

    def propagate(
        self, start: int | None = None, stop: int | None = None, *, bidirectional: bool = False
    ) -> Iterator[Results]:
        """Track all objects and yield one `Results` a frame."""


class TrackingModel(Protocol):
    """A model that opens sessions, such as `SAM`; its `info().name`, if it has one, is the author of the masks."""

    def session(self, source: Video) -> AbstractContextManager[TrackingSession]:
        """Open a video to track objects in it."""


def track_objects(
    project: Project,
    source: ProjectSource,
    model: TrackingModel,
    object_ids: Sequence[int] | None,
    start: int | None,
    stop: int | None,
    bidirectional: bool,
    author: str | None,
) -> Iterator[Results]:
    """Track objects of a source; see `Project.track`, which has the arguments."""
    info = getattr(model, "info", None)
    by = author or (str(info().name) if callable(info) else type(model).__name__)
    run = time.time_ns()
    prompted = _prompts(project, source, object_ids)
    if not prompted:
        raise StateError(
            f"no object of {source.name} that is not locked has a prompt or a mask of a person, so there is nothing to "
            "track: set_prompt(object, frame, points=[x, y]) first"
        )

    def results() -> Iterator[Results]:
        pending: list[Results] = []
        with project.open_source(source) as video, model.session(video) as session:
            for object_id, frame, prompt in prompted:
                session.add_prompt(object_id, frame, **prompt)
            remember = getattr(session, "remember", None)
            if start and not bidirectional and remember is not None:
                for object_id, frame, mask in _memories(project, source, prompted, start):
                    remember(object_id, frame, mask)
            try:
                for one in session.propagate(start, stop, bidirectional=bidirectional):
                    pending.append(one)
                    if len(pending) >= FRAMES_PER_ACTION:
                        _store(project, source, pending, by, run)
                        pending = []
                    yield one
            finally:  # also when the caller stops early
                _store(project, source, pending, by, run)

    return results()


def _prompts(
    project: Project, source: ProjectSource, object_ids: Sequence[int] | None
) -> list[tuple[int, int, dict[str, Any]]]:
    """Return (object, frame, prompt) for a session, by frame: stored prompts, or masks of people that are as new.

    Points off an object alone refine the mask that it has there, so that mask takes their place.
    """
    editable = {obj.id for obj in project.objects(source.id) if not obj.locked}
    chosen = editable if object_ids is None else editable.intersection(object_ids)
    stored = {(one.object_id, one.frame): one for one in project.prompts(source.id) if one.object_id in chosen}
    persons = {
        (one.object_id, one.frame): one
        for one in project.masks(source.id, with_rle=False)
        if one.is_of_person and one.object_id in chosen
    }
    found = []
    for object_id, frame in sorted({*stored, *persons}, key=lambda key: (key[1], key[0])):
        given = stored.get((object_id, frame))
        drawn = persons.get((object_id, frame))
        is_redrawn = given and drawn and drawn.origin in PERSON_ORIGINS and drawn.at >= given.at
        prompt = {} if is_redrawn else _keywords(given)
        if not prompt:
            mask = project.mask(object_id, frame)
            if mask is None or mask.rle is None:
                warnings.warn(
                    f"object {object_id} has only points off it on frame {frame}, and no mask that they refine, so "
                    "they are left out: add a point on it",
                    MaskletWarning,
                    stacklevel=5,
                )
                continue
            prompt = {"mask": mask.mask}
            if not prompt["mask"].any():  # out of sight: nothing to point at
                continue
        found.append((object_id, frame, prompt))
    return found


def _memories(
    project: Project, source: ProjectSource, prompted: Sequence[tuple[int, int, Any]], start: int
) -> list[tuple[int, int, npt.NDArray[np.bool_]]]:
    """Return (object, frame, mask) for the frames before `start` through which objects were tracked.

    Of each object they go back from `start` to its last prompt, or to a frame without a mask or with an unsure one.
    What was tracked up to a correction is left out: it is what went wrong.
    """
    last = {object_id: frame for object_id, frame, _ in prompted if frame <= start}
    begin = max(0, start - REMEMBERED_FRAMES)
    stored = {(one.object_id, one.frame): one for one in project.masks(source.id, begin, start)}
    found = []
    for object_id, last_frame in last.items():
        for frame in range(start - 1, max(begin - 1, last_frame), -1):
            one = stored.get((object_id, frame))
            if one is None or one.rle is None:
                break
            if not one.is_of_person and one.score is not None and one.score < MIN_REMEMBERED_SCORE:
                break
            found.append((object_id, frame, one.mask))
    return sorted(found, key=lambda item: item[1])


def _keywords(stored: ProjectPrompt | None) -> dict[str, Any]:
    """Return a stored prompt as a session takes it; empty if it has only points off the object."""
    if stored is None or (stored.box is None and stored.mask is None and not any(stored.labels or ())):
        return {}
    given = {
        "points": stored.points,
        "labels": stored.labels,
        "box": stored.box,
        "mask": None if stored.mask is None else rle.decode({**stored.mask}),
    }
    return {name: value for name, value in given.items() if value is not None}


def _store(project: Project, source: ProjectSource, pending: Sequence[Results], author: str, run: int) -> None:
    """Store the masks of some frames in one action, except where people made or verified one or locked the object."""
    rows = [(results, row) for results in pending if results.masks is not None for row in range(len(results))]
    if not rows:
        return
    frames = [int(results.frame_idx or 0) for results in pending]
    with project.action("track", author, f"{source.name}: frames {min(frames)} to {max(frames)}", run=run):
        try:
            editable = {obj.id for obj in project.objects(source.id) if not obj.locked}
        except InputError:  # the source was deleted meanwhile
            return
        kept = {
            (one.object_id, one.frame)
            for one in project.masks(source.id, min(frames), max(frames) + 1, with_rle=False)
            if one.is_of_person
        }.union(project.verified(source.id))
        for results, row in rows:
            object_id, frame = int(results.ids[row]), int(results.frame_idx or 0)
            assert results.masks is not None, "checked above"
            if object_id in editable and (object_id, frame) not in kept:
                project.set_mask(
                    object_id,
                    frame,
                    results.masks.data[row],
                    state="visible" if results.states is None else results.states[row],
                    score=min(1.0, max(0.0, float(results.scores[row]))),
                    origin="track",
                    author=author,
                )
