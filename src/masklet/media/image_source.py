"""`open_source`: every way to name pictures, as one iterator of `Picture`.

What can be checked without decoding (does the path exist, does the folder hold pictures) is checked at
once, before anyone waits for a model; pixels are read one picture at a time.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from masklet.errors import SourceError
from masklet.media.image import AnyArray, Channels, Picture, fetch_picture, from_array, from_file, from_pil

__all__ = [
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "PictureLike",
    "Pictures",
    "Reader",
    "Source",
    "has_suffix",
    "item_readers",
    "missing",
    "natural_key",
    "open_source",
]

PictureLike: TypeAlias = "str | os.PathLike[str] | Image.Image | AnyArray | Picture"
Source: TypeAlias = "PictureLike | Iterable[PictureLike]"
Reader: TypeAlias = "Callable[[], Picture]"

PICTURE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")

_ALLOWED = "a path, URL, folder, glob, PIL picture, NumPy array, or a list or iterator of these"
_VIDEO = "model.track(...) follows objects through a film, given alone; here give pictures, for example single frames"


class Pictures(Iterator[Picture]):
    """An iterator of `Picture` that knows how many there are, where that can be known.

    `total` is that number, or None for an iterator; `len()` is `total` and raises TypeError for None.
    It counts all of them, also those already taken. A picture that raises SourceError does not end the
    others: `next` goes on behind it.

    Example:
        >>> pictures = open_source(["a.jpg", "b.jpg"])  # doctest: +SKIP
        >>> len(pictures), next(pictures).path  # doctest: +SKIP
        (2, 'a.jpg')
    """

    def __init__(self, readers: Iterable[Reader], total: int | None) -> None:
        self.total = total
        self._readers = iter(readers)

    def __next__(self) -> Picture:
        return next(self._readers)()

    def __len__(self) -> int:
        if self.total is None:
            raise TypeError("the number of pictures of an iterator is not known; wrap it in list()")
        return self.total


def open_source(source: Source, *, channels: Channels = "rgb") -> Pictures:
    """The pictures that `source` names, one after the other, RGB uint8 (H, W, 3) and upright.

    `source` is a path, an http(s) URL, a folder (its pictures in natural order: 2 before 10), a glob
    (`"shots/**/*.jpg"`), a PIL picture, a NumPy array (H, W, 3) or (H, W) in uint8 or float 0..1, or a
    list or iterator of these. `channels="bgr"` says that arrays are in OpenCV's order.

    Raises SourceError, naming the value, what is allowed and the remedy. Missing paths and folders
    without pictures raise here; unreadable pictures raise when they are reached.

    Example:
        >>> for picture in open_source("shots/"):  # doctest: +SKIP
        ...     print(picture.path, picture.size)
        shots/1.jpg (480, 640)
    """
    if channels not in ("rgb", "bgr"):
        raise SourceError(f"channels={channels!r}; allowed are 'rgb' and 'bgr': OpenCV's order is 'bgr'")
    numbers = count()
    if _is_single(source):
        readers = _readers(source, numbers, channels)
    elif isinstance(source, (list, tuple)):
        readers = [reader for item in source for reader in item_readers(item, numbers, channels)]
    else:
        assert isinstance(source, Iterable)
        lazy = (reader for item in source for reader in item_readers(item, numbers, channels))
        return Pictures(lazy, None)
    if not readers:
        raise SourceError(f"{source!r} holds no pictures; give at least one: {_ALLOWED}")
    return Pictures(readers, len(readers))


def natural_key(path: str) -> tuple[list[str | int], str]:
    """Sort key that counts: `frame2` before `frame10`, case ignored.

    Example:
        >>> sorted(["b10.png", "b2.png", "A.png"], key=natural_key)
        ['A.png', 'b2.png', 'b10.png']
    """
    parts = re.split(r"(\d+)", path.lower())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path


def _is_single(source: object) -> bool:
    """Whether `source` is one item; what can be neither item nor collection is refused here."""
    if isinstance(source, (str, os.PathLike, Image.Image, np.ndarray, Picture)):
        return True
    refused = isinstance(source, (Mapping, bytes, bytearray)) or type(source).__module__.startswith("torch")
    if refused or not isinstance(source, Iterable):
        raise SourceError(_wrong_type(source))
    return False


def item_readers(item: PictureLike, numbers: Iterator[int], channels: Channels) -> list[Reader]:
    """One reader for each picture that an item of a list names; `numbers` names those without a name.

    Example:
        >>> item_readers(np.zeros((2, 3, 3), np.uint8), count(), "rgb")[0]().path
        'image0'
    """
    if isinstance(item, (int, float, list, tuple)):
        raise SourceError(
            f"a list of pictures holds a {type(item).__name__}; its items are paths, arrays or PIL pictures: "
            "for pixels in nested lists pass np.array(pixels, dtype=np.uint8)"
        )
    if not _is_single(item):
        raise SourceError(_wrong_type(item))
    return _readers(item, numbers, channels)


def _readers(item: object, numbers: Iterator[int], channels: Channels) -> list[Reader]:
    """One reader a picture; `numbers` names those that have no name."""
    number = next(numbers)
    if isinstance(item, Picture):
        return [partial(_same, item)]
    if isinstance(item, np.ndarray):
        return [partial(from_array, item, f"image{number}", channels=channels)]
    if isinstance(item, Image.Image):
        name = os.fspath(getattr(item, "filename", "") or f"image{number}")
        return [partial(from_pil, item, name)]
    assert isinstance(item, (str, os.PathLike))
    return _named(os.fspath(item))


def _same(picture: Picture) -> Picture:
    return picture


def _named(name: str) -> list[Reader]:
    if not isinstance(name, str) or not name.strip():
        raise SourceError(f"{name!r} is not a path; give {_ALLOWED}")
    scheme, found, _ = name.partition("://")
    if found and scheme.lower() in ("http", "https"):
        return [partial(fetch_picture, name)]
    if found and scheme.isalpha():
        raise SourceError(f"{name!r}: {scheme}:// is not read; pictures come over http or https: {_VIDEO}")
    path = os.path.expanduser(name)
    return [partial(from_file, file) for file in _files(path)]


def _files(path: str) -> list[str]:
    if os.path.isdir(path):
        return _in_folder(path)
    if os.path.exists(path):
        _refuse_video(path)
        return [path]
    if glob.has_magic(path):
        return _matching(path)
    raise SourceError(missing(path, "picture"))


def _in_folder(folder: str) -> list[str]:
    try:
        names = sorted((name for name in os.listdir(folder) if not name.startswith(".")), key=natural_key)
    except OSError as cause:
        raise SourceError(
            f"cannot list {folder!r}: {cause.strerror}; a readable folder is needed: check its permissions"
        ) from cause
    pictures = _only_pictures([os.path.join(folder, name) for name in names])
    if not pictures:
        raise SourceError(_no_pictures(f"folder {folder!r}", names, os.path.join(folder, "**", "*.jpg")))
    return pictures


def _matching(pattern: str) -> list[str]:
    found = sorted(glob.glob(pattern, recursive=True), key=natural_key)
    if not found:
        raise SourceError(
            f"the glob {pattern!r} matches nothing in {os.getcwd()!r}; it must match at least one picture: "
            "check its folder, its suffix and upper and lower case"
        )
    pictures = _only_pictures(found)
    if not pictures:
        raise SourceError(_no_pictures(f"glob {pattern!r}", found, "**/*.jpg"))
    return pictures


def _only_pictures(paths: list[str]) -> list[str]:
    return [path for path in paths if has_suffix(path, PICTURE_SUFFIXES) and os.path.isfile(path)]


def _no_pictures(where: str, names: list[str], recursive: str) -> str:
    some = ", ".join(map(repr, names[:3])) + (" ..." if len(names) > 3 else "")
    held = f"it holds {some}" if names else "it is empty"
    hint = f"for pictures in folders below use the glob {recursive!r}"
    if any(has_suffix(name, VIDEO_SUFFIXES) for name in names):
        hint = _VIDEO
    return f"no pictures in {where} ({held}); pictures end in {', '.join(PICTURE_SUFFIXES)}: {hint}"


def missing(path: str, what: str) -> str:
    """Says which part of the path is missing and which names near it exist; `what` should have been there.

    Example:
        >>> missing("dgo.jpg", "picture")  # doctest: +SKIP
        "no such picture: 'dgo.jpg'; there is no 'dgo.jpg' in '/home/me': did you mean 'dog.jpg'?"
    """
    absent = Path(path)
    while absent.parent != absent and not os.path.exists(absent.parent):
        absent = absent.parent
    beside = os.listdir(absent.parent) if os.path.isdir(absent.parent) and os.access(absent.parent, os.R_OK) else []
    near = difflib.get_close_matches(absent.name, beside, n=3, cutoff=0.6)
    where = f"there is no {absent.name!r} in {str(absent.parent.resolve())!r}"
    if near:
        return f"no such {what}: {path!r}; {where}: did you mean {' or '.join(map(repr, near))}?"
    return f"no such {what}: {path!r}; {where}: check the spelling, or give the full path"


def _refuse_video(path: str) -> None:
    if has_suffix(path, VIDEO_SUFFIXES):
        raise SourceError(f"{path!r} is a video file; a picture is needed: {_VIDEO}")


def has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether `name` ends in one of `suffixes`, which are lower case.

    Example:
        >>> has_suffix("A.JPG", (".jpg",))
        True
    """
    return os.path.splitext(name)[1].lower() in suffixes


def _wrong_type(source: object) -> str:
    kind = f"{type(source).__module__}.{type(source).__qualname__}".removeprefix("builtins.")
    if kind.startswith("torch"):
        remedy = "for a tensor (3, H, W) in 0..1 pass tensor.permute(1, 2, 0).cpu().numpy()"
    elif isinstance(source, int):
        remedy = f"cameras are for model.track; for a file of that name pass '{source}.jpg'"
    elif isinstance(source, (bytes, bytearray)):
        remedy = "for the content of a file pass PIL.Image.open(io.BytesIO(data))"
    else:
        remedy = "pass the path of a picture"
    return f"a source of type {kind} is not a picture; allowed are {_ALLOWED}: {remedy}"
