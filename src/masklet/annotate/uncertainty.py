"""Rank annotations for review: how uncertain an object is, and why, in words.

An uncertainty is a number from 0 (certain) to 1. That of an image is half its most uncertain object and half the mean
of all of them, which ranks images whose most uncertain objects are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masklet.annotate.annotation_records import ImageAnnotation, ObjectAnnotation
from masklet.masks.ops import box_iou

__all__ = ["Uncertainty", "image_uncertainty", "object_uncertainties", "object_uncertainty"]

SCORE_MARGIN = 0.15
"""A detector score less than this above its threshold is low."""
SMALL_AREA_FRACTION, LARGE_AREA_FRACTION = 0.0004, 0.9
"""Fractions of the image."""
SMALL_AREA_PIXELS = 64
BOX_AGREEMENT_IOU = 0.7
"""The box of a mask and that of the detector agree from this IoU on."""
CONFIDENT_IOU = 0.9
"""A predicted IoU from here on is certain."""


@dataclass(frozen=True)
class Uncertainty:
    """How uncertain an object of an image is, and the reasons, the strongest first."""

    value: float
    object_index: int
    reasons: tuple[str, ...]


def object_uncertainties(record: ImageAnnotation, conf: float | None) -> list[Uncertainty]:
    """List the uncertain objects of an image, the most uncertain first; `conf` is the threshold of the detector.

    Example:
        >>> from masklet.masks.rle import Rle
        >>> box = (10.0, 10.0, 40.0, 40.0)
        >>> one = ObjectAnnotation(0, 0.27, box, Rle(size=[48, 64], counts=""), 900, box)
        >>> object_uncertainties(ImageAnnotation("a", "a.jpg", (48, 64), (one,)), 0.25)[0].reasons
        ('low detector score (0.27, threshold 0.25)',)
    """
    uncertainties = [object_uncertainty(one, index, record.size, conf) for index, one in enumerate(record.objects)]
    return sorted((one for one in uncertainties if one.reasons), key=lambda one: (-one.value, one.object_index))


def image_uncertainty(record: ImageAnnotation, uncertainties: Sequence[Uncertainty]) -> float:
    """How uncertain an image is, from the `object_uncertainties` of its objects."""
    if not uncertainties:
        return 0.0
    return (uncertainties[0].value + sum(one.value for one in uncertainties) / len(record.objects)) / 2


def object_uncertainty(
    annotation: ObjectAnnotation, index: int, size: tuple[int, int] | None, conf: float | None
) -> Uncertainty:
    """Rate one object of an image of `size` (height, width)."""
    reasons: list[tuple[float, str]] = []
    iou, score, area = annotation.predicted_iou, annotation.score, annotation.area
    if area and iou is not None and iou < CONFIDENT_IOU:
        reasons.append((1 - max(iou, 0.0), f"the mask is uncertain (predicted IoU {iou:.2f})"))
    if conf is not None and score < conf + SCORE_MARGIN:
        nearness = 1 - max(score - conf, 0.0) / SCORE_MARGIN
        reasons.append((0.1 + 0.5 * nearness, f"low detector score ({score:.2f}, threshold {conf:.2f})"))
    pixels = size[0] * size[1] if size else 0
    small = max(SMALL_AREA_FRACTION * pixels, float(SMALL_AREA_PIXELS))
    if not area:
        reasons.append((1.0, "the mask is empty: no label was written"))
    elif area < small:
        reasons.append((0.3 + 0.4 * (1 - area / small), f"the mask is tiny ({area} pixels)"))
    elif pixels and area > LARGE_AREA_FRACTION * pixels:
        reasons.append((0.6, f"the mask covers {area / pixels:.0%} of the image"))
    if area and (overlap := box_iou(annotation.box, annotation.mask_box)) < BOX_AGREEMENT_IOU:
        reasons.append((1 - overlap, f"box and mask disagree (IoU {overlap:.2f})"))
    reasons.sort(key=lambda reason: -reason[0])
    return Uncertainty(reasons[0][0] if reasons else 0.0, index, tuple(text for _, text in reasons))
