"""A contact sheet: a data set at a glance, masks painted on its pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from masklet.atomic_files import write_image
from masklet.datasets.check import is_still
from masklet.datasets.dataset import Annotated, Dataset, Entry, Mask, Pixels
from masklet.errors import SourceError
from masklet.masks.drawing import Style, color_of, draw_masks

__all__ = ["contact_sheet"]

COLUMNS = 6
WIDTH, HEIGHT = 300, 225
"""Pixels a picture may take."""
GAP, CAPTION, FONT = 10, 24, 13
PAPER, INK, FAINT, ALARM = (250, 250, 248), (24, 26, 32), (120, 122, 128), (176, 32, 32)
PANEL = (236, 236, 233)


@dataclass(frozen=True, eq=False)
class _Cell:
    """A small picture, its name, and what stands at the right of it."""

    name: str
    tile: Pixels
    said: str
    colour: tuple[int, int, int]


def contact_sheet(dataset: Dataset, path: str | os.PathLike[str], count: int = 24) -> Path:
    """Write a picture (PNG, JPEG, WebP) of `count` frames, spread evenly over the data set, and return its path.

    Each is shown with its masks in colour, its name, and how many objects it has; one that cannot be read says so. Of a
    film one frame is shown, or several where there are fewer entries than `count`.

    Example:
        >>> contact_sheet(open_dataset("mine"), "mine.png")
        PosixPath('mine.png')

    Raises:
        OutputError: a file that cannot be written.
    """
    assert count >= 1, f"count is 1 or more, got {count}"
    cells = [_cell(entry, number) for entry, number in _spread(dataset.entries, count)]
    columns = min(COLUMNS, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.tile.shape[0] for cell in row) for row in rows]
    size = (columns * (WIDTH + GAP) + GAP, sum(heights) + len(rows) * (CAPTION + GAP) + GAP)
    sheet, y = Image.new("RGB", size, PAPER), GAP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            _put(sheet, (GAP + column * (WIDTH + GAP), y), height, cell)
        y += height + CAPTION + GAP
    return write_image(path, np.asarray(sheet))


def _spread(entries: Sequence[Entry], count: int) -> list[tuple[Entry, int]]:
    """Entries and numbers of frames, evenly spread: over the entries, or where these are few over all their frames."""
    if len(entries) >= count:
        return [(entries[i], entries[i].frames[len(entries[i].frames) // 2]) for i in _places(len(entries), count)]
    frames = [(entry, number) for entry in entries for number in entry.frames]
    return [frames[i] for i in _places(len(frames), count)]


def _places(length: int, count: int) -> list[int]:
    """The middles of `count` equal parts of `length`."""
    count = min(count, length)
    return [(2 * part + 1) * length // (2 * count) for part in range(count)]


def _cell(entry: Entry, number: int) -> _Cell:
    name = entry.name if is_still(entry) else f"{entry.name}  #{number}"
    try:
        tile, objects = _tile(entry.read([number])[0])
    except SourceError:
        return _Cell(name, np.full((HEIGHT, WIDTH, 3), PANEL, np.uint8), "broken", ALARM)
    return _Cell(name, tile, f"{objects}", FAINT)


def _put(sheet: Image.Image, corner: tuple[int, int], height: int, cell: _Cell) -> None:
    """A cell in the middle of its panel, and its caption below."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    draw.rectangle((*corner, corner[0] + WIDTH - 1, corner[1] + height - 1), fill=PANEL)
    x, y = corner[0] + (WIDTH - cell.tile.shape[1]) // 2, corner[1] + (height - cell.tile.shape[0]) // 2
    sheet.paste(Image.fromarray(cell.tile), (x, y))
    line = corner[1] + height + (CAPTION - FONT) // 2 - 1
    right = corner[0] + WIDTH - draw.textlength(cell.said, font=font)
    draw.text((right, line), cell.said, font=font, fill=cell.colour)
    draw.text((corner[0], line), _short(draw, cell.name, right - corner[0] - GAP, font), font=font, fill=INK)


def _tile(annotated: Annotated) -> tuple[Pixels, int]:
    """The picture, small, with its masks, and how many of them are not empty."""
    height, width = annotated.size
    scale = min(WIDTH / width, HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(annotated.rgb, size, interpolation=way), np.uint8)
    masks = _small_masks(annotated.masks, size)
    shown = np.stack(list(masks.values())) if masks else np.zeros((0, *small.shape[:2]), bool)
    colours = [color_of(number - 1) for number in masks]
    return draw_masks(small, shown, colours, Style(alpha=0.5, line_width=1)), len(masks)


def _small_masks(masks: Mapping[int, Mask], size: tuple[int, int]) -> dict[int, Mask]:
    """A third of a pixel is enough to be seen, so that thin things stay."""
    found: dict[int, Mask] = {}
    for number in masks:
        mask = masks[number]
        if mask.any():
            share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            found[number] = np.asarray(share > 1 / 3, bool)
    return found


def _short(
    draw: ImageDraw.ImageDraw, name: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """A name without its middle, where there is no room for all of it."""
    kept, shown = len(name), name
    while kept > 2 and draw.textlength(shown, font=font) > width:
        kept -= 1
        shown = f"{name[: kept - kept // 2]}...{name[-(kept // 2) :]}"
    return shown
