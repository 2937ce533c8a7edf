"""A frame of a film with what was predicted, tinted, and what is true, outlined in white.

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
from masklet.evaluate.benchmark_scoring import masks_on
from masklet.masks.drawing import Style, color_of, draw_masks
from masklet.media.image import from_file, said_size

__all__ = ["as_jpeg", "paint", "picture_of"]

Pixels = npt.NDArray[np.uint8]
WHITE = (255, 255, 255)
GREY = 112
SIDE = 640
"""The longer side of what is shown, at most."""
_BELOW = ("", "JPEGImages/480p", "JPEGImages", "JPEGImages_24fps", "valid/JPEGImages")


def picture_of(pictures: Path, sequence: str, frame: str) -> Path:
    """The file of a frame below the pictures of a data set, or below its root.

    Example:
        >>> picture_of(Path("DAVIS"), "bear", "00004")
        PosixPath('DAVIS/JPEGImages/480p/bear/00004.jpg')

    Raises:
        SourceError: there is none.
    """
    for place in (pictures / below / sequence for below in _BELOW):
        for suffix in (".jpg", ".jpeg", ".png"):
            if (place / f"{frame}{suffix}").is_file():
                return place / f"{frame}{suffix}"
    raise SourceError(
        f"{pictures} has no {sequence}/{frame}.jpg; allowed is a data set, or its folder of pictures with a folder for "
        "each sequence: name another, or none for masks on grey"
    )


def paint(picture: Path | None, shown: Path, true: Path, objects: Mapping[str, int], frame: str) -> Pixels:
    """(H, W, 3) RGB of a frame, from the folders of a sequence; without a picture its masks are on grey.

    `objects` are their names with the numbers of their colours.

    Example:
        >>> paint(None, Path("predictions/bear"), Path("Annotations/bear"), {"1": 0}, "00004").shape
        (480, 854, 3)

    Raises:
        SourceError: a file is missing, damaged, or of another size.
    """
    predicted = np.stack([masks_on(shown, number, frame) for number in objects])
    truth = np.stack([masks_on(true, number, frame) for number in objects])
    size = truth.shape[1:]
    rgb = np.full((*size, 3), GREY, np.uint8) if picture is None else from_file(str(picture)).rgb
    if rgb.shape[:2] != size:
        raise SourceError(
            f"{picture} is {said_size(rgb.shape[:2])} and its masks are {said_size(size)}; both are of one size: name "
            "the pictures that were annotated"
        )
    tinted = draw_masks(rgb, predicted, [color_of(n) for n in objects.values()])
    return draw_masks(tinted, truth, [WHITE] * len(objects), Style(alpha=0))


def as_jpeg(pixels: Pixels) -> bytes:
    """A JPEG of (H, W, 3) pixels, made smaller where it is large.

    Example:
        >>> as_jpeg(np.zeros((4, 4, 3), np.uint8))[:2]
        b'\\xff\\xd8'
    """
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=82)
    return held.getvalue()
