"""YOLO-seg: one text file for each image, one line for each object, `class x1 y1 x2 y2 ...`.

    data.yaml                      names the folders (or lists) of images of train, val and test, and the classes
    images/[SPLIT/]NAME.jpg        or SPLIT/images/NAME.jpg
    labels/[SPLIT/]NAME.txt        or SPLIT/labels/NAME.txt
    classes.txt                    class names, one a line; read where there is no data.yaml

Coordinates are fractions of width and height; what is slightly outside is cut off. An image without a text file has no
objects, as the format defines it. A line of four numbers, or five with a score, is a box and left out ("box").
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from masklet.atomic_files import write_text
from masklet.damaged_files import damage_errors, open_regular_file
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    DatasetReader,
    ImageSample,
    LazyMasks,
    LeftOutObject,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Size,
)
from masklet.datasets.files import files_in, folders_in, has_matching_file, natural_sorted, read_lines, validate_choice
from masklet.datasets.json_reader import JsonObject
from masklet.datasets.labeled_image import LabeledImage
from masklet.datasets.mask_decoding import parse_polygon
from masklet.datasets.writer import EMPTY_MASK_NOTE, DatasetWriter, WriteResult, collapse_whitespace, join_path
from masklet.errors import MissingExtraError, SourceError
from masklet.masks.polygon_simplify import tight_crop
from masklet.masks.polygons import contour_ring, contour_roundtrip_iou
from masklet.media.image_source import IMAGE_SUFFIXES, has_suffix

__all__ = ["YoloDatasetReader", "YoloDatasetWriter", "YoloSample", "data_yaml"]

SPLITS = ("train", "val", "test")
YAML_SUFFIXES = (".yaml", ".yml")
YAML_NULLS = ("", "~", "null", "Null", "NULL")
IMAGE_FOLDER, LABEL_FOLDER = "images", "labels"
CLASSES_FILE = "classes.txt"
DARKNET_CLASSES_FILE, DARKNET_FOLDER = "obj.names", re.compile(r"obj_(\w+)_data")
"""The files of YOLO 1.1 of CVAT, which has boxes only."""
BOX_NUMBERS = (4, 5)
"""Numbers after the class in a line that is a box, without and with a score."""
MAX_CLASS_ID = 9999
MAX_PROBED_IMAGES = 50
"""Images of a list that are tried to find their folder."""
MAX_YAML_BYTES, MAX_LABEL_BYTES = 1 << 20, 1 << 26


@dataclass(frozen=True)
class YoloSample(ImageSample):
    """An image, and the text file with its outlines, which may be missing."""

    label_path: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`. An outline is checked when its object is accessed."""
        decoders: dict[int, Callable[[], Mask]] = {}
        attributes: dict[int, ObjectAttributes] = {}
        left_out: list[LeftOutObject] = []
        lines = _read_text(self.label_path, MAX_LABEL_BYTES).splitlines() if self.label_path.exists() else []
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            class_id = _to_class_id(words[0])
            if len(words) - 1 in BOX_NUMBERS:
                left_out.append(LeftOutObject("box", ObjectAttributes(class_id=class_id)))
                continue
            object_id = len(decoders) + 1
            decoders[object_id] = partial(self._rasterize_line, number, words, size)
            attributes[object_id] = ObjectAttributes(class_id=class_id)
        num_records = sum(line.strip()[:1] not in ("", "#") for line in lines)
        return LazyMasks(decoders, attributes, left_out, num_records=num_records)

    def _rasterize_line(self, number: int, words: Sequence[str], size: Size) -> Mask:
        """Fill complete pixels with the edge included, as other readers of the format do and our writer expects."""
        if _to_class_id(words[0]) is None:
            raise DataError.for_file(
                self.label_path,
                f"(line {number}) has the class {words[0]!r:.40}; a class is a whole number from 0 to {MAX_CLASS_ID}: "
                "fix or remove this object",
            )
        try:
            coordinates = [float(word) for word in words[1:]]
        except ValueError as problem:
            raise DataError.for_file(
                self.label_path, f"(line {number}) is no outline ({problem}); fix or remove this object"
            ) from problem
        ring = parse_polygon(coordinates, (size[1], size[0]), size, self.label_path, f"line {number}")
        canvas = np.zeros(size, np.uint8)
        cv2.fillPoly(canvas, [np.floor(ring).astype(np.int32)], [1])
        return canvas.view(np.bool_)


def _to_class_id(word: str) -> int | None:
    """Return the class of a line ("3" or "3.0"), None if it is none."""
    try:
        number = float(word)
    except ValueError:
        return None
    return int(number) if number.is_integer() and 0 <= number <= MAX_CLASS_ID else None


def _read_text(file: Path, max_bytes: int) -> str:
    """Read a text file, with or without a byte order mark.

    Raises:
        DataError: if it cannot be read, is not UTF-8, or has more than `max_bytes`.
    """
    try:
        with open_regular_file(file) as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ValueError(f"it has over {max_bytes} bytes")
        return content.decode("utf-8-sig")
    except damage_errors() as problem:
        raise DataError.for_file(file, f"cannot be read ({problem}); a plain text is needed: export it again") from None


class YoloDatasetReader(DatasetReader):
    """Reads the images of a data.yaml, or of folders images and labels; the split is train, val or test.

    A data.yaml needs PyYAML; without it `open` raises `MissingExtraError`.
    """

    data_format: ClassVar[str] = "yolo"
    description: ClassVar[str] = "YOLO-seg: a data.yaml, or images/ID.jpg with labels/ID.txt (outlines)"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a path is a data.yaml, or a folder with one, or with images and labels."""
        if path.is_file():
            return has_suffix(path.name, YAML_SUFFIXES)
        return _find_yaml(path) is not None or bool(_find_split_folders(path))

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        yaml_file = path if path.is_file() else _find_yaml(path)
        if yaml_file is not None:
            parts, names = _read_yaml(yaml_file)
        else:
            parts = _find_split_folders(path)
            lists = [path / CLASSES_FILE, path / LABEL_FOLDER / CLASSES_FILE, path / DARKNET_CLASSES_FILE]
            names = dict(enumerate(next((read_lines(file) for file in lists if file.exists()), [])[: MAX_CLASS_ID + 1]))
        if options.split is not None:
            validate_choice(path, options.split, parts, "split")
            parts = {options.split: parts[options.split]}
        elif len(parts) > 1 and len({tuple(folders) for folders in parts.values()}) == 1:
            parts = {"": next(iter(parts.values()))}  # train and val are the same images: there is no split
        splits: dict[str, str] = {}
        issues: list[DataIssue] = []
        samples: dict[str, YoloSample] = {}
        for split, folders in parts.items():
            listed = [image for folder in folders for image in _list_images(folder)]
            images_of_label: dict[Path, list[Path]] = {}
            for image in dict.fromkeys(listed):
                images_of_label.setdefault(_label_path(image), []).append(image)
            for image in listed:
                label_path, name = _label_path(image), _sample_name(image, split)
                namesakes = images_of_label[label_path]
                if len(namesakes) > 1 and label_path.exists():
                    if image is namesakes[0]:
                        both = " and ".join(str(one.name) for one in namesakes)
                        reason = f"is the label of {both}; a text belongs to one image: rename or remove one"
                        issues.append(DataIssue.for_file(name, label_path, reason))
                    continue
                name += image.suffix if len(namesakes) > 1 else ""
                if name in samples:
                    reason = "has a name that is there before; names are unique: rename it"
                    issues.append(DataIssue.for_file(name, image, reason))
                else:
                    samples[name] = YoloSample(name, image, label_path)
                    splits |= {name: split} if split else {}
        label_paths = [sample.label_path for sample in samples.values()]
        if not label_paths:
            raise SourceError(
                f"{path} names no images that are there; allowed is a data.yaml with train and val, or images/ID.jpg "
                "with labels/ID.txt: check its paths"
            )
        if not any(file.exists() for file in label_paths):
            raise SourceError(
                f"{path} has {len(label_paths)} images and no label, such as {label_paths[0]}; labels are in labels/ "
                "next to images/, of the same names: check the folders"
            )
        issues += _unmatched_labels({*label_paths, *(issue.file for issue in issues)})
        return Dataset(cls.data_format, path, tuple(samples.values()), tuple(issues), names, splits)


def _find_yaml(folder: Path) -> Path | None:
    """Find the data.yaml of a folder, whatever its name: a file that names a split."""
    for file in files_in(folder, YAML_SUFFIXES):
        try:
            with open_regular_file(file) as stream:
                text = stream.read(MAX_YAML_BYTES).decode("utf-8-sig", errors="replace")
        except OSError:
            continue
        if any(line.startswith(tuple(f"{split}:" for split in SPLITS)) for line in text.splitlines()):
            return file
        if text.startswith("names:") and _find_split_folders(folder):  # as supervision writes it, without folders
            return file
    return None


def _find_split_folders(folder: Path) -> dict[str, list[Path]]:
    """Find the image folders of each split where there is no data.yaml."""
    if (folder / IMAGE_FOLDER).is_dir() and (folder / LABEL_FOLDER).is_dir():
        below = folders_in(folder / IMAGE_FOLDER)
        return {split.name: [split] for split in below} if below else {"": [folder / IMAGE_FOLDER]}
    if (folder / DARKNET_CLASSES_FILE).is_file():  # labels are beside the images
        found = ((DARKNET_FOLDER.fullmatch(below.name), below) for below in folders_in(folder))
        return {match[1]: [below] for match, below in found if match}
    return {
        split.name: [split / IMAGE_FOLDER]
        for split in folders_in(folder)
        if (split / IMAGE_FOLDER).is_dir() and has_matching_file(split / LABEL_FOLDER, "*.txt")
    }


def _read_yaml(file: Path) -> tuple[dict[str, list[Path]], dict[int, str]]:
    """Return the image folders (or list files) of each split that has one that exists, and the class names."""
    try:
        import yaml
    except ImportError as problem:
        raise MissingExtraError.for_package("pyyaml", "train") from problem
    try:  # all scalars are texts: a class may be called yes or 1, and nothing that an alias repeats is expanded
        content = yaml.load(_read_text(file, MAX_YAML_BYTES), Loader=yaml.BaseLoader)
    except damage_errors() as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError.for_file(file, f"cannot be read ({' '.join(str(problem).split()):.200}); fix it") from problem
    if not isinstance(content, dict):
        raise DataError.for_file(
            file, f"holds {content!r:.40}; a data.yaml has lines such as 'train: images/train': fix it"
        )
    base = file.parent / _to_path(content.get("path"))
    base = base if os.path.isdir(base) else file.parent
    parts: dict[str, list[Path]] = {}
    for split in SPLITS:
        value = content.get(split)
        for name in filter(None, map(_to_path, value if isinstance(value, list) else [value])):
            path = base / name
            if not os.path.exists(path):  # some tools write ../train/images and mean train/images
                path = base / name.removeprefix("../")
            parts.setdefault(split, []).append(path)
    if not parts and content.keys().isdisjoint(SPLITS):
        parts = _find_split_folders(file.parent)
    if not parts:
        raise DataError.for_file(file, "names no images; a data.yaml has train and val, folders of images: add them")
    existing = {split: paths for split, paths in parts.items() if any(os.path.exists(path) for path in paths)}
    if not existing:
        first = next(iter(parts.values()))[0]
        raise DataError.for_file(
            file, f"says that images are in {first}, which is not there; fix path, train and val in it"
        )
    names = content.get("names")
    items = names.items() if isinstance(names, dict) else enumerate(names if isinstance(names, list) else [])
    numbered = [(_to_class_id(str(number)), name) for number, name in items if isinstance(name, str)]
    return existing, {class_id: name for class_id, name in numbered if class_id is not None}


def _to_path(value: object) -> str:
    """Return a path of a data.yaml with forward slashes, as Windows understands them too; "" for nothing."""
    return value.strip().replace("\\", "/") if isinstance(value, str) and value not in YAML_NULLS else ""


def _list_images(folder_or_list: Path) -> list[Path]:
    if folder_or_list.is_file():
        base, names = folder_or_list.parent, [line.replace("\\", "/") for line in read_lines(folder_or_list)]
        if names and not any((base / name).exists() for name in names[:MAX_PROBED_IMAGES]):
            names = [name.removeprefix("data/") for name in names]  # as CVAT writes it
        return [base / name for name in names]
    return natural_sorted(
        path
        for path in folder_or_list.rglob("*")
        if has_suffix(path.name, IMAGE_SUFFIXES) and not path.name.startswith(".")
    )


def _label_path(image_path: Path) -> Path:
    """Return the text file of an image: the last folder `images` of its path is `labels`, else it is next to it."""
    parts = list(image_path.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == IMAGE_FOLDER:
            parts[index] = LABEL_FOLDER
            break
    return Path(*parts).with_suffix(".txt")


def _sample_name(image_path: Path, split: str) -> str:
    """Return the path below the last folder `images`, or else the file name, with the split before it."""
    folders = list(image_path.parent.parts)
    below = folders[len(folders) - folders[::-1].index(IMAGE_FOLDER) :] if IMAGE_FOLDER in folders else []
    below = below if not split or below[:1] == [split] else [split, *below]
    return "/".join([*below, image_path.stem])


def _unmatched_labels(label_paths: set[Path]) -> list[DataIssue]:
    """Return an issue for each text file without an image, in the folders of these."""
    issues: list[DataIssue] = []
    for folder in natural_sorted({path.parent for path in label_paths}):
        for file in files_in(folder, (".txt",)):
            if file not in label_paths and file.stem not in ("classes", *SPLITS) and folder.name != IMAGE_FOLDER:
                reason = "has no image of its name in images; labels need their image: add it, or remove the file"
                issues.append(DataIssue.for_file(file.stem, file, reason))
    return issues


class YoloDatasetWriter(DatasetWriter):
    """Writes labels/[SPLIT/]NAME.txt, images/[SPLIT/]NAME.jpg, data.yaml and classes.txt.

    The format has one ring for each object: holes and further parts are connected by bridges one pixel wide, which
    readers fill; those to parts lie outside the mask. An image without objects has an empty text file. With
    `label_folder=""` images and texts are written to the folder itself, without a data.yaml.
    """

    data_format: ClassVar[str] = "yolo"
    description: ClassVar[str] = "images/[SPLIT/]NAME.jpg, labels/[SPLIT/]NAME.txt, data.yaml, classes.txt"
    supports: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "classes"})
    dataset_files: ClassVar[tuple[str, ...]] = (CLASSES_FILE, "data.yaml")

    def _format_options(self) -> JsonObject:
        return {"label_folder": self.options.label_folder}

    def _image_file(self, image: LabeledImage) -> str:
        return join_path(IMAGE_FOLDER if self.options.label_folder else "", image.split, image.name)

    def _annotation_files(self, name: str, split: str | None, file: str) -> tuple[Path]:
        return (self.folder / f"{join_path(self.options.label_folder, split, name)}.txt",)

    def _write(self, image: LabeledImage, file: str, annotation_files: Sequence[Path]) -> WriteResult:
        result, lines = WriteResult(), []
        for obj in image.objects:
            left, top, crop = tight_crop(obj.mask)
            if not crop.size:
                result.add(1.0, EMPTY_MASK_NOTE)
                continue
            ring = contour_ring(crop)
            result.add(contour_roundtrip_iou(crop, ring), None if len(ring) else EMPTY_MASK_NOTE)
            if len(ring):
                fractions = (ring + np.array([left, top])) / image.size[::-1]
                numbers = " ".join(f"{value:.6f}" for value in fractions.ravel().tolist())
                lines.append(f"{obj.class_id} {numbers}\n")
        self.paths.append(write_text(annotation_files[0], "".join(lines)))
        return result

    def _finish(self) -> None:
        names = self._names_without_gaps()
        class_list = "".join(f"{collapse_whitespace(name)}\n" for name in names)
        self.paths.append(write_text(self.folder / CLASSES_FILE, class_list))
        if self.options.label_folder:
            self.paths.append(write_text(self.folder / "data.yaml", data_yaml(self._log.splits, names)))


def data_yaml(splits: list[str | None], names: list[str]) -> str:
    """Return the text of a data.yaml: image folders relative to the file, and the class names.

    Trainers need train and val; where one is missing, the other is named again, and a comment says so.

    Example:
        >>> print(data_yaml(["train", "val"], ["dog"]), end="")
        train: images/train
        val: images/val
        names:
          0: "dog"
    """
    folders: dict[str, list[str]] = {}
    for split in splits:
        part = next((known for known in SPLITS if (split or "").startswith(known)), "train")
        folders.setdefault(part, []).append(join_path(IMAGE_FOLDER, split))
    lines = []
    for part in ("train", "val"):
        if part not in folders:
            lines.append(f"# there is no {part}: these are the other images again")
        lines.append(f"{part}: {_yaml_list(folders.get(part) or next(iter(folders.values())))}")
    if "test" in folders:
        lines.append(f"test: {_yaml_list(folders['test'])}")
    lines.append("names:" if names else "names: {}")
    lines += [f"  {number}: {json.dumps(name, ensure_ascii=False)}" for number, name in enumerate(names)]
    return "\n".join(lines) + "\n"


def _yaml_list(folders: list[str]) -> str:
    quoted = [
        folder if folder.replace("/", "").isalnum() else json.dumps(folder, ensure_ascii=False) for folder in folders
    ]
    return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"
