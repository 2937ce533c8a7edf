"""Label maps: images whose pixels say which object they belong to.

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
from masklet.datasets.labeled_image import LabeledObject
from masklet.datasets.writer import EMPTY_MASK_NOTE, WriteResult
from masklet.masks.label_map import davis_palette

__all__ = [
    "IGNORE_LABEL",
    "MAX_LABEL",
    "draw_label_map",
    "is_binary_mask",
    "masks_from_files",
    "masks_from_label_map",
    "read_image_size",
    "read_label_map",
    "read_label_map_any_depth",
    "save_label_map",
    "unique_ids",
]

LabelMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
IGNORE_LABEL = 255
"""Beside ids of objects: a place that nobody judges, and that belongs to none."""
_READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def read_label_map(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W) labels of a PNG with a palette, of a gray one, or of a black and white one, in whatever mode.

    Raises:
        DataError: it cannot be read, or is a color image.

    Example:
        >>> np.unique(read_labels(Path("Annotations/480p/dogs/00000.png")))
        array([0, 1, 2], dtype=uint8)
    """
    mode, pixels = _read_pixels(path)
    if mode not in ("1", "L", "P", "LA"):
        raise DataError.for_file(
            path,
            f"is an image of mode {mode}, not of labels; allowed are PNG files with a palette, or black and white: "
            "save it so",
        )
    return pixels.astype(np.uint8)


def read_label_map_any_depth(path: Path) -> LabelMap:
    """As `read_labels`, and of 16 bits too; a black and white mask with soft edges is refused.

    Raises:
        DataError: as there, or a gray image that is almost, but not quite, black and white.
    """
    mode, pixels = _read_pixels(path)
    if mode.startswith("I"):
        return pixels.astype(np.uint16)
    labels = read_label_map(path) if mode not in ("L", "P", "1", "LA") else pixels.astype(np.uint8)
    ids = unique_ids(labels)
    white, drawn = np.count_nonzero(labels == IGNORE_LABEL), np.count_nonzero(labels)
    if mode in ("L", "LA") and len(ids) > 2 and 2 * white > drawn:
        raise DataError.for_file(
            path,
            f"is gray with {len(ids)} values, most of it 255: a black and white mask with soft edges; a mask is "
            "inside or outside: save it without smoothing, as PNG",
        )
    return labels


def read_image_size(path: Path) -> Size:
    """(height, width) of an image file, from its header alone.

    Raises:
        DataError: it is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except _READ_ERRORS as problem:
        raise _image_error(path, problem) from None


def unique_ids(label_map: LabelMap) -> list[int]:
    """The values other than 0, ascending; counting is many times faster than a sort."""
    return [int(value) for value in np.flatnonzero(np.bincount(label_map.ravel())) if value]


def is_binary_mask(ids: list[int]) -> bool:
    """Whether a map of these ids is of one object, painted white."""
    return ids == [IGNORE_LABEL]


def masks_from_label_map(label_map: LabelMap, *, binary: bool) -> LazyMasks:
    """A mask for each id; `sole` says that the map is black and white, of object 1.

    Example:
        >>> label_masks(np.array([[0, 1, 2, 255]], np.uint8), sole=False)
        LazyMasks(1, 2)
    """
    if binary:
        return LazyMasks({1: partial(_decode_white, label_map)} if label_map.any() else {})
    deep = label_map.dtype != np.uint8
    return LazyMasks(
        {n: partial(_decode_label, label_map, n) for n in unique_ids(label_map) if deep or n != IGNORE_LABEL}
    )


def masks_from_files(files: Iterable[tuple[int, Path]]) -> LazyMasks:
    """A mask for each (id, file): all that is not black in it."""
    return LazyMasks({number: partial(_decode_nonzero, file) for number, file in files})


def _decode_white(label_map: LabelMap) -> Mask:
    return np.asarray(label_map > IGNORE_LABEL // 2, bool)


def _decode_label(label_map: LabelMap, value: int) -> Mask:
    return np.asarray(label_map == value, bool)


def _decode_nonzero(file: Path) -> Mask:
    return np.asarray(read_label_map_any_depth(file) > 0, bool)


def _read_pixels(path: Path) -> tuple[str, npt.NDArray[np.generic]]:
    """Mode and pixels; the mode of an image in gray that is stored in colors is L."""
    try:
        with Image.open(path) as image:
            mode = "L" if _is_grayscale(image) else image.mode
            flat = image.mode in ("1", "LA", "RGB", "RGBA")
            return mode, np.asarray(image.convert("L") if flat else image)
    except _READ_ERRORS as problem:
        raise _image_error(path, problem) from None


def _is_grayscale(image: Image.Image) -> bool:
    """Whether a color image has no color: so some tools save black and white."""
    if image.mode not in ("RGB", "RGBA"):
        return False
    rgb = np.asarray(image)[..., :3]
    return bool((rgb == rgb[..., :1]).all())


def _image_error(path: Path, problem: BaseException) -> DataError:
    return DataError.for_file(path, f"cannot be read as an image ({problem}); copy or unpack it again")


MAX_LABEL = 254
"""The highest label of an object: 255 is a place that belongs to nobody."""
OCCLUDED_NOTE = "an object hidden, in part or whole, by one that overlaps it"
TOO_MANY_OBJECTS_NOTE = f"an object left out, because a map has {MAX_LABEL} labels"


def draw_label_map(
    objects: Sequence[LabeledObject], label_of_object: Mapping[int, int], size: tuple[int, int], result: WriteResult
) -> npt.NDArray[np.uint8]:
    """(H, W) uint8: object number n is painted with `labels[n]`, small ones on large ones; those without are left out.

    What each keeps of its mask, and what is lost, is noted in `written`. One mask is in memory at a time.
    """
    areas = [int(np.count_nonzero(thing.mask)) for thing in objects]
    canvas = np.zeros(size, np.uint8)
    for number in sorted(label_of_object, key=lambda number: -areas[number]):
        canvas[objects[number].mask] = label_of_object[number]
    left = np.bincount(canvas.ravel(), minlength=MAX_LABEL + 2)
    for number, area in enumerate(areas):
        kept, lost = _iou_and_note(area, int(left[label_of_object[number]]) if number in label_of_object else None)
        result.ious.append(kept)
        result.notes.update([lost] if lost else [])
    return canvas


def save_label_map(path: Path, label_map: npt.NDArray[np.uint8]) -> Path:
    """An indexed PNG in the palette of VOC and DAVIS."""
    image = Image.fromarray(label_map)
    image.putpalette(davis_palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary)
    return path


def _iou_and_note(area: int, visible_area: int | None) -> tuple[float, str]:
    """IoU of an object's mask with what is left of it (a part of it: its share), and what is to be said."""
    if not area:
        return 1.0, EMPTY_MASK_NOTE
    if visible_area is None:
        return 0.0, TOO_MANY_OBJECTS_NOTE
    return visible_area / area, OCCLUDED_NOTE if visible_area < area else ""
