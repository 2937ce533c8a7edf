"""Writers whose files are images: overlay, label map, one mask an object, cut-outs."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.atomic_files import atomic_path, write_image
from masklet.errors import MaskletWarning, OutputError
from masklet.masks.label_map import davis_palette
from masklet.results import MIN_ROUNDTRIP_IOU, Results
from masklet.writers.image_base import Writer

__all__ = ["CutoutWriter", "MaskWriter", "OverlayWriter", "PngWriter", "label_map"]

LabelMap = npt.NDArray[np.uint16]


class OverlayWriter(Writer):
    """The image with its masks painted on it: STEM_overlay.png, RGB.

    Example:
        >>> with OverlayWriter("out") as writer:
        ...     writer.write(results)
    """

    name_suffix = "_overlay"

    def _write(self, results: Results, stem: str) -> None:
        self._add_path(write_image(self._path(stem, ".png"), results.plot()))


class CutoutWriter(Writer):
    """Each object alone on transparency, cropped to its box: STEM_cutout_0.png ..., RGBA.

    An object with an empty mask has no file.

    Example:
        >>> with CutoutWriter("out") as writer:
        ...     writer.write(results)
    """

    name_suffix = "_cutout"

    def _write(self, results: Results, stem: str) -> None:
        for index, one in enumerate(results):
            if one.masks is not None and one.masks.data.any():
                self._add_path(write_image(self._path(stem, ".png", index), one.cutout(0)))


class MaskWriter(Writer):
    """One black and white PNG an object, lossless: STEM_mask_0.png ..., 255 inside and 0 outside.

    Example:
        >>> with MaskWriter("out") as writer:
        ...     writer.write(results)
    """

    name_suffix = "_mask"

    def _write(self, results: Results, stem: str) -> None:
        for index, mask in enumerate(() if results.masks is None else results.masks.data):
            self._add_path(write_image(self._path(stem, ".png", index), mask.astype(np.uint8) * 255))


class PngWriter(Writer):
    """One label map an image: STEM.png, 0 for background, 1, 2 ... for the objects, in the palette of DAVIS.

    More than 255 objects need 16 bits and are written as a gray 16-bit PNG. In the folder of the image
    itself the file is STEM_labels.png, so that no image is replaced by its labels.

    A pixel holds one label, so where masks overlap the smaller one is kept. An object of which less than IoU
    0.95 is left is named in a MaskletWarning; `MaskWriter` (option `per_object`) loses nothing.

    Example:
        >>> with PngWriter("out") as writer:
        ...     writer.write(results)
        [PosixPath('out/cat.png')]
    """

    def _write(self, results: Results, stem: str) -> None:
        if len(results) > 65535:
            raise OutputError(f"{len(results)} objects in {results.path!r}; a label map has 65535: use coco")
        labels = label_map(results)
        _warn_overlap_loss(results, labels)
        name = f"{stem}_labels" if self._in_source_folder(results) else stem
        self._add_path(_save_label_map(self._path(name, ".png"), labels, len(results)))

    def _in_source_folder(self, results: Results) -> bool:
        source = os.path.dirname(results.path) or "."
        return os.path.exists(results.path) and os.path.samefile(source, self.folder)


def label_map(results: Results) -> LabelMap:
    """(H, W) uint16: 0 is background, n + 1 is object n; small objects lie on large ones.

    Example:
        >>> label_map(results).max() == len(results)
        True
    """
    labels = np.zeros(results.orig_shape, np.uint16)
    if results.masks is None:
        return labels
    areas = results.masks.data.sum(axis=(1, 2))
    for index in np.argsort(-areas, kind="stable"):
        labels[results.masks.data[index]] = index + 1
    return labels


def _save_label_map(path: Path, labels: LabelMap, num_objects: int) -> Path:
    image = Image.fromarray(labels if num_objects > 255 else labels.astype(np.uint8))
    if num_objects <= 255:
        image.putpalette(davis_palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary)
    return path


def _warn_overlap_loss(results: Results, labels: LabelMap) -> None:
    if results.masks is None:
        return
    left = np.bincount(labels.ravel(), minlength=len(results) + 1)[1:]
    whole = results.masks.data.sum(axis=(1, 2))
    for index, kept in enumerate(left / np.maximum(whole, 1)):  # a part of a mask: its IoU is its share
        if kept < MIN_ROUNDTRIP_IOU and whole[index]:
            warnings.warn(
                f"object {index} of {results.path!r}: the label map keeps IoU {kept:.2f} of its mask (under "
                f"{MIN_ROUNDTRIP_IOU}), because masks overlap; per_object=True or the coco format keep all of it",
                MaskletWarning,
                stacklevel=4,
            )
