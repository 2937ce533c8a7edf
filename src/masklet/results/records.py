"""Objects as plain data, for JSON and for COCO."""

from __future__ import annotations

from typing import TypedDict

from masklet.masks import rle

__all__ = ["CocoAnnotation", "ObjectRecord", "Segments"]


class Segments(TypedDict):
    """One ring as two lists of original-pixel coordinates."""

    x: list[float]
    y: list[float]


ObjectRecord = TypedDict(
    "ObjectRecord",
    {
        "prompt": int,
        "name": str,
        "class": int,
        "confidence": float,
        "area": int,
        "box": dict[str, float],
        "segments": Segments,
    },
)
"""One object as plain data: an entry of `to_json` (box x1, y1, x2, y2 in original pixels, area in pixels)."""


class CocoAnnotation(TypedDict):
    """One annotation of a COCO file (bbox x, y, width, height in original pixels)."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: int
    segmentation: rle.Rle | list[list[float]]
    iscrowd: int
    score: float
