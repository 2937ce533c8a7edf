"""Videos made of images: folders, globs, lists and arrays (`ImageSequence`), GIF and WebP (`AnimatedImage`)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from functools import partial

from PIL import Image

from masklet.damaged_files import check_regular_file, damage_named, decoder_errors
from masklet.errors import SourceError
from masklet.media.image import (
    SourceImage,
    check_image_size,
    fetch_image,
    from_file,
    from_pil,
    pillow_without_limit,
)
from masklet.media.image_source import ImageReader
from masklet.media.video import Frame, FrameOrWarning, FrameWarning, SeekableVideo, frame_size_error

__all__ = ["AnimatedImage", "ImageSequence", "is_animation", "read_image_or_warning"]

_ANIMATED = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")


class ImageSequence(SeekableVideo):
    """A video of one frame per image, in the order given; frames have no times.

    Example:
        >>> readers = [partial(from_file, "1.jpg"), partial(from_file, "2.jpg")]
        >>> ImageSequence(readers, "shots", 4).num_frames  # doctest: +SKIP
        2

    Raises:
        SourceError: if no image can be read; an image of another size raises when it is reached.
    """

    def __init__(self, readers: Sequence[ImageReader], path: str, prefetch_frames: int) -> None:
        super().__init__(path, prefetch_frames)
        assert readers
        self._frame_readers = readers
        problem = ""
        for reader in readers:
            image = read_image_or_warning(reader, 0)
            if isinstance(image, SourceImage):
                self._size = image.size
                return
            problem = problem or image.message
        raise SourceError(problem)

    @property
    def size(self) -> tuple[int, int]:
        """See Video."""
        return self._size

    @property
    def fps(self) -> float | None:
        """See Video."""
        return None

    @property
    def num_frames(self) -> int:
        """See Video."""
        return len(self._frame_readers)

    def _read(self, start: int, stop: int | None) -> Generator[FrameOrWarning, None, None]:
        for number in range(start, self.num_frames if stop is None else min(stop, self.num_frames)):
            image = read_image_or_warning(self._frame_readers[number], number)
            if isinstance(image, FrameWarning):
                yield image
                continue
            if image.size != self._size:
                raise frame_size_error(image.path, number, self._size, image.size)
            yield Frame(image.rgb, image.path, number)


def read_image_or_warning(reader: ImageReader, number: int) -> SourceImage | FrameWarning:
    """Read an image; a damaged file gives a `FrameWarning`, while a malformed array or PIL image raises."""
    try:
        return reader()
    except SourceError as problem:
        if isinstance(reader, partial) and reader.func in (from_file, fetch_image):
            return FrameWarning(f"frame {number} is left out, the frames after keep their numbers: {problem}")
        raise


class AnimatedImage(SeekableVideo):
    """An image file with several frames, read with Pillow; times are sums of the durations in the file.

    Example:
        >>> AnimatedImage("dog.gif", 4).num_frames  # doctest: +SKIP
        24

    Raises:
        SourceError: if it is damaged before the first frame.
    """

    def __init__(self, path: str, prefetch_frames: int) -> None:
        super().__init__(path, prefetch_frames)
        with pillow_without_limit(), damage_named(path, "animation"), Image.open(path) as image:
            check_image_size(*image.size, path)
            self._count = int(getattr(image, "n_frames", 1))
            self._size = from_pil(image, path).size
            seconds = _frame_duration(image)
        self._fps = 1 / seconds if seconds else None
        self._start_times: list[float | None] = [0.0 if seconds is not None else None]

    @property
    def size(self) -> tuple[int, int]:
        """See Video."""
        return self._size

    @property
    def fps(self) -> float | None:
        """See Video; from the first frame's duration."""
        return self._fps

    @property
    def num_frames(self) -> int:
        """See Video."""
        return self._count

    def _read(self, start: int, stop: int | None) -> Generator[FrameOrWarning, None, None]:
        end = self._count if stop is None else min(stop, self._count)
        check_regular_file(self.path, "video")
        with damage_named(self.path, "animation"), pillow_without_limit():
            image = Image.open(self.path)
        with image:
            # The time of `start` is the sum of all durations before it, and only decoding a frame tells its duration.
            for number in range(min(start, len(self._start_times) - 1), end):
                try:
                    with pillow_without_limit(), damage_named(self.path, "animation"):
                        image.seek(number)
                        check_image_size(*image.size, self.path)  # pages of a TIFF differ in size
                        frame_image = from_pil(image, self.path)
                except SourceError:
                    yield FrameWarning(
                        f"{self.path!r} ends early: {self._count} frames expected, {number} found; "
                        "the frames present were read: copy or download it again for the rest"
                    )
                    return
                time, seconds = self._start_times[number], _frame_duration(image)
                if number + 1 == len(self._start_times):
                    self._start_times.append(None if time is None or seconds is None else time + seconds)
                if number < start:
                    continue
                if frame_image.size != self._size:
                    raise frame_size_error(self.path, number, self._size, frame_image.size)
                yield Frame(frame_image.rgb, self.path, number, time)


def is_animation(path: str) -> bool | None:
    """Whether the image file `path` has several frames; None: it is no image that Pillow knows.

    Example:
        >>> is_animation("clip.mp4") is None  # doctest: +SKIP
        True
    """
    try:
        with pillow_without_limit(), Image.open(path) as image:
            if image.format == "MPEG":  # Pillow knows the name of these videos, not their images
                return None
            check_image_size(*image.size, path)  # counting the frames decodes some of them
            return image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1
    except SourceError:
        return False  # the reader of images says why
    except decoder_errors():
        return None


def _frame_duration(image: Image.Image) -> float | None:
    milliseconds = image.info.get("duration")
    if not isinstance(milliseconds, (int, float)) or not 0 <= milliseconds < math.inf:  # damaged, or no times
        return None
    return float(milliseconds) / 1000
