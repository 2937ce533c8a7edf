"""A frame of a video with what was predicted, tinted, and what is true, outlined in white.

Shapes: H height, W width.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.errors import SourceError
from masklet.evaluate.benchmark_scoring import read_object_mask
from masklet.masks.drawing import Style, draw_masks, palette_color
from masklet.media.image import format_size, from_file

__all__ = ["draw_comparison", "encode_jpeg", "find_frame_image"]

Pixels = npt.NDArray[np.uint8]
WHITE = (255, 255, 255)
GRAY = 112
MAX_SIDE = 640
"""The longer side of what is shown, at most."""
_IMAGE_DIRS = ("", "JPEGImages/480p", "JPEGImages", "JPEGImages_24fps", "valid/JPEGImages")


def find_frame_image(image_root: Path, sequence: str, frame: str) -> Path:
    """The file of a frame below the images of a data set, or below its root.

    Example:
        >>> image_of(Path("DAVIS"), "bear", "00004")
        PosixPath('DAVIS/JPEGImages/480p/bear/00004.jpg')

    Raises:
        SourceError: there is none.
    """
    for place in (image_root / below / sequence for below in _IMAGE_DIRS):
        for suffix in (".jpg", ".jpeg", ".png"):
            if (place / f"{frame}{suffix}").is_file():
                return place / f"{frame}{suffix}"
    raise SourceError(
        f"{image_root} has no {sequence}/{frame}.jpg; allowed is a data set, or its folder of images with a folder for "
        "each sequence: name another, or none for masks on gray"
    )


def draw_comparison(
    image_path: Path | None, predicted_dir: Path, truth_dir: Path, objects: Mapping[str, int], frame: str
) -> Pixels:
    """(H, W, 3) RGB of a frame, from the folders of a sequence; without an image its masks are on gray.

    `objects` are their names with the numbers of their colors.

    Example:
        >>> paint(None, Path("predictions/bear"), Path("Annotations/bear"), {"1": 0}, "00004").shape
        (480, 854, 3)

    Raises:
        SourceError: a file is missing, damaged, or of another size.
    """
    predicted = np.stack([read_object_mask(predicted_dir, number, frame) for number in objects])
    truth = np.stack([read_object_mask(truth_dir, number, frame) for number in objects])
    size = truth.shape[1:]
    rgb = np.full((*size, 3), GRAY, np.uint8) if image_path is None else from_file(str(image_path)).rgb
    if rgb.shape[:2] != size:
        raise SourceError(
            f"{image_path} is {format_size(rgb.shape[:2])} and its masks are {format_size(size)}; both are of one size: name "  # noqa: E501
            "the images that were annotated"
        )
    tinted = draw_masks(rgb, predicted, [palette_color(n) for n in objects.values()])
    return draw_masks(tinted, truth, [WHITE] * len(objects), Style(alpha=0))


def encode_jpeg(pixels: Pixels) -> bytes:
    """A JPEG of (H, W, 3) pixels, made smaller where it is large.

    Example:
        >>> as_jpeg(np.zeros((4, 4, 3), np.uint8))[:2]
        b'\\xff\\xd8'
    """
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=82)
    return held.getvalue()
