"""A run of tracking that stops between two frames, and does not keep clicks waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from masklet.media import Video
from masklet.results import Results
from masklet.server.api_errors import ApiError
from masklet.server.model_queue import TRACK, ModelQueue
from masklet.server.work_sessions import WorkSession

if TYPE_CHECKING:
    from typing_extensions import Self

    from masklet.sam import SAM, ModelInfo
    from masklet.video import Session

__all__ = ["JobStoppedError", "TrackJob"]


class JobStoppedError(Exception):
    """Tracking was canceled; what was tracked before is stored."""


class StoppableModel:
    """A model, and its session, as `Project.track` uses them; each frame of a pass asks first whether to continue.

    Between two frames of the backward part, which yields nothing, it does the clicks that wait.
    """

    def __init__(self, model: SAM, job: TrackJob) -> None:
        self.model, self.job = model, job
        self.tracking: Session | None = None

    def info(self) -> ModelInfo:
        """Return that of the model."""
        return self.model.info()

    def session(self, source: Video) -> Self:
        """Open a session on a video."""
        self.tracking = self.model.session(source)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.tracking is not None:
            self.tracking.close()

    def add_prompt(self, object_id: int, frame_idx: int, **prompt: Any) -> Results:
        """Prompt as `masklet.video.Session` does."""
        assert self.tracking is not None, "a session is opened first"
        self.job.check()
        return self.tracking.add_prompt(object_id, frame_idx, **prompt)

    def remember(self, object_id: int, frame_idx: int, mask: npt.NDArray[np.bool_]) -> None:
        """Take a mask as memory as `masklet.video.Session` does."""
        assert self.tracking is not None, "a session is opened first"
        self.job.check()
        self.tracking.remember(object_id, frame_idx, mask)

    def propagate(
        self, start: int | None = None, stop: int | None = None, *, bidirectional: bool = False
    ) -> Iterator[Results]:
        """Track as `masklet.video.Session` does."""
        assert self.tracking is not None, "a session is opened first"

        def each_frame(frame_idx: int) -> None:
            self.job.check()
            self.job.num_done += 1
            self.job.queue.run_waiting()

        return self.tracking.propagate(start, stop, bidirectional=bidirectional, progress=each_frame)


class TrackJob:
    """A run of tracking into the project of a session: one step a frame, each one piece of work for the model."""

    def __init__(self, session: WorkSession, queue: ModelQueue, request: dict[str, Any]) -> None:
        self.session, self.queue, self.request = session, queue, request
        self.num_done = 0
        """Frames of both directions; it counts in runs that go both ways alone."""
        self.stopped = False
        self.ended = threading.Event()
        self._results: Iterator[Results] | None = None
        self._deadline = time.monotonic() + session.options.limits.max_job_s
        self._entry = (self.stop, self.ended)
        session.jobs.append(self._entry)

    def stop(self) -> None:
        """Stop before the next frame; any thread may call it."""
        self.stopped = True

    def check(self) -> None:
        """Check whether to continue.

        Raises:
            JobStoppedError: if the run was stopped.
            ApiError: if it has taken longer than `max_job_s`.
        """
        if self.stopped:
            raise JobStoppedError("tracking was canceled")
        if time.monotonic() > self._deadline:
            raise ApiError(
                429,
                f"tracking took longer than max_job_s={self.session.options.limits.max_job_s:g} s, and what is done is "
                "stored: start from the next frame, or raise the limit",
            )

    def step(self) -> Future[Results | None]:
        """Queue the next frame; its result is None at the end.

        Raises:
            ApiError: if the queue is full.
        """

        def work(model: SAM) -> Results | None:
            self.check()
            if self._results is None:
                source = self.session.open(self.request["source"]).source
                self._results = self.session.project.track(
                    source,
                    StoppableModel(model, self),
                    objects=self.request.get("objects"),
                    start=self.request.get("start"),
                    stop=self.request.get("stop"),
                    bidirectional=self.request.get("bidirectional", False),
                )
            return next(self._results, None)

        return self.queue.submit(work, TRACK)

    def finish(self) -> None:
        """Store what is done and release the video; waits for the thread of the model."""
        self.stopped = True

        def work(model: SAM) -> None:
            close = getattr(self._results, "close", None)
            if close is not None:
                close()

        try:
            with suppress(ApiError):  # the server stops, and the thread of the model has stored it
                self.queue.submit(work, bounded=False).result()
        finally:
            self.ended.set()
            with suppress(ValueError):
                self.session.jobs.remove(self._entry)
