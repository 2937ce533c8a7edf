"""Label maps: images whose pixel values are object labels. A pixel has one object, so overlaps cannot be stored."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.datasets.dataset import DataError, LazyMasks, Mask, Size
from masklet.datasets.labeled_image import LabeledObject
from masklet.datasets.writer import EMPTY_MASK_NOTE, WriteResult

__all__ = [
    "IGNORE_LABEL",
    "MAX_LABEL",
    "draw_label_map",
    "is_binary_mask",
    "masks_from_files",
    "masks_from_label_map",
    "open_mask_image",
    "read_image_size",
    "read_label_map",
    "read_label_map_any_depth",
    "unique_ids",
]

LabelMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
IGNORE_LABEL = 255
"""The label of pixels that belong to no object and are not scored."""
MAX_LABEL = 254
"""The highest label of an object."""
OCCLUDED_NOTE = "an object hidden, in part or whole, by one that overlaps it"
TOO_MANY_OBJECTS_NOTE = f"an object left out, because a map has {MAX_LABEL} labels"


@contextmanager
def open_mask_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file with Pillow.

    Raises:
        DataError: if it is missing, damaged or not an image.
    """
    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as problem:
        raise DataError.for_file(path, f"cannot be read as an image ({problem}); copy or unpack it again") from None


def read_image_size(path: Path) -> Size:
    """Read (height, width) from the header of an image file.

    Raises:
        DataError: if it is missing or not an image.
    """
    with open_mask_image(path) as image:
        return image.height, image.width


def read_label_map(path: Path) -> npt.NDArray[np.uint8]:
    """Read (H, W) labels of a PNG with a palette, of a gray one, or of a black and white one, in any mode.

    Raises:
        DataError: if it cannot be read, or is a color image.

    Example:
        >>> np.unique(read_label_map(Path("Annotations/480p/dogs/00000.png")))  # doctest: +SKIP
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
    """Read (H, W) labels as `read_label_map` does, and of 16 bits too.

    Raises:
        DataError: if it cannot be read, is a color image, or is a black and white mask with soft edges.
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


def _read_pixels(path: Path) -> tuple[str, npt.NDArray[np.generic]]:
    """Return mode and pixels. A color image without color has mode L: some tools save black and white so."""
    with open_mask_image(path) as image:
        mode = image.mode
        if mode in ("RGB", "RGBA"):
            rgb = np.asarray(image)[..., :3]
            mode = "L" if (rgb == rgb[..., :1]).all() else mode
        flatten = image.mode in ("1", "LA", "RGB", "RGBA")
        return mode, np.asarray(image.convert("L") if flatten else image)


def unique_ids(label_map: LabelMap) -> list[int]:
    """Return the values other than 0, ascending.

    Example:
        >>> unique_ids(np.array([[0, 7], [3, 7]], np.uint8))
        [3, 7]
    """
    return [int(value) for value in np.flatnonzero(np.bincount(label_map.ravel())) if value]  # faster than a sort


def is_binary_mask(ids: list[int]) -> bool:
    """Return whether a map with these ids has one object, painted white."""
    return ids == [IGNORE_LABEL]


def masks_from_label_map(label_map: LabelMap, *, binary: bool) -> LazyMasks:
    """Return a mask for each label; a `binary` map is black and white, and white is object 1.

    Example:
        >>> masks_from_label_map(np.array([[0, 1, 2, 255]], np.uint8), binary=False)
        LazyMasks(1, 2)
    """

    def decode(label: int) -> Mask:
        return np.asarray(label_map == label, bool)

    if binary:
        white = partial(np.greater, label_map, IGNORE_LABEL // 2)
        return LazyMasks({1: white} if label_map.any() else {})
    has_ignore_label = label_map.dtype == np.uint8
    labels = [label for label in unique_ids(label_map) if not (has_ignore_label and label == IGNORE_LABEL)]
    return LazyMasks({label: partial(decode, label) for label in labels})


def masks_from_files(files: Iterable[tuple[int, Path]]) -> LazyMasks:
    """Return a mask for each (object id, file): the pixels that are not black."""

    def decode(file: Path) -> Mask:
        return np.asarray(read_label_map_any_depth(file) > 0, bool)

    return LazyMasks({object_id: partial(decode, file) for object_id, file in files})


def draw_label_map(
    objects: Sequence[LabeledObject], label_of_object: Mapping[int, int], size: tuple[int, int], result: WriteResult
) -> npt.NDArray[np.uint8]:
    """Draw (H, W) uint8: object number n has label `label_of_object[n]`, small objects are drawn on top of large ones.

    Objects without a label are left out. What each object keeps of its mask is added to `result`. One mask is in
    memory at a time.
    """
    areas = [int(np.count_nonzero(obj.mask)) for obj in objects]
    canvas = np.zeros(size, np.uint8)
    for number in sorted(label_of_object, key=lambda number: -areas[number]):
        canvas[objects[number].mask] = label_of_object[number]
    visible_areas = np.bincount(canvas.ravel(), minlength=MAX_LABEL + 2)
    for number, area in enumerate(areas):
        if not area:
            result.add(1.0, EMPTY_MASK_NOTE)
        elif number not in label_of_object:
            result.add(0.0, TOO_MANY_OBJECTS_NOTE)
        else:
            visible = int(visible_areas[label_of_object[number]])
            result.add(visible / area, OCCLUDED_NOTE if visible < area else None)
    return canvas
