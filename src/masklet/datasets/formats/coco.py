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
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from masklet.atomic_files import atomic_path
from masklet.damaged_files import damage_errors
from masklet.datasets.account import DEFAULT_CLASS_NAME, UNLISTED_CLASS_NAME, ObjectAccount
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
    check_same_size,
)
from masklet.datasets.files import files_in, folders_in, is_split_name, sample_names, validate_choice
from masklet.datasets.json_reader import JsonObject, as_json_list, as_json_object, iter_items, probe_keys, read_bytes
from masklet.datasets.labeled_image import LabeledImage
from masklet.datasets.mask_decoding import (
    as_id,
    as_score,
    as_track_id,
    parse_polygon,
    rasterize_polygons,
    rle_decoder,
)
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
ISCROWD, NO_SEGMENTATION, DEGENERATE = "iscrowd", "no segmentation", "degenerate outline"
"""Why an object is left out."""
MIN_RING_NUMBERS = 6
"""x and y of three points; an outline of fewer has no area."""
MAX_CATEGORIES_LISTED = 5
IMAGE_NAME_PREFIXES = tuple(map(re.compile, (r"^(?!)", r"^.*\?d=", r"^.*/", r"^(?:.*/)?[0-9a-f]{8}-(?=.)")))
"""What is removed from `file_name` until images are found: nothing, or more and more of a path on a server."""
UNKNOWN_OBJECT = {DEFAULT_CLASS_NAME: 1}
KEPT_AS_RLE_NOTE = "an object kept as a run-length code, because no outline keeps enough of it"


@dataclass(frozen=True)
class CocoSample(ImageSample):
    """An image, and the byte ranges of its annotations in the JSON file, crowds included."""

    annotation_file: Path
    declared_size: Size | None
    """(height, width) in the JSON file."""
    spans: tuple[Span, ...]
    include_crowds: bool = False

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`."""
        file = self.annotation_file
        if self.declared_size is not None:
            description = f"width and height of {self.image_path.name}"
            check_same_size(file, self.declared_size, self.image_path, size, description)
        decoders: dict[int, Callable[[], Mask]] = {}
        attributes: dict[int, ObjectAttributes] = {}
        left_out: list[LeftOutObject] = []
        for record in self._read_annotations():
            category = as_id(record.get("category_id"))
            known = ObjectAttributes(
                class_id=category if isinstance(category, int) else None,
                label=category if isinstance(category, str) else None,
                score=as_score(record.get("score")),
                track_id=as_track_id(record.get("track_id")),
            )
            description, rule = f"annotation {record.get('id')}", _left_out_rule(record, self.include_crowds)
            shape = record.get("rle") or record.get("segmentation")
            if rule is None:
                object_id = len(decoders) + 1
                attributes[object_id] = known
                decoders[object_id] = partial(self._decode, shape, size, description)
                continue
            longest = max(map(len, _split_parts(shape)), default=0)
            faults = {
                NO_SEGMENTATION: "has no segmentation; remove it",
                DEGENERATE: f"has an outline of {longest} numbers; x and y of three points or more are an even number, "
                "six at least: fix or remove this object",
            }
            problem = DataError.for_file(file, f"({description}) {faults[rule]}") if rule in faults else None
            left_out.append(LeftOutObject(rule, known, problem))
        return LazyMasks(decoders, attributes, left_out, num_records=len(self.spans))

    def _decode(self, shape: object, size: Size, description: str) -> Mask:
        """Decode outlines, run-length codes, or both together; an outline of one or two points has no area."""
        masks, rings = [], []
        parts = _split_parts(shape)
        if not parts:
            as_json_list(shape, self.annotation_file, f"'segmentation' of {description}")
        for part in parts:
            if isinstance(part, dict):
                masks.append(rle_decoder(part, size, self.annotation_file, self.image_path, description)())
            elif isinstance(part, list) and len(part) >= MIN_RING_NUMBERS:
                rings.append(parse_polygon(part, (1.0, 1.0), size, self.annotation_file, description))
        if rings or not masks:
            masks.append(rasterize_polygons(rings, size))
        mask = masks[0]
        for other in masks[1:]:
            mask = mask | other
        return mask

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
        except damage_errors() as problem:
            raise DataError.for_file(
                self.annotation_file,
                f"cannot be read ({problem}); it changed after it was opened: open the data set again",
            ) from problem
        return records


def _left_out_rule(record: JsonObject, include_crowds: bool) -> str | None:
    """Return the rule that leaves an annotation out; None if none does."""
    flag = record.get("iscrowd")
    if not include_crowds and flag and str(flag).strip().lower() not in ("0", "0.0", "false", "none", ""):
        return ISCROWD
    shape = record.get("rle") or record.get("segmentation")
    if not shape:
        return NO_SEGMENTATION
    first = shape[0] if isinstance(shape, list) else shape
    if isinstance(first, dict) or (isinstance(first, list) and len(first) >= MIN_RING_NUMBERS):
        return None  # nearly always; the other forms take longer to tell
    parts = _split_parts(shape)
    is_degenerate = parts and all(isinstance(part, list) and len(part) < MIN_RING_NUMBERS for part in parts)
    return DEGENERATE if is_degenerate else None


def _split_parts(shape: object) -> list[JsonObject | list[object]]:
    """Return the run-length codes and outlines (x, y, x, y ...) of a segmentation, in any of the forms tools write.

    These are a code, a list of codes, a list of outlines, one outline without a list around it, and outlines of
    [x, y] pairs. The list is empty where it is none of them.
    """
    if isinstance(shape, dict):
        return [shape]
    if not isinstance(shape, list):
        return []
    if not any(isinstance(item, (list, dict)) for item in shape):
        return [shape]
    is_pairs = all(isinstance(item, list) and len(item) == 2 and not isinstance(item[0], list) for item in shape)
    parts: list[JsonObject | list[object]] = []
    for part in [shape] if is_pairs and len(shape) * 2 >= MIN_RING_NUMBERS else shape:
        if isinstance(part, list) and part and all(isinstance(point, list) for point in part):
            parts.append([number for point in part for number in point])
        else:
            parts.append(part if isinstance(part, (dict, list)) else [part])
    return parts


class CocoDatasetReader(DatasetReader):
    """Reads a COCO JSON, or all of those below a folder; the split is the end of a file's name.

    Crowds (`iscrowd`) are left out, and counted, unless `ReadOptions.include_crowds`.
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
        left_out: Counter[str] = Counter()
        for file in files:
            split = _split_name(file)
            prefix = "" if len(files) == 1 else f"{split}/"
            contents = _FileContents(file, options.include_crowds)
            file_samples = contents.make_samples(prefix)
            samples += file_samples
            issues += contents.issues
            names = {**contents.names, **names}
            video_names |= contents.video_names
            left_out += contents.left_out
            if prefix or options.split is not None or is_split_name(split):
                splits |= {sample.name: split for sample in file_samples}
        return Dataset(
            cls.data_format,
            path,
            tuple(samples),
            tuple(issues),
            dict(sorted(names.items())),
            splits,
            video_names,
            left_out,
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
        self.left_out: Counter[str] = Counter()
        self._images: dict[int | str, JsonObject] = {}
        self._spans: dict[int | str | None, list[Span]] = {}
        self._categories: Counter[int | str] = Counter()
        self._num_annotations = 0
        content = read_bytes(file)
        for key, start, end, value in iter_items(content, file, ("images", "annotations", "categories")):
            if key == "annotations":
                self._num_annotations += 1
                self.add_annotation(value, start, end)
            elif key == "categories":
                category = json.loads(content[start:end].decode("utf-8", "replace"))
                number = as_id(category.get("id")) if isinstance(category, dict) else None
                if isinstance(number, int):  # an invalid one is ignored, since masks do not need it
                    self.names.setdefault(number, str(category.get("name", number)))
            else:
                self.add_image(content[start:end])
        if not self._images:
            raise DataError.for_file(
                file, "names no images; a COCO file has 'images' and 'annotations': export it again"
            )
        num_annotations = sum(map(len, self._spans.values()))
        if num_annotations and self.left_out[NO_SEGMENTATION] == num_annotations:
            raise DataError.for_file(file, "has boxes only, no segmentation; masks are needed: export it with masks")
        unknown = {number: count for number, count in self._categories.items() if number not in self.names}
        if unknown and self.names:
            some = ", ".join(f"{number!r}" for number in list(unknown)[:MAX_CATEGORIES_LISTED])
            more = " ..." if len(unknown) > MAX_CATEGORIES_LISTED else ""
            reason = (
                f"has {sum(unknown.values())} annotation(s) with a category_id that no category has ({some}{more}); "
                "their class is called by it: add the categories, or fix the ids"
            )
            self.add_issue("categories", reason)

    def add_issue(self, sample: object, reason: str, spans: Sequence[Span] = ()) -> None:
        """Note something broken, which costs the objects at these bytes of the file."""
        masks = CocoSample(str(sample), Path(), self.file, None, tuple(spans), self.include_crowds).masks((1, 1))
        objects = ObjectAccount.for_masks(masks, self.names).source
        self.issues.append(replace(DataIssue.for_file(str(sample), self.file, reason), objects=objects))

    def add_image(self, text: bytes) -> None:
        """Add one item of `images`."""
        try:
            record = json.loads(text)
        except ValueError as problem:
            self.add_issue("images", f"has an image whose name is not UTF-8 ({problem}); export it again")
            return
        valid = isinstance(record, dict) and isinstance(record.get("file_name"), str) and record["file_name"]
        image_id = as_id(record.get("id")) if valid else None
        if image_id is None:
            self.add_issue("images", f"has an image without id or file_name ({record!r:.80}); fix or remove it")
        elif image_id in self._images:
            name, first = record["file_name"], self._images[image_id]["file_name"]
            self.add_issue(name, f"gives id {image_id!r} to {first} and to {name}; ids are unique: renumber one")
        else:
            self._images[image_id] = record

    def add_annotation(self, value: object, start: int, end: int) -> None:
        """Add one item of `annotations`, at these bytes of the file."""
        if not isinstance(value, dict):
            reason = f"has an annotation without image_id ({value!r:.80}); fix or remove it"
            self.issues.append(replace(DataIssue.for_file("annotations", self.file, reason), objects=UNKNOWN_OBJECT))
            return
        image_id, category = as_id(value.get("image_id")), as_id(value.get("category_id"))
        self._spans.setdefault(image_id, []).append((start, end))
        if category is not None:
            self._categories[category] += 1
        rule = _left_out_rule(value, self.include_crowds)
        if rule is not None:
            self.left_out[rule] += 1

    def make_samples(self, prefix: str) -> list[CocoSample]:
        """Make the samples, named after their images, in natural order. Leftover annotations become issues."""
        folder, file_names = self._find_images()
        samples: dict[str, CocoSample] = {}
        names = sample_names(file_names)
        for (image_id, record), file_name, short in zip(self._images.items(), file_names, names, strict=True):
            spans = tuple(self._spans.pop(image_id, ()))
            height, width = as_id(record.get("height")), as_id(record.get("width"))
            size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
            name = prefix + short
            if name in samples:
                reason = f"has {record['file_name']} twice; an image is there once: join its annotations"
                self.add_issue(name, reason, spans)
                continue
            samples[name] = CocoSample(name, folder / file_name, self.file, size, spans, self.include_crowds)
            if record.get("video"):
                self.video_names[name] = str(record["video"])
        for left_id, left in self._spans.items():
            reason = f"has {len(left)} annotation(s) of image_id {left_id!r}, which no image has; fix or remove them"
            if left_id is None:
                reason = f"has {len(left)} annotation(s) without image_id; fix or remove them"
            self.add_issue(f"image_id {left_id}", reason, left)
        num_listed = sum(len(sample.spans) for sample in samples.values())
        num_unlisted = self._num_annotations - num_listed - sum(sum(one.objects.values()) for one in self.issues)
        if num_unlisted:
            reason = f"has {num_unlisted} annotation(s) that are of no image and no issue; report this"
            issue = DataIssue.for_file("annotations", self.file, reason)
            self.issues.append(replace(issue, objects={UNLISTED_CLASS_NAME: abs(num_unlisted)}))
        return sorted(samples.values(), key=lambda sample: natural_key(sample.name))

    def _find_images(self) -> tuple[Path, list[str]]:
        """Find the folder that `file_name` is relative to: the first usual one that holds one of the images.

        Where none does, names are paths on the server of Label Studio: what is after ?d= counts, or the name alone,
        at last without the eight digits that an upload puts before it.
        """
        split, here, above = _split_name(self.file), self.file.parent, self.file.parent.parent
        folders = [
            *(here, here / "images", here / split, here / "images" / split, here / "data"),
            *(above / split, above / "images" / split, above / "images", above),
        ]
        names = [str(record["file_name"]).replace("\\", "/") for record in self._images.values()]
        for prefix in IMAGE_NAME_PREFIXES:
            probed = [prefix.sub("", name) for name in names[:MAX_PROBED_FILES]]
            for folder in folders:
                if any((folder / name).is_file() for name in probed if name):
                    return folder, [prefix.sub("", name) for name in names]
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
