"""Our own layout of stills: SOURCE/images/ID.jpg with SOURCE/masks/ID.json, a list of COCO run-length codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from masklet.datasets.dataset import Choice, Dataset, Finding, Mask, Size, Still
from masklet.datasets.files import any_file, by_stem, folders_in, gathered, parts_of, sources_in
from masklet.datasets.json_reader import as_list, read_json
from masklet.datasets.mask_decoding import coded_masks

__all__ = ["CodedStill", "is_stills", "open_stills"]


@dataclass(frozen=True)
class CodedStill(Still):
    """A picture, and a JSON list of run-length codes."""

    codes: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        codes = as_list(read_json(self.codes), self.codes, "the whole file")
        return coded_masks(codes, size, self.codes, self.picture)


def is_stills(path: Path) -> bool:
    """Whether a folder is a source, or holds sources."""
    return any(_is_source(folder) for folder in (path, *folders_in(path)))


def open_stills(path: Path, choice: Choice) -> Dataset:
    """Every source below `path`, or `path` itself where it is one; a split is the name of a source.

    Example:
        >>> open_stills(Path("stills"), Choice()).entries[0].name
        'BSDS500/100007'

    Raises:
        SourceError: no picture with masks, or no such source.
    """
    allowed = "images/ID.jpg with masks/ID.json (a list of COCO run-length codes), or a folder of such folders"
    sources = sources_in(path, _is_source, choice.split, "source")
    return gathered("stills", path, parts_of(path, sources, _of_source), "no stills", f"{allowed}: check the path")


def _is_source(folder: Path) -> bool:
    return (folder / "images").is_dir() and any_file(folder / "masks", "*.json")


def _of_source(folder: Path, prefix: str) -> tuple[list[CodedStill], list[Finding]]:
    pictures, problems = by_stem(folder / "images")
    codes, _ = by_stem(folder / "masks", (".json",))
    for stem in pictures.keys() - codes.keys():
        reason = f"has no masks/{stem}.json; a picture has its masks: add the file ([] for none)"
        problems.append(Finding.of(prefix + stem, pictures[stem], reason))
    for stem in codes.keys() - pictures.keys():
        reason = "has no picture in images; masks need their picture: add it, or remove the file"
        problems.append(Finding.of(prefix + stem, codes[stem], reason))
    entries = [CodedStill(prefix + stem, pictures[stem], codes[stem]) for stem in pictures if stem in codes]
    return entries, sorted(problems, key=lambda finding: finding.entry)
