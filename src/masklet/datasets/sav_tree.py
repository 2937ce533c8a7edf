"""SA-V's val and test: pictures in JPEGImages_24fps/ID, a folder of masks for each object in Annotations_6fps/ID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from masklet.datasets.base import Finding, Mask, PictureFilm, Size, same_size
from masklet.datasets.labels import inside_masks, size_of
from masklet.datasets.listing import by_stem, folders_in

__all__ = ["LABELS", "PICTURES", "ObjectFilm", "object_films"]

PICTURES, LABELS = "JPEGImages_24fps", "Annotations_6fps"


@dataclass(frozen=True)
class ObjectFilm(PictureFilm):
    """Pictures of a folder, and for each object a folder of black and white masks of some of them."""

    objects: tuple[Path, ...]

    def masks(self, picture: Path, size: Size) -> Mapping[int, Mask]:
        """See PictureFilm. Object n is the n-th folder, counted from 1; masks may overlap."""
        files = [(n, folder / f"{picture.stem}.png") for n, folder in enumerate(self.objects, 1)]
        there = [(n, file) for n, file in files if file.exists()]
        for _, file in there:
            same_size(file, size_of(file), picture, size)
        return inside_masks(there)


def object_films(root: Path) -> tuple[list[ObjectFilm], list[Finding]]:
    """The films below `root` with masks, in natural order, and what is wrong with the others.

    Example:
        >>> films, problems = object_films(Path("sav_val"))
        >>> films[0].name, films[0].frames[:3]
        ('sav_000262', (0, 4, 8))
    """
    films: list[ObjectFilm] = []
    problems: list[Finding] = []
    masked = {folder.name: folder for folder in folders_in(root / LABELS)}
    for folder in folders_in(root / PICTURES):
        shown, _ = by_stem(folder)
        objects = folders_in(masked.pop(folder.name, root / LABELS / folder.name))
        stems = {stem for below in objects for stem in by_stem(below, (".png",))[0]}
        frames = tuple(number for number, stem in enumerate(shown) if stem in stems)
        if frames:
            names = tuple(path.name for path in shown.values())
            films.append(ObjectFilm(folder.name, folder, names, frames, tuple(objects)))
        else:
            reason = f"has no masks in {root / LABELS / folder.name}; a folder for each object is needed: add them"
            problems.append(Finding.of(folder.name, folder, reason))
    for name, folder in masked.items():
        reason = f"has no pictures in {root / PICTURES}; masks need their pictures: add them"
        problems.append(Finding.of(name, folder, reason))
    return films, problems
