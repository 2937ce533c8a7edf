"""Images to be clicked on: the sets that interactive segmentation is measured on, and any other data set.

grabcut   data_GT/ID.* with boundary_GT/ID.*: 255 is the object, 128 a place that nobody judges (50 images)
berkeley  images/ID.* with masks/ID.*: as grabcut (100 objects)
davis345  img/ID.* with gt/ID.* or masks/ID.*: all that is not black is the object (345 frames of DAVIS 2016)
sbd       img/ID.jpg with inst/ID.mat and lists such as val.txt: each instance is an object (needs scipy)

These are the folders in which they are handed round among the authors of such methods. Of everything else that
`open_dataset` reads each annotated frame is an image, and each of its masks an object.

Shapes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

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
IGNORE_LABEL = 128


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """RGB uint8 (H, W, 3), masks bool (H, W) by number, and where they are judged; None: everywhere."""

    rgb: Pixels
    masks: Mapping[int, Mask]
    valid_mask: Mask | None = None


class ClickImage(Protocol):
    """An image with objects, read when it is asked for."""

    @property
    def name(self) -> str:
        """Unique in its set."""

    def read(self) -> AnnotatedImage:
        """The image and its objects.

        Raises:
            SourceError: a file that is missing, damaged or does not fit.
        """


@dataclass(frozen=True)
class _VideoFrameImage:
    """An annotated frame of an entry of a data set."""

    name: str
    sample: Sample
    frame_idx: int

    def read(self) -> AnnotatedImage:
        """See ClickPicture."""
        [frame] = self.sample.read([self.frame_idx])
        return AnnotatedImage(frame.rgb, frame.masks)


@dataclass(frozen=True)
class _ImageMaskPair:
    """An image and the file of its masks, which `split` tells apart."""

    name: str
    image_path: Path
    mask_path: Path
    load_labels: Callable[[Path], LabelMap]
    split_objects: Callable[[LabelMap], tuple[Mapping[int, Mask], Mask | None]] = field(repr=False)

    def read(self) -> AnnotatedImage:
        """See ClickPicture."""
        rgb, codes = read_image(self.image_path), self.load_labels(self.mask_path)
        check_same_size(self.mask_path, codes.shape, self.image_path, rgb.shape[:2])
        return AnnotatedImage(rgb, *self.split_objects(codes))


@dataclass(frozen=True)
class _ClickFormat:
    """The folders of a set, the one of images first, and how it is opened."""

    folder_pairs: tuple[tuple[str, str], ...]
    open_images: Callable[[Path, Path, str | None], Sequence[ClickImage]]
    autodetect: bool = True

    def find_folders(self, root: Path) -> tuple[Path, Path] | None:
        """The folders, where they are there."""
        pairs = [(root / images, root / masks) for images, masks in self.folder_pairs]
        return next((pair for pair in pairs if pair[0].is_dir() and pair[1].is_dir()), None)


def click_images(
    root: str | Path, *, data_format: str | None = None, split: str | None = None, limit: int | None = None
) -> Sequence[ClickImage]:
    """The images of a set, `limit` of them at most, spread evenly.

    `kind` is a key of `CLICK_KINDS` or of `masklet.datasets.KINDS`; None: recognized by what is there (but for
    berkeley, whose folders have the names of any others). `split` is a list or a part of the data; SBD's is val.

    Example:
        >>> [image.name for image in click_images("GrabCut", limit=2)]
        ['106024', 'teddy']

    Raises:
        SourceError: no such path, kind or split, or no image with a mask.
        MissingExtraError: SBD, and scipy is not installed.
    """
    known_formats = {*CLICK_FORMATS, *DATASET_READERS, *EARLIER_FORMAT_NAMES}
    if data_format is not None and data_format not in known_formats:
        choices = ", ".join(map(repr, [*CLICK_FORMATS, *DATASET_READERS]))
        raise SourceError(f"kind={data_format!r} is unknown; choose {choices}, or None to have it recognized")
    place = Path(root).expanduser()
    known = data_format or next((n for n, k in CLICK_FORMATS.items() if k.autodetect and k.find_folders(place)), None)
    if known in CLICK_FORMATS:
        folders = CLICK_FORMATS[known].find_folders(place)
        if folders is None:
            layouts = " or ".join(f"{a}/ID.* with {b}/ID.*" for a, b in CLICK_FORMATS[known].folder_pairs)
            raise SourceError(f"{root} is no folder of {known}, which has {layouts}: check the path, or the kind")
        found = CLICK_FORMATS[known].open_images(*folders, split)
    else:
        found = _open_annotated_frames(place, data_format, split)
    return found if limit is None else [found[i] for i in sample_evenly(len(found), limit)]


def _open_annotated_frames(root: Path, data_format: str | None, split: str | None) -> list[ClickImage]:
    entries = open_dataset(root, data_format=data_format, split=split).samples
    names = {entry.name: len(entry.frame_indices) > 1 for entry in entries}
    return [
        _VideoFrameImage(f"{e.name}:{n}" if names[e.name] else e.name, e, n) for e in entries for n in e.frame_indices
    ]


def _pair_images_with_masks(
    image_dir: Path, mask_dir: Path, split: str | None, split_objects: _ObjectSplitter
) -> list[ClickImage]:
    """Images with the masks of their names."""
    if split is not None:
        raise SourceError(f"{image_dir.parent} has no split {split!r}, it is one set: leave split out")
    (shown, twice), (files, _) = files_by_stem(image_dir), files_by_stem(mask_dir)
    lacking = [path for stem, path in shown.items() if stem not in files]
    if lacking or twice or not shown:
        what = f"{(lacking or [twice[0].file])[0]} has no mask of its own" if shown else "there is no image"
        raise SourceError(
            f"{image_dir}: {what} ({len(shown)} images, {len(files)} masks); every image has one in {mask_dir}: "
            "unpack the set again"
        )
    return [_ImageMaskPair(stem, path, files[stem], _read_mask_labels, split_objects) for stem, path in shown.items()]


def _open_trimap(image_dir: Path, mask_dir: Path, split: str | None) -> list[ClickImage]:
    return _pair_images_with_masks(image_dir, mask_dir, split, _split_trimap)


def _open_binary(image_dir: Path, mask_dir: Path, split: str | None) -> list[ClickImage]:
    return _pair_images_with_masks(image_dir, mask_dir, split, _split_nonzero)


def _open_sbd(image_dir: Path, mask_dir: Path, split: str | None) -> list[ClickImage]:
    lists = {file.stem: file for file in sorted(image_dir.parent.glob("*.txt"))}
    names = read_lines(lists[validate_choice(image_dir.parent, split or "val", lists, "list")])
    return [
        _ImageMaskPair(name, image_dir / f"{name}.jpg", mask_dir / f"{name}.mat", _read_sbd_instances, _split_instances)
        for name in names
    ]


def _read_mask_labels(file: Path) -> LabelMap:
    """The largest channel of a mask in any mode; a label of a palette is the color that is seen."""
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB")).astype(np.int32)
    except (OSError, SyntaxError, ValueError) as problem:
        raise DataError.for_file(file, f"cannot be read as an image ({problem}); copy or unpack it again") from None
    return np.asarray(pixels.max(axis=2), np.int32)


def _read_sbd_instances(file: Path) -> LabelMap:
    """The numbers of the instances of SBD, of a MATLAB file."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MissingExtraError.for_package("scipy", SBD_EXTRA) from None
    try:
        return np.asarray(loadmat(str(file))["GTinst"]["Segmentation"][0, 0].astype(np.int32))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as problem:
        raise DataError.for_file(file, f"is no list of instances of SBD ({problem}); copy or unpack it again") from None


_ObjectSplitter = Callable[[LabelMap], tuple[Mapping[int, Mask], Mask | None]]


def _split_trimap(labels: LabelMap) -> tuple[Mapping[int, Mask], Mask | None]:
    return {1: labels > IGNORE_LABEL}, labels != IGNORE_LABEL


def _split_nonzero(labels: LabelMap) -> tuple[Mapping[int, Mask], Mask | None]:
    return {1: labels > 0}, None


def _split_instances(labels: LabelMap) -> tuple[Mapping[int, Mask], Mask | None]:
    def one(number: int) -> Callable[[], Mask]:
        return lambda: np.asarray(labels == number, bool)

    return LazyMasks({int(n): one(int(n)) for n in np.unique(labels) if n}), None


CLICK_FORMATS: dict[str, _ClickFormat] = {
    "grabcut": _ClickFormat((("data_GT", "boundary_GT"),), _open_trimap),
    "berkeley": _ClickFormat((("images", "masks"),), _open_trimap, autodetect=False),
    "davis345": _ClickFormat((("img", "gt"), ("img", "masks")), _open_binary),
    "sbd": _ClickFormat((("img", "inst"),), _open_sbd),
}
"""The sets that have a layout of their own, by name."""
