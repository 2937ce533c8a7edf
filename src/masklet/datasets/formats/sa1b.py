"""SA-1B: a JSON of run-length codes beside each image, sa_1.jpg with sa_1.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from masklet.datasets.dataset import DataIssue, Dataset, ImageSample, Mask, ReadOptions, Size, check_same_size
from masklet.datasets.files import build_dataset, files_by_stem, folders_in, read_parts, validate_choice
from masklet.datasets.json_reader import as_json_list, as_json_object, probe_keys, read_json
from masklet.datasets.mask_decoding import rle_masks

__all__ = ["Sa1bImage", "is_sa1b", "open_sa1b"]


@dataclass(frozen=True)
class Sa1bImage(ImageSample):
    """An image, and the JSON with its annotations."""

    annotation_file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        record = as_json_object(read_json(self.annotation_file), self.annotation_file, "the whole file")
        image = as_json_object(record.get("image", {}), self.annotation_file, "'image'")
        height, width = image.get("height"), image.get("width")
        if isinstance(height, int) and isinstance(width, int):
            check_same_size(self.annotation_file, (height, width), self.image_path, size, "image")
        annotations = as_json_list(record.get("annotations"), self.annotation_file, "'annotations'")
        codes = [as_json_object(a, self.annotation_file, "each annotation").get("segmentation") for a in annotations]
        return rle_masks(codes, size, self.annotation_file, self.image_path)


def is_sa1b(path: Path) -> bool:
    """Whether there are files sa_*.json in a folder, or directly below it, that are not LabelMe's."""
    if not path.is_dir():
        return False
    first = next((file for pattern in ("sa_*.json", "*/sa_*.json") for file in path.glob(pattern)), None)
    return first is not None and "shapes" not in probe_keys(first)


def open_sa1b(path: Path, options: ReadOptions) -> Dataset:
    """Images of a folder with a JSON of the same name beside them, and of those folders below; one may be the split.

    Example:
        >>> open_sa1b(Path("SA-1B"), Choice("sa_000020")).entries[0].name
        'sa_000020/sa_223750'

    Raises:
        SourceError: no image with its JSON, or no such folder.
    """
    folders = [path, *folders_in(path)]
    if options.split is not None:
        folders = [path / validate_choice(path, options.split, [folder.name for folder in folders[1:]], "folder")]
    allowed = "ID.jpg with ID.json beside it, here or in folders below: unpack the archives there"
    return build_dataset("sa1b", path, read_parts(path, folders, _read_folder), "no images of SA-1B", allowed)


def _read_folder(folder: Path, prefix: str) -> tuple[list[Sa1bImage], list[DataIssue]]:
    images, problems = files_by_stem(folder)
    files, _ = files_by_stem(folder, (".json",))
    if not files:
        return [], []
    for stem, image in images.items():
        if stem not in files:
            reason = f"has no {stem}.json beside it; an image has its annotations: unpack the archive again"
            problems.append(DataIssue.for_file(prefix + stem, image, reason))
    for stem, file in files.items():
        if stem not in images and stem.startswith("sa_"):
            reason = f"has no image {stem}.jpg beside it; masks need their image: unpack the archive again"
            problems.append(DataIssue.for_file(prefix + stem, file, reason))
    entries = [Sa1bImage(prefix + stem, image, files[stem]) for stem, image in images.items() if stem in files]
    return entries, problems
