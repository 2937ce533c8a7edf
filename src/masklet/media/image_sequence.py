"""Films made of pictures: folders, globs, lists and arrays (`Slides`), animated GIF and WebP (`Animation`)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

from PIL import Image

from masklet.errors import SourceError
from masklet.media.image import Picture, fetch_picture, from_file, from_pil
from masklet.media.image_source import Reader
from masklet.media.video import Frame, Item, Notice, Recorded, size_change

__all__ = ["Animation", "Slides", "is_animation", "read_slide"]

_ANIMATED = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")


class Slides(Recorded):
    """One frame a picture, in the order given; pictures of a folder have no times.

    Raises SourceError when no picture can be read, here; a picture of another size raises when reached.

    Example:
        >>> Slides([partial(from_file, "1.jpg"), partial(from_file, "2.jpg")], "shots", 4).count  # doctest: +SKIP
        2
    """

    def __init__(self, readers: Sequence[Reader], path: str, read_ahead: int) -> None:
        super().__init__(path, read_ahead)
        assert readers
        self._readers_of_frames = readers
        self._size = self._first_size()

    @property
    def size(self) -> tuple[int, int]:
        """See Video."""
        return self._size

    @property
    def fps(self) -> float | None:
        """See Video."""
        return None

    @property
    def count(self) -> int:
        """See Video."""
        return len(self._readers_of_frames)

    def _first_size(self) -> tuple[int, int]:
        problem = ""
        for reader in self._readers_of_frames:
            found = read_slide(reader, 0)
            if isinstance(found, Picture):
                return found.size
            problem = problem or found.message
        raise SourceError(problem)

    def _read(self, start: int, stop: int | None) -> Generator[Item, None, None]:
        for number in range(start, self.count if stop is None else min(stop, self.count)):
            found = read_slide(self._readers_of_frames[number], number)
            if isinstance(found, Notice):
                yield found
                continue
            if found.size != self._size:
                raise size_change(found.path, number, self._size, found.size)
            yield Frame(found.rgb, found.path, number)


def read_slide(reader: Reader, number: int) -> Picture | Notice:
    """The picture, or for a file that is damaged what to tell; what the caller made himself raises."""
    try:
        return reader()
    except SourceError as problem:
        if isinstance(reader, partial) and reader.func in (from_file, fetch_picture):
            return Notice(f"frame {number} is left out, the frames after keep their numbers: {problem}")
        raise


class Animation(Recorded):
    """A picture file with several frames, read with Pillow; times are sums of the durations in the file.

    Raises SourceError when it is damaged before the first frame.

    Example:
        >>> Animation("dog.gif", 4).count  # doctest: +SKIP
        24
    """

    def __init__(self, path: str, read_ahead: int) -> None:
        super().__init__(path, read_ahead)
        with Image.open(path) as image:
            self._count = int(getattr(image, "n_frames", 1))
            first = from_pil(image, path)
            self._size = first.size
            seconds = _seconds(image)
        self._fps = 1 / seconds if seconds else None
        self._starts: list[float | None] = [0.0 if seconds is not None else None]

    @property
    def size(self) -> tuple[int, int]:
        """See Video."""
        return self._size

    @property
    def fps(self) -> float | None:
        """See Video; of the first frame's duration."""
        return self._fps

    @property
    def count(self) -> int:
        """See Video."""
        return self._count

    def _read(self, start: int, stop: int | None) -> Generator[Item, None, None]:
        end = self._count if stop is None else min(stop, self._count)
        with Image.open(self.path) as image:
            # Times before `start` must be known, and only showing a frame tells how long it lasts.
            for number in range(min(start, len(self._starts) - 1), end):
                try:
                    image.seek(number)
                    picture = from_pil(image, self.path)
                except (EOFError, SourceError):
                    yield Notice(
                        f"{self.path!r} ends early: {self._count} frames expected, {number} found; "
                        "those that are there were read: copy or download it again for the rest"
                    )
                    return
                time = self._time(number, image)
                if number < start:
                    continue
                if picture.size != self._size:
                    raise size_change(self.path, number, self._size, picture.size)
                yield Frame(picture.rgb, self.path, number, time)

    def _time(self, number: int, image: Image.Image) -> float | None:
        begins = self._starts[number]
        seconds = _seconds(image)
        if number + 1 == len(self._starts):
            self._starts.append(None if begins is None or seconds is None else begins + seconds)
        return begins


def is_animation(path: str) -> bool | None:
    """Whether the picture file `path` has several frames; None where it is no picture Pillow knows.

    Example:
        >>> is_animation("clip.mp4") is None  # doctest: +SKIP
        True
    """
    try:
        with Image.open(path) as image:
            if image.format == "MPEG":  # Pillow knows the name of these films, not their pictures
                return None
            return image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1
    except Image.DecompressionBombError:
        return False
    except (OSError, SyntaxError, ValueError, EOFError, IndexError):
        return None


def _seconds(image: Image.Image) -> float | None:
    milliseconds = image.info.get("duration")
    return None if milliseconds is None else float(milliseconds) / 1000
