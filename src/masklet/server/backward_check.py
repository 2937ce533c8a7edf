"""Track a video backward while nothing else waits, and compare: where both directions part, one of them is wrong.

Each object starts from the last of its masks that has pixels. Nothing is stored in the project.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from masklet.masks import rle
from masklet.projects import ProjectSource
from masklet.results import Results
from masklet.server.api_errors import ApiError
from masklet.server.model_queue import IDLE, ModelQueue
from masklet.server.video_review import FrameKey, frame_keys, observed_step
from masklet.server.work_sessions import WorkSession
from masklet.video.doubts import disagreements

if TYPE_CHECKING:
    from masklet.sam import SAM
    from masklet.video import Session

__all__ = ["BackwardCheck"]

Masks = dict[tuple[int, int], npt.NDArray[np.bool_]]
"""By frame and object, with every so many rows and columns left out."""


class BackwardCheck:
    """One run over a source, one frame a step; it ends early when the project changes or it is stopped."""

    def __init__(self, session: WorkSession, queue: ModelQueue, source: ProjectSource) -> None:
        self.session, self.queue, self.source = session, queue, source
        self.stopped = False
        self.ended = threading.Event()
        self.num_frames = 0
        self._revision = session.project.revision
        self._keys: dict[int, FrameKey] = {}
        self._forward: Masks = {}
        self._backward: Masks = {}
        self._tracking: Session | None = None
        self._results: Iterator[Results] | None = None
        self._entry = (self.stop, self.ended)
        session.jobs.append(self._entry)

    def stop(self) -> None:
        """Stop before the next frame; any thread may call it."""
        self.stopped = True

    def step(self) -> Future[bool]:
        """Queue the next frame; False: there is none, and what was found is in the doubts of the session.

        Raises:
            ApiError: if the queue is full.
        """

        def work(model: SAM) -> bool:
            if self.stopped or self.session.project.revision != self._revision:
                self.stopped = True
                return False
            if self._results is None:
                self._results = self._start(model)
            results = next(self._results, None)
            if results is None:
                self.session.doubts.set_backward(
                    self.source.id, self._keys, disagreements(self._forward, self._backward)
                )
                return False
            self._compare(results)
            return True

        return self.queue.submit(work, IDLE)

    def finish(self) -> None:
        """Release the video; waits for the thread of the model."""
        self.stopped = True

        def work(model: SAM) -> None:
            if self._tracking is not None:
                self._tracking.close()

        try:
            with suppress(ApiError):  # the server stops
                self.queue.submit(work, bounded=False).result()
        finally:
            self.ended.set()
            with suppress(ValueError):
                self.session.jobs.remove(self._entry)

    def _start(self, model: SAM) -> Iterator[Results]:
        """Open the video and prompt each object with its last mask."""
        project, source = self.session.project, self.source
        self._keys = frame_keys(project, source)
        last: dict[int, int] = {}
        for one in project.masks(source, with_rle=False):
            if one.state == "visible" and not one.is_dropped:
                last[one.object_id] = max(one.frame, last.get(one.object_id, 0))
        if len(self._keys) < 2 or not last:
            return iter(())
        self._tracking = model.session(project.open_source(self.session.open(source.id).source))
        for object_id, frame in last.items():
            mask = project.mask(object_id, frame)
            if mask is not None and mask.rle is not None and mask.mask.any():
                self._tracking.add_prompt(object_id, frame, mask=mask.mask)
        if not self._tracking.object_ids:
            return iter(())
        first = min(self._keys)
        return self._tracking.propagate(max(last.values()), first - 1 if first else None, reverse=True)

    def _compare(self, results: Results) -> None:
        """Note the masks of both directions on a frame."""
        self.num_frames += 1
        frame, step = int(results.frame_idx or 0), observed_step(self.source)
        stored = {one.object_id: one for one in self.session.project.masks(self.source, frame, frame + 1)}
        assert results.masks is not None, "tracking has masks"
        for row, object_id in enumerate(results.ids.tolist()):
            known = stored.get(object_id)
            if known is not None and known.rle is not None:
                self._forward[frame, object_id] = rle.decode({**known.rle})[::step, ::step]
                self._backward[frame, object_id] = results.masks.data[row, ::step, ::step].copy()
