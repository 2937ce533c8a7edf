"""The interface of videos: `Frame`, `Video`, and `SeekableVideo` for videos whose frames can be read in any order."""

from __future__ import annotations

import operator
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from masklet.errors import MaskletWarning, SourceError, StateError
from masklet.media.image import Pixels, format_size
from masklet.media.prefetch import Prefetcher

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Frame", "FrameRangeError", "FrameWarning", "SeekableVideo", "Video", "frame_size_error"]

BUFFER_BYTES = 128 * 1024 * 1024
"""Memory for frames decoded before their turn, to read backward and at random."""
CACHED_FRAMES = 16


class FrameRangeError(SourceError, IndexError):
    """The video has no frame of this number."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a video.

    `rgb` is uint8 (H, W, 3), red first, upright. `path` is the video, or the image of a folder; `index` counts from 0
    and includes frames that could not be read; `time` is in seconds since the video's beginning, or None if unknown.

    Example:
        >>> import numpy as np
        >>> Frame(np.zeros((480, 640, 3), np.uint8), "clip.mp4", 12, 0.4).size
        (480, 640)
    """

    rgb: Pixels
    path: str
    index: int
    time: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.rgb.shape[0]), int(self.rgb.shape[1])


@dataclass(frozen=True)
class FrameWarning:
    """A loss between two frames; it becomes a MaskletWarning on the thread that reads."""

    message: str


FrameOrWarning = Frame | FrameWarning


class Video(ABC):
    """An iterable of frames, with what is known about them before they are read.

    `path` names it, `live` says whether it continues without waiting for the reader, `seekable` whether any frame can
    be read at any time.

    Example:
        >>> with open_video("clip.mp4") as video:  # doctest: +SKIP
        ...     for frame in video:
        ...         print(frame.index, frame.time, frame.size)
    """

    live = False
    seekable = False
    pixel_aspect = Fraction(1)
    """Width of a pixel by its height, upright; players stretch the frames by it."""

    def __init__(self, path: str, prefetch_frames: int) -> None:
        self.path = path
        self._prefetch_frames = prefetch_frames
        self._prefetchers: weakref.WeakSet[Prefetcher[FrameOrWarning]] = weakref.WeakSet()
        self._closed = False

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width) of every frame, in pixels, upright."""

    @property
    @abstractmethod
    def fps(self) -> float | None:
        """Average frames per second; None: unknown."""

    @property
    @abstractmethod
    def num_frames(self) -> int | None:
        """Exact number of frames, lost ones included; None: unknown."""

    @property
    def expected_num_frames(self) -> int | None:
        """`num_frames`, or an estimate of it from the video's header; None: unknown."""
        return self.num_frames

    @property
    def dropped(self) -> int:
        """Number of frames of a live source discarded because they came too fast."""
        return 0

    @abstractmethod
    def frames(self, start: int | None = None, stop: int | None = None, *, reverse: bool = False) -> Iterator[Frame]:
        """Read the frames from `start` (default: the first) to before `stop` (default: the end), ahead on a thread.

        `reverse=True` reads `start` (default: the last), `start - 1` ... to after `stop` (default: to 0). Frames that
        cannot be read are left out with a MaskletWarning; later ones keep their numbers.

        Raises:
            FrameRangeError: if there is no frame `start`.
            StateError: after `close()`, or if a forward-only source has to go back.
            SourceError: if reading ends early.
        """

    @abstractmethod
    def __getitem__(self, index: int) -> Frame:
        """Read frame `index`, with the same pixels as in order."""

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading ahead and release files and devices; may be called twice."""
        self._closed = True
        for reader in list(self._prefetchers):
            reader.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StateError(f"{self.path!r} is closed; frames come while it is open: open it again with open_video")

    def _prefetch(self, items: Iterator[FrameOrWarning]) -> Generator[Frame, None, None]:
        """Read `items` ahead on a thread; a `FrameWarning` becomes a warning on the thread that reads."""
        with Prefetcher(items, self._prefetch_frames) as reader:
            self._prefetchers.add(reader)
            yield from self._with_warnings(reader)

    def _with_warnings(self, items: Iterator[FrameOrWarning]) -> Generator[Frame, None, None]:
        for item in items:
            self._check_open()
            if isinstance(item, Frame):
                yield item
            else:
                warnings.warn(item.message, MaskletWarning, stacklevel=3)
        self._check_open()


class SeekableVideo(Video):
    """A video whose frames can be read in any order, over one method that reads forward from anywhere."""

    seekable = True

    def __init__(self, path: str, prefetch_frames: int) -> None:
        super().__init__(path, prefetch_frames)
        self._cache: OrderedDict[int, Frame] = OrderedDict()
        self._cursor: Generator[FrameOrWarning, None, None] | None = None
        self._cursor_index = 0
        self._lock = threading.Lock()

    @abstractmethod
    def _read(self, start: int, stop: int | None) -> Generator[FrameOrWarning, None, None]:
        """Read frames from `start` to before `stop` on the calling thread."""

    def _decode_start(self, index: int) -> int:
        """Return the frame from which decoding frame `index` costs least."""
        return index

    def frames(self, start: int | None = None, stop: int | None = None, *, reverse: bool = False) -> Iterator[Frame]:
        """See Video."""
        self._check_open()
        if reverse:
            if start is not None:
                first = self._validate_index(start)
            elif self.num_frames is not None:
                first = self.num_frames - 1
            else:
                first = max((item.index for item in self._read(0, None) if isinstance(item, Frame)), default=-1)
            return self._prefetch(self._read_backward(first, 0 if stop is None else max(0, stop + 1)))
        first = 0 if start is None else start
        if first < 0 or first > (first if self.num_frames is None else self.num_frames):
            raise self._frame_range_error(first)
        return self._prefetch(self._read(first, stop))

    def __getitem__(self, index: int) -> Frame:
        """See Video. Negative numbers count from the end, where the end is known."""
        self._check_open()
        number = operator.index(index)
        if number < 0 and self.num_frames is not None:
            number += self.num_frames
        with self._lock:
            number = self._validate_index(number, requested=index)
            if number not in self._cache:
                self._fill_cache(number)
            if number not in self._cache:
                raise SourceError(
                    f"{self.path!r}: frame {number} cannot be decoded, it is damaged or missing; "
                    "undamaged frames are needed: choose another frame, or copy the video again"
                )
            self._cache.move_to_end(number)
            frame = self._cache[number]
        return replace(frame, rgb=frame.rgb.copy())

    def close(self) -> None:
        """See Video."""
        super().close()
        with self._lock:
            self._cache.clear()
            self._close_cursor()

    def _validate_index(self, number: int, requested: int | None = None) -> int:
        if number < 0 or (self.num_frames is not None and number >= self.num_frames):
            raise self._frame_range_error(number if requested is None else requested)
        return number

    def _frame_range_error(self, number: int) -> FrameRangeError:
        allowed = (
            f"0 to {self.num_frames - 1}" if self.num_frames is not None else "from 0 upwards, its number is not known"
        )
        return FrameRangeError(f"{self.path!r} has no frame {number}; frames are {allowed}: choose one of these")

    def _max_buffered_frames(self) -> int:
        height, width = self.size
        return max(2, BUFFER_BYTES // (height * width * 3))

    def _read_backward(self, first: int, last: int) -> Generator[FrameOrWarning, None, None]:
        """Read from `first` down to `last`, in stretches that fit into `BUFFER_BYTES`."""
        high = first
        while high >= last:
            low = max(last, self._decode_start(high), high - self._max_buffered_frames() + 1)
            stretch = list(self._read(low, high + 1))
            while stretch:
                yield stretch.pop()
            high = low - 1

    def _fill_cache(self, number: int) -> None:
        """Read on from where the last access stopped, or from the nearest start, and cache the frames just before."""
        capacity = min(CACHED_FRAMES, self._max_buffered_frames())
        nearest = self._decode_start(number)
        if self._cursor is None or not nearest <= self._cursor_index <= number:
            self._close_cursor()
            self._cursor_index = max(nearest, number - capacity // 2)
            self._cursor = self._read(self._cursor_index, None)
        try:
            for item in self._cursor:
                if isinstance(item, FrameWarning):
                    continue
                self._cursor_index = item.index + 1
                self._cache[item.index] = item
                self._cache.move_to_end(item.index)
                if len(self._cache) > capacity:
                    self._cache.popitem(last=False)
                if item.index >= number:
                    return
        except BaseException:
            self._close_cursor()
            raise
        self._close_cursor()
        if self.num_frames is None:
            raise self._frame_range_error(number)

    def _close_cursor(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
        self._cursor = None


def frame_size_error(path: str, number: int, expected: tuple[int, int], found: tuple[int, int]) -> SourceError:
    """Return the error for a video whose frames differ in size."""
    return SourceError(
        f"{path!r}: frame {number} is {format_size(found)}, the frames before it are {format_size(expected)}; "
        f"all frames of a video have one size: stop before frame {number}, or scale or cut the video to one size"
    )
