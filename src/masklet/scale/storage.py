"""Files wherever they are: on this machine, or behind an address that `masklet.scale.cloud` opens.

A location is a path or a URL. `storage_of` says what opens it.
"""

from __future__ import annotations

import glob
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from masklet.atomic_files import atomic_path
from masklet.damaged_files import describe_error, open_regular_file
from masklet.errors import OutputError, SourceError
from masklet.media.image_source import missing_path_message, natural_key
from masklet.media.walk_folder import walk_folder
from masklet.scale.redact_urls import redact_url

__all__ = ["LocalStorage", "Storage", "StoredFile", "is_url", "join_location", "storage_of"]


@dataclass(frozen=True)
class StoredFile:
    """A file where it was listed.

    Args:
        location: Its path or URL.
        size: In bytes; None if unknown.
        version: Changes when the content changes: KIND=VALUE, such as that of an ETag; empty if unknown.
        modified: Seconds since 1970; None if unknown.
    """

    location: str
    size: int | None = None
    version: str = ""
    modified: float | None = None

    def is_changed(self, now: StoredFile) -> bool:
        """Whether the file has other content `now`, as far as both descriptions say the same kind of thing.

        Example:
            >>> StoredFile("a", 3, "etag=1").is_changed(StoredFile("a", 3, "etag=2"))
            True
            >>> StoredFile("a", 3, "etag=1").is_changed(StoredFile("a", 3, "modified=2"))
            False
        """
        kind, _, value = self.version.partition("=")
        kind_now, _, value_now = now.version.partition("=")
        has_other_size = None not in (self.size, now.size) and self.size != now.size
        return has_other_size or (kind == kind_now and value != value_now)


class Storage(ABC):
    """Where files are read, and written completely or not at all."""

    is_remote: bool = False

    @abstractmethod
    def is_folder(self, location: str) -> bool:
        """Whether there is a folder."""

    @abstractmethod
    def find(self, location: str) -> StoredFile | None:
        """Return what is known about a file now; None if there is none."""

    @abstractmethod
    def walk(self, folder: str) -> Iterator[tuple[str, StoredFile]]:
        """Yield the files of a folder and of those below it: the path below `folder`, with /, and the file.

        The order is the same in every process. Hidden files and folders are left out.

        Raises:
            SourceError: if a folder cannot be listed.
        """

    @abstractmethod
    def glob(self, pattern: str) -> list[StoredFile]:
        """Return the files that match a pattern with *, ?, [..] and **, in natural order."""

    @abstractmethod
    def open(self, location: str) -> BinaryIO:
        """Open a file to be read from its beginning.

        Raises:
            SourceError: if it cannot be opened.
        """

    @abstractmethod
    def read(self, location: str) -> bytes:
        """Return the content of a file.

        Raises:
            SourceError: if it cannot be read.
        """

    @abstractmethod
    def read_if_there(self, location: str) -> bytes | None:
        """Return the content of a file; None if there is none. One request, where `find` and `read` are several.

        Raises:
            SourceError: if it is there and cannot be read.
        """

    @abstractmethod
    def copy_to(self, location: str, path: Path) -> None:
        """Copy a file to `path` on this machine.

        Raises:
            SourceError: if it cannot be read.
        """

    @abstractmethod
    def write(self, location: str, content: bytes) -> None:
        """Write a file completely or not at all, and the folders that it needs.

        Raises:
            OutputError: if it cannot be written.
        """

    @abstractmethod
    def write_file(self, location: str, path: Path) -> None:
        """Write the content of a file of this machine, which need not fit into memory; see `write`.

        Raises:
            OutputError: if it cannot be written.
        """

    @abstractmethod
    def create(self, location: str, content: bytes) -> bool:
        """Write a file if there is none; of several processes that do so at once, one gets True.

        Raises:
            OutputError: if it cannot be written.
        """

    @abstractmethod
    def remove(self, location: str) -> None:
        """Remove a file, if it exists."""


class LocalStorage(Storage):
    """Files of this machine, or of a network drive.

    Example:
        >>> from tempfile import mkdtemp
        >>> storage, path = LocalStorage(), mkdtemp() + "/a.txt"
        >>> storage.create(path, b"1"), storage.create(path, b"2"), storage.read(path)
        (True, False, b'1')
    """

    def is_folder(self, location: str) -> bool:
        """See Storage."""
        return os.path.isdir(location)

    def find(self, location: str) -> StoredFile | None:
        """See Storage."""
        try:
            status = os.stat(location)
        except (OSError, ValueError):
            return None
        return StoredFile(location, status.st_size, f"modified={status.st_mtime_ns}", status.st_mtime)

    def walk(self, folder: str) -> Iterator[tuple[str, StoredFile]]:
        """See Storage; `walk_folder` has the order, and the rule for links."""
        for name, entry in walk_folder(folder):
            yield name, self.find(entry.path) or StoredFile(entry.path)

    def glob(self, pattern: str) -> list[StoredFile]:
        """See Storage."""
        paths = sorted(glob.glob(pattern, recursive=True), key=natural_key)
        return [self.find(path) or StoredFile(path) for path in paths if not os.path.isdir(path)]

    def open(self, location: str) -> BinaryIO:
        """See Storage."""
        try:
            return open_regular_file(location)
        except FileNotFoundError as error:
            raise SourceError(missing_path_message(location, "file")) from error
        except (OSError, ValueError) as error:
            raise SourceError(
                f"cannot read {location!r}: {describe_error(error)}; a readable file is needed: check the path and its "
                "permissions"
            ) from error

    def read(self, location: str) -> bytes:
        """See Storage."""
        with self.open(location) as file:
            try:
                return file.read()
            except OSError as error:
                raise SourceError(
                    f"cannot read {location!r}: {describe_error(error)}; a readable file is needed: check the disk"
                ) from error

    def read_if_there(self, location: str) -> bytes | None:
        """See Storage."""
        return self.read(location) if os.path.exists(location) else None

    def copy_to(self, location: str, path: Path) -> None:
        """See Storage."""
        with self.open(location) as file, path.open("wb") as target:
            shutil.copyfileobj(file, target)

    def write(self, location: str, content: bytes) -> None:
        """See Storage."""
        with atomic_path(location) as temporary:
            temporary.write_bytes(content)

    def write_file(self, location: str, path: Path) -> None:
        """See Storage."""
        with atomic_path(location) as temporary:
            shutil.copyfile(path, temporary)

    def create(self, location: str, content: bytes) -> bool:
        """See Storage. The file is complete when it appears: it is linked to its name."""
        path = Path(location)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                with path.open("xb") as file:
                    file.write(content)
        except FileExistsError:
            return False
        except OSError as error:
            raise OutputError(
                f"{location} cannot be written ({describe_error(error)}): choose a folder that is writable and has room"
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True

    def remove(self, location: str) -> None:
        """See Storage."""
        with suppress(OSError):
            os.unlink(location)


def is_url(location: str) -> bool:
    """Whether a location is an address and no path of this machine.

    Example:
        >>> is_url("s3://bucket/a.jpg"), is_url("a.jpg"), is_url("C:/a.jpg")
        (True, False, False)
    """
    return "://" in location


def join_location(folder: str, name: str) -> str:
    """Return the location of a name, with /, below a folder.

    Example:
        >>> join_location("s3://bucket/photos/", "a/b.jpg")
        's3://bucket/photos/a/b.jpg'
    """
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else os.path.join(folder, *name.split("/"))


def storage_of(location: str) -> Storage:
    """Return what opens a location; one storage serves all locations of a scheme.

    Raises:
        MissingExtraError: if the packages for the address are not installed.
        SourceError: if no package knows its scheme.
    """
    return _storage_of_scheme(redact_url(location).partition("://")[0] if is_url(location) else "")


@cache
def _storage_of_scheme(scheme: str) -> Storage:
    if not scheme:
        return LocalStorage()
    from masklet.scale.cloud import CloudStorage

    return CloudStorage(scheme)
