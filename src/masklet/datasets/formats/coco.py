"""COCO instance JSON: one file for all images of a split, with outlines or run-length codes.

    annotations/instances_SPLIT.json   {"images": [...], "annotations": [...], "categories": [...]}
    images/[SPLIT/]NAME.jpg            or SPLIT/NAME.jpg, and other usual places next to the JSON

An object with several outlines is all of them together. In addition to the format's own keys, annotations may have
`score`, `track_id` and `rle` (a lossless code next to an outline), and images `video` and `frame_id`.

The file may be huge: a sample stores the byte ranges of its annotations and reads them from there; the writer makes
the file from its log, one image at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from masklet.atomic_files import atomic_path
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    DatasetReader,
    ImageSample,
    LazyMasks,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import files_in, folders_in, is_split_name, validate_choice
from masklet.datasets.json_reader import JsonObject, as_json_list, as_json_object, iter_items, probe_keys, read_bytes
from masklet.datasets.labeled_image import LabeledImage
from masklet.datasets.mask_decoding import as_score, as_track_id, parse_polygon, rasterize_polygons, rle_decoder
from masklet.datasets.writer import DatasetWriter, WriteResult, join_path, path_in_split
from masklet.errors import SourceError
from masklet.masks.polygon_simplify import simplify_mask, tight_crop
from masklet.media.image_source import natural_key

__all__ = ["CocoDatasetReader", "CocoDatasetWriter", "CocoSample"]

Span = tuple[int, int]
"""Start and end of an annotation in the JSON file, in bytes."""
MAX_PROBED_FILES = 50
"""Files that are probed to find the JSON, and images that are tried to find their folder."""
DEFAULT_SPLIT = "default"
"""The split of images without one."""
KEPT_AS_RLE_NOTE = "an object kept as a run-length code, because no outline keeps enough of it"


@dataclass(frozen=True)
class CocoSample(ImageSample):
    """An image, and the byte ranges of its annotations in the JSON file."""

    annotation_file: Path
    declared_size: Size | None
    """(height, width) in the JSON file."""
    spans: tuple[Span, ...]

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`."""
        file = self.annotation_file
        if self.declared_size is not None:
            description = f"width and height of {self.image_path.name}"
            check_same_size(file, self.declared_size, self.image_path, size, description)
        decoders: dict[int, Callable[[], Mask]] = {}
        attributes: dict[int, ObjectAttributes] = {}
        for object_id, record in enumerate(self._read_annotations(), 1):
            category = record.get("category_id")
            attributes[object_id] = ObjectAttributes(
                class_id=category if isinstance(category, int) else None,
                score=as_score(record.get("score")),
                track_id=as_track_id(record.get("track_id")),
            )
            description = f"annotation {record.get('id')}"
            shape = record.get("rle") or record.get("segmentation")
            if isinstance(shape, dict):
                decoders[object_id] = rle_decoder(shape, size, file, self.image_path, description)
                continue
            rings = []
            for outline in as_json_list(shape, file, f"'segmentation' of {description}"):
                numbers = as_json_list(outline, file, f"each outline of {description}")
                rings.append(parse_polygon(numbers, (1.0, 1.0), size, file, description))
            decoders[object_id] = partial(rasterize_polygons, rings, size)
        return LazyMasks(decoders, attributes)

    def _read_annotations(self) -> list[JsonObject]:
        if not self.spans:
            return []
        records = []
        try:
            with self.annotation_file.open("rb") as file:
                for start, end in self.spans:
                    file.seek(start)
                    record = json.loads(file.read(end - start))
                    records.append(as_json_object(record, self.annotation_file, "an annotation"))
        except DataError:
            raise
        except (OSError, ValueError) as problem:
            raise DataError.for_file(
                self.annotation_file,
                f"cannot be read ({problem}); it changed after it was opened: open the data set again",
            ) from problem
        return records


class CocoDatasetReader(DatasetReader):
    """Reads a COCO JSON, or all of those below a folder; the split is the end of a file's name.

    Crowds (`iscrowd`) are left out unless `ReadOptions.include_crowds`.
    """

    data_format: ClassVar[str] = "coco"
    description: ClassVar[str] = "a COCO instance JSON with its images, or a folder with annotations/*.json"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a path is a COCO JSON, or a folder with one."""
        return bool(_find_files(path))

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        files = _find_files(path)
        if options.split is not None:
            by_split = {_split_name(file): file for file in files}
            files = [by_split[validate_choice(path, options.split, by_split, "split")]]
        if not files:
            raise SourceError(
                f"{path} is no COCO data; allowed is a JSON file with images and annotations, or a folder with "
                "annotations/instances_*.json: check the path"
            )
        samples: list[CocoSample] = []
        issues: list[DataIssue] = []
        names: dict[int, str] = {}
        splits: dict[str, str] = {}
        video_names: dict[str, str] = {}
        for file in files:
            split = _split_name(file)
            prefix = "" if len(files) == 1 else f"{split}/"
            contents = _FileContents(file, options.include_crowds)
            file_samples = contents.make_samples(prefix)
            samples += file_samples
            issues += contents.issues
            names = {**contents.names, **names}
            video_names |= contents.video_names
            if prefix or options.split is not None or is_split_name(split):
                splits |= {sample.name: split for sample in file_samples}
        return Dataset(
            cls.data_format, path, tuple(samples), tuple(issues), dict(sorted(names.items())), splits, video_names
        )


def _find_files(path: Path) -> list[Path]:
    """Find the JSON files of a dataset: those called instances_*.json, else those whose keys look like COCO."""

    def looks_like_coco(file: Path) -> bool:
        keys = probe_keys(file)
        has_images = "images" in keys and bool({"annotations", "segmentation"} & keys)
        return has_images or {"annotations", "image_id", "category_id"} <= keys

    if path.is_file():  # what is wrong with it shows when it is read
        return [path] if path.suffix.lower() == ".json" else []
    for folders in ([path / "annotations"], [path], folders_in(path)):
        files = [file for folder in folders for file in files_in(folder, (".json",))]
        instances = [file for file in files if file.name.startswith("instances_")]
        matching = instances or [file for file in files[:MAX_PROBED_FILES] if looks_like_coco(file)]
        if matching:
            return matching
    return []


def _split_name(file: Path) -> str:
    """Return val2017 for instances_val2017.json, and train for train/_annotations.coco.json."""
    stem = file.name.split(".")[0]
    return file.parent.name if stem == "_annotations" else stem.removeprefix("instances_")


class _FileContents:
    """The contents of one JSON file: image records by id, byte ranges of their annotations, classes, issues."""

    def __init__(self, file: Path, include_crowds: bool) -> None:
        self.file, self.include_crowds = file, include_crowds
        self.issues: list[DataIssue] = []
        self.names: dict[int, str] = {}
        self.video_names: dict[str, str] = {}
        self._images: dict[int | str, JsonObject] = {}
        self._spans: dict[int | str, list[Span]] = {}
        self._num_segmented = self._num_boxes_only = 0
        content = read_bytes(file)
        for key, start, end, value in iter_items(content, file, ("images", "annotations", "categories")):
            if key == "annotations":
                self.add_annotation(value, start, end)
            elif key == "categories":
                category = json.loads(content[start:end].decode("utf-8", "replace"))
                # an invalid one is ignored, since masks do not need it
                if isinstance(category, dict) and isinstance(category.get("id"), int):
                    self.names.setdefault(category["id"], str(category.get("name", category["id"])))
            else:
                self.add_image(content[start:end])
        if not self._images:
            raise DataError.for_file(
                file, "names no images; a COCO file has 'images' and 'annotations': export it again"
            )
        if self._num_boxes_only and not self._num_segmented:
            raise DataError.for_file(file, "has boxes only, no segmentation; masks are needed: export it with masks")

    def add_issue(self, sample: object, reason: str) -> None:
        """Note something broken."""
        self.issues.append(DataIssue.for_file(str(sample), self.file, reason))

    def add_image(self, text: bytes) -> None:
        """Add one item of `images`."""
        try:
            record = json.loads(text)
        except ValueError as problem:
            self.add_issue("images", f"has an image whose name is not UTF-8 ({problem}); export it again")
            return
        valid = isinstance(record, dict) and isinstance(record.get("file_name"), str) and record["file_name"]
        if not valid or not isinstance(record.get("id"), (int, str)):
            self.add_issue("images", f"has an image without id or file_name ({record!r:.80}); fix or remove it")
        elif record["id"] in self._images:
            name, first = record["file_name"], self._images[record["id"]]["file_name"]
            self.add_issue(name, f"gives id {record['id']!r} to {first} and to {name}; ids are unique: renumber one")
        else:
            self._images[record["id"]] = record

    def add_annotation(self, value: object, start: int, end: int) -> None:
        """Add one item of `annotations`, at these bytes of the file."""
        record = value if isinstance(value, dict) else {}
        image_id, number = record.get("image_id"), record.get("id")
        if not isinstance(image_id, (int, str)):
            self.add_issue("annotations", f"has an annotation without image_id ({value!r:.80}); fix or remove it")
        elif record.get("iscrowd") and not self.include_crowds:
            return
        elif not record.get("segmentation"):
            self._num_boxes_only += 1
            self.add_issue(f"annotation {number}", f"(annotation {number}) has no segmentation; remove it")
        else:
            self._num_segmented += 1
            self._spans.setdefault(image_id, []).append((start, end))

    def make_samples(self, prefix: str) -> list[CocoSample]:
        """Make the samples, named after their images, in natural order. Leftover annotations become issues."""
        folder = self._find_image_folder()
        samples: dict[str, CocoSample] = {}
        for image_id, record in self._images.items():
            spans = tuple(self._spans.pop(image_id, ()))
            file_name = str(record["file_name"]).replace("\\", "/")
            height, width = record.get("height"), record.get("width")
            size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
            name = prefix + file_name.removesuffix(Path(file_name).suffix)
            if name in samples:
                reason = f"has {record['file_name']} twice; an image is there once: join its annotations"
                self.add_issue(name, reason)
                continue
            samples[name] = CocoSample(name, folder / file_name, self.file, size, spans)
            if record.get("video"):
                self.video_names[name] = str(record["video"])
        for image_id, left in self._spans.items():
            reason = f"has {len(left)} annotation(s) of image_id {image_id!r}, which no image has; fix or remove them"
            self.add_issue(f"image_id {image_id}", reason)
        return sorted(samples.values(), key=lambda sample: natural_key(sample.name))

    def _find_image_folder(self) -> Path:
        """Find the folder that `file_name` is relative to: the first usual one that holds one of the images."""
        split, here, above = _split_name(self.file), self.file.parent, self.file.parent.parent
        folders = [
            *(here, here / "images", here / split, here / "images" / split),
            *(above / split, above / "images" / split, above / "images", above),
        ]
        names = [str(record["file_name"]).replace("\\", "/") for record in self._images.values()][:MAX_PROBED_FILES]
        for folder in folders:
            if any((folder / name).is_file() for name in names):
                return folder
        raise DataError.for_file(
            self.file,
            f"names images such as {names[0]!r}, and none of them is in {', '.join(map(str, folders))}; "
            f"put them in one of these, best {above / split}",
        )


class CocoDatasetWriter(DatasetWriter):
    """Writes annotations/instances_SPLIT.json, with run-length codes (lossless), outlines, or both.

    Outlines are as simple as `min_iou` allows. Each part of an object is a polygon; a hole is connected with
    its part's outer ring by a bridge of no width, which the COCO tools fill as a hole. Where no outline keeps enough,
    as of an empty mask, the run-length code is written, and counted in `loss.notes`. With "both" the outline is the
    `segmentation` and the code is written as `rle`, which other tools ignore. `category_id` is the class number plus
    one.
    """

    data_format: ClassVar[str] = "coco"
    description: ClassVar[str] = "annotations/instances_SPLIT.json, images/[SPLIT/]NAME.jpg"
    supports: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})
    dataset_files: ClassVar[tuple[str, ...]] = ("annotations/instances_*.json",)

    def _format_options(self) -> JsonObject:
        mode = self.options.segmentation
        return {"segmentation": mode, "min_iou": None if mode == "rle" else self.options.min_iou}

    def _image_file(self, image: LabeledImage) -> str:
        return join_path("images", image.split, image.name)

    def _write(self, image: LabeledImage, file: str, annotation_files: Sequence[Path]) -> WriteResult:
        result, annotations = WriteResult(), list[JsonObject]()
        mode = self.options.segmentation
        for obj in image.objects:
            mask = obj.mask
            left, top, crop = tight_crop(mask)
            record: JsonObject = {
                "category_id": obj.class_id + 1,
                "bbox": [left, top, crop.shape[1], crop.shape[0]],
                "area": int(crop.sum()),
                "iscrowd": 0,
            }
            outline = None if mode == "rle" else simplify_mask(mask, self.options.min_iou)
            if outline is None:
                record["segmentation"] = obj.rle
                result.add(1.0, None if mode == "rle" else KEPT_AS_RLE_NOTE)
            else:
                record["segmentation"] = [ring.ravel().astype(int).tolist() for ring in outline.rings]
                result.add(1.0 if mode == "both" else outline.iou)
                record |= {"rle": obj.rle} if mode == "both" else {}
            record |= {"score": obj.score} if obj.score is not None else {}
            record |= {"track_id": obj.track_id} if obj.track_id is not None else {}
            annotations.append(record)
        origin = {"video": image.video, "frame_id": image.frame_idx}
        result.record["annotations"] = annotations
        result.record["image"] = {key: value for key, value in origin.items() if value is not None}
        return result

    def _finish(self) -> None:
        categories = [{"id": number + 1, "name": name, "supercategory": ""} for number, name in self.names.items()]
        for split in self._log.splits:
            images = (
                {
                    "id": image_id,
                    "file_name": path_in_split(entry),
                    "width": entry.size[1],
                    "height": entry.size[0],
                    **entry.record.get("image", {}),
                }
                for image_id, entry in enumerate(self._log.entries(split), 1)
            )
            annotations = (
                {"image_id": image_id, **annotation}
                for image_id, entry in enumerate(self._log.entries(split), 1)
                for annotation in entry.record["annotations"]
            )
            path = self.folder / "annotations" / f"instances_{(split or DEFAULT_SPLIT).replace('/', '_')}.json"
            # JSON has the escapes of surrogates, which stand for bytes of a file name that are no text
            with (
                atomic_path(path) as temporary,
                temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
            ):
                file.write('{"info": {"description": "masklet"},\n"licenses": [],\n"categories": [\n')
                file.writelines(_json_lines(categories))
                file.write('\n],\n"images": [\n')
                file.writelines(_json_lines(images))
                file.write('\n],\n"annotations": [\n')
                file.writelines(_json_lines({"id": number, **record} for number, record in enumerate(annotations, 1)))
                file.write("\n]}\n")
            self.paths.append(path)


def _json_lines(records: Iterable[JsonObject]) -> Iterator[str]:
    """Yield the items of a JSON list, one a line."""
    for number, record in enumerate(records):
        yield (",\n" if number else "") + json.dumps(record, ensure_ascii=False)
