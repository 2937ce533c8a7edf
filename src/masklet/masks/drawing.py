"""Masks, boxes and labels painted on an image so that they can be read on any background.

A mask is a translucent tint with a crisp outline in its full color, set off by a thin dark casing. Large
masks are painted first, so that a small object on a large one stays visible.
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


@dataclass(frozen=True)
class Style:
    """How things are painted; `line_width` and `font_size` in pixels, 0 = by the size of the image.

    Example:
        >>> Style(alpha=0.3, line_width=4)
    """

    alpha: float = 0.45
    line_width: int = 0
    font_size: int = 0

    def scaled_line_width(self, size: tuple[int, int]) -> int:
        """Line width in pixels for an image of (height, width)."""
        side = (size[0] * size[1]) ** 0.5
        return self.line_width or max(1 if side < 160 else 2, round(side / 320))

    def scaled_font_size(self, size: tuple[int, int]) -> int:
        """Font size in pixels for an image of (height, width)."""
        return self.font_size or max(11, round((size[0] * size[1]) ** 0.5 / 42))


def palette_color(index: int) -> Color:
    """RGB color of object `index`; the palette starts again after its last color.

    Example:
        >>> color_of(0)
        (30, 144, 255)
    """
    return PALETTE[index % len(PALETTE)]


def draw_masks(
    image: Pixels, masks: npt.NDArray[np.bool_], colors: Sequence[Color], style: Style | None = None
) -> Pixels:
    """A copy of the (H, W, 3) RGB image with the (N, H, W) masks tinted and outlined.

    Example:
        >>> draw_masks(image, masks, [color_of(i) for i in range(len(masks))])
    """
    style = style or Style()
    canvas = np.ascontiguousarray(image).copy()
    order = sorted(range(len(masks)), key=lambda i: -int(np.count_nonzero(masks[i])))
    for index in order:
        _tint(canvas, masks[index], colors[index], style.alpha)
        _outline(canvas, masks[index], colors[index], style.scaled_line_width(_size(image)))
    return canvas


def draw_boxes(
    image: Pixels, xyxy: npt.NDArray[np.float32], colors: Sequence[Color], style: Style | None = None
) -> Pixels:
    """A copy of the image with (N, 4) boxes (xyxy, original pixels, right and bottom exclusive).

    Example:
        >>> draw_boxes(image, results.boxes.xyxy, [color_of(0)])
    """
    line = (style or Style()).scaled_line_width(_size(image))
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
    """A copy of the image with one tag a text, above its (N, 2) anchor (xy, the top left of the object).

    A tag that would leave the image is moved inside.

    Example:
        >>> draw_labels(image, ["cat 0.97"], results.boxes.xyxy[:, :2], [color_of(0)])
    """
    size = (style or Style()).scaled_font_size(_size(image))
    font = ImageFont.load_default(size)
    pil_image = Image.fromarray(np.ascontiguousarray(image))
    for text, (x, y), color in zip(texts, anchors.tolist(), colors, strict=True):
        _tag(pil_image, text, (x, y), color, font)
    return np.asarray(pil_image).copy()


def cutout(image: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """The object alone as (h, w, 4) RGBA, cropped to its box, everything else transparent and black.

    An empty mask gives one transparent pixel.

    Example:
        >>> cutout(image, mask).shape
        (120, 80, 4)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros((1, 1, 4), np.uint8)
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    alpha = mask[window].astype(np.uint8) * 255
    color = np.where(mask[window][..., None], image[window], 0)
    return np.concatenate([color, alpha[..., None]], axis=2).astype(np.uint8)


def _size(image: Pixels) -> tuple[int, int]:
    return int(image.shape[0]), int(image.shape[1])


def _tint(canvas: Pixels, mask: npt.NDArray[np.bool_], color: Color, alpha: float) -> None:
    inside = canvas[mask].astype(np.float32)
    canvas[mask] = np.rint(inside * (1 - alpha) + np.array(color, np.float32) * alpha).astype(np.uint8)


def _outline(canvas: Pixels, mask: npt.NDArray[np.bool_], color: Color, line: int) -> None:
    contours = cv2.findContours(np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
    if line > 1:
        cv2.drawContours(canvas, contours, -1, BORDER_COLOR, line + 2, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, color, line, cv2.LINE_AA)


def _tag(
    image: Image.Image,
    text: str,
    anchor: tuple[float, float],
    color: Color,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    draw = ImageDraw.Draw(image)
    left, _, right, _ = draw.textbbox((0, 0), text, font=font)
    _, top, _, bottom = draw.textbbox((0, 0), "Ag", font=font)  # one height for every tag
    pad = max(2, round((bottom - top) * 0.3))
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max(0.0, anchor[0]), max(0.0, image.width - width))
    y = min(max(0.0, anchor[1] - height), max(0.0, image.height - height))
    draw.rounded_rectangle((x, y, x + width, y + height), radius=pad, fill=color)
    draw.text((x + pad - left, y + pad - top), text, font=font, fill=_ink(color))


def _ink(color: Color) -> Color:
    """Black or white, whichever reads better on `color` (BT.601 luma)."""
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (16, 18, 24) if luma > 150 else (255, 255, 255)
