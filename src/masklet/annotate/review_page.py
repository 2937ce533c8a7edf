"""The review sheet: the images a person should look at, in one HTML file that needs nothing else.

Small images with their masks are inside it, so that it can be moved and mailed; it asks no network for anything.
"""

from __future__ import annotations

import base64
import heapq
import html
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.annotate.annotation_records import BoxXyxy, ImageAnnotation, ObjectAnnotation
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
"""Pixels that a small image may take."""
CLOSEUP_SIZE = 220
"""Side of the detail that shows the most doubtful object."""
CLOSEUP_MARGIN = 0.6
"""Of an object's box that is shown on each side of it in the detail."""
MIN_CLOSEUP_PIXELS = 32
"""Pixels that the detail shows in each direction."""
MAX_CLOSEUP_AREA_FRACTION = 0.4
"""A detail of less than this share of the image is worth being shown."""
JPEG_QUALITY = 82
MAX_LISTED_OBJECTS = 4
"""Doubtful objects of an image that are spoken of."""

_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>masklet: to be reviewed</title>
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
    """A doubtful image: where its record is (`item`, `place` among its records), and how doubtful it is."""

    value: float
    name: str
    record_index: int


class ReviewQueue:
    """The most doubtful images of many; keeps no more than it will show.

    Example:
        >>> pile = Pile(0.02, images=10_000, conf=0.25)
        >>> pile.add("cats/1", 0, record)
        >>> pile.cards()
        [Card(value=0.6, item='cats/1', place=0)]
    """

    def __init__(self, fraction: float, num_images: int, conf: float | None) -> None:
        self.capacity = math.ceil(fraction * num_images)
        self.conf = conf
        self._heap: list[tuple[float, int, ReviewItem]] = []
        self._seen = 0

    def add(self, name: str, record_index: int, record: ImageAnnotation) -> None:
        """Look at one image; of equally doubtful ones the first is kept."""
        found = object_uncertainties(record, self.conf)
        if not found or not self.capacity:
            return
        self._seen += 1
        value = image_uncertainty(record, found)
        entry = (value, -self._seen, ReviewItem(value, name, record_index))
        if len(self._heap) < self.capacity:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def items(self) -> list[ReviewItem]:
        """The most doubtful first."""
        return [card for _, _, card in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def write_review(
    path: Path,
    records: Iterable[ImageAnnotation],
    names: Mapping[int, str],
    conf: float | None,
    failures: Sequence[Failure],
) -> Path:
    """Write the sheet of these images and return its path; one image is in memory at a time.

    Example:
        >>> write_review(Path("out/review.html"), records, {0: "dog"}, 0.25, ())
        PosixPath('out/review.html')

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(_HEAD + "<h1>To be reviewed</h1>\n")
        file.write('<p class="lead">The most doubtful images, and why; boxes are the detector\'s.</p>\n')
        for record in records:
            file.write(_article(record, object_uncertainties(record, conf), names, path.parent))
        file.writelines(_failures_html(failures))
    return path


def _article(
    record: ImageAnnotation, uncertainties: Sequence[Uncertainty], names: Mapping[int, str], folder: Path
) -> str:
    told = [
        _list_item(doubt, record.objects[doubt.object_index], names) for doubt in uncertainties[:MAX_LISTED_OBJECTS]
    ]
    more = (
        f'<p class="more">and {len(uncertainties) - MAX_LISTED_OBJECTS} more of its objects</p>'
        if len(uncertainties) > MAX_LISTED_OBJECTS
        else ""
    )
    address = quote(Path(os.path.relpath(record.path, folder)).as_posix())
    shown = html.escape(record.name)
    images = "".join(f'<img src="data:image/jpeg;base64,{data}" alt="">' for data in _images(record, uncertainties))
    return (
        f'<article>{images}<div class="text"><h2><a href="{address}">{shown}</a></h2>'
        f"<ul>{''.join(told)}</ul>{more}</div></article>\n"
    )


def _list_item(uncertainty: Uncertainty, annotation: ObjectAnnotation, names: Mapping[int, str]) -> str:
    name = html.escape(names.get(annotation.class_id, str(annotation.class_id)))
    return (
        f"<li><b>{name}</b>, object {uncertainty.object_index + 1}: {html.escape('; '.join(uncertainty.reasons))}</li>"
    )


def _failures_html(failures: Sequence[Failure]) -> Iterator[str]:
    if failures:
        yield "<h1>Could not be read</h1>\n<ul>\n"
        yield from (f"<li>{html.escape(failure.reason)}</li>\n" for failure in failures)
        yield "</ul>\n"


def _images(record: ImageAnnotation, uncertainties: Sequence[Uncertainty]) -> list[str]:
    """The image with all its masks, and the most doubtful object from near, alone; none where the file is gone."""
    try:
        rgb = _read_image(record)
    except SourceError:
        return []
    if record.size != rgb.shape[:2]:
        return []
    whole = (0.0, 0.0, float(rgb.shape[1]), float(rgb.shape[0]))
    doubtful = {doubt.object_index for doubt in uncertainties[:MAX_LISTED_OBJECTS]}
    shown = [_jpeg(_render_window(rgb, record, doubtful, whole, (THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT)))]
    if uncertainties:
        near = _closeup_window(record.objects[uncertainties[0].object_index].box, rgb)
        if (near[2] - near[0]) * (near[3] - near[1]) < MAX_CLOSEUP_AREA_FRACTION * whole[2] * whole[3]:
            alone = replace(record, objects=(record.objects[uncertainties[0].object_index],))
            shown.append(_jpeg(_render_window(rgb, alone, {0}, near, (CLOSEUP_SIZE, CLOSEUP_SIZE))))
    return shown


def _read_image(record: ImageAnnotation) -> Pixels:
    if record.frame_idx is None:
        return from_file(record.path).rgb
    with open_video(record.path) as video:
        return video[record.frame_idx].rgb


def _render_window(
    rgb: Pixels, record: ImageAnnotation, boxed_indices: set[int], window: BoxXyxy, max_size: tuple[int, int]
) -> Pixels:
    """What lies in a window of the image, small, with all masks and the boxes of the objects `boxed`."""
    x1, y1, x2, y2 = (round(corner) for corner in window)
    scale = min(max_size[0] / (x2 - x1), max_size[1] / (y2 - y1))
    size = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(rgb[y1:y2, x1:x2], size, interpolation=way), np.uint8)
    style = Style(alpha=0.45, line_width=1)
    for index, one in enumerate(record.objects):
        mask = _window_mask(one, (x1, y1, x2, y2), size)
        if mask.any():
            small = draw_masks(small, mask[None], [palette_color(index)], style)
    chosen = sorted(boxed_indices)
    corners = np.array([record.objects[index].box for index in chosen], np.float32).reshape(-1, 4)
    corners = (corners - np.array([x1, y1, x1, y1], np.float32)) * np.float32(scale)
    return draw_boxes(small, corners, [palette_color(index) for index in chosen], style)


def _window_mask(
    annotation: ObjectAnnotation, window: tuple[int, int, int, int], size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """The mask of an object in the window; a third of a pixel is enough to be seen."""
    x1, y1, x2, y2 = window
    if (
        not annotation.area
        or annotation.mask_box[0] >= x2
        or annotation.mask_box[2] <= x1
        or annotation.mask_box[1] >= y2
        or annotation.mask_box[3] <= y1
    ):
        return np.zeros(size[::-1], bool)
    mask = decode(annotation.rle)[y1:y2, x1:x2]
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 1 / 3, bool)


def _closeup_window(box: BoxXyxy, rgb: Pixels) -> BoxXyxy:
    """A window about a box, square where the image allows it, and at least a few pixels wide."""
    height, width = rgb.shape[:2]
    side = math.ceil(max((1 + 2 * CLOSEUP_MARGIN) * max(box[2] - box[0], box[3] - box[1]), MIN_CLOSEUP_PIXELS))
    x1, x2 = _clamped_span((box[0] + box[2]) / 2, side, width)
    y1, y2 = _clamped_span((box[1] + box[3]) / 2, side, height)
    return x1, y1, x2, y2


def _clamped_span(middle: float, side: int, length: int) -> tuple[int, int]:
    """`side` pixels about the middle, moved into 0 to `length`."""
    side = min(side, length)
    start = min(max(round(middle - side / 2), 0), length - side)
    return start, start + side


def _jpeg(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
