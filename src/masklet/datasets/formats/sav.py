"""SA-V: ID.mp4 at 24 frames a second with ID_manual.json and ID_auto.json, every fourth frame annotated.

Its val and test are folders of pictures (`sav_tree`); a path to them is recognised here too.

"masklet" in a JSON is a list of annotated frames, each a list of objects, each a run-length code.

Frames out of a film file, by their numbers.

SA-V's val and test: pictures in JPEGImages_24fps/ID, a folder of masks for each object in Annotations_6fps/ID.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from masklet.datasets.dataset import (
    Annotated,
    Choice,
    DataError,
    Dataset,
    Finding,
    LazyMasks,
    Mask,
    PictureFilm,
    Pixels,
    Size,
    check_numbers,
    same_size,
)
from masklet.datasets.files import any_file, by_stem, chosen, files_in, folders_in, gathered, parts_of
from masklet.datasets.json_reader import as_list, as_record, read_json
from masklet.datasets.label_maps import inside_masks, size_of
from masklet.datasets.mask_decoding import code_decoder
from masklet.errors import SourceError
from masklet.media import open_video

__all__ = [
    "LABELS",
    "PICTURES",
    "STEP",
    "ObjectFilm",
    "SavFilm",
    "decoded_frames",
    "is_sav",
    "object_films",
    "open_sav",
]


def decoded_frames(path: Path, numbers: Sequence[int]) -> dict[int, Pixels]:
    """RGB (H, W, 3) of each frame asked for; the film is decoded once, from the first of them to the last.

    Raises:
        DataError: the film cannot be read, or has not all of these frames.

    Example:
        >>> decoded_frames(Path("clip.mp4"), [8, 0])[8].shape
        (720, 1280, 3)
    """
    try:
        with open_video(path) as video:
            return {number: video[number].rgb for number in sorted(set(numbers))}
    except SourceError as problem:
        error = DataError(str(problem))
        error.file = path
        raise error from problem


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


STEP = 4
"""Frames of the film from one annotated frame to the next."""
PARTS = ("manual", "auto")
FILMS = (".mp4",)
_TAIL, _MANY = 1 << 18, 1_000_000
Row = list[object]


@dataclass(frozen=True)
class SavFilm:
    """A film, and one or two JSON files with its masklets."""

    name: str
    film: Path
    files: tuple[Path, ...]
    frames: tuple[int, ...]
    """See Entry."""

    @property
    def source(self) -> Path:
        """See Entry."""
        return self.film

    def read(self, numbers: Sequence[int]) -> list[Annotated]:
        """See Entry. Objects are 1 to N in the order of the files: those of `manual` first, then those of `auto`."""
        check_numbers(self, numbers)
        if not numbers:
            return []
        tables = [(file, _rows(file)) for file in self.files]
        pictures = decoded_frames(self.film, numbers)
        return [self._frame(pictures[number], number, tables) for number in numbers]

    def _frame(self, rgb: Pixels, number: int, tables: list[tuple[Path, list[Row]]]) -> Annotated:
        decoders: dict[int, Callable[[], Mask]] = {}
        before, place, size = 0, number // STEP, (rgb.shape[0], rgb.shape[1])
        if all(place >= len(rows) for _, rows in tables):
            reason = f"has no masklets for frame {number}, though it says so (masklet_frame_count); download it again"
            raise DataError.of(tables[0][0], reason)
        for file, rows in tables:
            for index, code in enumerate(rows[place] if place < len(rows) else []):
                what = f"frame {number}, masklet {index}"
                decoders[before + index + 1] = code_decoder(code, size, file, self.film, what)
            before += max(map(len, rows))
        return Annotated(rgb, LazyMasks(decoders))


def is_sav(path: Path) -> bool:
    """Whether there are files ID_manual.json or ID_auto.json in a folder or directly below, or it is val or test."""
    return _is_tree(path) or any(any_file(path, f"{below}*_{part}.json") for below in ("", "*/") for part in PARTS)


def open_sav(path: Path, choice: Choice) -> Dataset:
    """The films of a folder that have masklets, and of the folders directly below it; a split is manual or auto.

    Example:
        >>> film = open_sav(Path("sav_train"), Choice("manual")).entries[0]
        >>> film.name, film.frames[:3]
        ('sav_000/sav_000001', (0, 4, 8))

    Raises:
        SourceError: no film with its masklets, or another split.
    """
    if _is_tree(path):
        return _open_tree(path, choice)
    parts = PARTS if choice.split is None else (chosen(path, choice.split, PARTS, "split"),)
    allowed = "ID.mp4 with ID_manual.json or ID_auto.json beside it, here or in folders below: check path and split"
    found = parts_of(path, (path, *folders_in(path)), partial(_of_folder, parts=parts))
    return gathered("sav", path, found, "no film of SA-V", allowed)


def _is_tree(path: Path) -> bool:
    return (path / PICTURES).is_dir() and (path / LABELS).is_dir()


def _open_tree(path: Path, choice: Choice) -> Dataset:
    if choice.split is not None:
        chosen(path, choice.split, (), "split")
    allowed = f"{PICTURES}/ID/00000.jpg with {LABELS}/ID/000/00000.png: unpack the archive again"
    return gathered("sav", path, [object_films(path)], "no film with masks", allowed)


def _of_folder(folder: Path, prefix: str, parts: Sequence[str]) -> tuple[list[SavFilm], list[Finding]]:
    films, _ = by_stem(folder, FILMS)
    files: dict[str, list[Path]] = {}
    for part in parts:
        for file in files_in(folder, (".json",)):
            if file.stem.endswith(f"_{part}"):
                files.setdefault(file.stem.removesuffix(f"_{part}"), []).append(file)
    entries: list[SavFilm] = []
    problems: list[Finding] = []
    for stem, film in films.items() if files else ():
        if stem not in files:
            reason = (
                f"has no {' or '.join(f'{stem}_{part}.json' for part in parts)} beside it; add it, or remove the film"
            )
            problems.append(Finding.of(prefix + stem, film, reason))
            continue
        try:
            frames = tuple(STEP * row for row in range(max(_count(file) for file in files[stem])))
        except DataError as problem:
            problems.append(Finding(prefix + stem, problem.file, str(problem)))
            continue
        entries.append(SavFilm(prefix + stem, film, tuple(files[stem]), frames))
    for stem in files:
        if stem not in films:
            reason = f"has no film {stem}.mp4 beside it; masklets need their film: add it, or remove the file"
            problems.append(Finding.of(prefix + stem, files[stem][0], reason))
    return entries, problems


def _rows(file: Path) -> list[Row]:
    """What objects each annotated frame has, as codes."""
    record = as_record(read_json(file), file, "the whole file")
    rows = [as_list(row, file, "each frame of 'masklet'") for row in as_list(record.get("masklet"), file, "'masklet'")]
    if not rows:
        raise DataError.of(file, "has no frame in 'masklet'; one at least is needed: download it again")
    return rows


def _count(file: Path) -> int:
    """Annotated frames. The end of a file as published says it; any other is read whole."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - _TAIL))
            tail = stream.read()
    except OSError:
        tail = b""
    said = re.search(rb'"masklet_frame_count"\s*:\s*\[([0-9.,\s]+)\]', tail)
    counts = re.findall(rb"(\d{1,9})(?:\.\d*)?", said[1]) if said else []
    rows = max(map(int, counts), default=0)
    return rows if tail.rstrip().endswith(b"}") and 0 < rows < _MANY else len(_rows(file))
