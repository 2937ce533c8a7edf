"""Our own layout of stills: SOURCE/images/ID.jpg with SOURCE/masks/ID.json, a list of COCO run-length codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from masklet.datasets.dataset import DataIssue, Dataset, ImageSample, Mask, ReadOptions, Size
from masklet.datasets.files import (
    build_dataset,
    files_by_stem,
    find_source_folders,
    folders_in,
    has_matching_file,
    read_parts,
)
from masklet.datasets.json_reader import as_json_list, read_json
from masklet.datasets.mask_decoding import rle_masks

__all__ = ["NativeImage", "is_native", "open_native"]


@dataclass(frozen=True)
class NativeImage(ImageSample):
    """An image, and a JSON list of run-length codes."""

    annotation_file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        codes = as_json_list(read_json(self.annotation_file), self.annotation_file, "the whole file")
        return rle_masks(codes, size, self.annotation_file, self.image_path)


def is_native(path: Path) -> bool:
    """Whether a folder is a source, or holds sources."""
    return any(_is_source(folder) for folder in (path, *folders_in(path)))


def open_native(path: Path, options: ReadOptions) -> Dataset:
    """Every source below `path`, or `path` itself where it is one; a split is the name of a source.

    Example:
        >>> open_stills(Path("stills"), Choice()).entries[0].name
        'BSDS500/100007'

    Raises:
        SourceError: no image with masks, or no such source.
    """
    allowed = "images/ID.jpg with masks/ID.json (a list of COCO run-length codes), or a folder of such folders"
    sources = find_source_folders(path, _is_source, options.split, "source")
    return build_dataset(
        "stills", path, read_parts(path, sources, _read_source), "no stills", f"{allowed}: check the path"
    )


def _is_source(folder: Path) -> bool:
    return (folder / "images").is_dir() and has_matching_file(folder / "masks", "*.json")


def _read_source(folder: Path, prefix: str) -> tuple[list[NativeImage], list[DataIssue]]:
    images, problems = files_by_stem(folder / "images")
    codes, _ = files_by_stem(folder / "masks", (".json",))
    for stem in images.keys() - codes.keys():
        reason = f"has no masks/{stem}.json; an image has its masks: add the file ([] for none)"
        problems.append(DataIssue.for_file(prefix + stem, images[stem], reason))
    for stem in codes.keys() - images.keys():
        reason = "has no image in images; masks need their image: add it, or remove the file"
        problems.append(DataIssue.for_file(prefix + stem, codes[stem], reason))
    entries = [NativeImage(prefix + stem, images[stem], codes[stem]) for stem in images if stem in codes]
    return entries, sorted(problems, key=lambda finding: finding.sample)
