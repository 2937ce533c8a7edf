"""YOLO-seg: a text for each image, a line for each object, `class x1 y1 x2 y2 ...` in shares of width and height.

Which folders there are says a data.yaml, or the layout itself: images/ with labels/, or train/images with train/labels.
An image without a text has no objects, as the format has it.

YOLO-seg: a text an image, a line an object, with data.yaml and classes.txt for the tools that train on it.
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
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    ImageSample,
    LazyMasks,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Size,
)
from masklet.datasets.files import files_in, folders_in, has_matching_file, natural_sorted, read_lines, validate_choice
from masklet.datasets.json_reader import JsonObject
from masklet.datasets.labeled_image import LabeledImage
from masklet.datasets.mask_decoding import parse_polygon
from masklet.datasets.write_log import LogEntry
from masklet.datasets.writer import EMPTY_MASK_NOTE, DatasetWriter, WriteResult, collapse_whitespace
from masklet.errors import MissingExtraError, SourceError
from masklet.masks.polygon_simplify import tight_crop
from masklet.masks.polygons import Ring, contour_ring, contour_roundtrip_iou
from masklet.media.image_source import IMAGE_SUFFIXES, has_suffix

__all__ = ["YoloDatasetWriter", "YoloImage", "is_yolo", "open_yolo"]

SPLITS = ("train", "val", "test")
YAML_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class YoloImage(ImageSample):
    """An image, and the text with its outlines, which need not be there."""

    label_path: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        lines = [(number, line) for number, line in enumerate(self._read_lines(), 1) if line.strip()]
        rings = [self._parse_line(number, line, size) for number, line in lines]
        decoders = {number: partial(_rasterize, ring, size) for number, ring in enumerate(rings, 1)}
        return LazyMasks(decoders, {number: _parse_attributes(line) for number, (_, line) in enumerate(lines, 1)})

    def _read_lines(self) -> list[str]:
        try:
            return self.label_path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as problem:
            raise DataError.for_file(
                self.label_path, f"cannot be read ({problem}); labels are plain text: export it again"
            ) from problem

    def _parse_line(self, line_number: int, line: str, size: Size) -> Ring:
        words = line.split()
        if len(words) == 5:
            raise DataError.for_file(
                self.label_path,
                f"(line {line_number}) is a box, not an outline; masks need class x1 y1 x2 y2 x3 y3 ...: export with masks",  # noqa: E501
            )
        try:
            numbers = [float(word) for word in words[1:]]
        except ValueError as problem:
            raise DataError.for_file(
                self.label_path, f"(line {line_number}) is no outline ({problem}); export it again"
            ) from problem
        return parse_polygon(numbers, (size[1], size[0]), size, self.label_path, f"line {line_number}")


def _parse_attributes(line: str) -> ObjectAttributes:
    word = line.split()[0]
    return ObjectAttributes(class_id=int(word) if word.isdecimal() else None)


def _rasterize(ring: Ring, size: Size) -> Mask:
    """Whole pixels, the edge included: how readers of this format paint it, and what our own writer counts on."""
    canvas = np.zeros(size, np.uint8)
    cv2.fillPoly(canvas, [np.floor(ring).astype(np.int32)], [1])
    return canvas.view(np.bool_)


def is_yolo(path: Path) -> bool:
    """Whether a path is a data.yaml, or a folder with one, or with images and labels."""
    if path.is_file():
        return has_suffix(path.name, YAML_SUFFIXES)
    return _find_yaml(path) is not None or bool(_split_folders(path))


def open_yolo(path: Path, options: ReadOptions) -> Dataset:
    """The images of a data.yaml or of folders images and labels; a split is train, val or test.

    Example:
        >>> open_yolo(Path("coco8-seg/data.yaml"), Choice("train")).entries[0].name
        'train/000000000009'

    Raises:
        SourceError: no such split, no data.yaml that can be read, no images, or no label at all.
        MissingExtraError: a data.yaml is there, and PyYAML is not.
    """
    file = path if path.is_file() else _find_yaml(path)
    parts = _split_folders(path) if file is None else _split_folders_from_yaml(file)
    if options.split is not None:
        validate_choice(path, options.split, parts, "split")
        parts = {options.split: parts[options.split]}
    elif len(parts) > 1 and len({tuple(places) for places in parts.values()}) == 1:
        parts = {"": next(iter(parts.values()))}  # train and val are the same images: they are not split
    splits: dict[str, str] = {}
    problems: list[DataIssue] = []
    entries: dict[str, YoloImage] = {}
    for part, places in parts.items():
        for image in [image for place in places for image in _list_images(place)]:
            name = _sample_name(image, part)
            if name in entries:
                problems.append(
                    DataIssue.for_file(name, image, "has a name that is there before; names are unique: rename it")
                )
            else:
                entries[name] = YoloImage(name, image, _label_path(image))
                splits |= {name: part} if part else {}
    _check_not_empty(path, [entry.label_path for entry in entries.values()])
    names = _read_class_names(path if file is None else file)
    return Dataset("yolo", path, tuple(entries.values()), tuple(problems + _unmatched_labels(entries)), names, splits)


def _read_class_names(path: Path) -> dict[int, str]:
    """Classes by number, of a data.yaml, or of the classes.txt of a folder."""
    if path.is_dir():
        file = next((file for file in (path / "classes.txt", path / "labels" / "classes.txt") if file.exists()), None)
        return dict(enumerate(read_lines(file))) if file is not None else {}
    said = _read_yaml(path).get("names")
    items = said.items() if isinstance(said, dict) else enumerate(said if isinstance(said, list) else [])
    return {number: str(name) for number, name in items if isinstance(number, int)}


def _check_not_empty(path: Path, labels: list[Path]) -> None:
    if not labels:
        raise SourceError(
            f"{path} names no images that are there; allowed is a data.yaml with train and val, or images/ID.jpg "
            "with labels/ID.txt: check its paths"
        )
    if not any(file.exists() for file in labels):
        raise SourceError(
            f"{path} has {len(labels)} images and no label, such as {labels[0]}; labels are in labels/ "
            "beside images/, of the same names: check the folders"
        )


def _find_yaml(folder: Path) -> Path | None:
    """The data.yaml of a folder, whatever its name; one that names a part of the data."""
    for file in files_in(folder, YAML_SUFFIXES):
        text = file.read_text(encoding="utf-8", errors="replace")
        if any(line.startswith(tuple(f"{split}:" for split in SPLITS)) for line in text.splitlines()):
            return file
    return None


def _split_folders(folder: Path) -> dict[str, list[Path]]:
    """Parts by name where no data.yaml says it."""
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        below = folders_in(folder / "images")
        return {sub.name: [sub] for sub in below} if below else {"": [folder / "images"]}
    return {
        sub.name: [sub / "images"]
        for sub in folders_in(folder)
        if (sub / "images").is_dir() and has_matching_file(sub / "labels", "*.txt")
    }


def _split_folders_from_yaml(file: Path) -> dict[str, list[Path]]:
    record = _read_yaml(file)
    base = file.parent / str(record.get("path") or ".")
    base = base if base.is_dir() else file.parent
    parts: dict[str, list[Path]] = {}
    for split in SPLITS:
        said = record.get(split)
        if said:
            parts[split] = [_resolve_path(base, str(place)) for place in (said if isinstance(said, list) else [said])]
    if not parts:
        raise DataError.for_file(file, "names no images; a data.yaml has train and val, folders of images: add them")
    there = {split: places for split, places in parts.items() if any(place.exists() for place in places)}
    if not there:
        first = next(iter(parts.values()))[0]
        raise DataError.for_file(
            file, f"says that images are in {first}, which is not there; mend path, train and val in it"
        )
    return there


def _read_yaml(file: Path) -> dict[object, object]:
    try:
        import yaml
    except ImportError as problem:
        raise MissingExtraError.for_package("pyyaml", "train") from problem
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as problem:
        raise DataError.for_file(file, f"cannot be read ({' '.join(str(problem).split())}); mend it") from problem
    if isinstance(value, dict):
        return value
    raise DataError.for_file(file, f"holds {value!r:.40}; a data.yaml has lines such as 'train: images/train': mend it")


def _resolve_path(base: Path, path: str) -> Path:
    """A folder or a list; some tools write ../train/images and mean train/images."""
    place = base / path
    return base / path.removeprefix("../") if not place.exists() else place


def _list_images(folder_or_list: Path) -> list[Path]:
    if folder_or_list.is_file():
        return [folder_or_list.parent / line for line in read_lines(folder_or_list)]
    found = [
        path
        for path in folder_or_list.rglob("*")
        if has_suffix(path.name, IMAGE_SUFFIXES) and not path.name.startswith(".")
    ]
    return natural_sorted(found)


def _label_path(image_path: Path) -> Path:
    """The text of an image: the last folder `images` of its path is `labels`, or it lies beside it."""
    parts = list(image_path.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _sample_name(image_path: Path, split: str) -> str:
    """The path below the folder images, or else its last name, with the part's name before it."""
    folders = list(image_path.parent.parts)
    after = folders[len(folders) - folders[::-1].index("images") :] if "images" in folders else []
    after = after if not split or after[:1] == [split] else [split, *after]
    return "/".join([*after, image_path.stem])


def _unmatched_labels(samples: Mapping[str, YoloImage]) -> list[DataIssue]:
    """Labels in the folders of the others that have no image."""
    known = {entry.label_path for entry in samples.values()}
    found: list[DataIssue] = []
    for folder in natural_sorted({path.parent for path in known}):
        for file in files_in(folder, (".txt",)):
            if file not in known and file.stem not in ("classes", *SPLITS) and folder.name != "images":
                reason = "has no image of its name in images; labels need their image: add it, or remove the file"
                found.append(DataIssue.for_file(file.stem, file, reason))
    return found


IMAGE_FOLDER = "images"


class YoloDatasetWriter(DatasetWriter):
    """labels/[SPLIT/]NAME.txt with lines of `class x1 y1 x2 y2 ...` in shares of width and height.

    The format holds one ring an object: holes and further parts hang on bridges a pixel wide, which readers paint;
    those to parts lie outside the mask. An image without objects has an empty text. Images go to
    images/[SPLIT/]NAME.jpg; with `folder=""` they and the texts go to OUT itself, and there is no data.yaml.
    """

    data_format: ClassVar[str] = "yolo"
    description: ClassVar[str] = "images/[SPLIT/]NAME.jpg, labels/[SPLIT/]NAME.txt, data.yaml, classes.txt"
    supports: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "classes"})

    def _output_options(self) -> JsonObject:
        return {**super()._output_options(), "folder": self.options.label_folder}

    def _image_file(self, image: LabeledImage) -> str:
        return _join_path(IMAGE_FOLDER if self.options.label_folder else "", image.split, image.name)

    def _label_file(self, name: str, split: str | None) -> str:
        return _join_path(self.options.label_folder, split, name) + ".txt"

    def _files_exist(self, entry: LogEntry) -> bool:
        return super()._files_exist(entry) and (self.folder / self._label_file(entry.name, entry.split)).exists()

    def _write(self, image: LabeledImage, file: str) -> WriteResult:
        written, lines = WriteResult(), []
        for thing in image.objects:
            left, top, crop = tight_crop(thing.mask)
            ring = contour_ring(crop) if crop.size else np.zeros((0, 2), np.float32)
            written.ious.append(contour_roundtrip_iou(crop, ring) if crop.size else 1.0)
            if not len(ring):
                written.notes[EMPTY_MASK_NOTE] += 1
                continue
            shares = (ring + np.array([left, top])) / image.size[::-1]
            lines.append(f"{thing.class_id} " + " ".join(f"{share:.6f}" for share in shares.ravel().tolist()) + "\n")
        self.paths.append(write_text(self.folder / self._label_file(image.name, image.split), "".join(lines)))
        return written

    def _finish(self) -> None:
        names = [self.names.get(number, str(number)) for number in range(max(self.names, default=-1) + 1)]
        self.paths.append(
            write_text(self.folder / "classes.txt", "".join(f"{collapse_whitespace(name)}\n" for name in names))
        )
        if self.options.label_folder:
            self.paths.append(write_text(self.folder / "data.yaml", data_yaml(self._log.splits, names)))


def data_yaml(splits: list[str | None], names: list[str]) -> str:
    """The text of a data.yaml: where images are, from where it lies itself, and the class names.

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
        places.setdefault(part, []).append(_join_path(IMAGE_FOLDER, split, ""))
    lines = [*_yaml_paths(places), "names:" if names else "names: {}"]
    return (
        "\n".join([*lines, *(f"  {n}: {json.dumps(name, ensure_ascii=False)}" for n, name in enumerate(names))]) + "\n"
    )


def _yaml_paths(folders: Mapping[str, list[str]]) -> list[str]:
    lines = []
    for part in ("train", "val"):
        if part not in folders:
            lines.append(f"# there is no {part}: these are the other images again")
        lines.append(f"{part}: {_yaml_list(folders.get(part) or next(iter(folders.values())))}")
    return [*lines, *(f"{part}: {_yaml_list(found)}" for part, found in folders.items() if part == "test")]


def _yaml_list(folders: list[str]) -> str:
    quoted = [place if place.replace("/", "").isalnum() else json.dumps(place, ensure_ascii=False) for place in folders]
    return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"


def _join_path(*parts: str | None) -> str:
    return "/".join(part for part in parts if part)
