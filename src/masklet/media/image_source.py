"""Open images by any name a caller may use: paths, URLs, folders, globs, arrays, PIL images, and lists of these.

Names are checked at once, before anyone waits for a model: does the path exist, does the folder hold images. Pixels are
read one image at a time.
"""

from __future__ import annotations

import difflib
import errno
import glob
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from masklet.errors import MaskletWarning, SourceError
from masklet.media.image import AnyArray, Channels, SourceImage, fetch_image, from_array, from_file, from_pil

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "ImageIterator",
    "ImageLike",
    "ImageReader",
    "SourceLike",
    "entry_kind",
    "has_suffix",
    "image_readers",
    "missing_path_message",
    "natural_key",
    "open_images",
]

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | AnyArray | SourceImage"
SourceLike: TypeAlias = "ImageLike | Iterable[ImageLike]"
ImageReader: TypeAlias = "Callable[[], SourceImage]"

IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".264", ".265", ".3gp", ".avi", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m2v", ".m4v", ".mjpeg",
    ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
)  # fmt: skip
"""Also raw streams, which have no container: some of them begin like an image."""

_ALLOWED = "a path, URL, folder, glob, PIL image, NumPy array, or a list or iterator of these"
_VIDEO_HINT = (
    "model.track(...) tracks objects through a video, given alone; here give images, for example single frames"
)


class ImageIterator(Iterator[SourceImage]):
    """An iterator of `SourceImage` with the total number of images.

    `total` counts all of them, also those already read, and is None for an iterator; `len()` is `total` and raises
    TypeError for None. An image that raises SourceError does not end the iteration: `next` continues after it.

    Example:
        >>> images = open_source(["a.jpg", "b.jpg"])  # doctest: +SKIP
        >>> len(images), next(images).path  # doctest: +SKIP
        (2, 'a.jpg')
    """

    def __init__(self, readers: Iterable[ImageReader], total: int | None) -> None:
        self.total = total
        self.paths: list[str] = []
        """Files and addresses of images that are read one by one; not those of an iterator, nor arrays."""
        if total is not None:
            readers = list(readers)
            paths = [reader.args[0] for reader in readers if isinstance(reader, partial)]
            self.paths += [path for path in paths if isinstance(path, str)]
        self._readers = iter(readers)

    def __next__(self) -> SourceImage:
        return next(self._readers)()

    def __len__(self) -> int:
        if self.total is None:
            raise TypeError("the number of images of an iterator is not known; wrap it in list()")
        return self.total


def open_images(source: SourceLike, *, channels: Channels = "rgb", stretch: bool = False) -> ImageIterator:
    """Open images for reading one after the other, RGB uint8 (H, W, 3) and upright.

    `source` is a path, an http(s) URL, a folder (its images in natural order: 2 before 10), a glob
    (`"shots/**/*.jpg"`), a PIL image, a NumPy array (H, W, 3) or (H, W) in uint8 or float 0..1, or a list or iterator
    of these. `channels="bgr"` says that arrays are in OpenCV's order. `stretch=True` scales files and PIL images of
    16 bits from the values they use, not from 0..65535, as for 12 bits in 16.

    Example:
        >>> for image in open_images("shots/"):  # doctest: +SKIP
        ...     print(image.path, image.size)
        shots/1.jpg (480, 640)

    Raises:
        SourceError: if a path is missing, a folder holds no image or a type is wrong; for an unreadable image, when it
            is reached.
    """
    if channels not in ("rgb", "bgr"):
        raise SourceError(f"channels={channels!r}; allowed are 'rgb' and 'bgr': OpenCV's order is 'bgr'")
    numbers = count()
    if _is_single_item(source):
        readers = _readers(source, numbers, channels, stretch)
    elif isinstance(source, (list, tuple)):
        readers = [reader for item in source for reader in image_readers(item, numbers, channels, stretch)]
    else:
        assert isinstance(source, Iterable)
        lazy = (reader for item in source for reader in image_readers(item, numbers, channels, stretch))
        return ImageIterator(lazy, None)
    if not readers:
        raise SourceError(f"{source!r} holds no images; give at least one: {_ALLOWED}")
    return ImageIterator(readers, len(readers))


def natural_key(path: str) -> tuple[list[str | int], str]:
    """Return a sort key in natural order: `frame2` before `frame10`, case ignored.

    Example:
        >>> sorted(["b10.png", "b2.png", "A.png"], key=natural_key)
        ['A.png', 'b2.png', 'b10.png']
    """
    parts = re.split(r"(\d+)", path.lower())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path


def _is_single_item(source: object) -> bool:
    """Whether `source` is one item, not a collection; raises SourceError if it is neither."""
    if isinstance(source, (str, os.PathLike, Image.Image, np.ndarray, SourceImage)):
        return True
    refused = isinstance(source, (Mapping, bytes, bytearray)) or type(source).__module__.startswith("torch")
    if refused or not isinstance(source, Iterable):
        raise SourceError(_wrong_type(source))
    return False


def image_readers(
    item: ImageLike, numbers: Iterator[int], channels: Channels, stretch: bool = False
) -> list[ImageReader]:
    """Return one reader for each image that an item of a list names; `numbers` names arrays and PIL images.

    Example:
        >>> image_readers(np.zeros((2, 3, 3), np.uint8), count(), "rgb")[0]().path
        'image0'
    """
    if isinstance(item, (int, float, list, tuple)):
        raise SourceError(
            f"a list of images holds a {type(item).__name__}; its items are paths, arrays or PIL images: "
            "for pixels in nested lists pass np.array(pixels, dtype=np.uint8)"
        )
    if not _is_single_item(item):
        raise SourceError(_wrong_type(item))
    return _readers(item, numbers, channels, stretch)


def _readers(item: object, numbers: Iterator[int], channels: Channels, stretch: bool) -> list[ImageReader]:
    number = next(numbers)
    if isinstance(item, SourceImage):
        return [lambda: item]
    if isinstance(item, np.ndarray):
        return [partial(from_array, item, f"image{number}", channels=channels)]
    if isinstance(item, Image.Image):
        name = os.fspath(getattr(item, "filename", "") or f"image{number}")
        return [partial(from_pil, item, name, stretch=stretch)]
    assert isinstance(item, (str, os.PathLike))
    return _path_readers(os.fspath(item), stretch)


def _path_readers(name: str, stretch: bool) -> list[ImageReader]:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise SourceError(f"{name!r} is not a path; give {_ALLOWED}")
    scheme, separator, _ = name.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        return [partial(fetch_image, name)]
    if separator and scheme.isalpha():
        raise SourceError(f"{name!r}: {scheme}:// is not read; images come over http or https: {_VIDEO_HINT}")
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        try:
            with os.scandir(path) as entries:
                seen = [entry for entry in entries if not entry.name.startswith(".")]
            names = sorted((entry.name for entry in seen if entry_kind(entry)), key=natural_key)
        except OSError as cause:
            raise SourceError(
                f"cannot list {path!r}: {cause.strerror}; a readable folder is needed: check its permissions"
            ) from cause
        where, recursive = f"folder {path!r}", os.path.join(path, "**", "*.jpg")
        paths = [os.path.join(path, name) for name in names]
    elif os.path.exists(path):
        if has_suffix(path, VIDEO_SUFFIXES):
            raise SourceError(f"{path!r} is a video file; an image is needed: {_VIDEO_HINT}")
        return [partial(from_file, path, stretch=stretch)]
    elif glob.has_magic(path):
        names = paths = sorted(glob.glob(path, recursive=True), key=natural_key)
        where, recursive = f"glob {path!r}", "**/*.jpg"
        if not paths:
            raise SourceError(
                f"the glob {path!r} matches nothing in {os.getcwd()!r}; it must match at least one image: "
                "check its folder, its suffix and upper and lower case"
            )
    else:
        raise SourceError(missing_path_message(path, "image"))
    images = [image for image in paths if has_suffix(image, IMAGE_SUFFIXES) and os.path.isfile(image)]
    if not images:
        some = ", ".join(map(repr, names[:3])) + (" ..." if len(names) > 3 else "")
        content = f"it holds {some}" if names else "it is empty"
        hint = f"for images in folders below use the glob {recursive!r}"
        if any(has_suffix(name, VIDEO_SUFFIXES) for name in names):
            hint = _VIDEO_HINT
        raise SourceError(f"no images in {where} ({content}); images end in {', '.join(IMAGE_SUFFIXES)}: {hint}")
    return [partial(from_file, image, stretch=stretch) for image in images]


def missing_path_message(path: str, what: str) -> str:
    """Explain which part of a path is missing and which similar names exist; `what` was expected there.

    Example:
        >>> missing_path_message("dgo.jpg", "image")  # doctest: +SKIP
        "no such image: 'dgo.jpg'; there is no 'dgo.jpg' in '/home/me': did you mean 'dog.jpg'?"
    """
    absent = Path(path)
    while absent.parent != absent and not os.path.exists(absent.parent):
        absent = absent.parent
    readable = os.path.isdir(absent.parent) and os.access(absent.parent, os.R_OK)
    near = difflib.get_close_matches(absent.name, os.listdir(absent.parent) if readable else [], n=3, cutoff=0.6)
    where = f"there is no {absent.name!r} in {str(absent.parent.resolve())!r}"
    if near:
        return f"no such {what}: {path!r}; {where}: did you mean {' or '.join(map(repr, near))}?"
    return f"no such {what}: {path!r}; {where}: check the spelling, or give the full path"


def entry_kind(entry: os.DirEntry[str]) -> Literal["file", "folder", ""]:
    """Return what an entry of a folder is; empty, with a MaskletWarning, for a link that leads nowhere or to itself.

    Example:
        >>> with os.scandir("photos") as entries:  # doctest: +SKIP
        ...     print([entry_kind(entry) for entry in entries])
        ['file', 'folder']
    """
    try:
        if entry.is_dir():
            return "folder"
        if os.path.exists(entry.path) or not entry.is_symlink():
            return "file"
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    warnings.warn(
        f"{entry.path} is a link that leads nowhere or to itself and is skipped: remove it, or link an existing file",
        MaskletWarning,
        stacklevel=3,
    )
    return ""


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
        remedy = "pass the path of an image"
    return f"a source of type {kind} is not an image; allowed are {_ALLOWED}: {remedy}"
