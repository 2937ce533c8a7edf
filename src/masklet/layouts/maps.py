"""Label maps: a pixel says which object it is of, so that of objects that overlap one hides the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.files import atomic_path
from masklet.formats.palette import davis_palette
from masklet.layouts.base import NO_PIXEL, Written
from masklet.layouts.records import LabelledObject

__all__ = ["LAST", "painted_map", "write_map"]

Labels = npt.NDArray[np.uint8]
LAST = 254
"""The highest label of an object: 255 is a place that belongs to nobody."""
HIDDEN = "an object hidden, in part or whole, by one that overlaps it"
NO_ROOM = f"an object left out, because a map has {LAST} labels"


def painted_map(
    objects: Sequence[LabelledObject], labels: Mapping[int, int], size: tuple[int, int], written: Written
) -> Labels:
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


def write_map(path: Path, labels: Labels) -> Path:
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
