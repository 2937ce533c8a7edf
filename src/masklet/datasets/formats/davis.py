"""Films as folders of pictures with label maps: DAVIS 2016 and 2017, YouTube-VOS, MOSE, LVOS.

JPEGImages/SEQ/00000.jpg with Annotations/SEQ/00000.png, either one with a folder for the resolution between
(480p), all of it below train, valid or test or not. Any number of a film's pictures may have no annotation.

DAVIS: label maps with a palette, a folder for each film.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from masklet.atomic_files import write_text
from masklet.datasets.dataset import Choice, DataError, Dataset, Entry, Finding, Mask, PictureFilm, Size, same_size
from masklet.datasets.files import any_file, by_stem, chosen, folders_in, gathered, is_split, lines_of
from masklet.datasets.label_maps import LAST, black_and_white, ids_in, label_masks, painted_map, read_labels, write_map
from masklet.datasets.labeled_image import LabelledObject, LabelledPicture, LayoutOptions
from masklet.datasets.write_log import Line
from masklet.datasets.writer import LayoutWriter, Written
from masklet.errors import InputError, SourceError
from masklet.media.image_source import natural_key

__all__ = ["DavisLayout", "LabelledFilm", "is_davis", "listed_names", "open_davis"]

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


SIZE = "480p"
"""What tools look for, whatever the size of the pictures."""
STILL = "00000"
"""The only frame of a picture that is in no film."""


class DavisLayout(LayoutWriter):
    """JPEGImages/480p/FILM/FRAME.jpg with Annotations/480p/FILM/FRAME.png, and ImageSets/2017/SPLIT.txt.

    A pixel belongs to one object: where masks overlap the smaller one is kept, and what the other loses is counted.
    In a film an object has its `id` as its label (1 to 254, else a free one). A picture that is in no film is one of a
    single frame, in which objects are numbered from 1; folders in folders are joined by two underscores.
    """

    layout: ClassVar[str] = "davis"
    about: ClassVar[str] = "JPEGImages/480p/FILM/FRAME.jpg, Annotations/480p/FILM/FRAME.png, ImageSets/2017/SPLIT.txt"
    holds: ClassVar[frozenset[str]] = frozenset({"holes", "parts", "ids"})
    apart: ClassVar[bool] = False

    def __init__(self, out_dir: str | os.PathLike[str], names: Mapping[int, str], options: LayoutOptions) -> None:
        self._labels: dict[str, dict[int, int]] = {}
        """Of each film, the label of each id, which stays the same in all its frames."""
        self._folders: dict[str, str] = {}
        super().__init__(out_dir, names, options)

    def _picture_file(self, picture: LabelledPicture) -> str:
        path = PurePosixPath(picture.name)
        film, frame = (path, STILL) if picture.film is None else (path.parent, path.name)
        return f"JPEGImages/{SIZE}/{'__'.join(film.parts) or STILL}/{frame}"

    def _map_of(self, file: str) -> Path:
        """The label map of the picture at `file`."""
        return self.folder / "Annotations" / SIZE / _written_film(file) / f"{PurePosixPath(file).stem}.png"

    def _is_there(self, line: Line) -> bool:
        there = super()._is_there(line) and self._map_of(line.file).exists()
        if there:
            self._folders[_written_film(line.file)] = _folder(line.name, line.file)
            labels = line.record.get("labels")
            assert isinstance(labels, dict)
            self._labels.setdefault(_written_film(line.file), {}).update((int(i), label) for i, label in labels.items())
        return there

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written, film, folder = Written(), _written_film(file), _folder(picture.name, file)
        if self._folders.setdefault(film, folder) != folder:
            raise InputError(f"{folder!r} and {self._folders[film]!r} would both be the film {film!r}; rename one")
        numbers = self._numbers(film, picture.objects)
        ids = {n: picture.objects[n].id for n in numbers}
        written.record["labels"] = {str(ids[n]): label for n, label in numbers.items() if ids[n] is not None}
        self.paths.append(write_map(self._map_of(file), painted_map(picture.objects, numbers, picture.size, written)))
        return written

    def _numbers(self, film: str, objects: tuple[LabelledObject, ...]) -> dict[int, int]:
        """The label of each object of a picture; those that find no room have none."""
        known = self._labels.setdefault(film, {})
        found: dict[int, int] = {}
        for number, thing in enumerate(objects):
            label = _lasting(known, thing.id) if thing.id is not None else 0
            if label and label not in found.values():
                found[number] = label
        free = [label for label in range(LAST, 0, -1) if label not in found.values()]
        for number, thing in enumerate(objects):
            if thing.id is None and free:
                found[number] = free.pop()
        return found

    def _finish(self) -> None:
        for split in self._journal.splits:
            films = list(dict.fromkeys(_written_film(line.file) for line in self._lines(split)))
            path = self.folder / "ImageSets" / "2017" / f"{(split or 'train').replace('/', '_')}.txt"
            self.paths.append(write_text(path, "".join(f"{film}\n" for film in films)))


def _lasting(known: dict[int, int], number: int) -> int:
    """The label of an id in its film, a new one the first time; 0 where there is no room."""
    if number not in known:
        wanted = (number, *range(LAST, 0, -1))  # from above, where fewest have their own number
        label = next((n for n in wanted if 1 <= n <= LAST and n not in known.values()), 0)
        known.update({number: label} if label else {})
    return known.get(number, 0)


def _written_film(file: str) -> str:
    return PurePosixPath(file).parent.name


def _folder(name: str, file: str) -> str:
    """What became a film: a folder of frames, or a picture."""
    path = PurePosixPath(name)
    return str(path.parent) if "__".join(path.parent.parts) == _written_film(file) else name
