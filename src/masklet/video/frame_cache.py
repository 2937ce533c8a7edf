"""Read frames and cache their features, as long as someone may come back to them.

A video is read when a frame is needed; a stream is read once, and its last frames are buffered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import RLock

from masklet.errors import StateError
from masklet.media import Frame, Video
from masklet.models.types import ImageFeatures

__all__ = ["FeatureCache", "FrameProvider", "PushFrames", "SeekableFrames", "StreamFrames"]

DEFAULT_CAPACITY = 4
"""Frames whose features are cached: 17 MB each at 1024."""
STREAM_BUFFER_FRAMES = 16
"""Frames of a stream whose images are buffered, for prompts that come a little late."""


@dataclass(eq=False, repr=False)
class FeatureCache:
    """The features of the most recently used frames."""

    capacity: int = DEFAULT_CAPACITY
    _features: OrderedDict[int, ImageFeatures] = field(default_factory=OrderedDict)

    def __contains__(self, frame_idx: int) -> bool:
        return frame_idx in self._features

    def get(self, frame_idx: int) -> ImageFeatures | None:
        """Return the features of a frame, or None."""
        if frame_idx in self._features:
            self._features.move_to_end(frame_idx)
        return self._features.get(frame_idx)

    def put(self, frame_idx: int, features: ImageFeatures) -> None:
        """Cache features, and release the least recently used ones."""
        self._features[frame_idx] = features
        while len(self._features) > self.capacity:
            self._features.popitem(last=False)

    def discard(self, frame_idx: int) -> None:
        """Release the features of a frame, if they are cached."""
        self._features.pop(frame_idx, None)

    def reserve(self, num_frames: int, max_bytes: int) -> bool:
        """Raise the capacity to `num_frames` if they fit into `max_bytes`, judged by the frames in the cache."""
        size = max(sum(t.nbytes for t in (of.embed_BCHW, *of.high_res_features)) for of in self._features.values())
        fits = num_frames * size <= max_bytes
        self.capacity = max(self.capacity, num_frames) if fits else self.capacity
        return fits

    def clear(self) -> None:
        """Release everything."""
        self._features.clear()


@dataclass(eq=False)
class _VideoFrames:
    video: Video

    @property
    def length(self) -> int | None:
        """Number of frames, if known."""
        return self.video.num_frames


class SeekableFrames(_VideoFrames):
    """Frames of a source that can be read anywhere."""

    def frame(self, index: int) -> Frame:
        """Read one frame."""
        return self.video[index]

    def iterate(self, start: int, stop: int | None, reverse: bool) -> Iterator[Frame]:
        """Read frames in order, without `stop`."""
        return self.video.frames(start, stop, reverse=reverse)


@dataclass(eq=False)
class StreamFrames(_VideoFrames):
    """Frames of a source that is read once."""

    _source: Iterator[Frame] | None = None
    _buffer: OrderedDict[int, Frame] = field(default_factory=OrderedDict)
    _next_index: int = 0
    _lock: RLock = field(default_factory=RLock)
    """A pass reads ahead on a thread, while its caller may ask for a frame."""

    def frame(self, index: int) -> Frame:
        """Return a buffered frame, or read the next one.

        Raises:
            StateError: if it has left the buffer, or has not come yet.
        """
        buffered, path = self._buffer.get(index), self.video.path
        if buffered is not None:
            return buffered
        with self._lock:
            if index in self._buffer:
                return self._buffer[index]
            if index < self._next_index:
                first, last = min(self._buffer, default=0), max(self._buffer, default=0)
                raise StateError(
                    f"frame {index} of {path!r} has gone by: a stream buffers its last {STREAM_BUFFER_FRAMES} frames, "
                    f"now {first} to {last}; prompt one of these, or save the stream to a file and open that"
                )
            if index > self._next_index:
                raise StateError(
                    f"frame {index} of {path!r} has not come yet: the next one is {self._next_index}; "
                    "propagate up to it first, then prompt it"
                )
            frame = self._read_next()
            if frame is None:
                raise StateError(f"{path!r} has ended: it had {self._next_index} frames; prompt one of them")
            return frame

    def iterate(self, start: int, stop: int | None, reverse: bool) -> Iterator[Frame]:
        """Return buffered frames from `start` on, then read those to come.

        Raises:
            StateError: if `reverse`.
        """
        if reverse:
            raise StateError(f"{self.video.path!r} is a stream and does not run backwards; open a file or a folder")
        index = start
        while stop is None or index < stop:
            with self._lock:
                if index < self._next_index and index not in self._buffer:
                    index += 1  # could not be read when it came, or has left the buffer
                    continue
                frame = self._buffer[index] if index in self._buffer else self._read_next()
            if frame is None:
                return
            if stop is not None and frame.index >= stop:
                return
            yield frame
            index = frame.index + 1

    def _read_next(self) -> Frame | None:
        if self._source is None:
            self._source = iter(self.video)
        frame = next(self._source, None)
        if frame is not None:
            self._buffer[frame.index] = frame
            self._next_index = frame.index + 1
            while len(self._buffer) > STREAM_BUFFER_FRAMES:
                self._buffer.popitem(last=False)
        return frame


@dataclass(eq=False)
class PushFrames:
    """The last frame that was handed in."""

    length: int | None = None
    last: Frame | None = None

    def frame(self, index: int) -> Frame:
        """Return the last frame.

        Raises:
            StateError: if `index` is another one.
        """
        if self.last is None or self.last.index != index:
            now = "none came yet" if self.last is None else f"the last one is {self.last.index}"
            raise StateError(f"frame {index} is not here: {now}; only the last frame of a live view can be prompted")
        return self.last

    def iterate(self, start: int, stop: int | None, reverse: bool) -> Iterator[Frame]:
        """Refuse: a live view is not propagated.

        Raises:
            StateError: always.
        """
        raise StateError("a live view is not propagated: hand each frame to live.step(rgb)")


FrameProvider = SeekableFrames | StreamFrames | PushFrames
