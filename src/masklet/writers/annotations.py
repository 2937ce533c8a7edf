"""Writers of annotation files for other tools: COCO, YOLO and JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypedDict

from masklet.atomic_files import write_text
from masklet.errors import InputError
from masklet.results import CocoAnnotation, Results
from masklet.writers.image_base import Writer

__all__ = ["CocoWriter", "JsonWriter", "YoloWriter"]


class JsonWriter(Writer):
    """Write STEM.json per image: a list of its objects as in `Results.to_json`."""

    def _write(self, results: Results, stem: str) -> None:
        self.paths.append(write_text(self._path(stem, ".json"), results.to_json() + "\n"))


class YoloWriter(Writer):
    """Write STEM.txt per image as in `Results.save_txt`, and classes.txt with the class names at the end.

    An image without objects has an empty file, as the format wants it. `save_txt` warns about masks that one ring
    cannot represent.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self._class_names: dict[int, str] = {}
        self._used_stems.add("classes")

    def _write(self, results: Results, stem: str) -> None:
        _merge_class_names(self._class_names, results)
        self.paths.append(results.save_txt(self._path(stem, ".txt")))

    def _finalize(self) -> None:
        if self._class_names:
            names = (self._class_names.get(class_id, str(class_id)) for class_id in range(max(self._class_names) + 1))
            self.paths.append(write_text(self.folder / "classes.txt", "".join(f"{name}\n" for name in names)))


class CocoImageEntry(TypedDict):
    """An entry of `images` in a COCO file; `file_name` is relative to the folder that all images share."""

    id: int
    file_name: str
    width: int
    height: int


class CocoWriter(Writer):
    """Write annotations.coco.json for the entire run, with lossless run-length masks.

    It is written when the block ends, also after an error: then it has the images before the error. `file_name` is
    relative to the folder that all images share.
    """

    file_name = "annotations.coco.json"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self._images: list[CocoImageEntry] = []
        self._annotations: list[CocoAnnotation] = []
        self._class_names: dict[int, str] = {}

    def _write(self, results: Results, stem: str) -> None:
        _merge_class_names(self._class_names, results)
        height, width = results.orig_shape
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": results.path, "width": width, "height": height})
        self._annotations += results.to_coco(image_id=image_id, first_id=len(self._annotations) + 1)

    def _finalize(self) -> None:
        if not self._images:
            return
        names = _relative_file_names([image["file_name"] for image in self._images])
        images = [{**image, "file_name": name} for image, name in zip(self._images, names, strict=True)]
        categories = [
            {"id": class_id + 1, "name": name, "supercategory": ""}
            for class_id, name in sorted(self._class_names.items())
        ]
        content = {"images": images, "annotations": self._annotations, "categories": categories}
        self.paths.append(write_text(self.folder / self.file_name, json.dumps(content)))


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

    def is_file(path: str) -> bool:
        return "://" not in path and (os.path.dirname(path) != "" or os.path.exists(path))

    local = [os.path.abspath(path) for path in paths if is_file(path)]
    try:
        parent = os.path.commonpath([os.path.dirname(path) for path in local]) if local else ""
    except ValueError:  # on different drives
        return [Path(path).as_posix() for path in paths]
    return [
        Path(os.path.relpath(os.path.abspath(path), parent)).as_posix()
        if is_file(path)
        else path.split("?")[0].rsplit("/", 1)[-1]
        for path in paths
    ]
