"""Frames and their features, held as long as someone may come back to them.

A film is read when a frame is needed; a stream is read once, and its last frames are held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from masklet.errors import StateError
from masklet.media import Frame, Video
from masklet.models.types import ImageFeatures

__all__ = ["FeatureCache", "FilmFrames", "Frames", "PushedFrames", "StreamFrames"]

HELD = 4
"""Features of so many frames are held: 17 MB each at 1024."""
STREAM_FRAMES = 16
"""Pictures of so many frames of a stream are held, for prompts that come a little late."""


class FeatureCache:
    """The features of the last few frames that were asked for."""

    def __init__(self, held: int = HELD) -> None:
        self.held = held
        self._features: OrderedDict[int, ImageFeatures] = OrderedDict()

    def get(self, frame: int) -> ImageFeatures | None:
        """Features of `frame`, or None."""
        if frame in self._features:
            self._features.move_to_end(frame)
        return self._features.get(frame)

    def put(self, frame: int, features: ImageFeatures) -> None:
        """Hold features, and let go of those not asked for the longest."""
        self._features[frame] = features
        while len(self._features) > self.held:
            self._features.popitem(last=False)

    def widen(self, frames: int, most: int) -> bool:
        """Hold features of so many frames, if they take `most` bytes at the most; there is one to judge by."""
        size = max(sum(t.nbytes for t in (of.embed_BCHW, *of.fine)) for of in self._features.values())
        fits = frames * size <= most
        self.held = max(self.held, frames) if fits else self.held
        return fits

    def clear(self) -> None:
        """Let go of all."""
        self._features.clear()


class FilmFrames:
    """Frames of a source that can be read anywhere."""

    def __init__(self, video: Video) -> None:
        self.video = video

    @property
    def length(self) -> int | None:
        """Number of frames, if known."""
        return self.video.count

    def frame(self, index: int) -> Frame:
        """One frame, wherever it is."""
        return self.video[index]

    def walk(self, start: int, stop: int | None, reverse: bool) -> Iterator[Frame]:
        """Frames in order, `stop` left out."""
        return self.video.frames(start, stop, reverse=reverse)


class StreamFrames:
    """Frames of a source that is read once."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self._source: Iterator[Frame] | None = None
        self._held: OrderedDict[int, Frame] = OrderedDict()
        self._next = 0

    @property
    def length(self) -> int | None:
        """Number of frames, if known."""
        return self.video.count

    def frame(self, index: int) -> Frame:
        """A frame that is still held, or the next one.

        Raises:
            StateError: it has gone by, or lies ahead.
        """
        if index in self._held:
            return self._held[index]
        if index < self._next:
            raise StateError(
                f"frame {index} of {self.video.path!r} has gone by: a stream holds its last {STREAM_FRAMES} frames, "
                f"now {min(self._held, default=0)} to {max(self._held, default=0)}; prompt one of these, or save the "
                "stream to a file and open that"
            )
        if index > self._next:
            raise StateError(
                f"frame {index} of {self.video.path!r} has not come yet: the next one is {self._next}; propagate up to "
                "it first, then prompt it"
            )
        frame = self._pull()
        if frame is None:
            raise StateError(f"{self.video.path!r} has ended: it had {self._next} frames; prompt one of them")
        return frame

    def walk(self, start: int, stop: int | None, reverse: bool) -> Iterator[Frame]:
        """Held frames from `start` on, then those to come.

        Raises:
            StateError: a stream does not run backwards.
        """
        if reverse:
            raise StateError(f"{self.video.path!r} is a stream and does not run backwards; open a file or a folder")
        index = start
        while stop is None or index < stop:
            if index in self._held:
                frame = self._held[index]
            elif index < self._next:
                index += 1  # could not be read when it came, or has gone by
                continue
            else:
                pulled = self._pull()
                if pulled is None:
                    return
                frame = pulled
            if stop is not None and frame.index >= stop:
                return
            yield frame
            index = frame.index + 1

    def _pull(self) -> Frame | None:
        if self._source is None:
            self._source = iter(self.video)
        frame = next(self._source, None)
        if frame is not None:
            self._held[frame.index] = frame
            self._next = frame.index + 1
            while len(self._held) > STREAM_FRAMES:
                self._held.popitem(last=False)
        return frame


class PushedFrames:
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

    def walk(self, start: int, stop: int | None, reverse: bool) -> Iterator[Frame]:
        """Not for a live view.

        Raises:
            StateError: always.
        """
        raise StateError("a live view is not propagated: hand each frame to live.step(rgb)")


Frames = FilmFrames | StreamFrames | PushedFrames
