"""`Project`: sources, classes, objects, prompts and masks that last, with who set them, and undo without a limit.

Coordinates are pixels of the upright image, x right and y down; frames count from 0; sizes are (height, width).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, ProjectError, StateError
from masklet.masks import rle
from masklet.masks.drawing import palette_color
from masklet.masks.rle import Rle
from masklet.projects.project_cache import DEFAULT_CACHE_BYTES
from masklet.projects.project_database import DATABASE_FILE
from masklet.projects.project_files import DEFAULT_MASK_BYTES, ProjectFiles, SourceRef, check_text, whole_number
from masklet.projects.project_records import (
    ORIGINS,
    PERSON_ORIGINS,
    STATES,
    ExportResult,
    ImportResult,
    ProjectAction,
    ProjectChange,
    ProjectClass,
    ProjectMask,
    ProjectObject,
    ProjectPrompt,
)
from masklet.projects.project_schema import Row, check_row, parse_stored_json
from masklet.prompts import BoxesLike, LabelsLike, MasksLike, PointsLike, parse_object_prompt

if TYPE_CHECKING:
    from masklet.datasets import Dataset, WriteOptions
    from masklet.projects.project_tracking import TrackingModel
    from masklet.results import Results

__all__ = ["Project", "open_project"]

SUFFIX = ".masklet"
CONTENTS_PER_CHECK = 256
"""New masks after which the bound is checked."""
COLOR = re.compile(r"#[0-9a-f]{6}")
ClassRef: TypeAlias = "int | ProjectClass"
ObjectRef: TypeAlias = "int | ProjectObject"
MaskLike: TypeAlias = "npt.NDArray[np.bool_] | npt.NDArray[np.uint8] | Rle"


def open_project(
    path: str | os.PathLike[str],
    *,
    author: str = "person",
    create: bool = True,
    timeout_s: float = 30.0,
    durable: bool = True,
    max_mask_bytes: int = DEFAULT_MASK_BYTES,
    max_cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> Project:
    """Open a project, a folder NAME.masklet, or make it.

    Threads may share one `Project`; several processes may open the same folder.

    Args:
        path: the folder; a new one must be called NAME.masklet.
        author: who sets what this object sets, unless a call says otherwise.
        create: make the folder if there is none.
        timeout_s: how long to wait for another process that writes.
        durable: wait for the disk at each action, so that a power failure costs none; False: it may cost the last
            ones. The end of the process, however it ends, costs none in either case.
        max_mask_bytes: bound of the masks that models made and no person verified; the oldest are dropped.
        max_cache_bytes: bound of `Project.caches`.

    Example:
        >>> with open_project("clip.masklet", author="anna") as project:  # doctest: +SKIP
        ...     clip = project.add_source("clip.mp4")
        ...     rex = project.add_object(clip, project.add_class("dog"), name="Rex")
        ...     project.set_prompt(rex, 0, points=[[210, 350]])
        ...     for results in project.track(clip, SAM()):
        ...         print(results.frame_idx)
        ...     project.export("coco", "out")

    Raises:
        ProjectError: if it is missing, damaged, of another program or of a newer version.
        OutputError: if it cannot be made or written, or another process holds it for too long.
    """
    folder = Path(os.path.abspath(os.path.expanduser(path)))
    if not (folder / DATABASE_FILE).is_file():
        if not create:
            raise ProjectError(f"there is no project {str(path)!r}; it is a folder NAME.masklet with {DATABASE_FILE}")
        if folder.suffix != SUFFIX or not folder.stem:
            raise ProjectError(f"{str(path)!r} is no name of a project; it is a folder NAME.masklet: add the suffix")
        if (
            folder.is_dir()
            and any(folder.iterdir())
            and not folder.joinpath(DATABASE_FILE).with_suffix(".lock").exists()
        ):
            raise ProjectError(f"{folder} is there, and no project: choose another name, or move it away")
    return Project(
        folder,
        author=author,
        timeout_s=timeout_s,
        durable=durable,
        max_mask_bytes=max_mask_bytes,
        max_cache_bytes=max_cache_bytes,
    )


class Project(ProjectFiles):
    """An open project, made by `open_project`; close it, or use it as a context manager.

    Every method that changes something is one action: it is on disk when the method returns, has a number (the
    revision), an author and a time, and can be undone. Objects, classes and sources are given as their records or ids.

    Example:
        >>> from tempfile import mkdtemp
        >>> with open_project(Path(mkdtemp()) / "zoo.masklet") as project:
        ...     dog = project.add_class("dog")
        ...     undone = project.undo()
        ...     project.classes, project.revision, [action.state for action in project.history()]
        ([], 2, ['undo', 'undone'])
    """

    # classes and objects ----------------------------------------------------------------------------------------

    @property
    def classes(self) -> list[ProjectClass]:
        """All classes, in the order in which they were added."""
        return [_to_class(row) for row in self.database.rows("classes")]

    def add_class(self, name: str, *, color: str | None = None, author: str | None = None) -> ProjectClass:
        """Add a class; `color` is "#rrggbb", None: one of the palette.

        Raises:
            InputError: if the name is taken or empty, or the color is none.
        """
        self._check_name("classes", name)
        with self.action("add class", author, name):
            self._check_name("classes", name)
            row = self.database.put("classes", {"id": None, "name": name, "color": _checked_color(color)})
        return _to_class(row)

    def update_class(
        self, cls: ClassRef, *, name: str | None = None, color: str | None = None, author: str | None = None
    ) -> ProjectClass:
        """Rename a class, or give it another color; None leaves a value as it is.

        Raises:
            InputError: if there is no such class, the name is taken or empty, or the color is none.
        """
        with self.action("change class", author, name or ""):
            row = self._find("classes", cls)
            if name is not None and name != row["name"]:
                self._check_name("classes", name)
            row = {**row, "name": name or row["name"], "color": _checked_color(color) or row["color"]}
            self.database.put("classes", row)
        return _to_class(row)

    def delete_class(self, cls: ClassRef, *, author: str | None = None) -> None:
        """Remove a class that no object has.

        Raises:
            InputError: if there is no such class.
            StateError: if objects have it.
        """
        with self.action("delete class", author):
            row = self._find("classes", cls)
            count = len(self.database.rows("objects", "class = ?", (row["id"],)))
            if count:
                raise StateError(f"{count} object(s) have the class {row['name']!r}: give them another class first")
            self.database.delete("classes", row)

    def objects(self, source: SourceRef | None = None) -> list[ProjectObject]:
        """Return the objects of a source, or all of them, in the order in which they were added.

        Raises:
            InputError: if there is no such source.
        """
        if source is None:
            return [_to_object(row) for row in self.database.rows("objects")]
        source_id = self._find("sources", source)["id"]
        return [_to_object(row) for row in self.database.rows("objects", "source = ?", (source_id,))]

    def object(self, obj: ObjectRef) -> ProjectObject:
        """Return the current record of an object.

        Raises:
            InputError: if there is none of this id.
        """
        return _to_object(self._find("objects", obj))

    def add_object(
        self,
        source: SourceRef,
        cls: ClassRef | None = None,
        *,
        name: str | None = None,
        number: int | None = None,
        track_id: int | None = None,
        author: str | None = None,
    ) -> ProjectObject:
        """Add an object to a source; `number` is by default the next one of the source, and a part of the name.

        Raises:
            InputError: if there is no such source or class, or the number is taken or below 1.
        """
        if name is not None:
            check_text("name", name)
        with self.action("add object", author, name or ""):
            source_id = self._find("sources", source)["id"]
            kind = None if cls is None else self._find("classes", cls)
            used = "SELECT COALESCE(MAX(number), 0) + 1 FROM objects WHERE source = ?"
            chosen = (
                int(self.database.query(used, (source_id,))[0][0]) if number is None else whole_number("number", number)
            )
            if chosen < 1 or self.database.rows("objects", "source = ? AND number = ?", (source_id, chosen)):
                raise InputError(
                    f"number={chosen} of an object is taken or below 1; leave it out for the next free one"
                )
            row: Row = {
                "id": None,
                "source": source_id,
                "class": None if kind is None else kind["id"],
                "number": chosen,
                "track_id": None if track_id is None else whole_number("track_id", track_id),
                "name": name or f"{'object' if kind is None else kind['name']} {chosen}",
                "hidden": 0,
                "locked": 0,
            }
            return _to_object(self.database.put("objects", row))

    def update_object(
        self,
        obj: ObjectRef,
        *,
        name: str | None = None,
        cls: ClassRef | None = None,
        hidden: bool | None = None,
        locked: bool | None = None,
        author: str | None = None,
    ) -> ProjectObject:
        """Rename, reclassify, hide or lock an object; None leaves a value as it is.

        Raises:
            InputError: if there is no such object or class, or the name is empty.
        """
        given: Row = {
            "name": name,
            "class": None if cls is None else self._find("classes", cls)["id"],
            "hidden": None if hidden is None else int(bool(hidden)),
            "locked": None if locked is None else int(bool(locked)),
        }
        changed = {key: value for key, value in given.items() if value is not None}
        if name is not None:
            check_text("name", name)
        with self.action("change object", author, ", ".join(changed)):
            return _to_object(self.database.put("objects", {**self._find("objects", obj), **changed}))

    def delete_object(self, obj: ObjectRef, *, author: str | None = None) -> None:
        """Remove an object with its prompts and masks.

        Raises:
            InputError: if there is no such object.
            StateError: if it is locked.
        """
        with self.action("delete object", author, self.object(obj).name):
            row = self._find_editable(obj)
            self._delete_object_rows(row)

    def swap(self, first: ObjectRef, second: ObjectRef, *, from_frame: int = 0, author: str | None = None) -> None:
        """Exchange the prompts, masks and verified marks of two objects of one source, from a frame on.

        Raises:
            InputError: if there is no such object, both are the same, or they are of two sources.
            StateError: if one is locked.
        """
        with self.action("swap", author, f"from frame {from_frame}"):
            one, other = self._find_editable(first), self._find_editable(second)
            if one["id"] == other["id"] or one["source"] != other["source"]:
                raise InputError(f"objects {one['id']} and {other['id']} must be two of one source to be swapped")
            partner = {one["id"]: other["id"], other["id"]: one["id"]}
            where, args = "object IN (?, ?) AND frame >= ?", (*partner, whole_number("from_frame", from_frame))
            for table in ("prompts", "masks", "verified"):
                rows = self.database.rows(table, where, args)
                for row in rows:
                    self.database.delete(table, row)
                for row in rows:
                    self.database.put(table, {**row, "object": partner[row["object"]]})

    # prompts and masks ------------------------------------------------------------------------------------------

    def set_prompt(
        self,
        obj: ObjectRef,
        frame: int = 0,
        *,
        points: PointsLike | None = None,
        labels: LabelsLike | None = None,
        box: BoxesLike | None = None,
        mask: MasksLike | None = None,
        author: str | None = None,
    ) -> None:
        """Replace the prompts of an object on a frame; without any, remove them.

        `points` is [[x, y], ...], `labels` 1 on the object and 0 off it, `box` [x1, y1, x2, y2], `mask` (H, W). Points
        off the object may stand alone where the object has a mask on the frame: tracking then starts from that mask.

        Raises:
            PromptError: if the prompt is malformed, or lies outside the frame.
            InputError: if there is no such object or frame.
            StateError: if the object is locked.
        """
        with self.action("prompt" if any(one is not None for one in (points, box, mask)) else "clear prompt", author):
            row, source, number = self._find_on_frame(obj, frame)
            if points is None and box is None and mask is None:
                if labels is not None:
                    raise InputError(f"labels={labels!r:.40} came without points: give the points that they belong to")
                for known in self.database.rows("prompts", "object = ? AND frame = ?", (row["id"], number)):
                    self.database.delete("prompts", known)
                return
            prompt = parse_object_prompt(
                points,
                labels,
                box,
                mask,
                size=(source["height"], source["width"]),
                refine=self.mask(row["id"], number) is not None,
            )
            self.database.put(
                "prompts",
                {
                    "object": row["id"],
                    "frame": number,
                    "points": None if prompt.points is None else json.dumps(prompt.points.xy.tolist()),
                    "labels": None if prompt.points is None else json.dumps(prompt.points.labels.tolist()),
                    "box": None if prompt.box is None else json.dumps(prompt.box.xyxy.tolist()),
                    "mask": None if prompt.mask is None else self._keep(rle.encode(prompt.mask.mask), kept=True),
                    "author": author or self.author,
                    "at": time.time(),
                },
            )

    def prompts(self, source: SourceRef, frame: int | None = None) -> list[ProjectPrompt]:
        """Return the prompts of the objects of a source, by object and frame; on one frame, if it is given.

        Raises:
            InputError: if there is no such source.
        """
        source_id, path = self._find("sources", source)["id"], self.database.path
        where, args = "object IN (SELECT id FROM objects WHERE source = ?)", [source_id]
        if frame is not None:
            where, args = f"{where} AND frame = ?", [source_id, whole_number("frame", frame)]
        found = []
        for row in self.database.rows("prompts", where, args):
            lists = {
                name: None if row[name] is None else parse_stored_json(path, row[name], list)
                for name in ("points", "labels", "box")
            }
            try:
                points = None if lists["points"] is None else tuple((float(x), float(y)) for x, y in lists["points"])
                labels = None if lists["labels"] is None else tuple(map(int, lists["labels"]))
                corners = None if lists["box"] is None else tuple(map(float, lists["box"]))
                box = None if corners is None else (corners[0], corners[1], corners[2], corners[3])
            except (TypeError, ValueError, IndexError, OverflowError) as error:
                raise ProjectError(f"{path} is damaged: a prompt is {lists!r:.80}; restore a copy") from error
            found.append(
                ProjectPrompt(
                    object_id=row["object"],
                    frame=row["frame"],
                    points=points,
                    labels=labels,
                    box=box,
                    mask=None if row["mask"] is None else self._content(row["object"], row["mask"]),
                    author=row["author"],
                    at=row["at"],
                )
            )
        return found

    def set_mask(
        self,
        obj: ObjectRef,
        frame: int,
        mask: MaskLike | None,
        *,
        state: str = "visible",
        score: float | None = None,
        origin: str = "edit",
        author: str | None = None,
    ) -> None:
        """Set the mask of an object on a frame, (H, W) boolean, 0/1 or 0/255, or a run-length code; None removes it.

        `origin` is "click" (a model answered prompts), "track", "edit" (a person drew it) or "import"; `state` is
        "visible", "occluded" or "lost"; `score` is 0 to 1. Another mask than the verified one is no longer verified.

        Raises:
            InputError: if there is no such object or frame, the mask has another size, or a value is none of these.
            StateError: if the object is locked, or `origin` is "track" and a person made or verified the mask there.
        """
        for name, value, choices in (("state", state, STATES), ("origin", origin, ORIGINS)):
            if value not in choices:
                raise InputError(f"{name}={value!r:.40} is unknown; choose {', '.join(map(repr, choices))}")
        if score is not None and not (isinstance(score, (int, float, np.floating)) and 0 <= score <= 1):
            raise InputError(f"score={score!r:.40} is no score; it is from 0 to 1, or None if it is unknown")
        with self.action(origin if mask is not None else "delete mask", author):
            row, source, number = self._find_on_frame(obj, frame)
            where, key = "object = ? AND frame = ?", (row["id"], number)
            verified, known = self.database.rows("verified", where, key), self.database.rows("masks", where, key)
            if origin == "track" and (verified or any(one["origin"] in PERSON_ORIGINS for one in known)):
                raise StateError(
                    f"a person made or verified the mask of object {row['id']} on frame {number}, and tracking keeps "
                    "it: remove it first, or set the mask with another origin"
                )
            if mask is None:
                for one in (*verified, *known):
                    self.database.delete("verified" if one in verified else "masks", one)
                return
            code = self._to_rle(mask, (source["height"], source["width"]))
            content = self._keep(code, kept=origin in PERSON_ORIGINS)
            if verified and [one["content"] for one in known] != [content]:
                self.database.delete("verified", verified[0])
            self.database.put(
                "masks",
                {
                    "object": row["id"],
                    "frame": number,
                    "content": content,
                    "state": state,
                    "score": None if score is None else float(score),
                    "origin": origin,
                    "author": author or self.author,
                    "at": time.time(),
                },
            )

    def mask(self, obj: ObjectRef, frame: int = 0) -> ProjectMask | None:
        """Return the mask of an object on a frame; None if there is none.

        Raises:
            InputError: if there is no such object.
        """
        args = (self._find("objects", obj)["id"], whole_number("frame", frame))
        return next(iter(self._masks("m.object = ? AND m.frame = ?", args, with_rle=True)), None)

    def masks(
        self, source: SourceRef, start: int = 0, stop: int | None = None, *, with_rle: bool = True
    ) -> list[ProjectMask]:
        """Return the masks of a source from frame `start` to before `stop` (default: the end), by frame and object.

        Without `with_rle` their contents are left out, which makes a list of a long video small.

        Raises:
            InputError: if there is no such source.
        """
        args = [self._find("sources", source)["id"], whole_number("start", start)]
        where = "o.source = ? AND m.frame >= ?"
        if stop is not None:
            where, args = f"{where} AND m.frame < ?", [*args, whole_number("stop", stop)]
        return list(self._masks(where, args, with_rle=with_rle))

    def verify(self, obj: ObjectRef, frame: int = 0, verified: bool = True, *, author: str | None = None) -> None:
        """Mark that a person has checked an object on a frame, its mask or its absence; False removes the mark.

        Tracking replaces no verified mask, and its content is never dropped.

        Raises:
            InputError: if there is no such object or frame.
            StateError: if the object is locked, or the content of its mask there was dropped.
        """
        with self.action("verify" if verified else "unverify", author):
            row, _, number = self._find_on_frame(obj, frame)
            where, key = "object = ? AND frame = ?", (row["id"], number)
            known = self.database.rows("verified", where, key)
            for one in known if not verified else ():
                self.database.delete("verified", one)
            if known or not verified:
                return
            for mask in self.database.rows("masks", where, key):
                if not self.database.query("SELECT 1 FROM contents WHERE sha256 = ?", (mask["content"],)):
                    raise StateError(
                        f"the mask of object {row['id']} on frame {number} was dropped to save space, so it cannot be "
                        "verified: track the object again first"
                    )
                self.database.query("UPDATE contents SET kept = 1 WHERE sha256 = ?", (mask["content"],))
            stamp = {"author": author or self.author, "at": time.time()}
            self.database.put("verified", {"object": row["id"], "frame": number, **stamp})

    def verified(self, source: SourceRef) -> dict[tuple[int, int], tuple[str, float]]:
        """Return what people have verified in a source: (object id, frame) -> (author, seconds since 1970, UTC).

        Raises:
            InputError: if there is no such source.
        """
        args = (self._find("sources", source)["id"],)
        rows = self.database.rows("verified", "object IN (SELECT id FROM objects WHERE source = ?)", args)
        return {(row["object"], row["frame"]): (row["author"], row["at"]) for row in rows}

    def drop_masks(self, max_bytes: int = 0) -> int:
        """Drop the oldest contents of masks that a model can make again, until they have `max_bytes`, and count them.

        Masks that a person drew, imported or verified stay, and so does the history. A mask without content
        `is_dropped` until the object is tracked again. Nothing is undone by undo here.
        """
        sizes = self.database.query("SELECT number, LENGTH(counts) FROM contents WHERE kept = 0 ORDER BY number")
        excess, last, count = sum(size for _, size in sizes) - max_bytes, 0, 0
        for number, size in sizes:
            if excess <= 0:
                break
            excess, last, count = excess - size, number, count + 1
        if count:
            with self.database.transaction():
                self.database.query("DELETE FROM contents WHERE kept = 0 AND number <= ?", (last,))
            self.database.shrink()
        return count

    # history ----------------------------------------------------------------------------------------------------

    def undo(self, *, author: str | None = None) -> list[int]:
        """Revert the last action, or the last one of `author`, and return the numbers of what was reverted.

        There is no limit. The actions of one run of tracking or of an import that follow each other are one step.
        Undoing is an action too, so that others see it. Empty: there is nothing left to undo.

        Raises:
            StateError: if a later action of somebody else changed the same rows.
        """
        return self.database.undo(author or self.author, author)

    def redo(self, *, author: str | None = None) -> list[int]:
        """Repeat what was undone last, or the last of `author`, and return the numbers of the repeated actions.

        What was undone can be redone until its author does something new.

        Raises:
            StateError: if a later action of somebody else changed the same rows.
        """
        return self.database.redo(author or self.author, author)

    def history(self, limit: int = 100, *, before: int | None = None) -> list[ProjectAction]:
        """Return the last actions, the latest first; `before` is the number of the one behind which to continue."""
        text = self.database.text
        rows = self.database.query(
            "SELECT id, kind, summary, author, at, state FROM actions WHERE id < ? ORDER BY id DESC LIMIT ?",
            (1 << 62 if before is None else whole_number("before", before), whole_number("limit", limit)),
        )
        return [
            ProjectAction(number, text(kind), text(summary), text(name), at, text(state))
            for number, kind, summary, name, at, state in rows
        ]

    def changes_since(self, revision: int, *, max_actions: int = 1000) -> list[ProjectChange]:
        """Return what changed after a revision, in order, so that a client can follow the others.

        Read `revision` before the state, and apply the changes after it: a change that the state has already is as it
        says. At most `max_actions` actions are returned; the last change has the revision to continue from.

        Example:
            >>> for change in project.changes_since(12):  # doctest: +SKIP
            ...     print(change.revision, change.table, change.after)
            13 masks {'object': 1, 'frame': 4, 'content': '9f86...', 'state': 'visible', ...}
        """
        first = whole_number("revision", revision)
        rows = self.database.query(
            "SELECT a.id, a.author, c.table_name, c.before, c.after FROM (SELECT id, author FROM actions WHERE id > ? "
            "ORDER BY id LIMIT ?) a JOIN changes c ON c.action = a.id ORDER BY a.id, c.number",
            (first, whole_number("max_actions", max_actions)),
        )
        path = self.database.path
        return [
            ProjectChange(
                number,
                self.database.text(name),
                self.database.text(table),
                None if before is None else parse_stored_json(path, before, dict),
                None if after is None else parse_stored_json(path, after, dict),
            )
            for number, name, table, before, after in rows
        ]

    # work -------------------------------------------------------------------------------------------------------

    def track(
        self,
        source: SourceRef,
        model: TrackingModel,
        *,
        objects: Sequence[ObjectRef] | None = None,
        start: int | None = None,
        stop: int | None = None,
        bidirectional: bool = False,
        author: str | None = None,
    ) -> Iterator[Results]:
        """Track the objects of a source by their prompts, store their masks, and yield the `Results` of each frame.

        Masks of people are prompts too, and are kept. Every few frames are one action, so that stopping, also by
        `kill`, keeps what was tracked; undo takes back the entire run. Locked objects are left out.

        Args:
            source: a video, or an image, whose objects are then segmented.
            model: a `SAM`, or anything with its method `session`.
            objects: those to track; None: all that have a prompt or a mask of a person.
            start, stop, bidirectional: as for `Session.propagate`. With a later `start`, the stored masks of the frames
                before it, back to the last prompt, are memory: a pass that was stopped is continued.
            author: who sets the masks; None: the name of the model.

        Raises:
            InputError: if there is no such source or object.
            SourceError: if the file of the source is missing, has changed or cannot be read.
            StateError: if no object has a prompt.
        """
        from masklet.projects.project_tracking import track_objects

        ids = None if objects is None else [self.object(obj).id for obj in objects]
        return track_objects(self, self.source(source), model, ids, start, stop, bidirectional, author)

    def dataset(
        self,
        sources: Sequence[SourceRef] | None = None,
        *,
        verified_only: bool = False,
        include_empty: bool = False,
    ) -> Dataset:
        """Return the project as a dataset of `masklet.datasets`, to validate, train or convert.

        Sources whose files are missing or have changed are its issues. `verified_only` leaves out what no person has
        verified; `include_empty` has images without any object too.

        Raises:
            InputError: if there is no such source.
        """
        from masklet.projects.project_dataset import project_dataset

        chosen = self.sources if sources is None else [self.source(one) for one in sources]
        return project_dataset(self, chosen, verified_only, include_empty)

    def export(
        self,
        data_format: str,
        out_dir: str | os.PathLike[str],
        *,
        sources: Sequence[SourceRef] | None = None,
        verified_only: bool = False,
        include_empty: bool = False,
        options: WriteOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ExportResult:
        """Write the masks in a format of `masklet.datasets.DATASET_WRITERS`; see `dataset` for what is in it.

        Further formats have results instead of a dataset: `overlay` (images and MP4 videos with the masks drawn on
        them), `mots` (text), `png` (label maps in the DAVIS palette) and `masks` (a PNG for each object and frame). Of
        `options` they use `overwrite`.

        Without `options`, image files are linked into the folder. `progress` is called with the number of images or
        frames that are done, and of all.

        Raises:
            InputError: if there is no such format or source, or the folder has another revision of the project.
            OutputError: if it cannot be written.
        """
        from masklet.projects.project_dataset import export_project
        from masklet.projects.project_renders import RENDER_FORMATS, render_project

        data = self.dataset(sources, verified_only=verified_only, include_empty=include_empty)
        if data_format in RENDER_FORMATS:
            overwrite = options is not None and options.overwrite
            return render_project(data, data_format, out_dir, overwrite=overwrite, progress=progress)
        return export_project(self, data, data_format, out_dir, options, progress)

    def import_dataset(
        self,
        path: str | os.PathLike[str],
        *,
        data_format: str | None = None,
        split: str | None = None,
        author: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ImportResult:
        """Add the images and videos of a dataset that `masklet.datasets` reads, with their classes and masks.

        A source that has objects already is skipped, so that an import that was stopped can be repeated. The import
        is one step of undo. `progress` is called with the number of images and videos that are done, and of all.

        Raises:
            SourceError: if the dataset cannot be opened; what is broken in it is in the result.
        """
        from masklet.projects.project_dataset import import_dataset

        return import_dataset(self, path, data_format, split, author, progress)

    # inside -----------------------------------------------------------------------------------------------------

    def _find_editable(self, obj: ObjectRef) -> Row:
        row = self._find("objects", obj)
        if row["locked"]:
            raise StateError(f"object {row['id']} ({row['name']}) is locked, which keeps it as it is: unlock it first")
        return row

    def _find_on_frame(self, obj: ObjectRef, frame: int) -> tuple[Row, Row, int]:
        """Return the rows of an object that is not locked and of its source, and the number of a frame of it."""
        row, number = self._find_editable(obj), whole_number("frame", frame)
        source = self._find("sources", row["source"])
        if source["frames"] is not None and number >= source["frames"]:
            last = source["frames"] - 1
            raise InputError(
                f"{source['name']!r} has no frame {number}; its frames are 0 to {last}: choose one of these"
            )
        return row, source, number

    def _masks(self, where: str, args: Sequence[int], *, with_rle: bool) -> Iterator[ProjectMask]:
        names = ("object", "frame", "content", "state", "score", "origin", "author", "at")
        counts = "c.counts" if with_rle else "NULL"
        rows = self.database.query(
            f"SELECT {', '.join(f'm.{name}' for name in names)}, v.frame IS NOT NULL, c.number IS NULL, {counts}, "
            "s.height, s.width FROM objects o JOIN sources s ON s.id = o.source JOIN masks m ON m.object = o.id "
            "LEFT JOIN verified v ON v.object = m.object AND v.frame = m.frame "
            f"LEFT JOIN contents c ON c.sha256 = m.content WHERE {where} ORDER BY m.frame, o.number",
            args,
        )
        for *values, is_verified, is_dropped, text, height, width in rows:
            decoded = [self.database.text(value) if isinstance(value, bytes) else value for value in values]
            row = check_row(self.database.path, "masks", dict(zip(names, decoded, strict=True)))
            code: Rle | None = None if text is None else {"size": [height, width], "counts": text}
            yield ProjectMask(
                object_id=row["object"],
                frame=row["frame"],
                state=row["state"],
                score=row["score"],
                origin=row["origin"],
                author=row["author"],
                at=row["at"],
                is_verified=bool(is_verified),
                is_dropped=bool(is_dropped),
                rle=code,
            )

    def _to_rle(self, mask: MaskLike, size: tuple[int, int]) -> Rle:
        """Return the run-length code of a mask of a size, as masklet writes it.

        Raises:
            InputError: if it has another size, or is malformed.
        """
        if isinstance(mask, Mapping):
            array = rle.decode({**mask})
        else:
            array = np.asarray(mask)
            is_binary = array.dtype == bool or (
                array.dtype.kind in "ui" and any(((array == 0) | (array == one)).all() for one in (1, 255))
            )
            if not is_binary:
                raise InputError(f"a mask of type {array.dtype} must be boolean, 0/1 or 0/255: threshold it first")
        if array.shape != size:
            raise InputError(
                f"a mask of (height, width) {array.shape} does not fit the source of {size}: scale it to the original "
                "image"
            )
        return rle.encode(array.astype(bool, copy=False))

    def _keep(self, code: Rle, *, kept: bool) -> str:
        """Store the content of a mask inside of an action, once for all masks that are equal, and return its hash."""
        counts = code["counts"]
        digest = hashlib.sha256(counts.encode()).hexdigest()
        self.database.query(
            "INSERT OR IGNORE INTO contents (sha256, counts, kept) VALUES (?, ?, ?)", (digest, counts, int(kept))
        )
        if kept:
            self.database.query("UPDATE contents SET kept = 1 WHERE sha256 = ? AND kept = 0", (digest,))
        self._new_contents += 1
        if self._new_contents % CONTENTS_PER_CHECK == 0:
            self.drop_masks(self.max_mask_bytes)
        return digest

    def mask_content(self, digest: str) -> str | None:
        """Return the run-length counts of a mask that a `ProjectChange` names by its content; None: it was dropped."""
        rows = self.database.query("SELECT counts FROM contents WHERE sha256 = ?", (digest,))
        return str(rows[0][0]) if rows else None

    def _content(self, object_id: int, digest: str) -> Rle | None:
        rows = self.database.query(
            "SELECT s.height, s.width, c.counts FROM objects o JOIN sources s ON s.id = o.source JOIN contents c "
            "ON c.sha256 = ? WHERE o.id = ?",
            (digest, object_id),
        )
        return {"size": list(rows[0][:2]), "counts": rows[0][2]} if rows else None


def _to_class(row: Row) -> ProjectClass:
    color = row["color"] or "#{:02x}{:02x}{:02x}".format(*palette_color(row["id"]))
    return ProjectClass(row["id"], row["name"], color)


def _to_object(row: Row) -> ProjectObject:
    return ProjectObject(
        id=row["id"],
        source_id=row["source"],
        class_id=row["class"],
        number=row["number"],
        name=row["name"],
        hidden=bool(row["hidden"]),
        locked=bool(row["locked"]),
        track_id=row["track_id"],
    )


def _checked_color(color: str | None) -> str | None:
    if color is not None and not (isinstance(color, str) and COLOR.fullmatch(color.lower())):
        raise InputError(f"color={color!r:.40} is no color; write it as #rrggbb, such as #1e90ff")
    return None if color is None else color.lower()
