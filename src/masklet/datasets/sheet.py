"""A contact sheet: a data set at a glance, masks painted on its pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from masklet.datasets.base import Annotated, Dataset, Entry, Mask, Pixels
from masklet.datasets.check import is_still
from masklet.errors import SourceError
from masklet.files import write_image
from masklet.masks.drawing import Style, color_of, draw_masks

__all__ = ["contact_sheet"]

COLUMNS = 6
WIDTH, HEIGHT = 300, 225
"""Pixels a picture may take."""
GAP, CAPTION, FONT = 10, 24, 13
PAPER, INK, FAINT, ALARM = (250, 250, 248), (24, 26, 32), (120, 122, 128), (176, 32, 32)
EMPTY = (232, 232, 230)


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
    frames = _spread(dataset.entries, count)
    columns = min(COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    size = (columns * (WIDTH + GAP) + GAP, rows * (HEIGHT + CAPTION + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    for place, (entry, number) in enumerate(frames):
        corner = GAP + place % columns * (WIDTH + GAP), GAP + place // columns * (HEIGHT + CAPTION + GAP)
        _add(sheet, corner, entry, number)
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


def _add(sheet: Image.Image, corner: tuple[int, int], entry: Entry, number: int) -> None:
    name = entry.name if is_still(entry) else f"{entry.name}  #{number}"
    try:
        tile, objects = _tile(entry.read([number])[0])
        said, colour = f"{objects}", FAINT
    except SourceError:
        tile, said, colour = np.full((HEIGHT, WIDTH, 3), EMPTY, np.uint8), "broken", ALARM
    x, y = corner[0] + (WIDTH - tile.shape[1]) // 2, corner[1] + (HEIGHT - tile.shape[0]) // 2
    sheet.paste(Image.fromarray(tile), (x, y))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    line = corner[1] + HEIGHT + (CAPTION - FONT) // 2 - 1
    right = corner[0] + WIDTH - draw.textlength(said, font=font)
    draw.text((right, line), said, font=font, fill=colour)
    draw.text((corner[0], line), _short(draw, name, right - corner[0] - GAP, font), font=font, fill=INK)


def _tile(annotated: Annotated) -> tuple[Pixels, int]:
    """The picture, small, with its masks, and how many of them are not empty."""
    height, width = annotated.size
    scale = min(WIDTH / width, HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(annotated.rgb, size, interpolation=way), np.uint8)
    masks = _small_masks(annotated.masks, size)
    shown = np.stack(list(masks.values())) if masks else np.zeros((0, *small.shape[:2]), bool)
    line = 1 if len(masks) > 8 else 2
    colours = [color_of(number - 1) for number in masks]
    return draw_masks(small, shown, colours, Style(alpha=0.5, line_width=line)), len(masks)


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
    """The end of a name says which it is: the beginning goes where there is no room."""
    kept = name
    while len(kept) > 1 and draw.textlength(kept if kept == name else f"...{kept}", font=font) > width:
        kept = kept[1:]
    return kept if kept == name else f"...{kept}"
