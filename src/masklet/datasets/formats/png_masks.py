"""PNG masks beside images: label maps, black and white, or one file an object.

images/ID.jpg with masks/ID.png or masks/ID/*.png; or in one folder ID.jpg with ID.png, ID_mask.png, ID_labels.png, or
ID_mask_0.png, ID_mask_1.png ..., as masklet writes them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from masklet.datasets.dataset import (
    DataIssue,
    Dataset,
    ImageSample,
    LazyMasks,
    Mask,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import (
    build_dataset,
    files_by_stem,
    files_in,
    find_source_folders,
    folders_in,
    has_matching_file,
    read_parts,
)
from masklet.datasets.label_maps import (
    is_binary_mask,
    masks_from_files,
    masks_from_label_map,
    read_image_size,
    read_label_map_any_depth,
    unique_ids,
)

__all__ = ["PngMaskImage", "is_png", "open_png"]

_MASK_SUFFIX = re.compile(r"(.+?)_(?:mask|labels|mask_?\d+)")
_NUMBERED_MASK = re.compile(r"_mask_?\d+$")


@dataclass(frozen=True)
class _MaskFiles:
    """The mask files of one image: one map, or (`apart`) a file for each object."""

    files: tuple[Path, ...]
    one_file_per_object: bool


@dataclass(frozen=True)
class PngMaskImage(ImageSample):
    """An image with one label map, or (`apart`) with a file for each object."""

    mask_files: tuple[Path, ...]
    one_file_per_object: bool

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        if self.one_file_per_object:
            for file in self.mask_files:
                check_same_size(file, read_image_size(file), self.image_path, size)
            return masks_from_files(enumerate(self.mask_files, 1))
        labels = read_label_map_any_depth(self.mask_files[0])
        check_same_size(self.mask_files[0], labels.shape, self.image_path, size)
        found = masks_from_label_map(labels, binary=is_binary_mask(unique_ids(labels)))
        return LazyMasks({n: partial(found.__getitem__, label) for n, label in enumerate(found, 1)})


def is_png(path: Path) -> bool:
    """Whether a folder, or one directly below it, holds images with PNG masks."""
    return any(_is_source(folder) for folder in (path, *folders_in(path)))


def open_png(path: Path, options: ReadOptions) -> Dataset:
    """The images of a folder, or of those directly below it (one may be the split), with their masks.

    A map of 0 and 255 alone is one object; else each value but 0 is one, and 255 belongs to none. Objects are
    numbered from 1, in the order of their values or files.

    Example:
        >>> open_png(Path("mine"), Choice()).entries[0].name
        'cat'

    Raises:
        SourceError: no image with a mask, or no such split.
    """
    allowed = "images/ID.jpg with masks/ID.png or masks/ID/*.png, or ID.jpg with ID_mask.png beside it: check the path"
    sources = find_source_folders(path, _is_source, options.split, "split")
    return build_dataset("png", path, read_parts(path, sources, _read_source), "no images with PNG masks", allowed)


def _is_source(folder: Path) -> bool:
    if (folder / "images").is_dir():
        return has_matching_file(folder / "masks", "*.png") or has_matching_file(folder / "masks", "*/*.png")
    return bool(_scan_folder(folder)[1])


def _read_source(folder: Path, prefix: str) -> tuple[list[PngMaskImage], list[DataIssue]]:
    if (folder / "images").is_dir():
        images, problems = files_by_stem(folder / "images")
        files = _group_mask_files(folder / "masks", images)
    else:
        images, files = _scan_folder(folder)
        problems = []
    for stem, image in images.items():
        if stem not in files:
            reason = "has no mask of its name; an image has its masks: add one (black where nothing is), or remove it"
            problems.append(DataIssue.for_file(prefix + stem, image, reason))
    for stem, masks in files.items():
        if stem not in images:
            reason = "has no image of its name; masks need their image: add it, or remove the mask"
            problems.append(DataIssue.for_file(prefix + stem, masks.files[0], reason))
    entries = [
        PngMaskImage(prefix + stem, image, files[stem].files, files[stem].one_file_per_object)
        for stem, image in images.items()
        if stem in files
    ]
    return entries, problems


def _group_mask_files(folder: Path, images: Container[str]) -> dict[str, _MaskFiles]:
    """Mask files by the name of their image; a folder of masks goes before a file."""
    found: dict[str, _MaskFiles] = {}
    for file in files_in(folder, (".png",)):
        _add_mask_file(found, file, file.stem if file.stem in images else _strip_mask_suffix(file.stem))
    for below in folders_in(folder):
        files = files_in(below, (".png",))
        if files:
            found[below.name] = _MaskFiles(tuple(files), one_file_per_object=True)
    return found


def _strip_mask_suffix(stem: str) -> str:
    """cat of cat_mask, cat_labels or cat_mask_0; any other name as it is."""
    tagged = _MASK_SUFFIX.fullmatch(stem)
    return tagged[1] if tagged else stem


def _add_mask_file(mask_files: dict[str, _MaskFiles], file: Path, stem: str) -> None:
    """One more file of the image `stem`; several files, or numbered ones, are an object each."""
    before = mask_files[stem].files if stem in mask_files else ()
    mask_files[stem] = _MaskFiles(
        (*before, file), one_file_per_object=bool(before) or _NUMBERED_MASK.search(file.stem) is not None
    )


def _scan_folder(folder: Path) -> tuple[dict[str, Path], dict[str, _MaskFiles]]:
    """Images and their masks in one folder."""
    everything = files_in(folder)
    others = {file.stem for file in everything if file.suffix.lower() != ".png"}
    stems = {file.stem for file in everything}
    masks: dict[str, _MaskFiles] = {}
    images: dict[str, Path] = {}
    for file in everything:
        stem, png = _strip_mask_suffix(file.stem), file.suffix.lower() == ".png"
        if png and stem != file.stem and stem in stems:
            _add_mask_file(masks, file, stem)
        elif png and file.stem in others:
            _add_mask_file(masks, file, file.stem)
        else:
            images[file.stem] = file
    return images, masks
