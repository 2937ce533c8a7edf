"""Frames and their features, held as long as someone may come back to them.

A video is read when a frame is needed; a stream is read once, and its last frames are held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from masklet.errors import StateError
from masklet.media import Frame, Video
from masklet.models.types import ImageFeatures

__all__ = ["FeatureCache", "FrameProvider", "PushFrames", "SeekableFrames", "StreamFrames"]

DEFAULT_CAPACITY = 4
"""Features of so many frames are held: 17 MB each at 1024."""
STREAM_BUFFER_FRAMES = 16
"""Images of so many frames of a stream are held, for prompts that come a little late."""


class FeatureCache:
    """The features of the last few frames that were asked for."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self.capacity = capacity
        self._features: OrderedDict[int, ImageFeatures] = OrderedDict()

    def get(self, frame_idx: int) -> ImageFeatures | None:
        """Features of `frame`, or None."""
        if frame_idx in self._features:
            self._features.move_to_end(frame_idx)
        return self._features.get(frame_idx)

    def put(self, frame_idx: int, features: ImageFeatures) -> None:
        """Hold features, and let go of those not asked for the longest."""
        self._features[frame_idx] = features
        while len(self._features) > self.capacity:
            self._features.popitem(last=False)

    def reserve(self, num_frames: int, max_bytes: int) -> bool:
        """Hold features of so many frames, if they take `most` bytes at the most; there is one to judge by."""
        size = max(sum(t.nbytes for t in (of.embed_BCHW, *of.high_res_features)) for of in self._features.values())
        fits = num_frames * size <= max_bytes
        self.capacity = max(self.capacity, num_frames) if fits else self.capacity
        return fits

    def clear(self) -> None:
        """Let go of all."""
        self._features.clear()


class SeekableFrames:
    """Frames of a source that can be read anywhere."""

    def __init__(self, video: Video) -> None:
        self.video = video

    @property
    def length(self) -> int | None:
        """Number of frames, if known."""
        return self.video.num_frames

    def frame(self, index: int) -> Frame:
        """One frame, wherever it is."""
        return self.video[index]

    def iterate(self, start: int, stop: int | None, reverse: bool) -> Iterator[Frame]:
        """Frames in order, `stop` left out."""
        return self.video.frames(start, stop, reverse=reverse)


class StreamFrames:
    """Frames of a source that is read once."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self._source: Iterator[Frame] | None = None
        self._buffer: OrderedDict[int, Frame] = OrderedDict()
        self._next_index = 0

    @property
    def length(self) -> int | None:
        """Number of frames, if known."""
        return self.video.num_frames

    def frame(self, index: int) -> Frame:
        """A frame that is still held, or the next one.

        Raises:
            StateError: it has gone by, or lies ahead.
        """
        if index in self._buffer:
            return self._buffer[index]
        if index < self._next_index:
            raise StateError(
                f"frame {index} of {self.video.path!r} has gone by: a stream holds its last {STREAM_BUFFER_FRAMES} frames, "  # noqa: E501
                f"now {min(self._buffer, default=0)} to {max(self._buffer, default=0)}; prompt one of these, or save the "  # noqa: E501
                "stream to a file and open that"
            )
        if index > self._next_index:
            raise StateError(
                f"frame {index} of {self.video.path!r} has not come yet: the next one is {self._next_index}; propagate up to "  # noqa: E501
                "it first, then prompt it"
            )
        frame = self._read_next()
        if frame is None:
            raise StateError(f"{self.video.path!r} has ended: it had {self._next_index} frames; prompt one of them")
        return frame

    def iterate(self, start: int, stop: int | None, reverse: bool) -> Iterator[Frame]:
        """Held frames from `start` on, then those to come.

        Raises:
            StateError: a stream does not run backwards.
        """
        if reverse:
            raise StateError(f"{self.video.path!r} is a stream and does not run backwards; open a file or a folder")
        index = start
        while stop is None or index < stop:
            if index in self._buffer:
                frame = self._buffer[index]
            elif index < self._next_index:
                index += 1  # could not be read when it came, or has gone by
                continue
            else:
                pulled = self._read_next()
                if pulled is None:
                    return
                frame = pulled
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


class PushFrames:
    """The last frame that somebody pushed in."""

    def __init__(self, length: int | None = None) -> None:
        self.length = length
        self.last: Frame | None = None

    def frame(self, index: int) -> Frame:
        """The last frame.

        Raises:
            StateError: another one.
        """
        if self.last is None or self.last.index != index:
            shown = "none came yet" if self.last is None else f"the last one is {self.last.index}"
            raise StateError(f"frame {index} is not here: {shown}; only the last frame of a live view can be prompted")
        return self.last

    def iterate(self, start: int, stop: int | None, reverse: bool) -> Iterator[Frame]:
        """Not for a live view.

        Raises:
            StateError: always.
        """
        raise StateError("a live view is not propagated: hand each frame to live.step(rgb)")


FrameProvider = SeekableFrames | StreamFrames | PushFrames
