"""The ground of `Project`: its files, its sources, and where these are on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from masklet.errors import InputError, OutputError, SourceError, StateError
from masklet.media import Video
from masklet.projects.project_cache import DEFAULT_CACHE_BYTES, ProjectCache
from masklet.projects.project_database import DATABASE_FILE, ProjectDatabase
from masklet.projects.project_records import ProjectSource
from masklet.projects.project_schema import Row, parse_stored_json
from masklet.projects.project_sources import SourceLocation, find_sources, fingerprint, open_source, probe_source
from masklet.resume_store import to_column

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEFAULT_MASK_BYTES", "ProjectFiles", "SourceRef", "check_text", "whole_number"]

CACHE_FILE = "cache.sqlite"
DEFAULT_MASK_BYTES = 4 << 30
"""Masks of models that are kept, in bytes of their run-length codes: some millions."""
MAX_ID = 2**63 - 1
SourceRef: TypeAlias = "int | ProjectSource"
_NOUNS = {"sources": "source", "classes": "class", "objects": "object"}


class ProjectFiles:
    """The files and sources of a project; `Project` adds objects, prompts and masks."""

    def __init__(
        self,
        folder: Path,
        *,
        author: str = "person",
        timeout_s: float = 30.0,
        durable: bool = True,
        max_mask_bytes: int = DEFAULT_MASK_BYTES,
        max_cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.folder, self.author, self.max_mask_bytes = folder, author, max_mask_bytes
        self.database = ProjectDatabase(folder / DATABASE_FILE, timeout_s=timeout_s, durable=durable)
        self.caches = ProjectCache(folder / CACHE_FILE, max_bytes=max_cache_bytes)
        """Bytes by key that can be made again, such as features of frames: bounded, and droppable at any time."""
        self._new_contents = 0
        self._reopen = partial(
            type(self),
            folder,
            author=author,
            timeout_s=timeout_s,
            durable=durable,
            max_mask_bytes=max_mask_bytes,
            max_cache_bytes=max_cache_bytes,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Project({str(self.folder)!r})"

    def __reduce__(self) -> tuple[Callable[[], ProjectFiles], tuple[()]]:
        return self._reopen, ()

    def close(self) -> None:
        """Close the files; may be called twice. Nothing has to be saved: every action is on disk already."""
        self.database.close()
        self.caches.close()

    @property
    def revision(self) -> int:
        """The number of the last action of anyone; 0: there was none."""
        return self.database.revision

    def action(
        self, kind: str, author: str | None = None, summary: str = "", *, run: int | None = None
    ) -> AbstractContextManager[int]:
        """Make one action of all that a block changes: stored together, undone together, or not at all after an error.

        Other threads and other writers wait meanwhile, so compute before the block. Actions of one `run`, any number,
        that follow each other are undone together too.

        Example:
            >>> with project.action("paste", "anna"):  # doctest: +SKIP
            ...     for frame, mask in copied:
            ...         project.set_mask(rex, frame, mask)
        """
        if author is not None:
            check_text("author", author)
        return self.database.action(kind, author or self.author, str(summary), run)

    # sources ----------------------------------------------------------------------------------------------------

    @property
    def sources(self) -> list[ProjectSource]:
        """All images and videos, in the order in which they were added."""
        return [self._to_source(row) for row in self.database.rows("sources")]

    def source(self, source: SourceRef) -> ProjectSource:
        """Return the current record of a source.

        Raises:
            InputError: if there is none of this id.
        """
        return self._to_source(self._find("sources", source))

    def add_source(
        self,
        location: SourceLocation,
        *,
        name: str | None = None,
        split: str | None = None,
        video: str | None = None,
        author: str | None = None,
    ) -> ProjectSource:
        """Add an image file, a video file, a folder of images as a video, or a list of the images of one folder.

        The file stays where it is; the project knows it by its content. A source that is in the project already, by
        path and content, is returned as it is; if its file was missing, it is found with that. `name` is by default
        that of the file, with a number where it is taken.

        Raises:
            SourceError: if it cannot be read, or is no file.
            InputError: if the name is taken or empty.
        """
        for what, text in (("name", name), ("split", split), ("video", video)):
            if text is not None:
                check_text(what, text)
        path, row = probe_source(location)
        with self.action("add source", author, path.name):
            return self.put_source(path, row, name, split=split, video=video)

    def put_source(
        self, path: Path, row: Row, name: str | None, *, split: str | None = None, video: str | None = None
    ) -> ProjectSource:
        """Add a source that `probe_source` has opened, inside of an action; see `add_source`.

        Raises:
            InputError: if the name is taken or empty.
        """
        for known in self.database.rows("sources", "sha256 = ?", (row["sha256"],)):
            paths = self._known_paths(known["id"])
            is_lost = not any(map(os.path.exists, paths))
            if known["files"] == row["files"] and (is_lost or str(path) in paths):
                if is_lost:
                    self._set_location(known["id"], path, known)
                return self._to_source(known)
        chosen, number = name or path.stem, 2
        while name is None and self.database.rows("sources", "name = ?", (to_column(chosen),)):
            chosen, number = f"{path.stem}_{number}", number + 1
        self._check_name("sources", chosen)
        row = self.database.put("sources", {"id": None, "name": chosen, **row, "split": split, "video": video})
        self._set_location(row["id"], path, row)
        return self._to_source(row)

    def delete_source(self, source: SourceRef, *, author: str | None = None) -> None:
        """Remove a source with its objects, prompts and masks; its file stays.

        Raises:
            InputError: if there is no such source.
            StateError: if one of its objects is locked.
        """
        with self.action("delete source", author, self.source(source).name):
            row = self._find("sources", source)
            objects = self.database.rows("objects", "source = ?", (row["id"],))
            if any(obj["locked"] for obj in objects):
                raise StateError(f"source {row['name']!r} has locked objects, which are kept: unlock them first")
            for obj in objects:
                self._delete_object_rows(obj)
            self.database.delete("sources", row)

    def source_path(self, source: SourceRef) -> Path:
        """Return where the file of a source is, beside the project or where it was last seen.

        Raises:
            InputError: if there is no such source.
            SourceError: if the file is missing, or its content has changed since it was added.
        """
        row = self._find("sources", source)
        files = self._to_source(row).files
        paths = self._known_paths(row["id"])
        changed: Path | None = None
        seen = self.database.query("SELECT path, mtime_ns FROM locations WHERE source = ?", (row["id"],))
        for path in map(Path, paths):
            if not path.exists():
                continue
            _, size, mtime_ns = fingerprint(path, files, content=False)
            if size == row["bytes"] and seen == [(to_column(str(path)), mtime_ns)]:
                return path
            if size == row["bytes"] and fingerprint(path, files)[0] == row["sha256"]:
                with suppress(OutputError):  # only a hint, so that it is not hashed the next time
                    self._set_location(row["id"], path, row)
                return path
            changed = changed or path
        if changed is not None:
            raise SourceError(
                f"{changed} has changed since it was added to {self.folder.name}, and masks may no longer fit: restore "
                "the file, or add it as another source"
            )
        raise SourceError(
            f"{paths[0] if paths else row['name']!r} of {self.folder.name} is missing: tell where it is now "
            "(project.relocate, masklet project relocate)"
        )

    def source_state(self, source: SourceRef) -> str:
        """Return "present", "missing", or "changed" if another content is in the place of the file."""
        row = self._find("sources", source)
        try:
            self.source_path(row["id"])
        except SourceError:
            return "changed" if any(map(os.path.exists, self._known_paths(row["id"]))) else "missing"
        return "present"

    def missing_sources(self) -> list[ProjectSource]:
        """Return the sources whose files are missing or have changed; `relocate` says where they are."""
        return [source for source in self.sources if self.source_state(source) != "present"]

    def relocate(
        self,
        moved: Mapping[Any, str | os.PathLike[str]] | None = None,
        *,
        search: Sequence[str | os.PathLike[str]] = (),
    ) -> list[ProjectSource]:
        """Tell where files are on this machine, and return the sources that were missing and are found.

        `moved` leads from an id, a record, an old file or an old folder to the new file or folder. `search` are
        folders in which, and below which, the missing files are found by their content. Paths belong to the machine:
        they are no action, and undo does not change them.

        Raises:
            InputError: if `moved` names no source of this project.
            SourceError: if a new file is missing or has another content.
        """
        missing, found = {source.id: source for source in self.missing_sources()}, dict[int, Path]()
        for old, new in (moved or {}).items():
            target, matches = Path(os.path.abspath(os.path.expanduser(new))), dict[int, Path]()
            if isinstance(old, (str, os.PathLike)):
                former = Path(os.path.abspath(os.path.expanduser(old)))
                for source in self.sources:
                    for path in map(Path, self._known_paths(source.id)):
                        if path == former or former in path.parents:
                            matches[source.id] = target / path.relative_to(former)
            else:
                matches[self._find("sources", old)["id"]] = target
            if not matches:
                raise InputError(f"{old!r} is no source of {self.folder.name}; give an id, or the old file or folder")
            for source_id, path in matches.items():
                record = self.source(source_id)
                digest, size, _ = fingerprint(path, record.files)
                if (digest, size) != (record.sha256, record.num_bytes):
                    raise SourceError(
                        f"{path} has another content than {record.name} of {self.folder.name}: give its copy"
                    )
                found[source_id] = path
        wanted = {
            source_id: (
                self._find("sources", source_id),
                source.files,
                Path(next(iter(self._known_paths(source_id)), "")).name,
            )
            for source_id, source in missing.items()
            if source_id not in found
        }
        found.update(find_sources(wanted, search) if search else ())
        for source_id, path in found.items():
            self._set_location(source_id, path, self._find("sources", source_id))
        return [source for source_id, source in missing.items() if source_id in found]

    def open_source(self, source: SourceRef) -> Video:
        """Open the frames of a source, an image as a video of one frame; close it, or use it as a context manager.

        Raises:
            InputError: if there is no such source.
            SourceError: if its file is missing, has changed or cannot be read.
        """
        return open_source(self.source_path(source), self.source(source).files)

    def _known_paths(self, source_id: int) -> list[str]:
        """Return where the file of a source may be: relative to the folder of the project, and the last known path."""
        rows = self.database.query("SELECT path, relative FROM locations WHERE source = ?", (source_id,))
        paths: list[str] = []
        for path, relative in rows:
            if relative is not None:
                paths.append(os.path.normpath(self.folder.parent / self.database.text(relative)))
            paths.append(self.database.text(path))
        return list(dict.fromkeys(paths))

    def _set_location(self, source_id: int, path: Path, row: Row) -> None:
        files = None if row["files"] is None else parse_stored_json(self.database.path, row["files"], list)
        _, _, mtime_ns = fingerprint(path, files, content=False)
        relative = None
        with suppress(ValueError):  # another drive on Windows
            relative = to_column(os.path.relpath(path, self.folder.parent))
        with self.database.transaction():
            self.database.query(
                "INSERT OR REPLACE INTO locations VALUES (?, ?, ?, ?)",
                (source_id, to_column(str(path)), relative, mtime_ns),
            )

    def _find(self, table: str, ref: Any) -> Row:
        """Return the row of a record or id.

        Raises:
            InputError: if there is none.
        """
        number = getattr(ref, "id", ref)
        is_id = isinstance(number, int) and not isinstance(number, bool) and 0 < number <= MAX_ID
        row = self.database.get(table, number) if is_id else None
        if row is None:
            raise InputError(
                f"{self.folder.name} has no {_NOUNS[table]} {number!r:.40}; it may have been deleted or undone, which "
                f"history() shows: use an id of project.{table}"
            )
        return row

    def _check_name(self, table: str, name: str) -> None:
        """Check that a name of a source or class is no blank, and that no other one has it.

        Raises:
            InputError: if it is, or one has.
        """
        check_text("name", name)
        if self.database.rows(table, "name = ?", (to_column(name),)):
            raise InputError(f"a {_NOUNS[table]} is called {name!r} already; names are unique: choose another one")

    def _delete_object_rows(self, row: Row) -> None:
        """Delete an object with all that refers to it, inside of an action."""
        for table in ("verified", "masks", "prompts"):
            for one in self.database.rows(table, "object = ?", (row["id"],)):
                self.database.delete(table, one)
        self.database.delete("objects", row)

    def _to_source(self, row: Row) -> ProjectSource:
        files = None if row["files"] is None else parse_stored_json(self.database.path, row["files"], list)
        return ProjectSource(
            id=row["id"],
            name=row["name"],
            kind="image" if row["kind"] == "image" else "video",
            size=(row["height"], row["width"]),
            num_frames=row["frames"],
            fps=row["fps"],
            sha256=row["sha256"],
            num_bytes=row["bytes"],
            files=None if files is None else tuple(map(str, files)),
            split=row["split"],
            video=row["video"],
        )


def whole_number(name: str, value: Any) -> int:
    """Return a frame or another number that counts from 0.

    Raises:
        InputError: if it is no whole number, is negative or too large.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= value.__index__() <= MAX_ID:
        raise InputError(f"{name}={value!r:.40} must be a whole number, 0 or more")
    return int(value.__index__())


def check_text(name: str, value: object) -> None:
    """Check that a name is text with at least one character that is no space.

    Raises:
        InputError: if it is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name}={value!r:.40} must be text with at least one character")
