"""Writers whose files are text for other tools: COCO, YOLO and JSON."""

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
    """One JSON an image: STEM.json, a list of its objects as in `Results.to_json`.

    Example:
        >>> with JsonWriter("out") as writer:
        ...     writer.write(results)
    """

    def _write(self, results: Results, stem: str) -> None:
        self._add_path(write_text(self._path(stem, ".json"), results.to_json() + "\n"))


class YoloWriter(Writer):
    """One text an image: STEM.txt as in `Results.save_txt`, and classes.txt with the class names at the end.

    An image without objects has an empty file: that is how the format says "nothing here". What one ring an
    object cannot hold is measured and warned about there.

    Example:
        >>> with YoloWriter("labels") as writer:
        ...     writer.write(results)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self._class_names: dict[int, str] = {}
        self._used_stems.add("classes")

    def _write(self, results: Results, stem: str) -> None:
        _merge_class_names(self._class_names, results)
        self._add_path(results.save_txt(self._path(stem, ".txt")))

    def _finalize(self) -> None:
        if self._class_names:
            names = (self._class_names.get(number, str(number)) for number in range(max(self._class_names) + 1))
            self._add_path(write_text(self.folder / "classes.txt", "".join(f"{name}\n" for name in names)))


class CocoImage(TypedDict):
    """One image of a COCO file; `file_name` is below the folder that all images share."""

    id: int
    file_name: str
    width: int
    height: int


class CocoWriter(Writer):
    """One JSON for the whole run, annotations.coco.json, with lossless run-length masks.

    It is written when the block ends, also when it ends with an error: then it holds the images that came
    before. `file_name` is relative to the folder that all images share.

    Example:
        >>> with CocoWriter("out") as writer:
        ...     for results in many:
        ...         writer.write(results)
        >>> writer.paths
        [PosixPath('out/annotations.coco.json')]
    """

    file_name = "annotations.coco.json"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self._images: list[CocoImage] = []
        self._annotations: list[CocoAnnotation] = []
        self._class_names: dict[int, str] = {}

    def _write(self, results: Results, stem: str) -> None:
        _merge_class_names(self._class_names, results)
        height, width = results.orig_shape
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": results.path, "width": width, "height": height})
        self._annotations += results.to_coco(image_id=number, first_id=len(self._annotations) + 1)

    def _finalize(self) -> None:
        if not self._images:
            return
        names = _relative_file_names([image["file_name"] for image in self._images])
        images = [{**image, "file_name": name} for image, name in zip(self._images, names, strict=True)]
        categories = [
            {"id": number + 1, "name": name, "supercategory": ""} for number, name in sorted(self._class_names.items())
        ]
        content = {"images": images, "annotations": self._annotations, "categories": categories}
        self._add_path(write_text(self.folder / self.file_name, json.dumps(content)))


def _merge_class_names(names: dict[int, str], results: Results) -> None:
    """Add the class names of `results`; in one run a class has one name."""
    used = {int(number): results.class_name(index) for index, number in enumerate(results.classes)}
    for number, name in (results.names | used).items():
        if names.setdefault(number, name) != name:
            raise InputError(
                f"class {number} is {name!r} in {results.path!r} and was {names[number]!r} before; "
                "in one run a class has one name: write the results of each model into a folder of its own"
            )


def _relative_file_names(paths: list[str]) -> list[str]:
    """Each path relative to the folder all files share, with forward slashes; an address keeps its last part.

    Names of images that came without a file (`image0`) stay as they are.
    """
    local = [os.path.abspath(path) for path in paths if _is_file(path)]
    try:
        shared = os.path.commonpath([os.path.dirname(path) for path in local]) if local else ""
    except ValueError:  # different drives share no folder
        return [Path(path).as_posix() for path in paths]
    return [
        Path(os.path.relpath(os.path.abspath(path), shared)).as_posix()
        if _is_file(path)
        else path.split("?")[0].rsplit("/", 1)[-1]
        for path in paths
    ]


def _is_file(path: str) -> bool:
    return "://" not in path and (os.path.dirname(path) != "" or os.path.exists(path))
