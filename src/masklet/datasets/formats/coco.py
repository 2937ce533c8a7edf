"""COCO instance JSON: one file for many pictures, outlines and run-length codes.

The file may be huge; an entry keeps where its annotations lie in it, and reads them from there.

COCO instance JSON: a file for all pictures of a part, made from the journal a picture at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

from masklet.atomic_files import atomic_path
from masklet.datasets.dataset import Choice, DataError, Dataset, Finding, LazyMasks, Mask, Size, Still, Tag, same_size
from masklet.datasets.files import chosen, files_in, folders_in, is_split
from masklet.datasets.json_reader import Record, as_list, as_record, items_of, keys_of_start, read_bytes
from masklet.datasets.labeled_image import LabelledObject, LabelledPicture
from masklet.datasets.mask_decoding import code_decoder, ring_of
from masklet.datasets.write_log import Line, LogRecord
from masklet.datasets.writer import LayoutWriter, Written
from masklet.errors import SourceError
from masklet.masks.polygon_simplify import trace, window_of
from masklet.masks.polygons import Polygon, Ring, to_mask
from masklet.media.image_source import natural_key

__all__ = ["CocoLayout", "CocoStill", "is_coco", "open_coco"]

Span = tuple[int, int]
_TRIED = 50
"""So many files are looked at to find out what is there."""


@dataclass(frozen=True)
class CocoStill(Still):
    """A picture, and where its annotations lie in the JSON file, in bytes."""

    file: Path
    size: Size | None
    """(height, width) as the file says."""
    spans: tuple[Span, ...]

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        if self.size is not None:
            same_size(self.file, self.size, self.picture, size, f"width and height of {self.picture.name}")
        records = dict(enumerate(self._records(), 1))
        decoders = {n: self._decoder(record, size) for n, record in records.items()}
        return LazyMasks(decoders, {n: _tag(record) for n, record in records.items()})

    def _records(self) -> Iterator[Record]:
        if not self.spans:
            return
        try:
            with self.file.open("rb") as file:
                for start, end in self.spans:
                    file.seek(start)
                    yield as_record(json.loads(file.read(end - start)), self.file, "an annotation")
        except (OSError, ValueError) as problem:
            if isinstance(problem, DataError):
                raise
            raise DataError.of(
                self.file, f"cannot be read ({problem}); it changed after it was opened: open the data set again"
            ) from problem

    def _decoder(self, record: Record, size: Size) -> Callable[[], Mask]:
        what, shape = f"annotation {record.get('id')}", record.get("rle") or record.get("segmentation")
        if isinstance(shape, dict):
            return code_decoder(shape, size, self.file, self.picture, what)
        rings = [
            ring_of(as_list(part, self.file, f"each outline of {what}"), (1.0, 1.0), size, self.file, what)
            for part in as_list(shape, self.file, f"'segmentation' of {what}")
        ]
        return partial(_painted, rings, size)


def _tag(record: Record) -> Tag:
    """`score` and `track_id` are not of the format itself, but many write them."""
    kind, score, track = record.get("category_id"), record.get("score"), record.get("track_id")
    return Tag(
        class_id=kind if isinstance(kind, int) else None,
        score=float(score) if isinstance(score, (int, float)) and 0 <= score <= 1 else None,
        track=track if isinstance(track, int) else None,
    )


def _painted(rings: list[Ring], size: Size) -> Mask:
    """Pixels whose centre lies in one of the rings."""
    return to_mask([Polygon(ring) for ring in rings], size)


def is_coco(path: Path) -> bool:
    """Whether a path is a COCO JSON, or a folder with one."""
    return bool(_files(path))


def open_coco(path: Path, choice: Choice) -> Dataset:
    """The pictures of a COCO JSON, or of all those below a folder; a split is the end of a file's name.

    Crowds (`iscrowd`) are left out unless `choice.crowds`; an object with several outlines is all of them together.

    Example:
        >>> open_coco(Path("coco"), Choice("val2017")).entries[0].name
        '000000000139'

    Raises:
        SourceError: no such file or split, no JSON, no images in it, or no pictures in its folders.
    """
    files = _files(path)
    if choice.split is not None:
        known = {_split_of(file): file for file in files}
        files = [known[chosen(path, choice.split, known, "split")]]
    if not files:
        raise SourceError(
            f"{path} is no COCO data; allowed is a JSON file with images and annotations, or a folder with "
            "annotations/instances_*.json: check the path"
        )
    entries: list[CocoStill] = []
    problems: list[Finding] = []
    names: dict[int, str] = {}
    splits: dict[str, str] = {}
    films: dict[str, str] = {}
    for file in files:
        prefix = "" if len(files) == 1 else f"{_split_of(file)}/"
        found, read = _of_file(file, prefix, choice.crowds)
        entries += found
        problems += read.problems
        names = {**read.names, **names}
        films |= read.films
        if prefix or choice.split is not None or is_split(_split_of(file)):
            splits |= {still.name: _split_of(file) for still in found}
    return Dataset("coco", path, tuple(entries), tuple(problems), dict(sorted(names.items())), splits, films)


def _files(path: Path) -> list[Path]:
    if path.is_file():  # what is wrong with it comes out when it is read
        return [path] if path.suffix.lower() == ".json" else []
    for folders in ([path / "annotations"], [path], folders_in(path)):
        found = [file for folder in folders for file in files_in(folder, (".json",))]
        fitting = [f for f in found if f.name.startswith("instances_")] or [f for f in found[:_TRIED] if _fits(f)]
        if fitting:
            return fitting
    return []


def _fits(file: Path) -> bool:
    """Judged by the names in its first and its last part; the middle of a huge file is not looked at."""
    keys = keys_of_start(file)
    named = "images" in keys and bool({"annotations", "segmentation"} & keys)
    return named or {"annotations", "image_id", "category_id"} <= keys


def _split_of(file: Path) -> str:
    """val2017 of instances_val2017.json; train of train/_annotations.coco.json."""
    stem = file.name.split(".")[0]
    return file.parent.name if stem == "_annotations" else stem.removeprefix("instances_")


@dataclass
class _Read:
    """What a file holds, while it is read."""

    file: Path
    crowds: bool
    images: dict[int | str, Record] = field(default_factory=dict)
    spans: dict[int | str, list[Span]] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    films: dict[str, str] = field(default_factory=dict)
    """As `video` of an image says, which is not of the format itself."""
    shapes: int = 0
    boxes: int = 0

    def wrong(self, entry: object, reason: str) -> None:
        """Note what is broken."""
        self.problems.append(Finding.of(str(entry), self.file, reason))

    def image(self, text: bytes) -> None:
        """Take one item of `images`."""
        try:
            record = json.loads(text)
        except ValueError as problem:
            self.wrong("images", f"has an image whose name is not UTF-8 ({problem}); export it again")
            return
        known = isinstance(record, dict) and isinstance(record.get("file_name"), str) and record["file_name"]
        if not known or not isinstance(record.get("id"), (int, str)):
            self.wrong("images", f"has an image without id or file_name ({record!r:.80}); mend or remove it")
        elif record["id"] in self.images:
            name, first = record["file_name"], self.images[record["id"]]["file_name"]
            self.wrong(name, f"gives id {record['id']!r} to {first} and to {name}; ids are unique: renumber one")
        else:
            self.images[record["id"]] = record

    def category(self, text: bytes) -> None:
        """Take one item of `categories`; what is none is passed over, since masks do not need it."""
        record = json.loads(text.decode("utf-8", "replace"))
        if isinstance(record, dict) and isinstance(record.get("id"), int):
            self.names.setdefault(record["id"], str(record.get("name", record["id"])))

    def annotation(self, value: object, start: int, end: int) -> None:
        """Take one item of `annotations`."""
        record = value if isinstance(value, dict) else {}
        image, shape = record.get("image_id"), record.get("segmentation")
        if not isinstance(image, (int, str)):
            self.wrong("annotations", f"has an annotation without image_id ({value!r:.80}); mend or remove it")
        elif record.get("iscrowd") and not self.crowds:
            return
        elif not shape:
            self.boxes += 1
            self.wrong(
                f"annotation {record.get('id')}", f"(annotation {record.get('id')}) has no segmentation; remove it"
            )
        else:
            self.shapes += 1
            self.spans.setdefault(image, []).append((start, end))


def _of_file(file: Path, prefix: str, crowds: bool) -> tuple[list[CocoStill], _Read]:
    read = _read(file, crowds)
    top = _pictures_of(file, [str(record["file_name"]) for record in read.images.values()])
    entries: dict[str, CocoStill] = {}
    for number, record in read.images.items():
        spans = tuple(read.spans.pop(number, ()))
        still = _still(file, top, record, prefix, spans)
        if still.name in entries:
            read.wrong(still.name, f"has {record['file_name']} twice; a picture is there once: join its annotations")
        else:
            entries[still.name] = still
            read.films |= {still.name: str(record["video"])} if record.get("video") else {}
    for number, spans_left in read.spans.items():
        reason = f"has {len(spans_left)} annotation(s) of image_id {number!r}, which no image has; mend or remove them"
        read.wrong(f"image_id {number}", reason)
    return sorted(entries.values(), key=lambda still: natural_key(still.name)), read


def _read(file: Path, crowds: bool) -> _Read:
    content, read = read_bytes(file), _Read(file, crowds)
    for key, start, end, value in items_of(content, file, ("images", "annotations", "categories")):
        if key == "annotations":
            read.annotation(value, start, end)
        elif key == "categories":
            read.category(content[start:end])
        else:
            read.image(content[start:end])
    if not read.images:
        raise DataError.of(file, "names no images; a COCO file has 'images' and 'annotations': export it again")
    if read.boxes and not read.shapes:
        raise DataError.of(file, "has boxes only, no segmentation; masks are needed: export it with masks")
    return read


def _still(file: Path, top: Path, record: Record, prefix: str, spans: tuple[Span, ...]) -> CocoStill:
    name = str(record["file_name"]).replace("\\", "/")
    height, width = record.get("height"), record.get("width")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return CocoStill(prefix + name.removesuffix(Path(name).suffix), top / name, file, size, spans)


def _pictures_of(file: Path, names: Iterable[str]) -> Path:
    """The folder that `file_name` counts from: the first of the usual ones with one of the pictures in it."""
    split, above = _split_of(file), file.parent.parent
    tried = [
        *(file.parent, file.parent / "images", file.parent / split, file.parent / "images" / split),
        *(above / split, above / "images" / split, above / "images", above),
    ]
    some = [name.replace("\\", "/") for name in names][:_TRIED]
    for folder in tried:
        if any((folder / name).is_file() for name in some):
            return folder
    raise DataError.of(
        file,
        f"names pictures such as {some[0]!r}, and none of them is in {', '.join(str(folder) for folder in tried)}; "
        f"put them in one of these, best {above / split}",
    )


DEFAULT = "default"
"""The part of pictures that belong to none."""
TO_RLE = "an object kept as a run-length code, because no outline keeps enough of it"


class CocoLayout(LayoutWriter):
    """annotations/instances_SPLIT.json, with run-length codes (lossless), outlines, or both.

    Outlines are as simple as `min_iou` allows. A part of an object is a polygon of its own; a hole hangs on its
    part's outer ring by a bridge of no width, which the COCO tools fill as a hole. Where no outline keeps enough, as
    of an empty mask, the run-length code is written, and counted in `loss.notes`. With "both" the outline is the
    `segmentation` and the code is beside it as `rle`, which other tools pass over. category_id is the class number
    plus one. Where they are known, `score` and `track_id` are written too, and `video` and `frame_id` of pictures.
    """

    layout: ClassVar[str] = "coco"
    about: ClassVar[str] = "annotations/instances_SPLIT.json, images/[SPLIT/]NAME.jpg"
    holds: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})

    def _asked(self) -> LogRecord:
        shape = self.options.segmentation
        return {**super()._asked(), "segmentation": shape, "min_iou": None if shape == "rle" else self.options.min_iou}

    def _picture_file(self, picture: LabelledPicture) -> str:
        return "/".join(part for part in ("images", picture.split, picture.name) if part)

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written = Written()
        written.record["annotations"] = [self._annotation(thing, written) for thing in picture.objects]
        said = {"video": picture.film, "frame_id": picture.frame}
        written.record["image"] = {what: value for what, value in said.items() if value is not None}
        return written

    def _annotation(self, thing: LabelledObject, written: Written) -> LogRecord:
        mask = thing.mask
        left, top, crop = window_of(mask)
        record: LogRecord = {
            "category_id": thing.class_id + 1,
            "bbox": [left, top, crop.shape[1], crop.shape[0]],
            "area": int(crop.sum()),
            "iscrowd": 0,
        }
        outline = trace(mask, self.options.min_iou) if self.options.segmentation != "rle" else None
        if outline is None:
            record["segmentation"] = thing.rle
            written.notes.update([TO_RLE] if self.options.segmentation != "rle" else [])
        else:
            record["segmentation"] = [ring.ravel().astype(int).tolist() for ring in outline.rings]
        both = outline is not None and self.options.segmentation == "both"
        record |= {"rle": thing.rle} if both else {}
        record |= {"score": thing.score} if thing.score is not None else {}
        record |= {"track_id": thing.id} if thing.id is not None else {}
        written.ious.append(1.0 if outline is None or both else outline.iou)
        return record

    def _finish(self) -> None:
        for split in self._journal.splits:
            path = self.folder / "annotations" / f"instances_{(split or DEFAULT).replace('/', '_')}.json"
            with atomic_path(path) as temporary:
                self._fill(temporary, split)
            self.paths.append(path)

    def _fill(self, path: Path, split: str | None) -> None:
        categories = [{"id": number + 1, "name": name, "supercategory": ""} for number, name in self.names.items()]
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write('{"info": {"description": "masklet"},\n"licenses": [],\n"categories": [\n')
            file.writelines(_items(categories))
            file.write('\n],\n"images": [\n')
            file.writelines(_items(_image(number, line) for number, line in enumerate(self._lines(split), 1)))
            file.write('\n],\n"annotations": [\n')
            file.writelines(_items(_numbered(self._lines(split))))
            file.write("\n]}\n")


def _image(number: int, line: Line) -> LogRecord:
    """`file_name` is below the folder of the pictures of this part, as the COCO tools want it."""
    below = "/".join(part for part in ("images", line.split) if part)
    height, width = line.size
    found: LogRecord = {
        "id": number,
        "file_name": line.file.removeprefix(f"{below}/"),
        "width": width,
        "height": height,
    }
    more = line.record.get("image", {})
    assert isinstance(more, dict)
    return found | more


def _numbered(lines: Iterable[Line]) -> Iterator[LogRecord]:
    number = 0
    for image, line in enumerate(lines, 1):
        found = line.record["annotations"]
        assert isinstance(found, list)
        for annotation in found:
            number += 1
            yield {"id": number, "image_id": image, **annotation}


def _items(records: Iterable[LogRecord]) -> Iterator[str]:
    """Items of a JSON list, a line each."""
    for number, record in enumerate(records):
        yield (",\n" if number else "") + json.dumps(record, ensure_ascii=False)
