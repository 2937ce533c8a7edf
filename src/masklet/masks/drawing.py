"""Draw masks, boxes and labels on an image so that they can be read on any background.

A mask is a translucent tint with a crisp outline in its full color, set off by a thin dark border. Large masks are
drawn first, so that a small object on a large one stays visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["PALETTE", "Style", "cutout", "draw_boxes", "draw_labels", "draw_masks", "palette_color"]

Pixels = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

PALETTE: tuple[Color, ...] = (
    (30, 144, 255),
    (255, 92, 51),
    (52, 199, 89),
    (255, 45, 133),
    (255, 196, 0),
    (140, 82, 255),
    (0, 199, 190),
    (229, 57, 53),
    (154, 205, 50),
    (214, 93, 255),
    (255, 145, 0),
    (92, 107, 255),
)
"""Twelve RGB colors whose neighbors in the list are far apart in hue."""

BORDER_COLOR: Color = (16, 18, 24)
LIGHT_LUMA = 150
"""On colors of a BT.601 luma above this, text is dark."""


@dataclass(frozen=True)
class Style:
    """Opacity, line width and font size; `line_width` and `font_size` in pixels, 0: chosen by the size of the image.

    Example:
        >>> Style(alpha=0.3).scaled_line_width((480, 640))
        2
    """

    alpha: float = 0.45
    line_width: int = 0
    font_size: int = 0

    def scaled_line_width(self, size: Sequence[int]) -> int:
        """Return the line width in pixels for an image of (height, width)."""
        side = (size[0] * size[1]) ** 0.5
        return self.line_width or max(1 if side < 160 else 2, round(side / 320))


def palette_color(index: int) -> Color:
    """Return the RGB color of object `index`; the palette repeats after its last color.

    Example:
        >>> palette_color(0)
        (30, 144, 255)
    """
    return PALETTE[index % len(PALETTE)]


def draw_masks(
    image: Pixels, masks: npt.NDArray[np.bool_], colors: Sequence[Color], style: Style | None = None
) -> Pixels:
    """Return a copy of the (H, W, 3) RGB image with the (N, H, W) masks tinted and outlined.

    Example:
        >>> image, masks = np.zeros((4, 6, 3), np.uint8), np.ones((1, 4, 6), bool)
        >>> draw_masks(image, masks, [palette_color(i) for i in range(len(masks))]).shape
        (4, 6, 3)
    """
    style = style or Style()
    line = style.scaled_line_width(image.shape[:2])
    canvas = np.ascontiguousarray(image).copy()
    for index in sorted(range(len(masks)), key=lambda i: -int(np.count_nonzero(masks[i]))):
        mask, color = masks[index], colors[index]
        inside = canvas[mask].astype(np.float32)
        tint = inside * (1 - style.alpha) + np.array(color, np.float32) * style.alpha
        canvas[mask] = np.rint(tint).astype(np.uint8)
        contours = cv2.findContours(np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
        if line > 1:
            cv2.drawContours(canvas, contours, -1, BORDER_COLOR, line + 2, cv2.LINE_AA)
        cv2.drawContours(canvas, contours, -1, color, line, cv2.LINE_AA)
    return canvas


def draw_boxes(
    image: Pixels, xyxy: npt.NDArray[np.float32], colors: Sequence[Color], style: Style | None = None
) -> Pixels:
    """Return a copy of the image with (N, 4) boxes (xyxy, original pixels, right and bottom exclusive).

    Example:
        >>> draw_boxes(np.zeros((40, 60, 3), np.uint8), np.array([[5.0, 5, 20, 20]]), [(255, 0, 0)])[5, 10].tolist()
        [255, 0, 0]
    """
    line = (style or Style()).scaled_line_width(image.shape[:2])
    canvas = np.ascontiguousarray(image).copy()
    for (x1, y1, x2, y2), color in zip(xyxy.round().astype(int).tolist(), colors, strict=True):
        corners = (x1, y1), (x2 - 1, y2 - 1)
        if line > 1:
            cv2.rectangle(canvas, *corners, BORDER_COLOR, line + 2)
        cv2.rectangle(canvas, *corners, color, line)
    return canvas


def draw_labels(
    image: Pixels,
    texts: Sequence[str],
    anchors: npt.NDArray[np.float32],
    colors: Sequence[Color],
    style: Style | None = None,
) -> Pixels:
    """Return a copy of the image with one tag per text, above its (N, 2) anchor (xy, the top left of the object).

    A tag that would leave the image is moved inside.

    Example:
        >>> draw_labels(image, ["cat 0.97"], results.boxes.xyxy[:, :2], [palette_color(0)])  # doctest: +SKIP
    """
    font_size = (style or Style()).font_size or max(11, round((image.shape[0] * image.shape[1]) ** 0.5 / 42))
    font = ImageFont.load_default(font_size)
    canvas = Image.fromarray(np.ascontiguousarray(image))
    draw = ImageDraw.Draw(canvas)
    _, top, _, bottom = draw.textbbox((0, 0), "Ag", font=font)  # one height for every tag
    pad = max(2, round((bottom - top) * 0.3))
    height = bottom - top + 2 * pad
    for text, (anchor_x, anchor_y), color in zip(texts, anchors.tolist(), colors, strict=True):
        left, _, right, _ = draw.textbbox((0, 0), text, font=font)
        width = right - left + 2 * pad
        x = min(max(0.0, anchor_x), max(0.0, canvas.width - width))
        y = min(max(0.0, anchor_y - height), max(0.0, canvas.height - height))
        luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
        draw.rounded_rectangle((x, y, x + width, y + height), radius=pad, fill=color)
        ink = BORDER_COLOR if luma > LIGHT_LUMA else (255, 255, 255)
        draw.text((x + pad - left, y + pad - top), text, font=font, fill=ink)
    return np.asarray(canvas).copy()


def cutout(image: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """Cut the object out as (h, w, 4) RGBA, cropped to its box, transparent and black outside the mask.

    An empty mask gives one transparent pixel.

    Example:
        >>> cutout(np.zeros((4, 6, 3), np.uint8), np.eye(4, 6, dtype=bool)).shape
        (4, 4, 4)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros((1, 1, 4), np.uint8)
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    alpha = mask[window].astype(np.uint8) * 255
    color = np.where(mask[window][..., None], image[window], 0)
    return np.concatenate([color, alpha[..., None]], axis=2).astype(np.uint8)
