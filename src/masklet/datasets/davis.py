"""Films as folders of pictures with label maps: DAVIS 2016 and 2017, YouTube-VOS, MOSE, LVOS.

JPEGImages/SEQ/00000.jpg with Annotations/SEQ/00000.png, either one with a folder for the resolution between
(480p), all of it below train, valid or test or not. Any number of a film's pictures may have no annotation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from masklet.datasets.base import (
    Choice,
    DataError,
    Dataset,
    Entry,
    Finding,
    Mask,
    PictureFilm,
    Size,
    same_size,
)
from masklet.datasets.gathering import gathered
from masklet.datasets.labels import black_and_white, ids_in, label_masks, read_labels
from masklet.datasets.listing import any_file, by_stem, chosen, folders_in, is_split, lines_of
from masklet.errors import SourceError
from masklet.media.sources import natural_key

__all__ = ["LabelledFilm", "is_davis", "listed_names", "open_davis"]

PICTURES, LABELS, LISTS = "JPEGImages", "Annotations", "ImageSets"
SIZES = ("480p", "Full-Resolution", "1080p")
"""Folders between JPEGImages and the sequences, the first that is there is read."""


@dataclass(frozen=True)
class LabelledFilm(PictureFilm):
    """Pictures of a folder, and the label maps that some of them have."""

    labels: Path

    def masks(self, picture: Path, size: Size) -> Mapping[int, Mask]:
        """See PictureFilm. Ids are those of the maps; 255 beside others belongs to nobody; white alone is object 1."""
        file = self._labels_of(picture.name)
        labels = read_labels(file)
        same_size(file, labels.shape, picture, size)
        return label_masks(labels, sole=black_and_white(ids_in(labels)) and self._is_sole())

    def _labels_of(self, picture: str) -> Path:
        return self.labels / f"{Path(picture).stem}.png"

    def _is_sole(self) -> bool:
        """Whether the first map with anything in it is black and white, as in DAVIS 2016."""
        for number in self.frames:
            ids = ids_in(read_labels(self._labels_of(self.pictures[number])))
            if ids:
                return black_and_white(ids)
        return False


def is_davis(path: Path) -> bool:
    """Whether a folder, or one directly below it, has JPEGImages and Annotations."""
    return bool(_trees(path))


def open_davis(path: Path, choice: Choice) -> Dataset:
    """The sequences below `path` that have annotations; a split is a list of ImageSets or a folder such as train.

    Example:
        >>> open_davis(Path("YouTubeVOS"), Choice("train")).entries[0].frames
        (0, 5, 10, 15)

    Raises:
        SourceError: no sequence with an annotation, or no such split.
    """
    trees, names = _chosen(path, choice.split)
    parts = (_films(tree, "" if len(trees) == 1 else f"{tree.name}/", names) for tree in trees)
    layout = f"{PICTURES}/[480p/]SEQ/00000.jpg with {LABELS}/[480p/]SEQ/00000.png"
    found = gathered("davis", path, parts, "no film with masks", f"{layout}: check the path and the split")
    return replace(found, splits=_splits(path, found.entries))


def listed_names(file: Path) -> list[str]:
    """Names of the sequences in a list: one a line, or pairs of paths to pictures (DAVIS 2016).

    Example:
        >>> listed_names(Path("DAVIS/ImageSets/2017/val.txt"))
        ['bike-packing', 'blackswan', ...]
    """
    words = [line.split()[0] for line in lines_of(file)]
    return sorted({Path(word).parent.name if "/" in word else word for word in words}, key=natural_key)


def _trees(path: Path) -> list[Path]:
    """Folders with JPEGImages and Annotations: `path` itself, or those directly below."""
    if _is_tree(path):
        return [path]
    return [folder for folder in folders_in(path) if _is_tree(folder)]


def _is_tree(folder: Path) -> bool:
    if (folder / "SegmentationObject").is_dir() or any_file(folder / LABELS, "*.xml"):  # Pascal VOC
        return False
    return (folder / PICTURES).is_dir() and (folder / LABELS).is_dir()


def _chosen(path: Path, split: str | None) -> tuple[list[Path], list[str] | None]:
    """The trees to read, and the names of the sequences to take (None: all)."""
    trees = _trees(path)
    if split is None:
        return trees, None
    below = [tree for tree in trees if tree != path]
    if split in [tree.name for tree in below]:
        return [path / split], None
    lists = _lists(path)
    fitting = [name for name in lists if name == split] or [name for name in lists if name.endswith(f"/{split}")]
    if len(fitting) > 1:
        raise SourceError(
            f"{path} has {len(fitting)} lists {split!r} ({', '.join(fitting)}); a split is one list: name it whole"
        )
    chosen(path, fitting[0] if fitting else split, [*lists, *(tree.name for tree in below)], "split")
    return trees, listed_names(lists[fitting[0]])


def _lists(path: Path) -> dict[str, Path]:
    """The lists of ImageSets by their names, such as 2017/val."""
    top = path / LISTS
    found = sorted(top.glob("**/*.txt")) if any_file(top, "**/*.txt") else []
    return {file.relative_to(top).with_suffix("").as_posix(): file for file in found}


def _splits(path: Path, entries: Sequence[Entry]) -> dict[str, str]:
    """Which list of ImageSets a film is in, or in which folder; of two years the later counts."""
    listed: dict[str, str] = {}
    for name, file in _lists(path).items():
        part = name.rsplit("/", 1)[-1]
        listed |= dict.fromkeys(listed_names(file), part) if is_split(part) else {}
    found = {entry.name: listed.get(entry.name, entry.name.split("/")[0]) for entry in entries}
    return {name: split for name, split in found.items() if is_split(split)}


def _films(tree: Path, prefix: str, names: list[str] | None) -> tuple[list[LabelledFilm], list[Finding]]:
    pictures, labels = _below(tree / PICTURES), _below(tree / LABELS)
    with_pictures = {folder.name for folder in folders_in(pictures)}
    with_labels = {folder.name for folder in folders_in(labels)}
    wanted = with_pictures | with_labels if names is None else names
    films: list[LabelledFilm] = []
    problems: list[Finding] = []
    for name in sorted(wanted, key=natural_key):
        lacking = [top for top, there in ((pictures, with_pictures), (labels, with_labels)) if name not in there]
        if lacking:
            reason = "is missing; a film has a folder of pictures and one of label maps: add it"
            problems.append(Finding.of(prefix + name, lacking[0] / name, reason))
            continue
        try:
            film, wrong = _film(prefix + name, pictures / name, labels / name)
        except DataError as problem:
            problems.append(Finding(prefix + name, problem.file, str(problem)))
            continue
        films.append(film)
        problems += wrong
    return films, problems


def _below(folder: Path) -> Path:
    return next((folder / size for size in SIZES if (folder / size).is_dir()), folder)


def _film(name: str, pictures: Path, labels: Path) -> tuple[LabelledFilm, list[Finding]]:
    shown, twice = by_stem(pictures)
    maps, _ = by_stem(labels, (".png",))
    frames = tuple(number for number, stem in enumerate(shown) if stem in maps)
    if not frames:
        reason = "has no label map of the name of a picture; one at least is needed: unpack the annotations again"
        raise DataError.of(labels, reason)
    reason = f"has no picture in {pictures}; a label map belongs to a picture: add it, or remove the map"
    alone = [Finding.of(name, path, reason) for stem, path in maps.items() if stem not in shown]
    film = LabelledFilm(name, pictures, tuple(path.name for path in shown.values()), frames, labels)
    return film, [*(Finding(name, finding.file, finding.reason) for finding in twice), *alone]
