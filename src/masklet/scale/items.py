"""The items of a source: the images or videos of folders, globs, lists, tables and archives, each with a name.

    photos/  's3://bucket/photos/'           a folder, with those below it
    'photos/**/*.jpg'                        a glob
    list.txt                                 a path or URL in each line
    table.csv, table.parquet                 a column path, url, file or file_name; item names it; prompts
    'train-{000..120}.tar'                   webdataset archives
    train.parquet                            a column image with the bytes of a file, as on the Hugging Face hub

All of these may be URLs, also hf://datasets/OWNER/NAME/FOLDER. A name is the path below the folder, the place in a list
as it stands there, or ARCHIVE/MEMBER. It does not depend on the other items, and decides the shard: of what is in an
archive, the name of the archive does, so that an archive is read by one process, in order.
"""

from __future__ import annotations

import csv
import glob
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, cast

from masklet.damaged_files import damage_named, decoder_errors, describe_error
from masklet.errors import MaskletError, MissingExtraError, SourceError
from masklet.media.image_source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, missing_path_message
from masklet.scale.redact_urls import redact_url
from masklet.scale.shards import Shard, name_hash
from masklet.scale.stage_rows import PROMPT_COLUMNS
from masklet.scale.storage import StoredFile, is_url, join_location, storage_of
from masklet.scale.webdataset import ARCHIVE_SUFFIXES, expand_braces, read_archive

__all__ = ["Item", "ItemSource", "shard_key"]

PATH_COLUMNS = ("path", "url", "file", "file_name", "filename", "location")
NAME_COLUMNS = ("item", "id", "name")
IMAGE_COLUMN = "image"
PARQUET_ROWS = 256
"""Rows of a table that are in memory."""
MAX_CELL_CHARS = 1 << 24
_ALLOWED = (
    "a folder, a glob, an image or video, a .txt, .csv or .parquet file, a .tar archive, or a URL of one of these"
)


@dataclass(frozen=True)
class Item:
    """One image or video.

    Args:
        name: Unique within a source.
        location: Its path or URL, or that of its archive.
        version: When it was listed, see `StoredFile`; empty if unknown.
        size: In bytes; None if unknown.
        content: Its bytes, if they came with the list.
        prompts: By column, as JSON.
        problem: Why it cannot be read.

    Example:
        >>> Item("cats/1.jpg", "s3://me:secret@bucket/cats/1.jpg").source
        's3://bucket/cats/1.jpg'
    """

    name: str
    location: str
    version: str = ""
    size: int | None = None
    content: bytes | None = field(default=None, repr=False)
    prompts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def source(self) -> str:
        """Where it is read, without credentials."""
        return redact_url(self.location)

    @property
    def is_video(self) -> bool:
        """Whether the suffix is that of a video."""
        return self.name.lower().endswith(VIDEO_SUFFIXES) or redact_url(self.location).lower().endswith(VIDEO_SUFFIXES)


def shard_key(name: str) -> str:
    """Return what decides the shard of an item: its name, or that of its archive.

    Example:
        >>> shard_key("cats/1.jpg"), shard_key("train/07.tar/cats/1.jpg")
        ('cats/1.jpg', 'train/07.tar')
    """
    parts = name.split("/")
    for number, part in enumerate(parts[:-1], 1):
        if part.lower().endswith((*ARCHIVE_SUFFIXES, ".parquet")):
            return "/".join(parts[:number])
    return name


class ItemSource(Iterable[Item]):
    """The items of one shard of some sources; it can be iterated many times, and yields the same order each time.

    What is broken among them is an item with a `problem`.

    Args:
        sources: Paths and URLs.
        kind: "images" or "videos".
        shard: Which items.
        exclude: A folder that is left out, such as the one that is written.

    Example:
        >>> [item.name for item in ItemSource(["photos"])]  # doctest: +SKIP
        ['a.jpg', 'cats/2.jpg', 'cats/10.jpg']

    Raises:
        SourceError: if a source does not exist or is none; while iterating, if one cannot be listed.
        MissingExtraError: if the packages for an address or a table are not installed.
    """

    def __init__(
        self,
        sources: Sequence[str | os.PathLike[str]],
        kind: str = "images",
        shard: Shard | None = None,
        exclude: str = "",
    ) -> None:
        self.suffixes = IMAGE_SUFFIXES if kind == "images" else VIDEO_SUFFIXES
        self.kind, self.shard = kind, shard or Shard()
        patterns = [os.fspath(source) for source in sources]
        patterns = [one if is_url(one) else os.path.expanduser(one) for one in patterns]
        self._base = {one: _glob_base(pattern) for pattern in patterns for one in expand_braces(pattern)}
        """The folder below which the items of a glob, or of a pattern with braces, have their names."""
        self.sources = list(self._base)
        self.num_listed = 0
        """Items of all shards in the last iteration, where archives of other shards count as one."""
        self._exclude = f"{exclude.rstrip('/')}/" if is_url(exclude) else os.path.join(os.path.abspath(exclude), "")
        if not exclude:
            self._exclude = ""
        if not self.sources:
            raise SourceError(f"there is no source; give {_ALLOWED}")
        for source in self.sources:
            if not source.strip():
                raise SourceError(f"{source!r} is no source; give {_ALLOWED}")
            if is_url(source):
                storage_of(source)
            elif not os.path.exists(source) and not glob.has_magic(source):
                raise SourceError(missing_path_message(source, "source"))

    def __iter__(self) -> Iterator[Item]:
        self.num_listed = 0
        names: dict[int, int] = {}
        for item in chain.from_iterable(map(self._expand, self.sources)):
            self.num_listed += 1
            if not self.shard.has(shard_key(item.name)):
                continue
            key, place = name_hash(item.name), name_hash(item.location)
            if names.setdefault(key, place) == place or item.problem:
                yield item
            else:
                problem = (
                    f"another item is called {item.name!r} as well: give a table with the columns path and item, or "
                    "list a folder around both"
                )
                yield replace(item, name=f"{item.name}-{place:016x}", problem=problem)

    def check_listed(self) -> None:
        """Check that the last iteration had an item, of any shard.

        Raises:
            SourceError: if it had none.
        """
        if not self.num_listed:
            raise SourceError(
                f"{', '.join(map(redact_url, self.sources)):.200} has none of the {self.kind}; they end in "
                f"{', '.join(self.suffixes)}: check the path"
            )

    def _expand(self, source: str) -> Iterator[Item]:
        """Yield the items of one source; of archives, only those of the shard."""
        storage = storage_of(source)
        has_magic = glob.has_magic(source.partition("?")[0] if is_url(source) else source)
        if storage.is_folder(source):
            for name, file in storage.walk(source):
                yield from self._of_file(name, file, is_listed=True)
        elif has_magic and (is_url(source) or not os.path.exists(source)):
            for file in storage.glob(source):
                yield from self._of_file(_relative_name(file.location, self._base[source]), file, is_listed=True)
        else:
            name = _relative_name(source, self._base[source])
            yield from self._of_file(name, StoredFile(source), is_listed=False)

    def _of_file(self, name: str, file: StoredFile, *, is_listed: bool) -> Iterator[Item]:
        """Yield the items of a file; lists and tables of text are read where they are named, not within folders."""
        low = redact_url(file.location).lower()
        if is_listed and self._is_excluded(file.location):
            return
        if low.endswith(self.suffixes):
            yield Item(name, file.location, file.version, file.size)
        elif low.endswith(ARCHIVE_SUFFIXES):
            yield from self._of_archive(name, file)
        elif low.endswith(".parquet"):
            yield from self._of_parquet(name, file.location)
        elif is_listed:
            return
        elif low.endswith(".csv"):
            with closing(_text_of(file.location)) as text, damage_named(redact_url(file.location), "table"):
                yield from self._of_table(csv.DictReader(text), file.location)
        elif low.endswith((".txt", ".lst", ".list")):
            with closing(_text_of(file.location)) as text:
                for line in map(str.strip, text):
                    if line and not line.startswith("#"):
                        yield from self._of_listed(_of_place(line, file.location))
        elif is_url(file.location):
            yield Item(name, file.location)  # an address need not have a suffix
        else:
            raise SourceError(
                f"{file.location!r} is none of the {self.kind}, which end in {', '.join(self.suffixes)}: "
                f"give {_ALLOWED}"
            )

    def _is_excluded(self, location: str) -> bool:
        if not self._exclude:
            return False
        return (location if is_url(location) else os.path.abspath(location)).startswith(self._exclude)

    def _of_archive(self, name: str, file: StoredFile) -> Iterator[Item]:
        if not self.shard.has(name):
            yield Item(name, file.location)
            return
        try:
            with storage_of(file.location).open(file.location) as stream:
                for member, content in read_archive(stream, file.location, self.suffixes):
                    yield Item(f"{name}/{_place_name(member)}", file.location, size=len(content), content=content)
        except MaskletError as error:
            yield Item(name, file.location, problem=str(error))

    def _of_table(self, rows: Iterable[Mapping[str, Any]], location: str) -> Iterator[Item]:
        """Yield the items of rows with a column of paths or URLs."""
        for number, row in enumerate(rows):
            columns = {key.strip().lower(): str(cell) for key, cell in row.items() if key and cell not in (None, "")}
            place = next((columns[key] for key in PATH_COLUMNS if key in columns), "")
            if not place and any(key and key.strip().lower() in PATH_COLUMNS for key in row):
                problem = (
                    f"row {number} (from 0) of {redact_url(location)!r} has no path or URL: fill it in, or remove it"
                )
                yield Item(f"{_place_name(location).rpartition('/')[2]}-row-{number}", location, problem=problem)
                continue
            if not place:
                known = ", ".join(key for key in row if key) or "none"
                raise SourceError(
                    f"{redact_url(location)!r} has no column of paths (columns: {known}); one of "
                    f"{', '.join(PATH_COLUMNS)} names the file or URL of each row: rename a column"
                )
            name = next((columns[key] for key in NAME_COLUMNS if key in columns), "")
            item = _of_place(place, location)
            prompts = {key: columns[key] for key in PROMPT_COLUMNS if key in columns}
            yield from self._of_listed(replace(item, name=_place_name(name) if name else item.name, prompts=prompts))

    def _of_listed(self, item: Item) -> Iterator[Item]:
        """Yield what a list or table names: an image or video, or those of an archive."""
        if redact_url(item.location).lower().endswith(ARCHIVE_SUFFIXES):
            yield from self._of_archive(item.name, StoredFile(item.location))
        else:
            yield item

    def _of_parquet(self, name: str, location: str) -> Iterator[Item]:
        """Yield the items of a table: a column of paths, or one of images in it."""
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise MissingExtraError.for_package("pyarrow", "parquet") from error
        try:
            with storage_of(location).open(location) as stream, parquet.ParquetFile(stream) as table:
                wanted = {*PATH_COLUMNS, *NAME_COLUMNS, *PROMPT_COLUMNS}
                columns = [column for column in table.schema_arrow.names if column.lower() in wanted]
                has_paths = any(column.lower() in PATH_COLUMNS for column in columns)
                if not has_paths and IMAGE_COLUMN in table.schema_arrow.names:
                    if not self.shard.has(name):
                        yield Item(name, location)
                        return
                    columns.append(IMAGE_COLUMN)
                batches = table.iter_batches(batch_size=PARQUET_ROWS, columns=columns)
                rows: Iterator[dict[str, Any]] = (row for batch in batches for row in batch.to_pylist())
                if has_paths:
                    yield from self._of_table(rows, location)
                else:
                    yield from _of_images(rows, name, location)
        except MaskletError:
            raise
        except decoder_errors() as error:
            yield Item(name, location, problem=f"{redact_url(location)!r} is damaged ({describe_error(error)})")


def _of_images(rows: Iterable[Mapping[str, Any]], name: str, location: str) -> Iterator[Item]:
    """Yield the items of rows that have the bytes of images, plainly or with a path."""
    for number, row in enumerate(rows):
        cell = row.get(IMAGE_COLUMN)
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        path = cell.get("path") if isinstance(cell, dict) else None
        member = f"{number:08d}" if not path else f"{number:08d}-{_place_name(path).rpartition('/')[2]}"
        problem = "" if isinstance(content, bytes) else "the row has no bytes of an image"
        yield Item(f"{name}/{member}", location, content=None if problem else content, problem=problem)


def _of_place(place: str, listed_in: str) -> Item:
    """Return the item of a path or URL that a list has; a path is below the folder of the list."""
    name = _place_name(place)
    if is_url(place):
        return Item(name, place)
    if is_url(listed_in):
        folder = redact_url(listed_in).rpartition("/")[0]
        return Item(name, join_location(folder, place.lstrip("/")))
    return Item(name, os.path.join(os.path.dirname(listed_in), os.path.expanduser(place)))


def _place_name(place: str) -> str:
    """Return the name of a place: its path without scheme, credentials, root and query; `..` becomes `__`."""
    path = redact_url(place).partition("://")[2] if is_url(place) else place.replace(os.sep, "/")
    parts = ["__" if part == ".." else part for part in PurePosixPath(path.lstrip("/")).parts]
    return "/".join(parts) or "item"


def _glob_base(pattern: str) -> str:
    """Return the folder before the first part of a pattern that has a wildcard or braces; that of a file otherwise."""
    parts = pattern.split("/")
    is_pattern = (glob.has_magic(part) or len(expand_braces(part)) > 1 for part in parts)
    kept = next((number for number, has_choice in enumerate(is_pattern) if has_choice), len(parts) - 1)
    return "/".join(parts[:kept])


def _relative_name(location: str, base: str) -> str:
    plain, base = redact_url(location).replace(os.sep, "/"), redact_url(base).rstrip("/")
    return plain[len(base) :].lstrip("/") if base and plain.startswith(base) else _place_name(plain)


def _text_of(location: str) -> io.TextIOWrapper:
    """Open a list or table as text, with file names as Python has them."""
    csv.field_size_limit(MAX_CELL_CHARS)
    return io.TextIOWrapper(
        cast(Any, storage_of(location).open(location)), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )
