"""Label maps: images whose pixel values are object labels. A pixel has one object, so overlaps cannot be stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.damaged_files import decoder_errors, describe_error, open_regular_file
from masklet.datasets.dataset import DataError, LazyMasks, Mask, Size, check_same_size
from masklet.datasets.labeled_image import LabeledObject
from masklet.datasets.writer import EMPTY_MASK_NOTE, WriteResult
from masklet.errors import MaskletError, SourceError
from masklet.media.image import check_image_size, format_size, pillow_without_limit

__all__ = [
    "IGNORE_LABEL",
    "MAX_LABEL",
    "count_labels",
    "draw_label_map",
    "is_binary_mask",
    "masks_from_files",
    "masks_from_label_map",
    "open_mask_image",
    "read_label_map",
    "read_label_map_any_depth",
    "unique_ids",
]

LabelMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
IGNORE_LABEL = 255
"""The label of pixels that belong to no object and are not scored."""
MAX_LABEL = 254
"""The highest label of an object."""
LARGE_MAP_PIXELS = 1 << 26
"""Pixels from which on a map must have the size of its image to be decoded."""
COUNTED_PIXELS = 1 << 22
MAX_FLAT_FRACTION = 0.5
"""The fraction of a soft rim whose neighbors all have the same value."""
MIN_RIM_FRACTION = 0.9
"""The fraction of the grays that lie between white and black in a mask with soft edges."""
MIN_SMOOTH_VALUES = 8
"""Different grays that run into each other, which no label map has."""
OCCLUDED_NOTE = "an object hidden, in part or whole, by one that overlaps it"
TOO_MANY_OBJECTS_NOTE = f"an object left out, because a map has {MAX_LABEL} labels"


@contextmanager
def open_mask_image(path: Path, image_size: Size | None = None) -> Iterator[Image.Image]:
    """Open the file of a mask or map with Pillow, up to the limit of `masklet.media` instead of Pillow's own.

    `image_size` is the (height, width) of its image, which a large map must have: another one is not decoded.

    Raises:
        DataError: if it is missing, damaged, not an image or too large.
    """
    try:
        with pillow_without_limit(), open_regular_file(path) as file, Image.open(file) as image:
            check_image_size(image.width, image.height, str(path))
            size = (image.height, image.width)
            if image_size is not None and image_size != size and image.width * image.height > LARGE_MAP_PIXELS:
                raise DataError.for_file(
                    path,
                    f"is an image of {format_size(size)}, which is too large; a map has the size of its image "
                    f"({format_size(image_size)}): scale it, or cut it into tiles",
                )
            yield image
    except DataError:
        raise
    except SourceError as problem:
        raise DataError.from_error(path, problem) from problem
    except MaskletError:
        raise
    except decoder_errors() as problem:
        raise DataError.for_file(
            path, f"cannot be read as an image ({describe_error(problem)}); copy or unpack it again"
        ) from problem


def read_label_map(path: Path, image_size: Size | None = None) -> npt.NDArray[np.uint8]:
    """Read (H, W) labels of a PNG with a palette, of a gray one, or of one of one bit (0 and 1, as NumPy reads it).

    `image_size` is the (height, width) of its image, which a large map must have.

    Raises:
        DataError: if it cannot be read, is too large, or is a color image.

    Example:
        >>> np.unique(read_label_map(Path("Annotations/480p/dogs/00000.png")))  # doctest: +SKIP
        array([0, 1, 2], dtype=uint8)
    """
    return _to_labels(path, *_read_pixels(path, image_size))


def read_label_map_any_depth(path: Path, image_size: Size | None = None) -> LabelMap:
    """Read (H, W) labels as `read_label_map` does, and of 16 bits too.

    A gray map whose values are the rim of its white, a mask with soft edges, is read as 0 and 255: inside from half of
    white on.

    Raises:
        DataError: if it cannot be read, is too large, is a color image, or is smooth without being such a mask.
    """
    mode, pixels = _read_pixels(path, image_size)
    labels = pixels.astype(np.uint16) if mode.startswith("I") else _to_labels(path, mode, pixels)
    if mode in ("1", "P"):
        return labels
    ids, white = unique_ids(labels), int(np.iinfo(labels.dtype).max)
    grays = [value for value in ids if value != white]
    if not grays or max(grays) < white // 4:
        return labels  # labels are counted from 1
    gray = ((labels > 0) & (labels != white)).astype(np.uint8)
    low, high = (change(labels, np.ones((3, 3), np.uint8)) for change in (cv2.erode, cv2.dilate))
    is_flat, num_gray = low == high, np.count_nonzero(gray)
    flat_fraction = np.count_nonzero(is_flat & (gray > 0)) / num_gray  # objects have an inside, rims have next to none
    if flat_fraction < MAX_FLAT_FRACTION and ((labels == white) & is_flat).any():
        parts = cv2.connectedComponents(gray, connectivity=8)[1]
        touches_white, touches_black = (
            np.bincount(parts[near], minlength=num_gray + 1) > 0 for near in (high == white, low == 0)
        )
        if np.count_nonzero((touches_white & touches_black)[parts] & (gray > 0)) >= MIN_RIM_FRACTION * num_gray:
            return np.where(labels > white // 2, np.uint8(IGNORE_LABEL), np.uint8(0))
    is_slope = (gray > 0) & (((high != labels) & (high != white)) | ((low != labels) & (low > 0)))
    is_smooth = flat_fraction < 1 - MIN_RIM_FRACTION and 2 * np.count_nonzero(is_slope) > num_gray
    is_mostly_white = len(ids) > 2 and 2 * np.count_nonzero(labels == white) > np.count_nonzero(labels)
    if is_mostly_white or (is_smooth and len(grays) >= MIN_SMOOTH_VALUES):
        raise DataError.for_file(
            path,
            f"is gray with {len(ids)} values, which are not labels: a black and white mask with soft edges; a mask is "
            "inside or outside: save it without smoothing, as PNG",
        )
    return labels


def _read_pixels(path: Path, image_size: Size | None) -> tuple[str, npt.NDArray[np.generic]]:
    """Return mode and pixels. A color image without color has mode L: some tools save black and white so."""
    with open_mask_image(path, image_size) as image:
        mode = image.mode
        if mode in ("RGB", "RGBA"):
            rgb = np.asarray(image)[..., :3]
            mode = "L" if (rgb == rgb[..., :1]).all() else mode
        flatten = image.mode in ("LA", "RGB", "RGBA")
        return mode, np.asarray(image.convert("L") if flatten else image)


def _to_labels(path: Path, mode: str, pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    if mode not in ("1", "L", "P", "LA"):
        raise DataError.for_file(
            path,
            f"is an image of mode {mode}, not of labels; allowed are PNG files with a palette, or black and white: "
            "save it so",
        )
    return pixels.astype(np.uint8)


def unique_ids(label_map: LabelMap) -> list[int]:
    """Return the values other than 0, ascending.

    Example:
        >>> unique_ids(np.array([[0, 7], [3, 7]], np.uint8))
        [3, 7]
    """
    pixels, num_labels = label_map.ravel(), int(label_map.max(initial=0)) + 1
    counts = np.zeros(num_labels, np.int64)
    for start in range(0, len(pixels), COUNTED_PIXELS):  # bincount is faster than a sort, and needs eight bytes a pixel
        counts += np.bincount(pixels[start : start + COUNTED_PIXELS], minlength=num_labels)
    return [int(value) for value in np.flatnonzero(counts) if value]


def is_binary_mask(ids: Sequence[int]) -> bool:
    """Return whether a map with these ids has one object, painted white."""
    return list(ids) == [IGNORE_LABEL]


def count_labels(ids: Sequence[int], label_map: LabelMap) -> int:
    """Count the objects of a map with these ids; 255 in a map of 8 bits belongs to none, unless it is all there is.

    Example:
        >>> count_labels([1, 2, 255], np.array([[1, 2, 255]], np.uint8))
        2
    """
    has_ignore_label = label_map.dtype == np.uint8 and IGNORE_LABEL in ids
    return len(ids) - (has_ignore_label and not is_binary_mask(ids))


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


def masks_from_files(files: Iterable[tuple[int, Path]], image_path: Path, size: Size) -> LazyMasks:
    """Return a mask for each (object id, file) of an image of this size: the pixels that are not black.

    A file is opened when its mask is accessed; one that is damaged or of another size costs no other object.
    """

    numbered = list(files)

    def decode(file: Path) -> Mask:
        label_map = read_label_map_any_depth(file, size)
        check_same_size(file, label_map.shape, image_path, size)
        return np.asarray(label_map > 0, bool)

    return LazyMasks({object_id: partial(decode, file) for object_id, file in numbered}, num_records=len(numbered))


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
