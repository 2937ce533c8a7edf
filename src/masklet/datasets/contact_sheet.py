"""A contact sheet: a data set at a glance, masks painted on its images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from masklet.atomic_files import write_image
from masklet.datasets.check import is_single_image
from masklet.datasets.dataset import AnnotatedFrame, Dataset, Mask, Pixels, Sample
from masklet.errors import SourceError
from masklet.masks.drawing import Style, draw_masks, palette_color

__all__ = ["save_contact_sheet"]

COLUMNS = 6
CELL_WIDTH, CELL_HEIGHT = 300, 225
"""Pixels an image may take."""
GAP, CAPTION_HEIGHT, FONT_SIZE = 10, 24, 13
BACKGROUND_COLOR, TEXT_COLOR, MUTED_COLOR, ERROR_COLOR = (250, 250, 248), (24, 26, 32), (120, 122, 128), (176, 32, 32)
PANEL_COLOR = (236, 236, 233)


@dataclass(frozen=True, eq=False)
class _Cell:
    """A small image, its name, and what stands at the right of it."""

    name: str
    thumbnail: Pixels
    note: str
    note_color: tuple[int, int, int]


def save_contact_sheet(dataset: Dataset, path: str | os.PathLike[str], count: int = 24) -> Path:
    """Write an image (PNG, JPEG, WebP) of `count` frames, spread evenly over the data set, and return its path.

    Each is shown with its masks in color, its name, and how many objects it has; one that cannot be read says so. Of a
    video one frame is shown, or several where there are fewer entries than `count`.

    Example:
        >>> contact_sheet(open_dataset("mine"), "mine.png")
        PosixPath('mine.png')

    Raises:
        OutputError: a file that cannot be written.
    """
    assert count >= 1, f"count is 1 or more, got {count}"
    cells = [_make_cell(entry, number) for entry, number in _select_frames(dataset.samples, count)]
    columns = min(COLUMNS, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.thumbnail.shape[0] for cell in row) for row in rows]
    size = (columns * (CELL_WIDTH + GAP) + GAP, sum(heights) + len(rows) * (CAPTION_HEIGHT + GAP) + GAP)
    sheet, y = Image.new("RGB", size, BACKGROUND_COLOR), GAP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            _draw_cell(sheet, (GAP + column * (CELL_WIDTH + GAP), y), height, cell)
        y += height + CAPTION_HEIGHT + GAP
    return write_image(path, np.asarray(sheet))


def _select_frames(samples: Sequence[Sample], count: int) -> list[tuple[Sample, int]]:
    """Entries and numbers of frames, evenly spread: over the entries, or where these are few over all their frames."""
    if len(samples) >= count:
        return [
            (samples[i], samples[i].frame_indices[len(samples[i].frame_indices) // 2])
            for i in _even_indices(len(samples), count)
        ]
    frames = [(entry, number) for entry in samples for number in entry.frame_indices]
    return [frames[i] for i in _even_indices(len(frames), count)]


def _even_indices(length: int, count: int) -> list[int]:
    """The middles of `count` equal parts of `length`."""
    count = min(count, length)
    return [(2 * part + 1) * length // (2 * count) for part in range(count)]


def _make_cell(sample: Sample, frame_idx: int) -> _Cell:
    name = sample.name if is_single_image(sample) else f"{sample.name}  #{frame_idx}"
    try:
        tile, objects = _make_thumbnail(sample.read([frame_idx])[0])
    except SourceError:
        return _Cell(name, np.full((CELL_HEIGHT, CELL_WIDTH, 3), PANEL_COLOR, np.uint8), "broken", ERROR_COLOR)
    return _Cell(name, tile, f"{objects}", MUTED_COLOR)


def _draw_cell(sheet: Image.Image, corner: tuple[int, int], height: int, cell: _Cell) -> None:
    """A cell in the middle of its panel, and its caption below."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    draw.rectangle((*corner, corner[0] + CELL_WIDTH - 1, corner[1] + height - 1), fill=PANEL_COLOR)
    x, y = corner[0] + (CELL_WIDTH - cell.thumbnail.shape[1]) // 2, corner[1] + (height - cell.thumbnail.shape[0]) // 2
    sheet.paste(Image.fromarray(cell.thumbnail), (x, y))
    line = corner[1] + height + (CAPTION_HEIGHT - FONT_SIZE) // 2 - 1
    right = corner[0] + CELL_WIDTH - draw.textlength(cell.note, font=font)
    draw.text((right, line), cell.note, font=font, fill=cell.note_color)
    draw.text((corner[0], line), _shorten(draw, cell.name, right - corner[0] - GAP, font), font=font, fill=TEXT_COLOR)


def _make_thumbnail(annotated_frame: AnnotatedFrame) -> tuple[Pixels, int]:
    """The image, small, with its masks, and how many of them are not empty."""
    height, width = annotated_frame.size
    scale = min(CELL_WIDTH / width, CELL_HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(annotated_frame.rgb, size, interpolation=way), np.uint8)
    masks = _small_masks(annotated_frame.masks, size)
    shown = np.stack(list(masks.values())) if masks else np.zeros((0, *small.shape[:2]), bool)
    colors = [palette_color(number - 1) for number in masks]
    return draw_masks(small, shown, colors, Style(alpha=0.5, line_width=1)), len(masks)


def _small_masks(masks: Mapping[int, Mask], size: tuple[int, int]) -> dict[int, Mask]:
    """A third of a pixel is enough to be seen, so that thin things stay."""
    found: dict[int, Mask] = {}
    for number in masks:
        mask = masks[number]
        if mask.any():
            share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            found[number] = np.asarray(share > 1 / 3, bool)
    return found


def _shorten(
    draw: ImageDraw.ImageDraw, name: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """A name without its middle, where there is no room for all of it."""
    kept, shown = len(name), name
    while kept > 2 and draw.textlength(shown, font=font) > width:
        kept -= 1
        shown = f"{name[: kept - kept // 2]}...{name[-(kept // 2) :]}"
    return shown
