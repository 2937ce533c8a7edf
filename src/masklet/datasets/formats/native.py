"""The format of masklet itself for images: a list of COCO run-length codes for each image.

[SOURCE/]images/ID.jpg
[SOURCE/]masks/ID.json     [{"size": [height, width], "counts": "..."}, ...]; object n is the n-th code
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from masklet.datasets.account import ObjectAccount
from masklet.datasets.dataset import DataIssue, Dataset, DatasetReader, ImageSample, Mask, ReadOptions, Size
from masklet.datasets.files import (
    DatasetPart,
    build_dataset,
    files_by_stem,
    find_source_folders,
    folders_in,
    has_matching_file,
    read_parts,
)
from masklet.datasets.json_reader import as_json_list, read_json
from masklet.datasets.mask_decoding import rle_masks

__all__ = ["NativeDatasetReader", "NativeSample"]

IMAGE_FOLDER, MASK_FOLDER = "images", "masks"


@dataclass(frozen=True)
class NativeSample(ImageSample):
    """An image, and a JSON list of run-length codes."""

    annotation_file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`."""
        codes = as_json_list(read_json(self.annotation_file), self.annotation_file, "the whole file")
        return rle_masks(codes, size, self.annotation_file, self.image_path)


class NativeDatasetReader(DatasetReader):
    """Reads a source, or every source directly below a folder; the split is the name of a source."""

    data_format: ClassVar[str] = "native"
    description: ClassVar[str] = "[SOURCE/]images/ID.jpg with masks/ID.json, a list of COCO run-length codes"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a folder is a source, or holds sources."""
        return any(_is_source(folder) for folder in (path, *folders_in(path)))

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        sources = find_source_folders(path, _is_source, options.split, "source")
        return build_dataset(
            cls.data_format,
            path,
            read_parts(path, sources, _read_source),
            missing="no images with masks/ID.json",
            expected="images/ID.jpg with masks/ID.json (a list of COCO run-length codes), or a folder of such folders: "
            "check the path",
        )


def _is_source(folder: Path) -> bool:
    return (folder / IMAGE_FOLDER).is_dir() and has_matching_file(folder / MASK_FOLDER, "*.json")


def _read_source(folder: Path, prefix: str) -> DatasetPart:
    images, issues = files_by_stem(folder / IMAGE_FOLDER)
    annotations, _ = files_by_stem(folder / MASK_FOLDER, (".json",))
    for stem in images.keys() - annotations.keys():
        reason = f"has no masks/{stem}.json; an image has its masks: add the file ([] for none)"
        issues.append(DataIssue.for_file(prefix + stem, images[stem], reason))
    for stem in annotations.keys() - images.keys():
        reason = "has no image in images; masks need their image: add it, or remove the file"
        objects = ObjectAccount.for_unread_sample(NativeSample(stem, Path(), annotations[stem]), {}).source
        issues.append(replace(DataIssue.for_file(prefix + stem, annotations[stem], reason), objects=objects))
    samples = [
        NativeSample(prefix + stem, image, annotations[stem]) for stem, image in images.items() if stem in annotations
    ]
    return samples, sorted(issues, key=lambda issue: issue.sample)
