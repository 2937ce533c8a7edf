"""Label maps: pictures whose pixels say which object they belong to.

Label maps: a pixel says which object it is of, so that of objects that overlap one hides the other.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.atomic_files import atomic_path
from masklet.datasets.dataset import DataError, LazyMasks, Mask, Size
from masklet.datasets.labeled_image import LabelledObject
from masklet.datasets.writer import NO_PIXEL, Written
from masklet.masks.label_map import davis_palette

__all__ = [
    "LAST",
    "UNJUDGED",
    "black_and_white",
    "ids_in",
    "inside_masks",
    "label_masks",
    "painted_map",
    "read_any_labels",
    "read_labels",
    "size_of",
    "write_map",
]

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
UNJUDGED = 255
"""Beside ids of objects: a place that nobody judges, and that belongs to none."""
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def read_labels(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W) labels of a PNG with a palette, of a grey one, or of a black and white one, in whatever mode.

    Raises:
        DataError: it cannot be read, or is a colour picture.

    Example:
        >>> np.unique(read_labels(Path("Annotations/480p/dogs/00000.png")))
        array([0, 1, 2], dtype=uint8)
    """
    mode, pixels = _pixels(path)
    if mode not in ("1", "L", "P", "LA"):
        raise DataError.of(
            path,
            f"is a picture of mode {mode}, not of labels; allowed are PNG files with a palette, or black and white: "
            "save it so",
        )
    return pixels.astype(np.uint8)


def read_any_labels(path: Path) -> Labels:
    """As `read_labels`, and of 16 bits too; a black and white mask with soft edges is refused.

    Raises:
        DataError: as there, or a grey picture that is almost, but not quite, black and white.
    """
    mode, pixels = _pixels(path)
    if mode.startswith("I"):
        return pixels.astype(np.uint16)
    labels = read_labels(path) if mode not in ("L", "P", "1", "LA") else pixels.astype(np.uint8)
    ids = ids_in(labels)
    white, drawn = np.count_nonzero(labels == UNJUDGED), np.count_nonzero(labels)
    if mode in ("L", "LA") and len(ids) > 2 and 2 * white > drawn:
        raise DataError.of(
            path,
            f"is grey with {len(ids)} values, most of it 255: a black and white mask with soft edges; a mask is "
            "inside or outside: save it without smoothing, as PNG",
        )
    return labels


def size_of(path: Path) -> Size:
    """(height, width) of a picture file, from its header alone.

    Raises:
        DataError: it is missing or no picture.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except _DAMAGED as problem:
        raise _unreadable(path, problem) from None


def ids_in(labels: Labels) -> list[int]:
    """The values other than 0, ascending; counting is many times faster than a sort."""
    return [int(value) for value in np.flatnonzero(np.bincount(labels.ravel())) if value]


def black_and_white(ids: list[int]) -> bool:
    """Whether a map of these ids is of one object, painted white."""
    return ids == [UNJUDGED]


def label_masks(labels: Labels, *, sole: bool) -> LazyMasks:
    """A mask for each id; `sole` says that the map is black and white, of object 1.

    Example:
        >>> label_masks(np.array([[0, 1, 2, 255]], np.uint8), sole=False)
        LazyMasks(1, 2)
    """
    if sole:
        return LazyMasks({1: partial(_above, labels)} if labels.any() else {})
    deep = labels.dtype != np.uint8
    return LazyMasks({n: partial(_equal, labels, n) for n in ids_in(labels) if deep or n != UNJUDGED})


def inside_masks(files: Iterable[tuple[int, Path]]) -> LazyMasks:
    """A mask for each (id, file): all that is not black in it."""
    return LazyMasks({number: partial(_not_black, file) for number, file in files})


def _above(labels: Labels) -> Mask:
    return np.asarray(labels > UNJUDGED // 2, bool)


def _equal(labels: Labels, value: int) -> Mask:
    return np.asarray(labels == value, bool)


def _not_black(file: Path) -> Mask:
    return np.asarray(read_any_labels(file) > 0, bool)


def _pixels(path: Path) -> tuple[str, npt.NDArray[np.generic]]:
    """Mode and pixels; the mode of a picture in grey that is stored in colours is L."""
    try:
        with Image.open(path) as image:
            mode = "L" if _is_grey(image) else image.mode
            flat = image.mode in ("1", "LA", "RGB", "RGBA")
            return mode, np.asarray(image.convert("L") if flat else image)
    except _DAMAGED as problem:
        raise _unreadable(path, problem) from None


def _is_grey(image: Image.Image) -> bool:
    """Whether a colour picture has no colour: so some tools save black and white."""
    if image.mode not in ("RGB", "RGBA"):
        return False
    rgb = np.asarray(image)[..., :3]
    return bool((rgb == rgb[..., :1]).all())


def _unreadable(path: Path, problem: BaseException) -> DataError:
    return DataError.of(path, f"cannot be read as a picture ({problem}); copy or unpack it again")


LAST = 254
"""The highest label of an object: 255 is a place that belongs to nobody."""
HIDDEN = "an object hidden, in part or whole, by one that overlaps it"
NO_ROOM = f"an object left out, because a map has {LAST} labels"


def painted_map(
    objects: Sequence[LabelledObject], labels: Mapping[int, int], size: tuple[int, int], written: Written
) -> npt.NDArray[np.uint8]:
    """(H, W) uint8: object number n is painted with `labels[n]`, small ones on large ones; those without are left out.

    What each keeps of its mask, and what is lost, is noted in `written`. One mask is in memory at a time.
    """
    areas = [int(np.count_nonzero(thing.mask)) for thing in objects]
    canvas = np.zeros(size, np.uint8)
    for number in sorted(labels, key=lambda number: -areas[number]):
        canvas[objects[number].mask] = labels[number]
    left = np.bincount(canvas.ravel(), minlength=LAST + 2)
    for number, area in enumerate(areas):
        kept, lost = _kept(area, int(left[labels[number]]) if number in labels else None)
        written.ious.append(kept)
        written.notes.update([lost] if lost else [])
    return canvas


def write_map(path: Path, labels: npt.NDArray[np.uint8]) -> Path:
    """An indexed PNG in the palette of VOC and DAVIS."""
    image = Image.fromarray(labels)
    image.putpalette(davis_palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary)
    return path


def _kept(area: int, left: int | None) -> tuple[float, str]:
    """IoU of an object's mask with what is left of it (a part of it: its share), and what is to be said."""
    if not area:
        return 1.0, NO_PIXEL
    if left is None:
        return 0.0, NO_ROOM
    return left / area, HIDDEN if left < area else ""
