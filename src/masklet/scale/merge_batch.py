"""Merge what the processes of a batch wrote: one manifest, and one dataset if it is wanted.

OUT/manifest.jsonl   a line for each item, sorted by name
OUT/coco.json        images and masks, as `pycocotools` reads them
OUT/rows.parquet     a row for each item, with the columns of the stage: the one for videos and embeddings
OUT/webdataset/      archives with each image and its masks, as SA-1B has them
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from masklet.errors import InputError, SourceError
from masklet.masks.rle import Rle, run_lengths
from masklet.scale.arrow_columns import arrow_table
from masklet.scale.batch_manifest import ManifestRow, best_rows, read_manifests
from masklet.scale.item_files import read_item_file
from masklet.scale.items import Item, ItemSource, shard_key
from masklet.scale.read_ahead import read_ahead, read_item
from masklet.scale.shards import name_hash
from masklet.scale.storage import Storage, join_location, storage_of
from masklet.scale.webdataset import WebDatasetWriter, sample_key

__all__ = ["MERGE_FORMATS", "MergeSummary", "merge_batch", "sa1b_document"]

MergeFormat = Literal["coco", "parquet", "webdataset"]
MERGE_FORMATS = ("coco", "parquet", "webdataset")
MANIFEST_FILE = "manifest.jsonl"
MAX_LISTED = 10
PARQUET_ROWS = 500
"""Rows in memory, and in a group of the table."""
_ARCHIVE_SUFFIX = re.compile(r"\.(tar(\.\w+)?|tgz|parquet)$", re.IGNORECASE)


@dataclass
class MergeSummary:
    """The outcome of a batch.

    Args:
        done, failed: Items.
        objects: Masks in the dataset that was written.
        seconds: Of the stages, on all processes.
        missing: Items of the source that no process finished; 0 without a source.
        failures: Some failed items, and why.
        missing_names: Some missing items.
        files: What was written.
    """

    done: int = 0
    failed: int = 0
    objects: int = 0
    seconds: float = 0.0
    missing: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    missing_names: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether no item failed or is missing."""
        return not self.failed and not self.missing


def merge_batch(
    out: str | os.PathLike[str],
    to: MergeFormat | None = None,
    source: ItemSource | None = None,
    *,
    samples_per_archive: int = 1000,
) -> MergeSummary:
    """Write one manifest from those of all processes, and with `to` one dataset from the files of the items.

    With `source`, the items that no process finished are counted. Archives need it: it has the images. They follow its
    order; an archive of the source becomes one of the same name.

    Example:
        >>> merge_batch("out", "webdataset", ItemSource(["photos"])).is_complete  # doctest: +SKIP
        True

    Raises:
        InputError: if the format is unknown, or needs a source.
        SourceError: if `out` has no batch, or the source cannot be listed.
        OutputError: if a file cannot be written.
    """
    out = os.fspath(out)
    if to is not None and to not in MERGE_FORMATS:
        raise InputError(f"a batch is merged to {', '.join(MERGE_FORMATS)}, not to {to!r:.40}")
    if to == "webdataset" and source is None:
        raise InputError("archives hold the images too: give the source of the batch (source=, --source)")
    storage, summary = storage_of(out), MergeSummary()
    with best_rows(read_manifests(storage, out)) as rows:
        _write_text(storage, join_location(out, MANIFEST_FILE), _manifest_lines(rows(), summary), summary)
        if not summary.done and not summary.failed:
            raise SourceError(f"{out} has no manifest of a batch: give the folder of --out of `masklet batch`")
        if source is not None:
            _find_missing(rows(), source, summary)
        if to == "coco":
            names = (row.item for row in rows() if row.outcome == "done")
            _write_text(storage, join_location(out, "coco.json"), _coco_lines(out, names, summary), summary)
        elif to == "parquet":
            _write_parquet(out, (row.item for row in rows() if row.outcome == "done"), summary)
    if to == "webdataset" and source is not None:
        _write_archives(out, source, samples_per_archive, summary)
    return summary


def sa1b_document(name: str, row: Mapping[str, Any], image_id: int = 0) -> dict[str, Any]:
    """Return a row of `Segmenter` or `Annotator` as the JSON that SA-1B has next to an image.

    Example:
        >>> row = {"width": 3, "height": 2, "masks": ['{"size":[2,3],"counts":"06"}'], "boxes": [[0, 0, 3, 2]],
        ...        "scores": [0.9], "ids": [0]}
        >>> sa1b_document("a.jpg", row)["annotations"][0]["bbox"]
        [0, 0, 3, 2]
    """
    classes = row.get("classes") or [None] * len(row["masks"])
    annotations = []
    for mask, (x1, y1, x2, y2), score, id, class_id in zip(
        row["masks"], row["boxes"], row["scores"], row["ids"], classes, strict=True
    ):
        rle: Rle = json.loads(mask)
        annotation = {
            "id": id,
            "segmentation": rle,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": sum(run_lengths(rle)[1::2]),
            "predicted_iou": score,
        }
        annotations.append(annotation if class_id is None else {**annotation, "category_id": class_id})
    image = {"image_id": image_id, "width": row["width"], "height": row["height"], "file_name": name}
    return {"image": image, "annotations": annotations}


def _write_text(storage: Storage, location: str, lines: Iterator[str], summary: MergeSummary) -> None:
    """Write lines by way of a temporary file, so that memory does not grow with them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        storage.write_file(location, path)
    summary.files.append(location)


def _manifest_lines(rows: Iterator[ManifestRow], summary: MergeSummary) -> Iterator[str]:
    for row in rows:
        summary.seconds += row.seconds
        if row.outcome == "done":
            summary.done += 1
        else:
            summary.failed += 1
            if len(summary.failures) < MAX_LISTED:
                summary.failures.append((row.item, row.error))
        yield row.to_line()


def _find_missing(rows: Iterator[ManifestRow], source: ItemSource, summary: MergeSummary) -> None:
    """Count the items of the source that have no row."""
    names = {name_hash(row.item) for row in rows}
    for item in source:
        if name_hash(item.name) not in names:
            summary.missing += 1
            if len(summary.missing_names) < MAX_LISTED:
                summary.missing_names.append(item.name)


def _coco_lines(out: str, names: Iterator[str], summary: MergeSummary) -> Iterator[str]:
    """Yield the lines of a COCO file: one for each image, and one for each mask."""
    storage, categories, number = storage_of(out), dict[int, str](), 0
    with TemporaryDirectory() as folder, (Path(folder) / "annotations").open("w+", encoding="utf-8") as annotations:
        yield '{"images": ['
        for image_id, name in enumerate(names, 1):
            found = read_item_file(out, name, storage)
            if found is None or "masks" not in found[0] or "frames" in found[0]:
                raise InputError(
                    f"{name!r} in {out} has no masks of an image; COCO holds those of the tasks everything and annotate"
                )
            document = sa1b_document(name, found[0])
            image = {"id": image_id, "width": document["image"]["width"], "height": document["image"]["height"]}
            yield ("," if image_id > 1 else "") + json.dumps({**image, "file_name": name})
            classes = found[0].get("names") or ["object"] * len(document["annotations"])
            for annotation, class_name in zip(document["annotations"], classes, strict=True):
                number += 1
                category = int(annotation.get("category_id", 0)) + 1
                categories[category] = class_name
                more = {"image_id": image_id, "category_id": category, "iscrowd": 0, "id": number}
                score = {"score": annotation.pop("predicted_iou")}
                annotations.write(("," if number > 1 else "") + json.dumps({**annotation, **more, **score}) + "\n")
        summary.objects = number
        yield '], "annotations": ['
        annotations.seek(0)
        yield from (line.rstrip("\n") for line in annotations)
    listed = [{"id": id, "name": name} for id, name in sorted(categories.items())]
    yield f'], "categories": {json.dumps(listed)}}}'


def _write_parquet(out: str, names: Iterator[str], summary: MergeSummary) -> None:
    """Write the rows of all items to one table, in the memory of some of them."""
    found = (read_item_file(out, name) for name in names)
    rows = ({name: cell for name, cell in one[0].items() if name != "error"} for one in found if one is not None)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        path, writer = Path(folder) / "rows", None
        while block := list(islice(rows, PARQUET_ROWS)):
            table = arrow_table({name: [row[name] for row in block] for name in block[0]})
            if writer is None:
                from pyarrow.parquet import ParquetWriter

                writer = stack.enter_context(ParquetWriter(path, table.schema))
            writer.write_table(table)
            summary.objects += sum(len(row.get("masks", ())) for row in block)
        stack.close()
        location = join_location(out, "rows.parquet")
        storage_of(out).write_file(location, path)
    summary.files.append(location)


def _write_archives(out: str, source: ItemSource, samples: int, summary: MergeSummary) -> None:
    """Write the images of a source and their masks to archives, in the order of the source."""
    storage = storage_of(out)

    def read(item: Item) -> tuple[Item, bytes | None, dict[str, Any]]:
        found = read_item_file(out, item.name, storage)
        try:
            return item, None if found is None else read_item(item, Path()).content, found[0] if found else {}
        except SourceError as error:
            return item, None, {"error": str(error)}

    with WebDatasetWriter(join_location(out, "webdataset"), max_samples=samples) as writer:
        for number, (item, content, row) in enumerate(read_ahead(source, read, threads=4, max_items=16), 1):
            if content is None:
                if row:
                    summary.failed += 1
                    summary.failures.append((item.name, row["error"]))
                continue
            if "masks" not in row:
                raise InputError(f"{item.name!r} in {out} has no masks: archives hold those of everything and annotate")
            group = shard_key(item.name)
            member = item.name.removeprefix(f"{group}/") if group != item.name else item.name
            document = sa1b_document(member, row, number)
            summary.objects += len(document["annotations"])
            suffix = member.rpartition(".")[2].lower() if "." in member else "jpg"
            files = {suffix: content, "json": json.dumps(document, separators=(",", ":")).encode()}
            writer.add(
                sample_key(member), files, None if group == item.name else f"{_ARCHIVE_SUFFIX.sub('', group)}.tar"
            )
    summary.files += writer.locations
