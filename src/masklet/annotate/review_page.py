"""The review page: the most uncertain images in one self-contained HTML file.

Thumbnails with masks are inside it, so that it can be moved and mailed, and needs no network.
"""

from __future__ import annotations

import base64
import heapq
import html
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.annotate.annotation_records import BoxXyxy, ImageAnnotation
from masklet.annotate.summary import Failure
from masklet.annotate.uncertainty import Uncertainty, image_uncertainty, object_uncertainties
from masklet.atomic_files import atomic_path
from masklet.errors import SourceError
from masklet.masks.drawing import Style, draw_boxes, draw_masks, palette_color
from masklet.masks.rle import decode
from masklet.media import open_video
from masklet.media.image import from_file

__all__ = ["ReviewItem", "ReviewQueue", "write_review"]

Pixels = npt.NDArray[np.uint8]

THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT = 420, 320
"""Maximum size of a thumbnail in pixels."""
CLOSEUP_SIZE = 220
"""Side of the closeup of the most uncertain object, in pixels."""
CLOSEUP_MARGIN = 0.6
"""Fraction of the object's box that the closeup shows on each side of it."""
MIN_CLOSEUP_PIXELS = 32
"""Minimum side of the closeup in pixels of the image."""
MAX_CLOSEUP_AREA_FRACTION = 0.4
"""A closeup of less than this fraction of the image is shown."""
JPEG_QUALITY = 82
MAX_LISTED_OBJECTS = 4
"""Uncertain objects listed per image."""

_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>masklet: review</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 24px; color: #18191d; background: #fafaf8; }
h1 { font-size: 22px; margin: 0 0 4px; }
p.lead { color: #5b5d63; margin: 0 0 20px; }
article { display: flex; flex-wrap: wrap; gap: 14px; background: #fff; border: 1px solid #e3e3df; border-radius: 8px;
  padding: 14px; margin-bottom: 14px; }
article img { border-radius: 4px; align-self: flex-start; }
h2 { font-size: 15px; margin: 0 0 6px; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 18px; }
li b { font-weight: 600; }
.text { flex: 1 1 260px; }
.more { color: #787a80; }
</style>
"""


@dataclass(frozen=True)
class ReviewItem:
    """An uncertain image: its uncertainty, the name of its input, and the index of its record."""

    value: float
    name: str
    record_index: int


class ReviewQueue:
    """Collect the most uncertain images: a `fraction` of `num_images`, no more are stored.

    Example:
        >>> from masklet.annotate.annotation_records import ObjectAnnotation
        >>> from masklet.masks.rle import Rle
        >>> box = (8.0, 10.0, 28.0, 30.0)
        >>> one = ObjectAnnotation(0, 0.9, box, Rle(size=[48, 64], counts=""), 400, box, predicted_iou=0.4)
        >>> queue = ReviewQueue(0.02, num_images=10_000, conf=0.25)
        >>> queue.add("cats/1", 0, ImageAnnotation("cats/1", "cats/1.jpg", (48, 64), (one,)))
        >>> queue.items()
        [ReviewItem(value=0.6, name='cats/1', record_index=0)]
    """

    def __init__(self, fraction: float, num_images: int, conf: float | None) -> None:
        self.capacity = math.ceil(fraction * num_images)
        self.conf = conf
        self._heap: list[tuple[float, int, ReviewItem]] = []
        self._seen = 0

    def add(self, name: str, record_index: int, record: ImageAnnotation) -> None:
        """Rate one image; of equally uncertain images the first is kept."""
        uncertainties = object_uncertainties(record, self.conf)
        if not uncertainties or not self.capacity:
            return
        self._seen += 1
        value = image_uncertainty(record, uncertainties)
        entry = (value, -self._seen, ReviewItem(value, name, record_index))
        if len(self._heap) < self.capacity:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def items(self) -> list[ReviewItem]:
        """The collected images, the most uncertain first."""
        return [item for _, _, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def write_review(
    path: Path,
    records: Iterable[ImageAnnotation],
    names: Mapping[int, str],
    conf: float | None,
    failures: Sequence[Failure],
) -> Path:
    """Write the review page of these images and return its path; one image is in memory at a time.

    Raises:
        OutputError: if it cannot be written.
    """
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.write(_HEAD + "<h1>To review</h1>\n")
        file.write('<p class="lead">The most uncertain images, and why; boxes are those of the detector.</p>\n')
        for record in records:
            file.write(_article(record, object_uncertainties(record, conf), names, path.parent))
        if failures:
            file.write("<h1>Could not be read</h1>\n<ul>\n")
            file.writelines(f"<li>{html.escape(failure.reason)}</li>\n" for failure in failures)
            file.write("</ul>\n")
    return path


def _article(
    record: ImageAnnotation, uncertainties: Sequence[Uncertainty], names: Mapping[int, str], folder: Path
) -> str:
    items = []
    for one in uncertainties[:MAX_LISTED_OBJECTS]:
        class_id = record.objects[one.object_index].class_id
        name, reasons = html.escape(names.get(class_id, str(class_id))), html.escape("; ".join(one.reasons))
        items.append(f"<li><b>{name}</b>, object {one.object_index + 1}: {reasons}</li>")
    more = len(uncertainties) - MAX_LISTED_OBJECTS
    more_html = f'<p class="more">and {more} more of its objects</p>' if more > 0 else ""
    href = quote(os.fsencode(Path(os.path.relpath(record.path, folder)).as_posix()))  # names may be no text
    images = ""
    for pixels in _images(record, uncertainties):
        jpeg = io.BytesIO()
        Image.fromarray(pixels).save(jpeg, "JPEG", quality=JPEG_QUALITY)
        images += f'<img src="data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode("ascii")}" alt="">'
    return (
        f'<article>{images}<div class="text"><h2><a href="{href}">{html.escape(record.name)}</a></h2>'
        f"<ul>{''.join(items)}</ul>{more_html}</div></article>\n"
    )


def _images(record: ImageAnnotation, uncertainties: Sequence[Uncertainty]) -> list[Pixels]:
    """A thumbnail with all masks, and a closeup of the most uncertain object; none if the file is gone."""
    try:
        if record.frame_idx is None:
            rgb = from_file(record.path).rgb
        else:
            with open_video(record.path) as video:
                rgb = video[record.frame_idx].rgb
    except SourceError:
        return []
    if record.size != rgb.shape[:2]:
        return []
    full = (0.0, 0.0, float(rgb.shape[1]), float(rgb.shape[0]))
    boxed = {one.object_index for one in uncertainties[:MAX_LISTED_OBJECTS]}
    images = [_render_window(rgb, record, boxed, full, (THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT))]
    if uncertainties:
        worst = record.objects[uncertainties[0].object_index]
        left, top, right, bottom = worst.box
        side = math.ceil(max((1 + 2 * CLOSEUP_MARGIN) * max(right - left, bottom - top), MIN_CLOSEUP_PIXELS))
        x1, x2 = _clamped_span((left + right) / 2, side, rgb.shape[1])
        y1, y2 = _clamped_span((top + bottom) / 2, side, rgb.shape[0])
        if (x2 - x1) * (y2 - y1) < MAX_CLOSEUP_AREA_FRACTION * full[2] * full[3]:
            alone = replace(record, objects=(worst,))
            images.append(_render_window(rgb, alone, {0}, (x1, y1, x2, y2), (CLOSEUP_SIZE, CLOSEUP_SIZE)))
    return images


def _render_window(
    rgb: Pixels, record: ImageAnnotation, boxed_indices: set[int], window: BoxXyxy, max_size: tuple[int, int]
) -> Pixels:
    """Draw a window of the image in `max_size` (width, height), with all masks and the boxes of some objects."""
    x1, y1, x2, y2 = (round(corner) for corner in window)
    scale = min(max_size[0] / (x2 - x1), max_size[1] / (y2 - y1))
    size = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(rgb[y1:y2, x1:x2], size, interpolation=interpolation), np.uint8)
    style = Style(alpha=0.45, line_width=1)
    for index, one in enumerate(record.objects):
        left, top, right, bottom = one.mask_box
        if not one.area or left >= x2 or right <= x1 or top >= y2 or bottom <= y1:
            continue
        crop = decode(one.rle)[y1:y2, x1:x2].astype(np.float32)
        mask = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA) > 1 / 3, bool)  # a third is visible
        if mask.any():
            small = draw_masks(small, mask[None], [palette_color(index)], style)
    boxed = sorted(boxed_indices)
    boxes = np.array([record.objects[index].box for index in boxed], np.float32).reshape(-1, 4)
    boxes = (boxes - np.array([x1, y1, x1, y1], np.float32)) * np.float32(scale)
    return draw_boxes(small, boxes, [palette_color(index) for index in boxed], style)


def _clamped_span(middle: float, side: int, length: int) -> tuple[int, int]:
    """`side` pixels around the middle, shifted into 0 to `length`."""
    side = min(side, length)
    start = min(max(round(middle - side / 2), 0), length - side)
    return start, start + side
