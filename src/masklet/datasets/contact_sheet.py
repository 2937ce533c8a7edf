"""Contact sheets: a dataset at a glance, masks drawn on its images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from masklet.atomic_files import write_image
from masklet.datasets.check import is_single_image
from masklet.datasets.dataset import Dataset, Mask, Pixels, ReadableMasks, Sample
from masklet.masks.drawing import Style, draw_masks, palette_color

__all__ = ["save_contact_sheet"]

COLUMNS = 6
CELL_WIDTH, CELL_HEIGHT = 300, 225
"""Largest size of an image, in pixels."""
GAP, CAPTION_HEIGHT, FONT_SIZE = 10, 24, 13
BACKGROUND_COLOR, TEXT_COLOR, MUTED_COLOR, ERROR_COLOR = (250, 250, 248), (24, 26, 32), (120, 122, 128), (176, 32, 32)
PANEL_COLOR = (236, 236, 233)
MIN_COVERED_FRACTION = 1 / 3
"""The fraction of a reduced pixel that a mask covers to be visible, so that thin objects stay."""


@dataclass(frozen=True, eq=False)
class _Cell:
    """A thumbnail, its name, and the note to the right of the name."""

    name: str
    thumbnail: Pixels
    note: str
    note_color: tuple[int, int, int]


def save_contact_sheet(dataset: Dataset, path: str | os.PathLike[str], count: int = 24) -> Path:
    """Write an image (PNG, JPEG, WebP) of `count` frames, spread evenly over the dataset, and return its path.

    Each has its masks in color, its name, and its number of objects; an unreadable one is marked as broken, and the
    broken objects of another are counted. A video has one frame, or several if there are fewer samples than `count`.

    Raises:
        OutputError: if the file cannot be written.

    Example:
        >>> save_contact_sheet(open_dataset("photos"), "photos.png")  # doctest: +SKIP
        PosixPath('photos.png')
    """
    assert count >= 1, f"count is 1 or more, got {count}"
    cells = [_make_cell(sample, index) for sample, index in _select_frames(dataset.samples, count)]
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
    """Select frames evenly over the samples or, if these are few, over all their frames."""
    if len(samples) >= count:
        selected = [samples[i] for i in _even_indices(len(samples), count)]
        return [(sample, sample.frame_indices[len(sample.frame_indices) // 2]) for sample in selected]
    frames = [(sample, index) for sample in samples for index in sample.frame_indices]
    return [frames[i] for i in _even_indices(len(frames), count)]


def _even_indices(length: int, count: int) -> list[int]:
    """Return the middles of `count` equal parts of `length`."""
    count = min(count, length)
    return [(2 * part + 1) * length // (2 * count) for part in range(count)]


def _make_cell(sample: Sample, frame_idx: int) -> _Cell:
    name = sample.name if is_single_image(sample) else f"{sample.name}  #{frame_idx}"
    try:
        frame = sample.read([frame_idx])[0]
        height, width = frame.size
        scale = min(CELL_WIDTH / width, CELL_HEIGHT / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = np.asarray(cv2.resize(frame.rgb, size, interpolation=interpolation), np.uint8)
        masks: dict[int, Mask] = {}
        readable = ReadableMasks(frame.masks, frame.size)
        for object_id, mask in readable.items():
            if mask.any():
                covered = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
                masks[object_id] = np.asarray(covered > MIN_COVERED_FRACTION, bool)
    except Exception:  # whatever is wrong with one sample, the sheet has the others
        return _Cell(name, np.full((CELL_HEIGHT, CELL_WIDTH, 3), PANEL_COLOR, np.uint8), "broken", ERROR_COLOR)
    stacked = np.stack(list(masks.values())) if masks else np.zeros((0, *small.shape[:2]), bool)
    colors = [palette_color(object_id - 1) for object_id in masks]
    thumbnail = draw_masks(small, stacked, colors, Style(alpha=0.5, line_width=1))
    if readable.problems:
        return _Cell(name, thumbnail, f"{len(masks)}, {len(readable.problems)} broken", ERROR_COLOR)
    return _Cell(name, thumbnail, f"{len(masks)}", MUTED_COLOR)


def _draw_cell(sheet: Image.Image, corner: tuple[int, int], height: int, cell: _Cell) -> None:
    """Draw a thumbnail in the middle of its panel, with its caption below; a long name loses its middle."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    draw.rectangle((*corner, corner[0] + CELL_WIDTH - 1, corner[1] + height - 1), fill=PANEL_COLOR)
    x, y = corner[0] + (CELL_WIDTH - cell.thumbnail.shape[1]) // 2, corner[1] + (height - cell.thumbnail.shape[0]) // 2
    sheet.paste(Image.fromarray(cell.thumbnail), (x, y))
    line = corner[1] + height + (CAPTION_HEIGHT - FONT_SIZE) // 2 - 1
    right = corner[0] + CELL_WIDTH - draw.textlength(cell.note, font=font)
    draw.text((right, line), cell.note, font=font, fill=cell.note_color)
    room, length, name = right - corner[0] - GAP, len(cell.name), cell.name
    while length > 2 and draw.textlength(name, font=font) > room:
        length -= 1
        name = f"{cell.name[: length - length // 2]}...{cell.name[-(length // 2) :]}"
    draw.text((corner[0], line), name, font=font, fill=TEXT_COLOR)
