"""What a person should look at: how doubtful an object is, and why, in words.

A doubt is a number from 0 (nothing speaks against it) to 1. That of a picture is half its most doubtful object and half
the mean of all of them: where a model is unsure of something in every picture, that tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masklet.annotate.annotation_records import Corners, Found, Record

__all__ = ["Doubt", "doubt_of", "doubts_of", "picture_doubt"]

MARGIN = 0.15
"""A detector's score is near its threshold when it is less than this above it."""
TINY, HUGE = 0.0004, 0.9
"""Shares of the picture."""
TINY_PIXELS = 64
AGREED = 0.7
"""A mask's box and a detector's that overlap so much (IoU) agree."""
SURE = 0.9
"""A predicted IoU from which on there is no doubt."""


@dataclass(frozen=True)
class Doubt:
    """How doubtful the object `index` of a picture is, and the reasons, the strongest first."""

    value: float
    index: int
    reasons: tuple[str, ...]


def doubts_of(record: Record, conf: float | None) -> list[Doubt]:
    """The doubtful objects of a picture, the most doubtful first; `conf` is the detector's threshold, None: no such.

    Example:
        >>> doubts_of(record, 0.25)[0].reasons
        ('the detector was hardly sure (score 0.27, threshold 0.25)',)
    """
    found = (doubt_of(one, index, record.size, conf) for index, one in enumerate(record.objects))
    return sorted((doubt for doubt in found if doubt.reasons), key=lambda doubt: (-doubt.value, doubt.index))


def picture_doubt(record: Record, doubts: Sequence[Doubt]) -> float:
    """How doubtful a picture is, from the doubts about its objects, the most doubtful first.

    Example:
        >>> picture_doubt(record, doubts_of(record, 0.25))
        0.31
    """
    if not doubts:
        return 0.0
    return (doubts[0].value + sum(doubt.value for doubt in doubts) / len(record.objects)) / 2


def doubt_of(one: Found, index: int, size: tuple[int, int] | None, conf: float | None) -> Doubt:
    """The doubt about one object of a picture of `size` (height, width)."""
    found = [
        reason for reason in (_unsure(one), _near(one, conf), _extent(one, size), _apart(one)) if reason is not None
    ]
    found.sort(key=lambda reason: -reason[0])
    return Doubt(found[0][0] if found else 0.0, index, tuple(text for _, text in found))


def _unsure(one: Found) -> tuple[float, str] | None:
    if not one.area or one.iou is None or one.iou >= SURE:
        return None
    return 1 - max(one.iou, 0.0), f"the mask is unsure (predicted IoU {one.iou:.2f})"


def _near(one: Found, conf: float | None) -> tuple[float, str] | None:
    if conf is None or one.score >= conf + MARGIN:
        return None
    nearness = 1 - max(one.score - conf, 0.0) / MARGIN
    return 0.1 + 0.5 * nearness, f"the detector was hardly sure (score {one.score:.2f}, threshold {conf:.2f})"


def _extent(one: Found, size: tuple[int, int] | None) -> tuple[float, str] | None:
    pixels = size[0] * size[1] if size else 0
    if not one.area:
        return 1.0, "the mask is empty: no label was written"
    limit = max(TINY * pixels, float(TINY_PIXELS))
    if one.area < limit:
        return 0.3 + 0.4 * (1 - one.area / limit), f"the mask is tiny ({one.area} pixels)"
    if pixels and one.area > HUGE * pixels:
        return 0.6, f"the mask covers {one.area / pixels:.0%} of the picture"
    return None


def _apart(one: Found) -> tuple[float, str] | None:
    if not one.area:
        return None
    overlap = _box_iou(one.box, one.extent)
    if overlap >= AGREED:
        return None
    return 1 - overlap, f"box and mask disagree (they overlap by {overlap:.2f})"


def _box_iou(a: Corners, b: Corners) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either > 0 else 0.0
