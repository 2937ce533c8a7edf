"""Writers of image files: overlay, label map, one mask per object, cutouts."""

from __future__ import annotations

import os
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.atomic_files import atomic_path, write_image
from masklet.errors import MaskletWarning, OutputError
from masklet.masks.label_map import davis_palette
from masklet.results import MIN_ROUNDTRIP_IOU, Results
from masklet.writers.image_base import Writer

__all__ = ["CutoutWriter", "MaskWriter", "OverlayWriter", "PngWriter", "label_map", "label_map_image", "retained_ious"]

LabelMap = npt.NDArray[np.uint16]


class OverlayWriter(Writer):
    """Write STEM_overlay.png per image: the image with its masks drawn on it, RGB."""

    name_suffix = "_overlay"

    def _write(self, results: Results, stem: str) -> None:
        self.paths.append(write_image(self._path(stem, ".png"), results.plot()))


class CutoutWriter(Writer):
    """Write STEM_cutout_0.png ... per image: each object on a transparent background, cropped to its box, RGBA.

    An object with an empty mask has no file.
    """

    name_suffix = "_cutout"
    numbered = True

    def _write(self, results: Results, stem: str) -> None:
        for index, one in enumerate(results):
            if one.masks is not None and one.masks.data.any():
                self.paths.append(write_image(self._path(stem, ".png", index), one.cutout(0)))


class MaskWriter(Writer):
    """Write STEM_mask_0.png ... per image: a lossless black and white PNG per object, 255 inside and 0 outside."""

    name_suffix = "_mask"
    numbered = True

    def _write(self, results: Results, stem: str) -> None:
        for index, mask in enumerate(() if results.masks is None else results.masks.data):
            self.paths.append(write_image(self._path(stem, ".png", index), mask.astype(np.uint8) * 255))


class PngWriter(Writer):
    """Write STEM.png per image: a label map in the DAVIS palette, 0 for background, 1, 2 ... for the objects.

    More than 255 objects are written as a 16-bit grayscale PNG. In the folder of the image itself the file is
    STEM_labels.png, so that no image is replaced by its labels.

    A pixel has one label, so the smaller of two overlapping masks is kept. A MaskletWarning names each object that
    keeps less than IoU 0.95; `MaskWriter` (option `per_object`) loses nothing.
    """

    def _write(self, results: Results, stem: str) -> None:
        if len(results) > 65535:
            raise OutputError(f"{len(results)} objects in {results.path!r}; a label map has 65535: use coco")
        labels = label_map(results)
        for index, iou in enumerate(retained_ious(results, labels)):
            if iou < MIN_ROUNDTRIP_IOU:
                warnings.warn(
                    f"object {index} of {results.path!r}: the label map keeps IoU {iou:.2f} of its mask (under "
                    f"{MIN_ROUNDTRIP_IOU}), because masks overlap; per_object=True or the coco format keep all of it",
                    MaskletWarning,
                    stacklevel=3,
                )
        path = self._path(stem, ".png")
        with atomic_path(path) as temporary:
            label_map_image(labels, len(results)).save(temporary)
        self.paths.append(path)

    def _base_name(self, path: str) -> str:
        base = super()._base_name(path)
        target, source_folder = (self.folder / base).parent, os.path.dirname(path) or "."
        beside = os.path.exists(path) and target.is_dir() and os.path.samefile(source_folder, target)
        return f"{base}_labels" if beside else base


def label_map(results: Results) -> LabelMap:
    """Draw the masks as labels (H, W) uint16: 0 is background, n + 1 is row n; small masks are drawn over large ones.

    Example:
        >>> from masklet.results import Masks
        >>> image, mask = np.zeros((2, 3, 3), np.uint8), np.array([[1, 1, 0], [0, 0, 0]], bool)
        >>> label_map(Results(image, "cat.jpg", Masks(np.stack([mask, ~mask])), [0.9, 0.8])).tolist()
        [[1, 1, 2], [2, 2, 2]]
    """
    labels = np.zeros(results.orig_shape, np.uint16)
    if results.masks is None:
        return labels
    areas = results.masks.data.sum(axis=(1, 2))
    for index in np.argsort(-areas, kind="stable"):
        labels[results.masks.data[index]] = index + 1
    return labels


def label_map_image(labels: npt.NDArray[np.uint16], max_label: int) -> Image.Image:
    """Turn labels (H, W) into an indexed image in the DAVIS palette, or 16-bit grayscale if `max_label` is over 255."""
    if max_label > 255:
        return Image.fromarray(labels)
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(davis_palette().tobytes())
    return image


def retained_ious(results: Results, labels: LabelMap) -> npt.NDArray[np.float64]:
    """Measure the fraction (N,) of each mask that `labels` of `label_map` keep; 1.0 for an empty mask.

    What is kept is a part of the mask, so the fraction is also its IoU.
    """
    if results.masks is None:
        return np.ones(0)
    kept = np.bincount(labels.ravel(), minlength=len(results) + 1)[1:]
    areas = results.masks.data.sum(axis=(1, 2))
    return np.where(areas > 0, kept / np.maximum(areas, 1), 1.0)
