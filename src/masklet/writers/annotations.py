"""Writers of annotation files for other tools: COCO, YOLO and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from masklet.atomic_files import write_text
from masklet.errors import InputError
from masklet.results import CocoAnnotation, Results
from masklet.writers.image_base import Writer

__all__ = ["CocoWriter", "JsonWriter", "YoloWriter"]


CLASSES_FILE = "classes.txt"


class JsonWriter(Writer):
    """Write STEM.json per image: a list of its objects as in `Results.to_json`."""

    extension = ".json"

    def _write(self, results: Results, stem: str) -> None:
        self.paths.append(write_text(self._path(stem, ".json"), results.to_json() + "\n"))


class YoloWriter(Writer):
    """Write STEM.txt per image as in `Results.save_txt`, and classes.txt with the class names at the end.

    An image without objects has an empty file, as the format wants it. `save_txt` warns about masks that one ring
    cannot represent. The class names of an earlier run into the folder are kept; a class has one name in all runs.
    """

    extension = ".txt"
    run_file = CLASSES_FILE

    def _prepare(self) -> None:
        self._class_names: dict[int, str] = {}
        self._used_stems.add("classes")

    def _write(self, results: Results, stem: str) -> None:
        if not self._class_names:
            self._class_names |= self._earlier_names()
        _merge_class_names(self._class_names, results)
        self.paths.append(results.save_txt(self._path(stem, ".txt")))

    def _finalize(self) -> None:
        if not self._class_names:
            return
        with self._files.locked():  # another process may have added classes meanwhile
            names = {**self._earlier_names(), **self._class_names}
            lines = (f"{names.get(class_id, class_id)}\n" for class_id in range(max(names) + 1))
            self.paths.append(write_text(self.folder / CLASSES_FILE, "".join(lines)))

    def _earlier_names(self) -> dict[int, str]:
        """The class names that earlier runs left; a class that is called by its number has none."""
        path = self.folder / CLASSES_FILE
        lines = path.read_text(encoding="utf-8").splitlines() if self._files.is_own(path) else []
        return {class_id: name for class_id, name in enumerate(lines) if name != str(class_id)}


class CocoImageEntry(TypedDict):
    """An entry of `images` in a COCO file; `file_name` is relative to the folder that all images share."""

    id: int
    file_name: str
    width: int
    height: int


class CocoWriter(Writer):
    """Write annotations.coco.json with lossless run-length masks, for this run and those before it in the folder.

    It is written when the block ends, also after an error: then it has the images before the error. `file_name` is
    relative to the folder that all images share. An image of an earlier run stays, unless this run has it too.
    """

    file_name = "annotations.coco.json"
    run_file = file_name

    def _prepare(self) -> None:
        self._images: list[CocoImageEntry] = []
        self._annotations: list[CocoAnnotation] = []
        self._class_names: dict[int, str] = {}

    def check(self, paths: Iterable[str]) -> None:
        """Do nothing: no image has a file, and that of the run is checked when the writer is created."""

    def _write(self, results: Results, stem: str) -> None:
        _merge_class_names(self._class_names, results)
        height, width = results.orig_shape
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": results.path, "width": width, "height": height})
        self._annotations += results.to_coco(image_id=image_id, first_id=len(self._annotations) + 1)

    def _finalize(self) -> None:
        if not self._images:
            return
        path = self.folder / self.file_name
        with self._files.locked():
            images, annotations, names = self._joined_with_earlier(path)
            file_names = _relative_file_names([image["file_name"] for image in images])
            categories = [
                {"id": class_id + 1, "name": name, "supercategory": ""} for class_id, name in sorted(names.items())
            ]
            content = {
                "images": [{**image, "file_name": name} for image, name in zip(images, file_names, strict=True)],
                "annotations": annotations,
                "categories": categories,
            }
            self.paths.append(write_text(path, json.dumps(content)))
            self._files.set_note(path, json.dumps([_full_path(image["file_name"]) for image in images]))

    def _joined_with_earlier(self, path: Path) -> tuple[list[CocoImageEntry], list[CocoAnnotation], dict[int, str]]:
        """Put the images of earlier runs, which the note of the file names in full, before those of this one.

        A class number that has another name there becomes a free one.
        """
        note = self._files.note_of(path)
        if not note:
            return self._images, self._annotations, self._class_names
        earlier, full_paths = json.loads(path.read_text(encoding="utf-8")), json.loads(note)
        earlier_images: list[CocoImageEntry] = earlier["images"]
        earlier_annotations: list[CocoAnnotation] = earlier["annotations"]
        replaced = {_full_path(image["file_name"]) for image in self._images}
        names = {category["id"] - 1: category["name"] for category in earlier["categories"]}
        new_ids: dict[int, int] = {}
        for class_id, name in self._class_names.items():
            same = [number for number, known in names.items() if known == name]
            free = class_id if class_id not in names else max(names) + 1
            new_ids[class_id] = class_id if class_id in same else same[0] if same else free
            names[new_ids[class_id]] = name
        images: list[CocoImageEntry] = []
        image_ids: dict[int, int] = {}
        for image, full_path in zip(earlier_images, full_paths, strict=True):
            if full_path not in replaced:
                image_ids[image["id"]] = len(images) + 1
                images.append({**image, "id": len(images) + 1, "file_name": full_path})
        num_kept = len(images)
        annotations: list[CocoAnnotation] = [
            {**one, "image_id": image_ids[one["image_id"]]}
            for one in earlier_annotations
            if one["image_id"] in image_ids
        ]
        images += [{**image, "id": num_kept + image["id"]} for image in self._images]
        for one in self._annotations:
            class_id = new_ids.get(one["category_id"] - 1, one["category_id"] - 1)
            annotations.append({**one, "image_id": num_kept + one["image_id"], "category_id": class_id + 1})
        return images, [{**one, "id": number} for number, one in enumerate(annotations, 1)], names


def _full_path(path: str) -> str:
    return os.path.abspath(path) if _is_file(path) else path


def _is_file(path: str) -> bool:
    """Whether an image has a file: not an address, and not `image0`, the name of an array."""
    return "://" not in path and (os.path.dirname(path) != "" or os.path.exists(path))


def _merge_class_names(names: dict[int, str], results: Results) -> None:
    """Add the class names of `results` to `names`; a class has one name per run."""
    used = {int(class_id): results.class_name(index) for index, class_id in enumerate(results.classes)}
    for class_id, name in (results.names | used).items():
        if names.setdefault(class_id, name) != name:
            raise InputError(
                f"class {class_id} is {name!r} in {results.path!r} and was {names[class_id]!r} before; "
                "a class has one name per run: write the results of each model into a separate folder"
            )


def _relative_file_names(paths: list[str]) -> list[str]:
    """Make paths relative to the folder that all files share, with forward slashes; a URL keeps its last part.

    Names of images without a file (`image0`) stay as they are.
    """
    local = [os.path.abspath(path) for path in paths if _is_file(path)]
    try:
        parent = os.path.commonpath([os.path.dirname(path) for path in local]) if local else ""
    except ValueError:  # on different drives
        return [Path(path).as_posix() for path in paths]
    return [
        Path(os.path.relpath(os.path.abspath(path), parent)).as_posix()
        if _is_file(path)
        else path.split("?")[0].rsplit("/", 1)[-1]
        for path in paths
    ]
