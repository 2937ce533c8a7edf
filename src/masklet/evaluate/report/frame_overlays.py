"""Draw a frame of a video with the prediction, tinted, and the ground truth, outlined in white.

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
"""The longer side of an image, at most."""
_IMAGE_DIRS = ("", "JPEGImages/480p", "JPEGImages", "JPEGImages_24fps", "valid/JPEGImages")


def find_frame_image(image_root: Path, sequence: str, frame: str) -> Path:
    """Find the file of a frame in a data set, or in its folder of images.

    Example:
        >>> find_frame_image(Path("DAVIS"), "bear", "00004")
        PosixPath('DAVIS/JPEGImages/480p/bear/00004.jpg')

    Raises:
        SourceError: if there is none.
    """
    for folder in (image_root / below / sequence for below in _IMAGE_DIRS):
        for suffix in (".jpg", ".jpeg", ".png"):
            if (folder / f"{frame}{suffix}").is_file():
                return folder / f"{frame}{suffix}"
    raise SourceError(
        f"{image_root} has no {sequence}/{frame}.jpg; allowed is a data set, or its folder of images with a folder for "
        "each sequence: name another, or none for masks on gray"
    )


def draw_comparison(
    image_path: Path | None, predicted_dir: Path, truth_dir: Path, objects: Mapping[str, int], frame: str
) -> Pixels:
    """Return a frame as RGB (H, W, 3) from the folders of a sequence; without an image its masks are on gray.

    `objects` maps names of objects to numbers of colors.

    Example:
        >>> draw_comparison(None, Path("predictions/bear"), Path("Annotations/bear"), {"1": 0}, "00004").shape
        (480, 854, 3)

    Raises:
        SourceError: if a file is missing, damaged, or of another size.
    """
    predicted = np.stack([read_object_mask(predicted_dir, number, frame) for number in objects])
    truth = np.stack([read_object_mask(truth_dir, number, frame) for number in objects])
    size = truth.shape[1:]
    rgb = np.full((*size, 3), GRAY, np.uint8) if image_path is None else from_file(str(image_path)).rgb
    if rgb.shape[:2] != size:
        raise SourceError(
            f"{image_path} is {format_size(rgb.shape[:2])} and its masks are {format_size(size)}; they must have the "
            "same size: name the images that were annotated"
        )
    tinted = draw_masks(rgb, predicted, [palette_color(n) for n in objects.values()])
    return draw_masks(tinted, truth, [WHITE] * len(objects), Style(alpha=0))


def encode_jpeg(pixels: Pixels) -> bytes:
    """Encode pixels (H, W, 3) as a JPEG, scaled down if they are large.

    Example:
        >>> encode_jpeg(np.zeros((4, 4, 3), np.uint8))[:2]
        b'\\xff\\xd8'
    """
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
