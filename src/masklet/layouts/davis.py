"""DAVIS: label maps with a palette, a folder for each film."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePosixPath
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
LOOSE = "pictures"
"""The film of pictures that are in no folder."""


class DavisLayout(LayoutWriter):
    """JPEGImages/480p/FILM/NAME.jpg with Annotations/480p/FILM/NAME.png, and ImageSets/2017/SPLIT.txt.

    A pixel belongs to one object: where masks overlap the smaller one is kept, and what the other loses is counted.
    In a film an object has its `id` as its label (1 to 254, else a free one); in pictures they are numbered from 1.
    A picture that is in no film is in one of its folder's name; folders in folders are joined by two underscores.
    """

    layout: ClassVar[str] = "davis"
    about: ClassVar[str] = "JPEGImages/480p/FILM/NAME.jpg, Annotations/480p/FILM/NAME.png, ImageSets/2017/SPLIT.txt"
    holds: ClassVar[frozenset[str]] = frozenset({"holes", "parts", "ids"})
    apart: ClassVar[bool] = False

    def __init__(self, out_dir: str | os.PathLike[str], names: Mapping[int, str], options: LayoutOptions) -> None:
        self._labels: dict[str, dict[int, int]] = {}
        """Of each film, the label of each id, which stays the same in all its frames."""
        self._folders: dict[str, str] = {}
        super().__init__(out_dir, names, options)

    def _picture_file(self, picture: LabelledPicture) -> str:
        return f"JPEGImages/{SIZE}/{_film(picture.name)}/{PurePosixPath(picture.name).name}"

    def _map_file(self, name: str) -> str:
        return f"Annotations/{SIZE}/{_film(name)}/{PurePosixPath(name).name}.png"

    def _is_there(self, line: Line) -> bool:
        there = super()._is_there(line) and (self.folder / self._map_file(line.name)).exists()
        if there:
            self._folders[_film(line.name)] = str(PurePosixPath(line.name).parent)
            labels = line.record.get("labels")
            assert isinstance(labels, dict)
            self._labels.setdefault(_film(line.name), {}).update((int(i), label) for i, label in labels.items())
        return there

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written, film, folder = Written(), _film(picture.name), str(PurePosixPath(picture.name).parent)
        if self._folders.setdefault(film, folder) != folder:
            raise InputError(
                f"the folders {folder!r} and {self._folders[film]!r} would both be the film {film!r}; rename one"
            )
        numbers = self._numbers(film, picture.objects)
        ids = {n: picture.objects[n].id for n in numbers}
        written.record["labels"] = {str(ids[n]): label for n, label in numbers.items() if ids[n] is not None}
        labels = painted_map(picture.objects, numbers, picture.size, written)
        self.paths.append(write_map(self.folder / self._map_file(picture.name), labels))
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
            films = list(dict.fromkeys(_film(line.name) for line in self._lines(split)))
            path = self.folder / "ImageSets" / "2017" / f"{(split or 'train').replace('/', '_')}.txt"
            self.paths.append(write_text(path, "".join(f"{film}\n" for film in films)))


def _lasting(known: dict[int, int], number: int) -> int:
    """The label of an id in its film, a new one the first time; 0 where there is no room."""
    if number not in known:
        wanted = (number, *range(LAST, 0, -1))  # from above, where fewest have their own number
        label = next((n for n in wanted if 1 <= n <= LAST and n not in known.values()), 0)
        known.update({number: label} if label else {})
    return known.get(number, 0)


def _film(name: str) -> str:
    parts = PurePosixPath(name).parts
    return "__".join(parts[:-1]) or LOOSE
