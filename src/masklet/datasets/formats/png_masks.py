"""PNG masks of images: label maps, black and white masks, or one file for each object.

    images/ID.jpg with masks/ID.png         a label map, or one black and white mask
    images/ID.jpg with masks/ID/*.png       one mask for each object
    ID.jpg with ID.png, ID_mask.png, ID_labels.png, or ID_mask_0.png, ID_mask_1.png ..., as masklet writes them

A map of 0 and 255 alone is one object, also where its edges are soft; else each value but 0 is one, and 255 belongs to
none. Objects are numbered from 1, in the order of their values or files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from masklet.datasets.dataset import (
    DataIssue,
    Dataset,
    DatasetReader,
    ImageSample,
    LazyMasks,
    Mask,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import (
    DatasetPart,
    build_dataset,
    files_by_stem,
    files_in,
    find_source_folders,
    folders_in,
    has_matching_file,
    read_parts,
)
from masklet.datasets.label_maps import (
    count_labels,
    is_binary_mask,
    masks_from_files,
    masks_from_label_map,
    read_label_map_any_depth,
    unique_ids,
)

__all__ = ["PngMaskDatasetReader", "PngMaskSample"]

IMAGE_FOLDER, MASK_FOLDER = "images", "masks"
_MASK_SUFFIX = re.compile(r"(.+?)_(?:mask|labels|mask_?\d+)")
_NUMBERED_MASK = re.compile(r"_mask_?\d+$")


@dataclass(frozen=True)
class PngMaskSample(ImageSample):
    """An image with one label map, or with a mask file for each object."""

    mask_files: tuple[Path, ...]
    one_file_per_object: bool

    @property
    def is_suffixed(self) -> bool:
        """Whether the masks have the names that masklet gives them, such as ID_mask.png."""
        return all(_strip_mask_suffix(file.stem) != file.stem for file in self.mask_files)

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`."""
        if self.one_file_per_object:
            return masks_from_files(enumerate(self.mask_files, 1), self.image_path, size)
        label_map = read_label_map_any_depth(self.mask_files[0], size)
        check_same_size(self.mask_files[0], label_map.shape, self.image_path, size)
        ids = unique_ids(label_map)
        masks = masks_from_label_map(label_map, binary=is_binary_mask(ids))
        decoders = {number: partial(masks.__getitem__, label) for number, label in enumerate(masks, 1)}
        return LazyMasks(decoders, num_records=count_labels(ids, label_map))


class PngMaskDatasetReader(DatasetReader):
    """Reads the images with masks of a folder, or of those directly below it; the split is one of these."""

    data_format: ClassVar[str] = "png"
    description: ClassVar[str] = "images/ID.jpg with masks/ID.png or masks/ID/*.png, or ID.jpg beside ID_mask.png"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a folder, or one directly below it, holds images with PNG masks."""
        return any(_is_source(folder) for folder in (path, *folders_in(path)))

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        sources = find_source_folders(path, _is_source, options.split, "split")
        return build_dataset(
            cls.data_format,
            path,
            read_parts(path, sources, _read_source),
            missing="no images with PNG masks",
            expected="images/ID.jpg with masks/ID.png or masks/ID/*.png, or ID.jpg with ID_mask.png next to it: check "
            "the path",
        )


def _is_source(folder: Path) -> bool:
    if (folder / IMAGE_FOLDER).is_dir():
        return has_matching_file(folder / MASK_FOLDER, "*.png") or has_matching_file(folder / MASK_FOLDER, "*/*.png")
    return bool(_scan_single_folder(folder)[1].files)


def _read_source(folder: Path, prefix: str) -> DatasetPart:
    issues: list[DataIssue] = []
    if (folder / IMAGE_FOLDER).is_dir():
        images, issues = files_by_stem(folder / IMAGE_FOLDER)
        masks = _MaskFiles()
        for file in files_in(folder / MASK_FOLDER, (".png",)):
            masks.add(file.stem if file.stem in images else _strip_mask_suffix(file.stem), file)
        for below in folders_in(folder / MASK_FOLDER):  # a folder of masks goes before a file
            files = files_in(below, (".png",))
            if files:
                masks.files[below.name] = files
                masks.one_file_per_object.add(below.name)
    else:
        images, masks = _scan_single_folder(folder)
    for stem in {issue.sample for issue in issues}.intersection(images, masks.files):
        images.pop(stem)  # two images of one stem, which are named already: nothing says whose the mask is
        masks.files.pop(stem)
    issues = [replace(issue, sample=prefix + issue.sample) for issue in issues]
    for stem, image in images.items():
        if stem not in masks.files:
            reason = "has no mask of its name; an image has its masks: add one (black where nothing is), or remove it"
            issues.append(DataIssue.for_file(prefix + stem, image, reason))
    for stem, files in masks.files.items():
        if stem not in images:
            reason = "has no image of its name; masks need their image: add it, or remove the mask"
            issues.append(DataIssue.for_file(prefix + stem, files[0], reason))
    samples = [
        PngMaskSample(prefix + stem, image, tuple(masks.files[stem]), stem in masks.one_file_per_object)
        for stem, image in images.items()
        if stem in masks.files
    ]
    return samples, issues


class _MaskFiles:
    """The mask files of each image by its name; several files, or numbered ones, are one for each object."""

    def __init__(self) -> None:
        self.files: dict[str, list[Path]] = {}
        self.one_file_per_object: set[str] = set()

    def add(self, stem: str, file: Path) -> None:
        """Add a file of the image `stem`."""
        self.files.setdefault(stem, []).append(file)
        if len(self.files[stem]) > 1 or _NUMBERED_MASK.search(file.stem):
            self.one_file_per_object.add(stem)


def _strip_mask_suffix(stem: str) -> str:
    """Return cat for cat_mask, cat_labels or cat_mask_0; any other name is unchanged."""
    match = _MASK_SUFFIX.fullmatch(stem)
    return match[1] if match else stem


def _scan_single_folder(folder: Path) -> tuple[dict[str, Path], _MaskFiles]:
    """Tell images from masks in one folder."""
    files = files_in(folder)
    stems = {file.stem for file in files}
    stems_of_others = {file.stem for file in files if file.suffix.lower() != ".png"}
    masks = _MaskFiles()
    images: dict[str, Path] = {}
    for file in files:
        stem, is_png = _strip_mask_suffix(file.stem), file.suffix.lower() == ".png"
        if is_png and stem != file.stem and stem in stems:
            masks.add(stem, file)
        elif is_png and file.stem in stems_of_others:
            masks.add(file.stem, file)
        else:
            images[file.stem] = file
    return images, masks
