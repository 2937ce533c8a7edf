"""SA-1B: a JSON of run-length codes next to each image, in one folder or in folders below it.

sa_000020/sa_223750.jpg
sa_000020/sa_223750.json   {"image": {"height": ..., "width": ...}, "annotations": [{"segmentation": {...}}, ...]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from masklet.datasets.account import ObjectAccount
from masklet.datasets.dataset import (
    DataIssue,
    Dataset,
    DatasetReader,
    ImageSample,
    Mask,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import DatasetPart, build_dataset, files_by_stem, folders_in, read_parts, validate_choice
from masklet.datasets.json_reader import as_json_list, as_json_object, probe_keys, read_json
from masklet.datasets.mask_decoding import as_id, rle_masks

__all__ = ["Sa1bDatasetReader", "Sa1bSample"]


@dataclass(frozen=True)
class Sa1bSample(ImageSample):
    """An image, and the JSON with its annotations."""

    annotation_file: Path

    @property
    def declared_size(self) -> Size | None:
        """(height, width) in the JSON file."""
        return self._read()[1]

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`."""
        codes, declared_size = self._read()
        if declared_size is not None:
            check_same_size(self.annotation_file, declared_size, self.image_path, size, "image")
        return rle_masks(codes, size, self.annotation_file, self.image_path)

    def _read(self) -> tuple[list[object], Size | None]:
        """Return the segmentation of each annotation, and the size that the file declares."""
        file = self.annotation_file
        record = as_json_object(read_json(file), file, "the whole file")
        image = as_json_object(record.get("image", {}), file, "'image'")
        height, width = as_id(image.get("height")), as_id(image.get("width"))
        size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        annotations = as_json_list(record.get("annotations"), file, "'annotations'")
        return [item.get("segmentation") if isinstance(item, dict) else item for item in annotations], size


class Sa1bDatasetReader(DatasetReader):
    """Reads the images of a folder and of those directly below it; the split is one of these."""

    data_format: ClassVar[str] = "sa1b"
    description: ClassVar[str] = "SA-1B: sa_ID.jpg with sa_ID.json"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a folder, or one directly below it, has sa_*.json files that are not LabelMe's."""
        if not path.is_dir():
            return False
        first = next((file for pattern in ("sa_*.json", "*/sa_*.json") for file in path.glob(pattern)), None)
        return first is not None and "shapes" not in probe_keys(first)

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        folders = [path, *folders_in(path)]
        if options.split is not None:
            folders = [path / validate_choice(path, options.split, [folder.name for folder in folders[1:]], "folder")]
        return build_dataset(
            cls.data_format,
            path,
            read_parts(path, folders, _read_folder),
            missing="no images of SA-1B",
            expected="ID.jpg with ID.json next to it, here or in folders below: unpack the archives there",
        )


def _read_folder(folder: Path, prefix: str) -> DatasetPart:
    images, issues = files_by_stem(folder)
    annotations, _ = files_by_stem(folder, (".json",))
    if not annotations:
        return [], []
    for stem, image in images.items():
        if stem not in annotations:
            reason = f"has no {stem}.json next to it; an image has its annotations: unpack the archive again"
            issues.append(DataIssue.for_file(prefix + stem, image, reason))
    for stem, file in annotations.items():
        if stem not in images and stem.startswith("sa_"):
            reason = f"has no image {stem}.jpg next to it; masks need their image: unpack the archive again"
            objects = ObjectAccount.for_unread_sample(Sa1bSample(stem, Path(), file), {}).source
            issues.append(replace(DataIssue.for_file(prefix + stem, file, reason), objects=objects))
    samples = [
        Sa1bSample(prefix + stem, image, annotations[stem]) for stem, image in images.items() if stem in annotations
    ]
    return samples, issues
