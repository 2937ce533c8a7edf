"""COCO instance JSON: one file for many images, outlines and run-length codes.

The file may be huge; an entry keeps where its annotations lie in it, and reads them from there.

COCO instance JSON: a file for all images of a part, made from the journal an image at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from masklet.atomic_files import atomic_path
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
    check_same_size,
)
from masklet.datasets.files import files_in, folders_in, is_split_name, validate_choice
from masklet.datasets.json_reader import JsonObject, as_json_list, as_json_object, iter_items, probe_keys, read_bytes
from masklet.datasets.labeled_image import LabeledImage, LabeledObject
from masklet.datasets.mask_decoding import parse_polygon, rle_decoder
from masklet.datasets.write_log import LogEntry
from masklet.datasets.writer import DatasetWriter, WriteResult
from masklet.errors import SourceError
from masklet.masks.polygon_simplify import simplify_mask, tight_crop
from masklet.masks.polygons import Polygon, Ring, polygons_to_mask
from masklet.media.image_source import natural_key

__all__ = ["CocoDatasetWriter", "CocoImage", "is_coco", "open_coco"]

Span = tuple[int, int]
_MAX_PROBED_FILES = 50
"""So many files are looked at to find out what is there."""


@dataclass(frozen=True)
class CocoImage(ImageSample):
    """An image, and where its annotations lie in the JSON file, in bytes."""

    annotation_file: Path
    declared_size: Size | None
    """(height, width) as the file says."""
    spans: tuple[Span, ...]

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        if self.declared_size is not None:
            check_same_size(
                self.annotation_file,
                self.declared_size,
                self.image_path,
                size,
                f"width and height of {self.image_path.name}",
            )
        records = dict(enumerate(self._read_annotations(), 1))
        decoders = {n: self._mask_decoder(record, size) for n, record in records.items()}
        return LazyMasks(decoders, {n: _parse_attributes(record) for n, record in records.items()})

    def _read_annotations(self) -> Iterator[JsonObject]:
        if not self.spans:
            return
        try:
            with self.annotation_file.open("rb") as file:
                for start, end in self.spans:
                    file.seek(start)
                    yield as_json_object(json.loads(file.read(end - start)), self.annotation_file, "an annotation")
        except (OSError, ValueError) as problem:
            if isinstance(problem, DataError):
                raise
            raise DataError.for_file(
                self.annotation_file,
                f"cannot be read ({problem}); it changed after it was opened: open the data set again",
            ) from problem

    def _mask_decoder(self, record: JsonObject, size: Size) -> Callable[[], Mask]:
        what, shape = f"annotation {record.get('id')}", record.get("rle") or record.get("segmentation")
        if isinstance(shape, dict):
            return rle_decoder(shape, size, self.annotation_file, self.image_path, what)
        rings = [
            parse_polygon(
                as_json_list(part, self.annotation_file, f"each outline of {what}"),
                (1.0, 1.0),
                size,
                self.annotation_file,
                what,
            )
            for part in as_json_list(shape, self.annotation_file, f"'segmentation' of {what}")
        ]
        return partial(_rasterize, rings, size)


def _parse_attributes(record: JsonObject) -> ObjectAttributes:
    """`score` and `track_id` are not of the format itself, but many write them."""
    kind, score, track = record.get("category_id"), record.get("score"), record.get("track_id")
    return ObjectAttributes(
        class_id=kind if isinstance(kind, int) else None,
        score=float(score) if isinstance(score, (int, float)) and 0 <= score <= 1 else None,
        track_id=track if isinstance(track, int) else None,
    )


def _rasterize(rings: list[Ring], size: Size) -> Mask:
    """Pixels whose center lies in one of the rings."""
    return polygons_to_mask([Polygon(ring) for ring in rings], size)


def is_coco(path: Path) -> bool:
    """Whether a path is a COCO JSON, or a folder with one."""
    return bool(_find_files(path))


def open_coco(path: Path, options: ReadOptions) -> Dataset:
    """The images of a COCO JSON, or of all those below a folder; a split is the end of a file's name.

    Crowds (`iscrowd`) are left out unless `choice.crowds`; an object with several outlines is all of them together.

    Example:
        >>> open_coco(Path("coco"), Choice("val2017")).entries[0].name
        '000000000139'

    Raises:
        SourceError: no such file or split, no JSON, no images in it, or no images in its folders.
    """
    files = _find_files(path)
    if options.split is not None:
        known = {_split_name(file): file for file in files}
        files = [known[validate_choice(path, options.split, known, "split")]]
    if not files:
        raise SourceError(
            f"{path} is no COCO data; allowed is a JSON file with images and annotations, or a folder with "
            "annotations/instances_*.json: check the path"
        )
    entries: list[CocoImage] = []
    problems: list[DataIssue] = []
    names: dict[int, str] = {}
    splits: dict[str, str] = {}
    videos: dict[str, str] = {}
    for file in files:
        prefix = "" if len(files) == 1 else f"{_split_name(file)}/"
        found, read = _read_samples(file, prefix, options.include_crowds)
        entries += found
        problems += read.issues
        names = {**read.names, **names}
        videos |= read.video_names
        if prefix or options.split is not None or is_split_name(_split_name(file)):
            splits |= {still.name: _split_name(file) for still in found}
    return Dataset("coco", path, tuple(entries), tuple(problems), dict(sorted(names.items())), splits, videos)


def _find_files(path: Path) -> list[Path]:
    if path.is_file():  # what is wrong with it comes out when it is read
        return [path] if path.suffix.lower() == ".json" else []
    for folders in ([path / "annotations"], [path], folders_in(path)):
        found = [file for folder in folders for file in files_in(folder, (".json",))]
        fitting = [f for f in found if f.name.startswith("instances_")] or [
            f for f in found[:_MAX_PROBED_FILES] if _looks_like_coco(f)
        ]
        if fitting:
            return fitting
    return []


def _looks_like_coco(file: Path) -> bool:
    """Judged by the names in its first and its last part; the middle of a huge file is not looked at."""
    keys = probe_keys(file)
    named = "images" in keys and bool({"annotations", "segmentation"} & keys)
    return named or {"annotations", "image_id", "category_id"} <= keys


def _split_name(file: Path) -> str:
    """val2017 of instances_val2017.json; train of train/_annotations.coco.json."""
    stem = file.name.split(".")[0]
    return file.parent.name if stem == "_annotations" else stem.removeprefix("instances_")


@dataclass
class _Contents:
    """What a file holds, while it is read."""

    file: Path
    include_crowds: bool
    images: dict[int | str, JsonObject] = field(default_factory=dict)
    spans: dict[int | str, list[Span]] = field(default_factory=dict)
    issues: list[DataIssue] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    video_names: dict[str, str] = field(default_factory=dict)
    """As `video` of an image says, which is not of the format itself."""
    num_segmented: int = 0
    num_boxes_only: int = 0

    def add_issue(self, sample: object, reason: str) -> None:
        """Note what is broken."""
        self.issues.append(DataIssue.for_file(str(sample), self.file, reason))

    def add_image(self, text: bytes) -> None:
        """Take one item of `images`."""
        try:
            record = json.loads(text)
        except ValueError as problem:
            self.add_issue("images", f"has an image whose name is not UTF-8 ({problem}); export it again")
            return
        known = isinstance(record, dict) and isinstance(record.get("file_name"), str) and record["file_name"]
        if not known or not isinstance(record.get("id"), (int, str)):
            self.add_issue("images", f"has an image without id or file_name ({record!r:.80}); mend or remove it")
        elif record["id"] in self.images:
            name, first = record["file_name"], self.images[record["id"]]["file_name"]
            self.add_issue(name, f"gives id {record['id']!r} to {first} and to {name}; ids are unique: renumber one")
        else:
            self.images[record["id"]] = record

    def add_category(self, text: bytes) -> None:
        """Take one item of `categories`; what is none is passed over, since masks do not need it."""
        record = json.loads(text.decode("utf-8", "replace"))
        if isinstance(record, dict) and isinstance(record.get("id"), int):
            self.names.setdefault(record["id"], str(record.get("name", record["id"])))

    def add_annotation(self, value: object, start: int, end: int) -> None:
        """Take one item of `annotations`."""
        record = value if isinstance(value, dict) else {}
        image, shape = record.get("image_id"), record.get("segmentation")
        if not isinstance(image, (int, str)):
            self.add_issue("annotations", f"has an annotation without image_id ({value!r:.80}); mend or remove it")
        elif record.get("iscrowd") and not self.include_crowds:
            return
        elif not shape:
            self.num_boxes_only += 1
            self.add_issue(
                f"annotation {record.get('id')}", f"(annotation {record.get('id')}) has no segmentation; remove it"
            )
        else:
            self.num_segmented += 1
            self.spans.setdefault(image, []).append((start, end))


def _read_samples(file: Path, prefix: str, include_crowds: bool) -> tuple[list[CocoImage], _Contents]:
    read = _parse_file(file, include_crowds)
    top = _find_image_folder(file, [str(record["file_name"]) for record in read.images.values()])
    entries: dict[str, CocoImage] = {}
    for number, record in read.images.items():
        spans = tuple(read.spans.pop(number, ()))
        still = _make_image(file, top, record, prefix, spans)
        if still.name in entries:
            read.add_issue(still.name, f"has {record['file_name']} twice; an image is there once: join its annotations")
        else:
            entries[still.name] = still
            read.video_names |= {still.name: str(record["video"])} if record.get("video") else {}
    for number, spans_left in read.spans.items():
        reason = f"has {len(spans_left)} annotation(s) of image_id {number!r}, which no image has; mend or remove them"
        read.add_issue(f"image_id {number}", reason)
    return sorted(entries.values(), key=lambda still: natural_key(still.name)), read


def _parse_file(file: Path, include_crowds: bool) -> _Contents:
    content, read = read_bytes(file), _Contents(file, include_crowds)
    for key, start, end, value in iter_items(content, file, ("images", "annotations", "categories")):
        if key == "annotations":
            read.add_annotation(value, start, end)
        elif key == "categories":
            read.add_category(content[start:end])
        else:
            read.add_image(content[start:end])
    if not read.images:
        raise DataError.for_file(file, "names no images; a COCO file has 'images' and 'annotations': export it again")
    if read.num_boxes_only and not read.num_segmented:
        raise DataError.for_file(file, "has boxes only, no segmentation; masks are needed: export it with masks")
    return read


def _make_image(file: Path, top: Path, record: JsonObject, prefix: str, spans: tuple[Span, ...]) -> CocoImage:
    name = str(record["file_name"]).replace("\\", "/")
    height, width = record.get("height"), record.get("width")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return CocoImage(prefix + name.removesuffix(Path(name).suffix), top / name, file, size, spans)


def _find_image_folder(file: Path, names: Iterable[str]) -> Path:
    """The folder that `file_name` counts from: the first of the usual ones with one of the images in it."""
    split, above = _split_name(file), file.parent.parent
    tried = [
        *(file.parent, file.parent / "images", file.parent / split, file.parent / "images" / split),
        *(above / split, above / "images" / split, above / "images", above),
    ]
    some = [name.replace("\\", "/") for name in names][:_MAX_PROBED_FILES]
    for folder in tried:
        if any((folder / name).is_file() for name in some):
            return folder
    raise DataError.for_file(
        file,
        f"names images such as {some[0]!r}, and none of them is in {', '.join(str(folder) for folder in tried)}; "
        f"put them in one of these, best {above / split}",
    )


DEFAULT_SPLIT = "default"
"""The part of images that belong to none."""
KEPT_AS_RLE_NOTE = "an object kept as a run-length code, because no outline keeps enough of it"


class CocoDatasetWriter(DatasetWriter):
    """annotations/instances_SPLIT.json, with run-length codes (lossless), outlines, or both.

    Outlines are as simple as `min_iou` allows. A part of an object is a polygon of its own; a hole hangs on its
    part's outer ring by a bridge of no width, which the COCO tools fill as a hole. Where no outline keeps enough, as
    of an empty mask, the run-length code is written, and counted in `loss.notes`. With "both" the outline is the
    `segmentation` and the code is beside it as `rle`, which other tools pass over. category_id is the class number
    plus one. Where they are known, `score` and `track_id` are written too, and `video` and `frame_id` of images.
    """

    data_format: ClassVar[str] = "coco"
    description: ClassVar[str] = "annotations/instances_SPLIT.json, images/[SPLIT/]NAME.jpg"
    supports: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})

    def _output_options(self) -> JsonObject:
        shape = self.options.segmentation
        return {
            **super()._output_options(),
            "segmentation": shape,
            "min_iou": None if shape == "rle" else self.options.min_iou,
        }

    def _image_file(self, image: LabeledImage) -> str:
        return "/".join(part for part in ("images", image.split, image.name) if part)

    def _write(self, image: LabeledImage, file: str) -> WriteResult:
        written = WriteResult()
        written.record["annotations"] = [self._annotation_record(thing, written) for thing in image.objects]
        said = {"video": image.video, "frame_id": image.frame_idx}
        written.record["image"] = {what: value for what, value in said.items() if value is not None}
        return written

    def _annotation_record(self, obj: LabeledObject, result: WriteResult) -> JsonObject:
        mask = obj.mask
        left, top, crop = tight_crop(mask)
        record: JsonObject = {
            "category_id": obj.class_id + 1,
            "bbox": [left, top, crop.shape[1], crop.shape[0]],
            "area": int(crop.sum()),
            "iscrowd": 0,
        }
        outline = simplify_mask(mask, self.options.min_iou) if self.options.segmentation != "rle" else None
        if outline is None:
            record["segmentation"] = obj.rle
            result.notes.update([KEPT_AS_RLE_NOTE] if self.options.segmentation != "rle" else [])
        else:
            record["segmentation"] = [ring.ravel().astype(int).tolist() for ring in outline.rings]
        both = outline is not None and self.options.segmentation == "both"
        record |= {"rle": obj.rle} if both else {}
        record |= {"score": obj.score} if obj.score is not None else {}
        record |= {"track_id": obj.track_id} if obj.track_id is not None else {}
        result.ious.append(1.0 if outline is None or both else outline.iou)
        return record

    def _finish(self) -> None:
        for split in self._log.splits:
            path = self.folder / "annotations" / f"instances_{(split or DEFAULT_SPLIT).replace('/', '_')}.json"
            with atomic_path(path) as temporary:
                self._write_json(temporary, split)
            self.paths.append(path)

    def _write_json(self, path: Path, split: str | None) -> None:
        categories = [{"id": number + 1, "name": name, "supercategory": ""} for number, name in self.names.items()]
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write('{"info": {"description": "masklet"},\n"licenses": [],\n"categories": [\n')
            file.writelines(_json_lines(categories))
            file.write('\n],\n"images": [\n')
            file.writelines(
                _json_lines(_image_record(number, line) for number, line in enumerate(self._log_entries(split), 1))
            )
            file.write('\n],\n"annotations": [\n')
            file.writelines(_json_lines(_annotation_records(self._log_entries(split))))
            file.write("\n]}\n")


def _image_record(number: int, entry: LogEntry) -> JsonObject:
    """`file_name` is below the folder of the images of this part, as the COCO tools want it."""
    below = "/".join(part for part in ("images", entry.split) if part)
    height, width = entry.size
    found: JsonObject = {
        "id": number,
        "file_name": entry.file.removeprefix(f"{below}/"),
        "width": width,
        "height": height,
    }
    more = entry.record.get("image", {})
    assert isinstance(more, dict)
    return found | more


def _annotation_records(entries: Iterable[LogEntry]) -> Iterator[JsonObject]:
    number = 0
    for image, line in enumerate(entries, 1):
        found = line.record["annotations"]
        assert isinstance(found, list)
        for annotation in found:
            number += 1
            yield {"id": number, "image_id": image, **annotation}


def _json_lines(records: Iterable[JsonObject]) -> Iterator[str]:
    """Items of a JSON list, a line each."""
    for number, record in enumerate(records):
        yield (",\n" if number else "") + json.dumps(record, ensure_ascii=False)
