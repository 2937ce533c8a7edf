"""COCO instance JSON: a file for all pictures of a part, made from the journal a picture at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from masklet.files import atomic_path
from masklet.layouts.base import LayoutWriter, Written
from masklet.layouts.journal import Line, Record
from masklet.layouts.records import LabelledObject, LabelledPicture
from masklet.layouts.tracing import trace, window_of

__all__ = ["CocoLayout"]

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

    def _asked(self) -> Record:
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

    def _annotation(self, thing: LabelledObject, written: Written) -> Record:
        mask = thing.mask
        left, top, crop = window_of(mask)
        record: Record = {
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


def _image(number: int, line: Line) -> Record:
    """`file_name` is below the folder of the pictures of this part, as the COCO tools want it."""
    below = "/".join(part for part in ("images", line.split) if part)
    height, width = line.size
    found: Record = {"id": number, "file_name": line.file.removeprefix(f"{below}/"), "width": width, "height": height}
    more = line.record.get("image", {})
    assert isinstance(more, dict)
    return found | more


def _numbered(lines: Iterable[Line]) -> Iterator[Record]:
    number = 0
    for image, line in enumerate(lines, 1):
        found = line.record["annotations"]
        assert isinstance(found, list)
        for annotation in found:
            number += 1
            yield {"id": number, "image_id": image, **annotation}


def _items(records: Iterable[Record]) -> Iterator[str]:
    """Items of a JSON list, a line each."""
    for number, record in enumerate(records):
        yield (",\n" if number else "") + json.dumps(record, ensure_ascii=False)
