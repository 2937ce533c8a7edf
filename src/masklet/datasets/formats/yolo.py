"""YOLO-seg: a text for each picture, a line for each object, `class x1 y1 x2 y2 ...` in shares of width and height.

Which folders there are says a data.yaml, or the layout itself: images/ with labels/, or train/images with train/labels.
A picture without a text has no objects, as the format has it.

YOLO-seg: a text a picture, a line an object, with data.yaml and classes.txt for the tools that train on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from masklet.atomic_files import write_text
from masklet.datasets.dataset import Choice, DataError, Dataset, Finding, LazyMasks, Mask, Size, Still, Tag
from masklet.datasets.files import any_file, chosen, files_in, folders_in, in_order, lines_of
from masklet.datasets.labeled_image import LabelledPicture
from masklet.datasets.mask_decoding import ring_of
from masklet.datasets.write_log import Line, LogRecord
from masklet.datasets.writer import NO_PIXEL, LayoutWriter, Written, one_line
from masklet.errors import MissingExtraError, SourceError
from masklet.masks.polygon_simplify import window_of
from masklet.masks.polygons import Ring, contour_loss, contour_ring
from masklet.media.image_source import PICTURE_SUFFIXES, has_suffix

__all__ = ["YoloLayout", "YoloStill", "is_yolo", "open_yolo"]

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


IMAGES = "images"


class YoloLayout(LayoutWriter):
    """labels/[SPLIT/]NAME.txt with lines of `class x1 y1 x2 y2 ...` in shares of width and height.

    The format holds one ring an object: holes and further parts hang on bridges a pixel wide, which readers paint;
    those to parts lie outside the mask. A picture without objects has an empty text. Pictures go to
    images/[SPLIT/]NAME.jpg; with `folder=""` they and the texts go to OUT itself, and there is no data.yaml.
    """

    layout: ClassVar[str] = "yolo"
    about: ClassVar[str] = "images/[SPLIT/]NAME.jpg, labels/[SPLIT/]NAME.txt, data.yaml, classes.txt"
    holds: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "classes"})

    def _asked(self) -> LogRecord:
        return {**super()._asked(), "folder": self.options.folder}

    def _picture_file(self, picture: LabelledPicture) -> str:
        return _joined(IMAGES if self.options.folder else "", picture.split, picture.name)

    def _label_file(self, name: str, split: str | None) -> str:
        return _joined(self.options.folder, split, name) + ".txt"

    def _is_there(self, line: Line) -> bool:
        return super()._is_there(line) and (self.folder / self._label_file(line.name, line.split)).exists()

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written, lines = Written(), []
        for thing in picture.objects:
            left, top, crop = window_of(thing.mask)
            ring = contour_ring(crop) if crop.size else np.zeros((0, 2), np.float32)
            written.ious.append(contour_loss(crop, ring) if crop.size else 1.0)
            if not len(ring):
                written.notes[NO_PIXEL] += 1
                continue
            shares = (ring + np.array([left, top])) / picture.size[::-1]
            lines.append(f"{thing.class_id} " + " ".join(f"{share:.6f}" for share in shares.ravel().tolist()) + "\n")
        self.paths.append(write_text(self.folder / self._label_file(picture.name, picture.split), "".join(lines)))
        return written

    def _finish(self) -> None:
        names = [self.names.get(number, str(number)) for number in range(max(self.names, default=-1) + 1)]
        self.paths.append(write_text(self.folder / "classes.txt", "".join(f"{one_line(name)}\n" for name in names)))
        if self.options.folder:
            self.paths.append(write_text(self.folder / "data.yaml", data_yaml(self._journal.splits, names)))


def data_yaml(splits: list[str | None], names: list[str]) -> str:
    """The text of a data.yaml: where pictures are, from where it lies itself, and the class names.

    Trainers ask for train and val; where there is no val, train is named twice, and a comment says so.

    Example:
        >>> print(data_yaml(["train", "val"], ["dog"]))
        train: images/train
        val: images/val
        names:
          0: "dog"
    """
    places: dict[str, list[str]] = {}
    for split in splits:
        part = next((known for known in SPLITS if (split or "").startswith(known)), "train")
        places.setdefault(part, []).append(_joined(IMAGES, split, ""))
    lines = [*_said(places), "names:" if names else "names: {}"]
    return (
        "\n".join([*lines, *(f"  {n}: {json.dumps(name, ensure_ascii=False)}" for n, name in enumerate(names))]) + "\n"
    )


def _said(places: Mapping[str, list[str]]) -> list[str]:
    lines = []
    for part in ("train", "val"):
        if part not in places:
            lines.append(f"# there is no {part}: these are the other pictures again")
        lines.append(f"{part}: {_listed(places.get(part) or next(iter(places.values())))}")
    return [*lines, *(f"{part}: {_listed(found)}" for part, found in places.items() if part == "test")]


def _listed(places: list[str]) -> str:
    quoted = [place if place.replace("/", "").isalnum() else json.dumps(place, ensure_ascii=False) for place in places]
    return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"


def _joined(*parts: str | None) -> str:
    return "/".join(part for part in parts if part)
