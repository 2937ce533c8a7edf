"""What a person should look at: how doubtful an object is, and why, in words.

A doubt is a number from 0 (nothing speaks against it) to 1. That of an image is half its most doubtful object and half
the mean of all of them: where a model is unsure of something in every image, that tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masklet.annotate.annotation_records import BoxXyxy, ImageAnnotation, ObjectAnnotation

__all__ = ["Uncertainty", "image_uncertainty", "object_uncertainties", "object_uncertainty"]

SCORE_MARGIN = 0.15
"""A detector's score is near its threshold when it is less than this above it."""
SMALL_AREA_FRACTION, LARGE_AREA_FRACTION = 0.0004, 0.9
"""Shares of the image."""
SMALL_AREA_PIXELS = 64
BOX_AGREEMENT_IOU = 0.7
"""A mask's box and a detector's that overlap so much (IoU) agree."""
CONFIDENT_IOU = 0.9
"""A predicted IoU from which on there is no doubt."""


@dataclass(frozen=True)
class Uncertainty:
    """How doubtful the object `index` of an image is, and the reasons, the strongest first."""

    value: float
    object_index: int
    reasons: tuple[str, ...]


def object_uncertainties(record: ImageAnnotation, conf: float | None) -> list[Uncertainty]:
    """The doubtful objects of an image, the most doubtful first; `conf` is the detector's threshold, None: no such.

    Example:
        >>> doubts_of(record, 0.25)[0].reasons
        ('the detector was hardly sure (score 0.27, threshold 0.25)',)
    """
    found = (object_uncertainty(one, index, record.size, conf) for index, one in enumerate(record.objects))
    return sorted((doubt for doubt in found if doubt.reasons), key=lambda doubt: (-doubt.value, doubt.object_index))


def image_uncertainty(record: ImageAnnotation, uncertainties: Sequence[Uncertainty]) -> float:
    """How doubtful an image is, from the doubts about its objects, the most doubtful first.

    Example:
        >>> image_doubt(record, doubts_of(record, 0.25))
        0.31
    """
    if not uncertainties:
        return 0.0
    return (uncertainties[0].value + sum(doubt.value for doubt in uncertainties) / len(record.objects)) / 2


def object_uncertainty(
    annotation: ObjectAnnotation, index: int, size: tuple[int, int] | None, conf: float | None
) -> Uncertainty:
    """The doubt about one object of an image of `size` (height, width)."""
    found = [
        reason
        for reason in (
            _low_mask_iou(annotation),
            _low_score(annotation, conf),
            _unusual_area(annotation, size),
            _box_mask_mismatch(annotation),
        )
        if reason is not None
    ]
    found.sort(key=lambda reason: -reason[0])
    return Uncertainty(found[0][0] if found else 0.0, index, tuple(text for _, text in found))


def _low_mask_iou(annotation: ObjectAnnotation) -> tuple[float, str] | None:
    if not annotation.area or annotation.predicted_iou is None or annotation.predicted_iou >= CONFIDENT_IOU:
        return None
    return 1 - max(annotation.predicted_iou, 0.0), f"the mask is unsure (predicted IoU {annotation.predicted_iou:.2f})"


def _low_score(annotation: ObjectAnnotation, conf: float | None) -> tuple[float, str] | None:
    if conf is None or annotation.score >= conf + SCORE_MARGIN:
        return None
    nearness = 1 - max(annotation.score - conf, 0.0) / SCORE_MARGIN
    return 0.1 + 0.5 * nearness, f"the detector was hardly sure (score {annotation.score:.2f}, threshold {conf:.2f})"


def _unusual_area(annotation: ObjectAnnotation, size: tuple[int, int] | None) -> tuple[float, str] | None:
    pixels = size[0] * size[1] if size else 0
    if not annotation.area:
        return 1.0, "the mask is empty: no label was written"
    limit = max(SMALL_AREA_FRACTION * pixels, float(SMALL_AREA_PIXELS))
    if annotation.area < limit:
        return 0.3 + 0.4 * (1 - annotation.area / limit), f"the mask is tiny ({annotation.area} pixels)"
    if pixels and annotation.area > LARGE_AREA_FRACTION * pixels:
        return 0.6, f"the mask covers {annotation.area / pixels:.0%} of the image"
    return None


def _box_mask_mismatch(annotation: ObjectAnnotation) -> tuple[float, str] | None:
    if not annotation.area:
        return None
    overlap = _box_iou(annotation.box, annotation.mask_box)
    if overlap >= BOX_AGREEMENT_IOU:
        return None
    return 1 - overlap, f"box and mask disagree (they overlap by {overlap:.2f})"


def _box_iou(a: BoxXyxy, b: BoxXyxy) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either > 0 else 0.0
