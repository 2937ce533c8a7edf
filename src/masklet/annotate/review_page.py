"""The review sheet: the pictures a person should look at, in one HTML file that needs nothing else.

Small pictures with their masks are inside it, so that it can be moved and mailed; it asks no network for anything.
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

from masklet.annotate.annotation_records import Corners, Found, Record
from masklet.annotate.summary import Failure
from masklet.annotate.uncertainty import Doubt, doubts_of, picture_doubt
from masklet.atomic_files import atomic_path
from masklet.errors import SourceError
from masklet.masks.drawing import Style, color_of, draw_boxes, draw_masks
from masklet.masks.rle import decode
from masklet.media import open_video
from masklet.media.image import from_file

__all__ = ["Card", "Pile", "write_review"]

Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 420, 320
"""Pixels that a small picture may take."""
CLOSE = 220
"""Side of the detail that shows the most doubtful object."""
AROUND = 0.6
"""Of an object's box that is shown on each side of it in the detail."""
LEAST = 32
"""Pixels that the detail shows in each direction."""
WORTH = 0.4
"""A detail of less than this share of the picture is worth being shown."""
QUALITY = 82
TOLD = 4
"""Doubtful objects of a picture that are spoken of."""

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
class Card:
    """A doubtful picture: where its record is (`item`, `place` among its records), and how doubtful it is."""

    value: float
    item: str
    place: int


class Pile:
    """The most doubtful pictures of many; keeps no more than it will show.

    Example:
        >>> pile = Pile(0.02, pictures=10_000, conf=0.25)
        >>> pile.add("cats/1", 0, record)
        >>> pile.cards()
        [Card(value=0.6, item='cats/1', place=0)]
    """

    def __init__(self, share: float, pictures: int, conf: float | None) -> None:
        self.room = math.ceil(share * pictures)
        self.conf = conf
        self._heap: list[tuple[float, int, Card]] = []
        self._seen = 0

    def add(self, item: str, place: int, record: Record) -> None:
        """Look at one picture; of equally doubtful ones the first is kept."""
        found = doubts_of(record, self.conf)
        if not found or not self.room:
            return
        self._seen += 1
        value = picture_doubt(record, found)
        entry = (value, -self._seen, Card(value, item, place))
        if len(self._heap) < self.room:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def cards(self) -> list[Card]:
        """The most doubtful first."""
        return [card for _, _, card in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def write_review(
    path: Path, records: Iterable[Record], names: Mapping[int, str], conf: float | None, failures: Sequence[Failure]
) -> Path:
    """Write the sheet of these pictures and return its path; one picture is in memory at a time.

    Example:
        >>> write_review(Path("out/review.html"), records, {0: "dog"}, 0.25, ())
        PosixPath('out/review.html')

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(_HEAD + "<h1>To be reviewed</h1>\n")
        file.write('<p class="lead">The most doubtful pictures, and why; boxes are the detector\'s.</p>\n')
        for record in records:
            file.write(_article(record, doubts_of(record, conf), names, path.parent))
        file.writelines(_failures(failures))
    return path


def _article(record: Record, doubts: Sequence[Doubt], names: Mapping[int, str], folder: Path) -> str:
    told = [_told(doubt, record.objects[doubt.index], names) for doubt in doubts[:TOLD]]
    more = f'<p class="more">and {len(doubts) - TOLD} more of its objects</p>' if len(doubts) > TOLD else ""
    address = quote(Path(os.path.relpath(record.path, folder)).as_posix())
    shown = html.escape(record.name)
    images = "".join(f'<img src="data:image/jpeg;base64,{data}" alt="">' for data in _images(record, doubts))
    return (
        f'<article>{images}<div class="text"><h2><a href="{address}">{shown}</a></h2>'
        f"<ul>{''.join(told)}</ul>{more}</div></article>\n"
    )


def _told(doubt: Doubt, one: Found, names: Mapping[int, str]) -> str:
    name = html.escape(names.get(one.class_id, str(one.class_id)))
    return f"<li><b>{name}</b>, object {doubt.index + 1}: {html.escape('; '.join(doubt.reasons))}</li>"


def _failures(failures: Sequence[Failure]) -> Iterator[str]:
    if failures:
        yield "<h1>Could not be read</h1>\n<ul>\n"
        yield from (f"<li>{html.escape(failure.reason)}</li>\n" for failure in failures)
        yield "</ul>\n"


def _images(record: Record, doubts: Sequence[Doubt]) -> list[str]:
    """The picture with all its masks, and the most doubtful object from near, alone; none where the file is gone."""
    try:
        rgb = _read(record)
    except SourceError:
        return []
    if record.size != rgb.shape[:2]:
        return []
    whole = (0.0, 0.0, float(rgb.shape[1]), float(rgb.shape[0]))
    doubtful = {doubt.index for doubt in doubts[:TOLD]}
    shown = [_jpeg(_drawn(rgb, record, doubtful, whole, (WIDTH, HEIGHT)))]
    if doubts:
        near = _around(record.objects[doubts[0].index].box, rgb)
        if (near[2] - near[0]) * (near[3] - near[1]) < WORTH * whole[2] * whole[3]:
            alone = replace(record, objects=(record.objects[doubts[0].index],))
            shown.append(_jpeg(_drawn(rgb, alone, {0}, near, (CLOSE, CLOSE))))
    return shown


def _read(record: Record) -> Pixels:
    if record.frame is None:
        return from_file(record.path).rgb
    with open_video(record.path) as video:
        return video[record.frame].rgb


def _drawn(rgb: Pixels, record: Record, boxed: set[int], window: Corners, room: tuple[int, int]) -> Pixels:
    """What lies in a window of the picture, small, with all masks and the boxes of the objects `boxed`."""
    x1, y1, x2, y2 = (round(corner) for corner in window)
    scale = min(room[0] / (x2 - x1), room[1] / (y2 - y1))
    size = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(rgb[y1:y2, x1:x2], size, interpolation=way), np.uint8)
    style = Style(alpha=0.45, line_width=1)
    for index, one in enumerate(record.objects):
        mask = _small_mask(one, (x1, y1, x2, y2), size)
        if mask.any():
            small = draw_masks(small, mask[None], [color_of(index)], style)
    chosen = sorted(boxed)
    corners = np.array([record.objects[index].box for index in chosen], np.float32).reshape(-1, 4)
    corners = (corners - np.array([x1, y1, x1, y1], np.float32)) * np.float32(scale)
    return draw_boxes(small, corners, [color_of(index) for index in chosen], style)


def _small_mask(one: Found, window: tuple[int, int, int, int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask of an object in the window; a third of a pixel is enough to be seen."""
    x1, y1, x2, y2 = window
    if not one.area or one.extent[0] >= x2 or one.extent[2] <= x1 or one.extent[1] >= y2 or one.extent[3] <= y1:
        return np.zeros(size[::-1], bool)
    mask = decode(one.rle)[y1:y2, x1:x2]
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 1 / 3, bool)


def _around(box: Corners, rgb: Pixels) -> Corners:
    """A window about a box, square where the picture allows it, and at least a few pixels wide."""
    height, width = rgb.shape[:2]
    side = math.ceil(max((1 + 2 * AROUND) * max(box[2] - box[0], box[3] - box[1]), LEAST))
    x1, x2 = _span((box[0] + box[2]) / 2, side, width)
    y1, y2 = _span((box[1] + box[3]) / 2, side, height)
    return x1, y1, x2, y2


def _span(middle: float, side: int, length: int) -> tuple[int, int]:
    """`side` pixels about the middle, moved into 0 to `length`."""
    side = min(side, length)
    start = min(max(round(middle - side / 2), 0), length - side)
    return start, start + side


def _jpeg(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
