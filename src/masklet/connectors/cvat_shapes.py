"""Masks as the shapes of CVAT: their points are numbers in one list, in pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from masklet.errors import MissingExtraError
from masklet.masks.ops import masks_to_boxes
from masklet.masks.polygons import Polygon, mask_to_polygons, merge_to_ring, polygons_to_mask

try:
    from cvat_sdk.masks import decode_mask, encode_mask
except ImportError as error:
    raise MissingExtraError.for_package("cvat-sdk", "cvat") from error

__all__ = ["SHAPE_TYPES", "mask_from_shape", "shape_points"]

Bools: TypeAlias = npt.NDArray[np.bool_]
SHAPE_TYPES = ("mask", "polygon", "rectangle")


def shape_points(shape_type: str, mask: Bools) -> list[float]:
    """Convert a mask (H, W) that is not empty to the points of a mask, a polygon or a rectangle.

    A mask and a polygon are lossless; a polygon joins holes and separate parts by bridges without width.
    """
    if shape_type == "mask":
        return [float(number) for number in encode_mask(mask)]
    if shape_type == "polygon":
        return [float(number) for number in merge_to_ring(mask_to_polygons(mask)).ravel()]
    return [float(number) for number in masks_to_boxes(mask[None])[0]]


def mask_from_shape(shape_type: str, points: Sequence[float], size: tuple[int, int]) -> Bools:
    """Convert the points of a mask or a polygon to a mask (H, W) of an image of `size`.

    Raises:
        ValueError: if they are no such shape of this image.
    """
    if shape_type == "polygon":
        return polygons_to_mask([Polygon(np.asarray(points, np.float32).reshape(-1, 2))], size)
    mask: Bools = decode_mask(points, image_width=size[1], image_height=size[0])
    return mask
