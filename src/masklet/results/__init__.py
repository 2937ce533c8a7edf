"""Results: the masks, boxes and scores of one image, and their exports.

    Results   one image with its objects; indexable, iterable, immutable
    Masks     the masks, as arrays and as polygons
    Boxes     their boxes with score and class

Coordinates are original pixels unless a name ends in `n` (then fractions of width and height, 0..1).
"""

from __future__ import annotations

from masklet.results.boxes_masks import Boxes, Masks
from masklet.results.results import (
    LOW_CONFIDENCE,
    MIN_ROUNDTRIP_IOU,
    CocoAnnotation,
    ObjectRecord,
    Results,
    Segments,
    image_stem,
)

__all__ = [
    "LOW_CONFIDENCE",
    "MIN_ROUNDTRIP_IOU",
    "Boxes",
    "CocoAnnotation",
    "Masks",
    "ObjectRecord",
    "Results",
    "Segments",
    "image_stem",
]
