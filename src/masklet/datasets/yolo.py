"""YOLO-seg: a text for each picture, a line for each object, `class x1 y1 x2 y2 ...` in shares of width and height.

Which folders there are says a data.yaml, or the layout itself: images/ with labels/, or train/images with train/labels.
A picture without a text has no objects, as the format has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from masklet.datasets.base import Choice, DataError, Dataset, Finding, LazyMasks, Mask, Size, Still, Tag
from masklet.datasets.listing import any_file, chosen, files_in, folders_in, in_order, lines_of
from masklet.datasets.shapes import ring_of
from masklet.errors import MissingExtraError, SourceError
from masklet.masks.polygons import Ring
from masklet.media.sources import PICTURE_SUFFIXES, has_suffix

__all__ = ["YoloStill", "is_yolo", "open_yolo"]

SPLITS = ("train", "val", "test")
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class YoloStill(Still):
    """A picture, and the text with its outlines, which need not be there."""

    labels: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        lines = [(number, line) for number, line in enumerate(self._lines(), 1) if line.strip()]
        rings = [self._ring(number, line, size) for number, line in lines]
        decoders = {number: partial(_painted, ring, size) for number, ring in enumerate(rings, 1)}
        return LazyMasks(decoders, {number: _tag(line) for number, (_, line) in enumerate(lines, 1)})

    def _lines(self) -> list[str]:
        try:
            return self.labels.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as problem:
            raise DataError.of(
                self.labels, f"cannot be read ({problem}); labels are plain text: export it again"
            ) from problem

    def _ring(self, number: int, line: str, size: Size) -> Ring:
        words = line.split()
        if len(words) == 5:
            raise DataError.of(
                self.labels,
                f"(line {number}) is a box, not an outline; masks need class x1 y1 x2 y2 x3 y3 ...: export with masks",
            )
        try:
            numbers = [float(word) for word in words[1:]]
        except ValueError as problem:
            raise DataError.of(self.labels, f"(line {number}) is no outline ({problem}); export it again") from problem
        return ring_of(numbers, (size[1], size[0]), size, self.labels, f"line {number}")


def _tag(line: str) -> Tag:
    word = line.split()[0]
    return Tag(class_id=int(word) if word.isdecimal() else None)


def _painted(ring: Ring, size: Size) -> Mask:
    """Whole pixels, the edge included: how readers of this format paint it, and what our own writer counts on."""
    canvas = np.zeros(size, np.uint8)
    cv2.fillPoly(canvas, [np.floor(ring).astype(np.int32)], [1])
    return canvas.view(np.bool_)


def is_yolo(path: Path) -> bool:
    """Whether a path is a data.yaml, or a folder with one, or with images and labels."""
    if path.is_file():
        return has_suffix(path.name, YAML)
    return _yaml_of(path) is not None or bool(_parts_of(path))


def open_yolo(path: Path, choice: Choice) -> Dataset:
    """The pictures of a data.yaml or of folders images and labels; a split is train, val or test.

    Example:
        >>> open_yolo(Path("coco8-seg/data.yaml"), Choice("train")).entries[0].name
        'train/000000000009'

    Raises:
        SourceError: no such split, no data.yaml that can be read, no pictures, or no label at all.
        MissingExtraError: a data.yaml is there, and PyYAML is not.
    """
    file = path if path.is_file() else _yaml_of(path)
    parts = _parts_of(path) if file is None else _parts_of_yaml(file)
    if choice.split is not None:
        chosen(path, choice.split, parts, "split")
        parts = {choice.split: parts[choice.split]}
    elif len(parts) > 1 and len({tuple(places) for places in parts.values()}) == 1:
        parts = {"": next(iter(parts.values()))}  # train and val are the same pictures: they are not split
    splits: dict[str, str] = {}
    problems: list[Finding] = []
    entries: dict[str, YoloStill] = {}
    for part, places in parts.items():
        for picture in [picture for place in places for picture in _pictures_at(place)]:
            name = _name(picture, part)
            if name in entries:
                problems.append(
                    Finding.of(name, picture, "has a name that is there before; names are unique: rename it")
                )
            else:
                entries[name] = YoloStill(name, picture, _label_of(picture))
                splits |= {name: part} if part else {}
    _refuse_nothing(path, [entry.labels for entry in entries.values()])
    names = _names_of(path if file is None else file)
    return Dataset("yolo", path, tuple(entries.values()), tuple(problems + _alone(entries)), names, splits)


def _names_of(path: Path) -> dict[int, str]:
    """Classes by number, of a data.yaml, or of the classes.txt of a folder."""
    if path.is_dir():
        file = next((file for file in (path / "classes.txt", path / "labels" / "classes.txt") if file.exists()), None)
        return dict(enumerate(lines_of(file))) if file is not None else {}
    said = _read_yaml(path).get("names")
    items = said.items() if isinstance(said, dict) else enumerate(said if isinstance(said, list) else [])
    return {number: str(name) for number, name in items if isinstance(number, int)}


def _refuse_nothing(path: Path, labels: list[Path]) -> None:
    if not labels:
        raise SourceError(
            f"{path} names no pictures that are there; allowed is a data.yaml with train and val, or images/ID.jpg "
            "with labels/ID.txt: check its paths"
        )
    if not any(file.exists() for file in labels):
        raise SourceError(
            f"{path} has {len(labels)} pictures and no label, such as {labels[0]}; labels are in labels/ "
            "beside images/, of the same names: check the folders"
        )


def _yaml_of(folder: Path) -> Path | None:
    """The data.yaml of a folder, whatever its name; one that names a part of the data."""
    for file in files_in(folder, YAML):
        text = file.read_text(encoding="utf-8", errors="replace")
        if any(line.startswith(tuple(f"{split}:" for split in SPLITS)) for line in text.splitlines()):
            return file
    return None


def _parts_of(folder: Path) -> dict[str, list[Path]]:
    """Parts by name where no data.yaml says it."""
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        below = folders_in(folder / "images")
        return {sub.name: [sub] for sub in below} if below else {"": [folder / "images"]}
    return {
        sub.name: [sub / "images"]
        for sub in folders_in(folder)
        if (sub / "images").is_dir() and any_file(sub / "labels", "*.txt")
    }


def _parts_of_yaml(file: Path) -> dict[str, list[Path]]:
    record = _read_yaml(file)
    base = file.parent / str(record.get("path") or ".")
    base = base if base.is_dir() else file.parent
    parts: dict[str, list[Path]] = {}
    for split in SPLITS:
        said = record.get(split)
        if said:
            parts[split] = [_place(base, str(place)) for place in (said if isinstance(said, list) else [said])]
    if not parts:
        raise DataError.of(file, "names no pictures; a data.yaml has train and val, folders of pictures: add them")
    there = {split: places for split, places in parts.items() if any(place.exists() for place in places)}
    if not there:
        first = next(iter(parts.values()))[0]
        raise DataError.of(
            file, f"says that pictures are in {first}, which is not there; mend path, train and val in it"
        )
    return there


def _read_yaml(file: Path) -> dict[object, object]:
    try:
        import yaml
    except ImportError as problem:
        raise MissingExtraError.of("pyyaml", "train") from problem
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as problem:
        raise DataError.of(file, f"cannot be read ({' '.join(str(problem).split())}); mend it") from problem
    if isinstance(value, dict):
        return value
    raise DataError.of(file, f"holds {value!r:.40}; a data.yaml has lines such as 'train: images/train': mend it")


def _place(base: Path, said: str) -> Path:
    """A folder or a list; some tools write ../train/images and mean train/images."""
    place = base / said
    return base / said.removeprefix("../") if not place.exists() else place


def _pictures_at(place: Path) -> list[Path]:
    if place.is_file():
        return [place.parent / line for line in lines_of(place)]
    found = [
        path for path in place.rglob("*") if has_suffix(path.name, PICTURE_SUFFIXES) and not path.name.startswith(".")
    ]
    return in_order(found)


def _label_of(picture: Path) -> Path:
    """The text of a picture: the last folder `images` of its path is `labels`, or it lies beside it."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _name(picture: Path, part: str) -> str:
    """The path below the folder images, or else its last name, with the part's name before it."""
    folders = list(picture.parent.parts)
    after = folders[len(folders) - folders[::-1].index("images") :] if "images" in folders else []
    after = after if not part or after[:1] == [part] else [part, *after]
    return "/".join([*after, picture.stem])


def _alone(entries: Mapping[str, YoloStill]) -> list[Finding]:
    """Labels in the folders of the others that have no picture."""
    known = {entry.labels for entry in entries.values()}
    found: list[Finding] = []
    for folder in in_order({path.parent for path in known}):
        for file in files_in(folder, (".txt",)):
            if file not in known and file.stem not in ("classes", *SPLITS) and folder.name != "images":
                reason = "has no picture of its name in images; labels need their picture: add it, or remove the file"
                found.append(Finding.of(file.stem, file, reason))
    return found
