"""PNG masks beside pictures: label maps, black and white, or one file an object.

images/ID.jpg with masks/ID.png or masks/ID/*.png; or in one folder ID.jpg with ID.png, ID_mask.png, ID_labels.png, or
ID_mask_0.png, ID_mask_1.png ..., as masklet writes them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from masklet.datasets.dataset import Choice, Dataset, Finding, LazyMasks, Mask, Size, Still, same_size
from masklet.datasets.files import any_file, by_stem, files_in, folders_in, gathered, parts_of, sources_in
from masklet.datasets.label_maps import black_and_white, ids_in, inside_masks, label_masks, read_any_labels, size_of

__all__ = ["LabelledStill", "is_png", "open_png"]

_TAG = re.compile(r"(.+?)_(?:mask|labels|mask_?\d+)")
_NUMBERED = re.compile(r"_mask_?\d+$")


@dataclass(frozen=True)
class _Masks:
    """The mask files of one picture: one map, or (`apart`) a file for each object."""

    files: tuple[Path, ...]
    apart: bool


@dataclass(frozen=True)
class LabelledStill(Still):
    """A picture with one label map, or (`apart`) with a file for each object."""

    files: tuple[Path, ...]
    apart: bool

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        if self.apart:
            for file in self.files:
                same_size(file, size_of(file), self.picture, size)
            return inside_masks(enumerate(self.files, 1))
        labels = read_any_labels(self.files[0])
        same_size(self.files[0], labels.shape, self.picture, size)
        found = label_masks(labels, sole=black_and_white(ids_in(labels)))
        return LazyMasks({n: partial(found.__getitem__, label) for n, label in enumerate(found, 1)})


def is_png(path: Path) -> bool:
    """Whether a folder, or one directly below it, holds pictures with PNG masks."""
    return any(_is_source(folder) for folder in (path, *folders_in(path)))


def open_png(path: Path, choice: Choice) -> Dataset:
    """The pictures of a folder, or of those directly below it (one may be the split), with their masks.

    A map of 0 and 255 alone is one object; else each value but 0 is one, and 255 belongs to none. Objects are
    numbered from 1, in the order of their values or files.

    Example:
        >>> open_png(Path("mine"), Choice()).entries[0].name
        'cat'

    Raises:
        SourceError: no picture with a mask, or no such split.
    """
    allowed = "images/ID.jpg with masks/ID.png or masks/ID/*.png, or ID.jpg with ID_mask.png beside it: check the path"
    sources = sources_in(path, _is_source, choice.split, "split")
    return gathered("png", path, parts_of(path, sources, _of_source), "no pictures with PNG masks", allowed)


def _is_source(folder: Path) -> bool:
    if (folder / "images").is_dir():
        return any_file(folder / "masks", "*.png") or any_file(folder / "masks", "*/*.png")
    return bool(_beside(folder)[1])


def _of_source(folder: Path, prefix: str) -> tuple[list[LabelledStill], list[Finding]]:
    if (folder / "images").is_dir():
        pictures, problems = by_stem(folder / "images")
        files = _in_masks(folder / "masks", pictures)
    else:
        pictures, files = _beside(folder)
        problems = []
    for stem, picture in pictures.items():
        if stem not in files:
            reason = "has no mask of its name; a picture has its masks: add one (black where nothing is), or remove it"
            problems.append(Finding.of(prefix + stem, picture, reason))
    for stem, masks in files.items():
        if stem not in pictures:
            reason = "has no picture of its name; masks need their picture: add it, or remove the mask"
            problems.append(Finding.of(prefix + stem, masks.files[0], reason))
    entries = [
        LabelledStill(prefix + stem, picture, files[stem].files, files[stem].apart)
        for stem, picture in pictures.items()
        if stem in files
    ]
    return entries, problems


def _in_masks(folder: Path, pictures: Container[str]) -> dict[str, _Masks]:
    """Mask files by the name of their picture; a folder of masks goes before a file."""
    found: dict[str, _Masks] = {}
    for file in files_in(folder, (".png",)):
        _add(found, file, file.stem if file.stem in pictures else _untagged(file.stem))
    for below in folders_in(folder):
        files = files_in(below, (".png",))
        if files:
            found[below.name] = _Masks(tuple(files), apart=True)
    return found


def _untagged(stem: str) -> str:
    """cat of cat_mask, cat_labels or cat_mask_0; any other name as it is."""
    tagged = _TAG.fullmatch(stem)
    return tagged[1] if tagged else stem


def _add(found: dict[str, _Masks], file: Path, stem: str) -> None:
    """One more file of the picture `stem`; several files, or numbered ones, are an object each."""
    before = found[stem].files if stem in found else ()
    found[stem] = _Masks((*before, file), apart=bool(before) or _NUMBERED.search(file.stem) is not None)


def _beside(folder: Path) -> tuple[dict[str, Path], dict[str, _Masks]]:
    """Pictures and their masks in one folder."""
    everything = files_in(folder)
    others = {file.stem for file in everything if file.suffix.lower() != ".png"}
    stems = {file.stem for file in everything}
    masks: dict[str, _Masks] = {}
    pictures: dict[str, Path] = {}
    for file in everything:
        stem, png = _untagged(file.stem), file.suffix.lower() == ".png"
        if png and stem != file.stem and stem in stems:
            _add(masks, file, stem)
        elif png and file.stem in others:
            _add(masks, file, file.stem)
        else:
            pictures[file.stem] = file
    return pictures, masks
