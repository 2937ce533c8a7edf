"""Encode the next frame on a thread while the last one is tracked: encoding needs no memory of earlier frames.

Sessions do so where one object is tracked by a small network; see `docs/internals/builtin_time.md`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from masklet.cpu_threads import take_share, thread_limit
from masklet.media import Frame
from masklet.media.prefetch import Prefetcher
from masklet.video.tracker import EncodedFrame, Tracker

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EncodeAhead"]

START_TIMEOUT_S = 2.0
"""How long a pass waits for its thread to begin."""


class EncodeAhead(Iterator[Frame]):
    """Iterate over `frames`, with the features of each in the cache of `tracker`.

    A thread is at most two frames ahead. It has half of the threads of PyTorch, and the caller has the others within
    `share_threads`. On other devices than the CPU, or if PyTorch has one thread, there is none, and each frame is
    encoded when it is tracked.

    Example:
        >>> with EncodeAhead(tracker, video.frames()) as frames:
        ...     for frame in frames:
        ...         with frames.share_threads():
        ...             rows = tracker.track_frame(frame, objects, False)
    """

    def __init__(self, tracker: Tracker, frames: Iterator[Frame], *, wanted: bool = True) -> None:
        self.tracker, self.frames, threads = tracker, frames, thread_limit()
        self.encoded: Prefetcher[EncodedFrame] | None = None
        self.waited_ms = 0.0
        """How long the last frame was waited for; reading it is counted only if it was read ahead."""
        if wanted and threads > 1 and tracker.network.device.type == "cpu":
            started = threading.Event()

            def encode_each() -> Iterator[EncodedFrame]:  # it knows no `self`: a pass that nobody holds must end
                take_share(threads // 2, threads)
                started.set()
                for frame in frames:
                    yield tracker.encode_unless_cached(frame)

            self.encoded = Prefetcher(encode_each(), capacity=1)
            started.wait(START_TIMEOUT_S)
            take_share(threads, threads)  # a new thread begins with the number that any thread set last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.encoded is not None:
            self.encoded.close()

    def __next__(self) -> Frame:
        if self.encoded is None:
            return next(self.frames)
        began = time.perf_counter()
        one = next(self.encoded)
        self.tracker.store_features(one)
        self.waited_ms = 1e3 * (time.perf_counter() - began)
        return one.frame

    @contextmanager
    def share_threads(self) -> Iterator[None]:
        """Run a block with the threads of PyTorch that encoding does not have."""
        threads = thread_limit()
        if self.encoded is None or threads < 2:
            yield
            return
        take_share(threads - threads // 2, threads)
        try:
            yield
        finally:
            take_share(threads, threads)
