"""Label maps: one integer per pixel, 0 for background, stored as indexed PNG files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.atomic_files import atomic_path

__all__ = ["davis_palette", "save_label_map"]


def davis_palette() -> npt.NDArray[np.uint8]:
    """Return the 256 RGB colors of PASCAL VOC and DAVIS, (256, 3), which tools expect in indexed PNG files.

    The bits of a label, three at a time, become the high bits of red, green and blue.

    Example:
        >>> davis_palette()[:4].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    labels = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for triple in range(3):
        for channel in range(3):
            bit = (labels >> (3 * triple + channel)) & 1
            colors[:, channel] |= (bit << (7 - triple)).astype(np.uint8)
    return colors


def save_label_map(
    path: str | os.PathLike[str],
    label_map: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    palette: npt.NDArray[np.uint8] | None,
) -> Path:
    """Write a (H, W) label map as a PNG file, atomically, and return its path.

    A uint8 map is indexed with the (K, 3) RGB `palette`, or gray if that is None. A uint16 map has labels above 255,
    which no palette can color: it is 16-bit gray.

    Example:
        >>> save_label_map("00000.png", labels, davis_palette())  # doctest: +SKIP
        PosixPath('00000.png')

    Raises:
        OutputError: if the folder or the file cannot be written.
    """
    assert label_map.dtype in (np.uint8, np.uint16), f"a label map is uint8 or uint16, got {label_map.dtype}"
    image = Image.fromarray(label_map)
    if palette is not None and label_map.dtype == np.uint8:
        image.putpalette(palette.tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary)
    return Path(path)
