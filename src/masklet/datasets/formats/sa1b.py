"""SA-1B: a JSON of run-length codes beside each picture, sa_1.jpg with sa_1.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from masklet.datasets.dataset import Choice, Dataset, Finding, Mask, Size, Still, same_size
from masklet.datasets.files import by_stem, chosen, folders_in, gathered, parts_of
from masklet.datasets.json_reader import as_list, as_record, keys_of_start, read_json
from masklet.datasets.mask_decoding import coded_masks

__all__ = ["Sa1bStill", "is_sa1b", "open_sa1b"]


@dataclass(frozen=True)
class Sa1bStill(Still):
    """A picture, and the JSON with its annotations."""

    file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        record = as_record(read_json(self.file), self.file, "the whole file")
        image = as_record(record.get("image", {}), self.file, "'image'")
        height, width = image.get("height"), image.get("width")
        if isinstance(height, int) and isinstance(width, int):
            same_size(self.file, (height, width), self.picture, size, "image")
        annotations = as_list(record.get("annotations"), self.file, "'annotations'")
        codes = [as_record(a, self.file, "each annotation").get("segmentation") for a in annotations]
        return coded_masks(codes, size, self.file, self.picture)


def is_sa1b(path: Path) -> bool:
    """Whether there are files sa_*.json in a folder, or directly below it, that are not LabelMe's."""
    if not path.is_dir():
        return False
    first = next((file for pattern in ("sa_*.json", "*/sa_*.json") for file in path.glob(pattern)), None)
    return first is not None and "shapes" not in keys_of_start(first)


def open_sa1b(path: Path, choice: Choice) -> Dataset:
    """Pictures of a folder with a JSON of the same name beside them, and of those folders below; one may be the split.

    Example:
        >>> open_sa1b(Path("SA-1B"), Choice("sa_000020")).entries[0].name
        'sa_000020/sa_223750'

    Raises:
        SourceError: no picture with its JSON, or no such folder.
    """
    folders = [path, *folders_in(path)]
    if choice.split is not None:
        folders = [path / chosen(path, choice.split, [folder.name for folder in folders[1:]], "folder")]
    allowed = "ID.jpg with ID.json beside it, here or in folders below: unpack the archives there"
    return gathered("sa1b", path, parts_of(path, folders, _of_folder), "no pictures of SA-1B", allowed)


def _of_folder(folder: Path, prefix: str) -> tuple[list[Sa1bStill], list[Finding]]:
    pictures, problems = by_stem(folder)
    files, _ = by_stem(folder, (".json",))
    if not files:
        return [], []
    for stem, picture in pictures.items():
        if stem not in files:
            reason = f"has no {stem}.json beside it; a picture has its annotations: unpack the archive again"
            problems.append(Finding.of(prefix + stem, picture, reason))
    for stem, file in files.items():
        if stem not in pictures and stem.startswith("sa_"):
            reason = f"has no picture {stem}.jpg beside it; masks need their picture: unpack the archive again"
            problems.append(Finding.of(prefix + stem, file, reason))
    entries = [Sa1bStill(prefix + stem, picture, files[stem]) for stem, picture in pictures.items() if stem in files]
    return entries, problems
