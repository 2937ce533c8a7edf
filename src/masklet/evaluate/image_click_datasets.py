"""Open images to click on: the data sets of interactive segmentation, and any other data set with masks.

grabcut   data_GT/ID.* with boundary_GT/ID.*: 255 is the object, 128 is not evaluated (50 images)
berkeley  images/ID.* with masks/ID.*: as grabcut (100 objects)
davis345  img/ID.* with gt/ID.* or masks/ID.*: everything that is not black is the object (345 frames of DAVIS 2016)
sbd       img/ID.jpg with inst/ID.mat and lists such as val.txt: each instance is an object (needs scipy)

These are the folders that the authors of such methods distribute. Of everything else that `open_dataset` reads, each
annotated frame is an image, and each of its masks an object.

Shapes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.damaged_files import decoder_errors
from masklet.datasets import DATASET_READERS, DataError, Sample, open_dataset
from masklet.datasets.dataset import LazyMasks, check_same_size, read_image
from masklet.datasets.files import files_by_stem, read_lines, validate_choice
from masklet.datasets.open_dataset import EARLIER_FORMAT_NAMES
from masklet.errors import MissingExtraError, SourceError
from masklet.evaluate.prompts_from_masks import sample_evenly

__all__ = ["CLICK_FORMATS", "AnnotatedImage", "ClickImage", "click_images"]

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
LabelMap = npt.NDArray[np.int32]
SBD_EXTRA = "sbd"
UNKNOWN_LABEL = 128
"""Pixels of a trimap that are not evaluated."""


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """RGB uint8 (H, W, 3), masks bool (H, W) by number, and where they are evaluated; None: everywhere."""

    rgb: Pixels
    masks: Mapping[int, Mask]
    valid_mask: Mask | None = None


class ClickImage(Protocol):
    """An image with objects; `read` loads it."""

    @property
    def name(self) -> str:
        """Unique in its data set."""

    def read(self) -> AnnotatedImage:
        """Read the image and its objects.

        Raises:
            SourceError: if a file is missing, damaged or of another size.
        """


@dataclass(frozen=True)
class _VideoFrameImage:
    """An annotated frame of a data set's sample."""

    name: str
    sample: Sample
    frame_idx: int

    def read(self) -> AnnotatedImage:
        """See `ClickImage`."""
        [frame] = self.sample.read([self.frame_idx])
        return AnnotatedImage(frame.rgb, frame.masks)


@dataclass(frozen=True)
class _ImageMaskPair:
    """An image and the file of its labels: of one object, with a label `unknown` or without, or of SBD's instances."""

    name: str
    image_path: Path
    mask_path: Path
    unknown: int | None = None
    sbd_instances: bool = False

    def read(self) -> AnnotatedImage:
        """See `ClickImage`."""
        rgb = read_image(self.image_path)
        labels = _read_sbd_instances(self.mask_path) if self.sbd_instances else _read_mask_labels(self.mask_path)
        check_same_size(self.mask_path, labels.shape, self.image_path, rgb.shape[:2])
        if self.sbd_instances:
            numbers = [int(number) for number in np.unique(labels) if number]
            return AnnotatedImage(rgb, LazyMasks({number: partial(np.equal, labels, number) for number in numbers}))
        valid_mask = None if self.unknown is None else labels != self.unknown
        return AnnotatedImage(rgb, {1: labels > (self.unknown or 0)}, valid_mask)


@dataclass(frozen=True)
class _ClickFormat:
    """The folders of a data set, images first, and how it is opened."""

    folder_pairs: tuple[tuple[str, str], ...]
    open_images: Callable[[Path, Path, str | None], Sequence[ClickImage]]
    autodetect: bool = True

    def find_folders(self, root: Path) -> tuple[Path, Path] | None:
        """Return the folders if they exist."""
        pairs = [(root / images, root / masks) for images, masks in self.folder_pairs]
        return next((pair for pair in pairs if pair[0].is_dir() and pair[1].is_dir()), None)


def click_images(
    root: str | Path, *, data_format: str | None = None, split: str | None = None, limit: int | None = None
) -> Sequence[ClickImage]:
    """Open the images of a data set, `limit` of them at most, spread evenly.

    Args:
        data_format: a key of `CLICK_FORMATS` or of `masklet.datasets.DATASET_READERS`; None detects it (except
            berkeley, whose folders have common names).
        split: a list or a part of the data; that of SBD is val by default.

    Example:
        >>> [image.name for image in click_images("GrabCut", limit=2)]
        ['106024', 'teddy']

    Raises:
        SourceError: if the path, format or split does not exist, or no image has a mask.
        MissingExtraError: for SBD, if scipy is not installed.
    """
    known_formats = {*CLICK_FORMATS, *DATASET_READERS, *EARLIER_FORMAT_NAMES}
    if data_format is not None and data_format not in known_formats:
        choices = ", ".join(map(repr, [*CLICK_FORMATS, *DATASET_READERS]))
        raise SourceError(f"data_format={data_format!r} is unknown; choose {choices}, or None to detect it")
    folder = Path(root).expanduser()
    detected = (name for name, known in CLICK_FORMATS.items() if known.autodetect and known.find_folders(folder))
    name = data_format or next(detected, None)
    if name in CLICK_FORMATS:
        pair = CLICK_FORMATS[name].find_folders(folder)
        if pair is None:
            allowed = " or ".join(f"{a}/ID.* with {b}/ID.*" for a, b in CLICK_FORMATS[name].folder_pairs)
            raise SourceError(f"{root} is no folder of {name}, which has {allowed}: check the path, or the format")
        images = CLICK_FORMATS[name].open_images(*pair, split)
    else:
        images = []
        for sample in open_dataset(folder, data_format=data_format, split=split).samples:
            frames = sample.frame_indices
            names = [f"{sample.name}:{n}" for n in frames] if len(frames) > 1 else [sample.name]
            images += [_VideoFrameImage(name, sample, n) for name, n in zip(names, frames, strict=True)]
    return images if limit is None else [images[i] for i in sample_evenly(len(images), limit)]


def _pair_images_with_masks(
    image_dir: Path, mask_dir: Path, split: str | None, unknown: int | None
) -> list[ClickImage]:
    if split is not None:
        raise SourceError(f"{image_dir.parent} has no split {split!r}, it is one set: remove split")
    (images, duplicates), (masks, _) = files_by_stem(image_dir), files_by_stem(mask_dir)
    unpaired = [path for stem, path in images.items() if stem not in masks]
    if unpaired or duplicates or not images:
        problem = f"{(unpaired or [duplicates[0].file])[0]} has no mask" if images else "there is no image"
        raise SourceError(
            f"{image_dir}: {problem} ({len(images)} images, {len(masks)} masks); every image has its own mask in "
            f"{mask_dir}: unpack the set again"
        )
    return [_ImageMaskPair(stem, path, masks[stem], unknown) for stem, path in images.items()]


def _open_sbd(image_dir: Path, mask_dir: Path, split: str | None) -> list[ClickImage]:
    lists = {file.stem: file for file in sorted(image_dir.parent.glob("*.txt"))}
    names = read_lines(lists[validate_choice(image_dir.parent, split or "val", lists, "list")])
    return [
        _ImageMaskPair(name, image_dir / f"{name}.jpg", mask_dir / f"{name}.mat", sbd_instances=True) for name in names
    ]


def _read_mask_labels(file: Path) -> LabelMap:
    """Read the largest channel of a mask of any mode; a palette counts by its visible colors."""
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB")).astype(np.int32)
    except decoder_errors() as problem:
        raise DataError.for_file(file, f"cannot be read as an image ({problem}); copy or unpack it again") from None
    return np.asarray(pixels.max(axis=2), np.int32)


def _read_sbd_instances(file: Path) -> LabelMap:
    """Read the instance numbers of SBD from a MATLAB file."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MissingExtraError.for_package("scipy", SBD_EXTRA) from None
    try:
        return np.asarray(loadmat(str(file))["GTinst"]["Segmentation"][0, 0].astype(np.int32))
    except decoder_errors() as problem:
        raise DataError.for_file(file, f"is no list of instances of SBD ({problem}); copy or unpack it again") from None


_open_trimaps = partial(_pair_images_with_masks, unknown=UNKNOWN_LABEL)
_open_binary_masks = partial(_pair_images_with_masks, unknown=None)
CLICK_FORMATS: dict[str, _ClickFormat] = {
    "grabcut": _ClickFormat((("data_GT", "boundary_GT"),), _open_trimaps),
    "berkeley": _ClickFormat((("images", "masks"),), _open_trimaps, autodetect=False),
    "davis345": _ClickFormat((("img", "gt"), ("img", "masks")), _open_binary_masks),
    "sbd": _ClickFormat((("img", "inst"),), _open_sbd),
}
"""The special formats by name."""
