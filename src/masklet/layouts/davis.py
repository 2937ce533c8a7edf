"""DAVIS: label maps with a palette, a folder for each film."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar

from masklet.errors import InputError
from masklet.files import write_text
from masklet.layouts.base import LayoutWriter, Written
from masklet.layouts.journal import Line
from masklet.layouts.maps import LAST, painted_map, write_map
from masklet.layouts.records import LabelledObject, LabelledPicture, LayoutOptions

__all__ = ["DavisLayout"]

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
        return self.folder / "Annotations" / SIZE / _film(file) / f"{PurePosixPath(file).stem}.png"

    def _is_there(self, line: Line) -> bool:
        there = super()._is_there(line) and self._map_of(line.file).exists()
        if there:
            self._folders[_film(line.file)] = _folder(line.name, line.file)
            labels = line.record.get("labels")
            assert isinstance(labels, dict)
            self._labels.setdefault(_film(line.file), {}).update((int(i), label) for i, label in labels.items())
        return there

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written, film, folder = Written(), _film(file), _folder(picture.name, file)
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
            films = list(dict.fromkeys(_film(line.file) for line in self._lines(split)))
            path = self.folder / "ImageSets" / "2017" / f"{(split or 'train').replace('/', '_')}.txt"
            self.paths.append(write_text(path, "".join(f"{film}\n" for film in films)))


def _lasting(known: dict[int, int], number: int) -> int:
    """The label of an id in its film, a new one the first time; 0 where there is no room."""
    if number not in known:
        wanted = (number, *range(LAST, 0, -1))  # from above, where fewest have their own number
        label = next((n for n in wanted if 1 <= n <= LAST and n not in known.values()), 0)
        known.update({number: label} if label else {})
    return known.get(number, 0)


def _film(file: str) -> str:
    return PurePosixPath(file).parent.name


def _folder(name: str, file: str) -> str:
    """What became a film: a folder of frames, or a picture."""
    path = PurePosixPath(name)
    return str(path.parent) if "__".join(path.parent.parts) == _film(file) else name
