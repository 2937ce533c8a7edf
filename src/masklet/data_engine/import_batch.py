"""Import the output of `masklet batch` into a project. Its masks stay those of a model, for people to verify."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masklet.damaged_files import decoder_errors
from masklet.errors import InputError, MaskletError
from masklet.masks.rle import Rle
from masklet.projects import Project, ProjectSource
from masklet.scale.batch_manifest import best_rows, read_manifests
from masklet.scale.item_files import read_item_file
from masklet.scale.run_batch import SETTINGS_FILE, read_settings
from masklet.scale.storage import join_location, storage_of

__all__ = ["ImportedItem", "import_batch", "is_batch"]

BUILTIN_MODEL = "builtin.safetensors"
OTHER_MODEL = "masklet batch"
"""Author of masks whose batch did not store its model, such as one from Python."""


@dataclass(frozen=True)
class ImportedItem:
    """An item of a batch in the project: its source, and how many objects and masks are new.

    `source` is None, or without masks, if there is a `problem`. `is_known`: it had objects already, and was left alone.
    """

    item: str
    source: ProjectSource | None = None
    num_objects: int = 0
    num_masks: int = 0
    is_known: bool = False
    problem: str = ""


def is_batch(out: str | os.PathLike[str]) -> bool:
    """Return whether `masklet batch` wrote into a folder or address."""
    location = join_location(os.fspath(out), SETTINGS_FILE)
    return storage_of(location).find(location) is not None


def import_batch(project: Project, out: str | os.PathLike[str], *, only_videos: bool = False) -> Iterator[ImportedItem]:
    """Import the finished items of a batch one by one, each in one action, and yield what became of it.

    The author of the masks is the model of the batch. A source that has objects is left alone, so that the same call
    resumes. Paths of a batch that was given relative ones are below the current folder.

    Raises:
        InputError: if the batch has no masks, or no videos where those alone are wanted.
        SourceError: if `out` has no batch.
    """
    out = os.fspath(out)
    settings, storage = read_settings(out), storage_of(out)
    task = settings.get("task")
    if task == "embed" or (only_videos and task in ("everything", "annotate")):
        wanted = "masks of videos" if only_videos else "masks"
        raise InputError(f"{out} has a batch of the task {task}, which has no {wanted}: give one of --task track")
    author = Path(str(settings["model"] or BUILTIN_MODEL)).stem if "model" in settings else OTHER_MODEL
    with best_rows(read_manifests(storage, out)) as rows:
        for row in rows():
            if row.outcome != "done":
                continue
            path = Path(row.source)
            try:
                found = read_item_file(out, row.item, storage)
                if found is None:
                    yield ImportedItem(row.item, problem=f"its file in {out} is missing: run the batch again")
                elif not path.is_file():
                    yield ImportedItem(
                        row.item,
                        problem=f"there is no file {row.source!r}, and a project has files: begin in the folder where "
                        "the batch ran, and copy what is in archives or elsewhere",
                    )
                else:
                    yield _import_item(project, row.item, path, found[0], author)
            except MaskletError as error:
                yield ImportedItem(row.item, problem=str(error))


def _import_item(project: Project, item: str, path: Path, row: Mapping[str, Any], author: str) -> ImportedItem:
    """Add the file of an item and its masks.

    Raises:
        MaskletError: if the file cannot be read, or the masks do not fit it.
    """
    source = project.add_source(path, author=author)
    if project.objects(source):
        return ImportedItem(item, source, is_known=True)
    if source.sha256 != row["sha256"]:
        return ImportedItem(item, source, problem=f"{path} has changed since the batch: it is there without masks")
    try:
        masks: list[Rle] = [json.loads(mask) for mask in row["masks"]]
        columns = [
            row["ids"],
            row.get("frames", [0] * len(masks)),
            row["scores"],
            row.get("names", [None] * len(masks)),
        ]
        cells = list(zip(masks, *columns, strict=True))
    except decoder_errors() as error:
        raise InputError(f"the row of {item!r} is damaged ({error}): run the batch again") from error
    classes = {cls.name: cls.id for cls in project.classes}
    objects = dict[int, int]()
    with project.action("import", author, item):
        for mask, object_id, frame, score, name in cells:
            if name is not None and name not in classes:
                classes[name] = project.add_class(name, author=author).id
            if object_id not in objects:
                cls = None if name is None else classes[name]
                objects[object_id] = project.add_object(source, cls, author=author).id
            score = min(1.0, max(0.0, float(score)))
            project.set_mask(objects[object_id], frame, mask, score=score, origin="track", author=author)
    return ImportedItem(item, source, len(objects), len(cells))
