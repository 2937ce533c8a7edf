"""Files behind addresses (s3, gs, az, http, hf, memory and others), by fsspec and the package for the scheme.

What a server refuses for a moment is tried again, after a random part of a time that doubles. Credentials come from
where the package for the scheme looks for them, or from fsspec's configuration (FSSPEC_S3_KEY and so on); messages
never have them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from masklet.damaged_files import describe_error
from masklet.errors import MissingExtraError, OutputError, SourceError
from masklet.media.image_source import natural_key
from masklet.scale.redact_urls import redact_url, redact_urls
from masklet.scale.storage import Storage, StoredFile, is_url, join_location

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["RETRY_POLICY", "CloudStorage", "RetryPolicy", "with_retries"]

Result = TypeVar("Result")

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "http": "aiohttp", "https": "aiohttp"}
"""What opens a scheme, where it is another name; the extra `cloud` has those for s3 and http."""
VERSION_KEYS = ("ETag", "etag", "Content-MD5", "md5Hash", "content_md5", "generation", "checksum", "blob_id", "oid")
MODIFIED_KEYS = ("LastModified", "last_modified", "mtime", "updated", "Last-Modified", "created")
STREAM_BLOCK_BYTES = 8 << 20
PERMANENT = (
    FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, NotImplementedError,
    ImportError, TypeError, AttributeError, LookupError,
)  # fmt: skip
PERMANENT_NAMES = frozenset(("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "FileExpired"))
"""Errors of packages that are imported elsewhere, if at all."""
RETRIED_STATUS = frozenset((408, 425, 429))
"""Answers of HTTP that pass, besides those from 500 on."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after which times, a request is made again.

    Args:
        attempts: Requests in all.
        first_s: Longest time before the second; it doubles each time.
        longest_s: Where it stops to double.
    """

    attempts: int = 6
    first_s: float = 0.5
    longest_s: float = 20.0

    def delay(self, failures: int) -> float:
        """Return how long to wait after a number of failures: at random, so that clients do not come back together."""
        return random.uniform(0, min(self.longest_s, self.first_s * 2 ** (failures - 1)))


RETRY_POLICY = RetryPolicy()


def with_retries(action: Callable[[], Result], policy: RetryPolicy = RETRY_POLICY) -> Result:
    """Return what `action` returns, and call it again after errors that may pass.

    Example:
        >>> answers = iter([TimeoutError(), 7])
        >>> def ask():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> with_retries(ask, RetryPolicy(first_s=0))
        7
    """
    for failures in range(1, policy.attempts):
        try:
            return action()
        except Exception as error:
            status = getattr(error, "status", None)  # of aiohttp
            refused = isinstance(status, int) and 400 <= status < 500 and status not in RETRIED_STATUS
            if refused or isinstance(error, PERMANENT) or type(error).__name__ in PERMANENT_NAMES:
                raise
        time.sleep(policy.delay(failures))
    return action()


class CloudStorage(Storage):
    """The files of one scheme; may be used from several threads.

    Example:
        >>> storage = CloudStorage("memory")
        >>> storage.write("memory://photos/a.txt", b"1")
        >>> [name for name, _ in storage.walk("memory://photos")], storage.read("memory://photos/a.txt")
        (['a.txt'], b'1')

    Raises:
        MissingExtraError: if fsspec, or its package for the scheme, is not installed.
        SourceError: if no package knows the scheme.
    """

    is_remote = True

    def __init__(self, scheme: str, policy: RetryPolicy = RETRY_POLICY) -> None:
        try:
            import fsspec

            fsspec.get_filesystem_class(scheme.rpartition("::")[2])
        except ImportError as error:
            package = PACKAGES.get(scheme) or error.name or "fsspec"
            raise MissingExtraError.for_package(package, "cloud") from error
        except ValueError as error:
            raise SourceError(
                f"{scheme}:// is no address that can be opened; s3, gs, az, hf, http, https and other schemes of "
                "fsspec are: check the spelling"
            ) from error
        self.scheme, self.policy = scheme, policy

    def is_folder(self, location: str) -> bool:
        """See Storage."""
        if self.scheme in ("http", "https"):
            return location.endswith("/")
        return self._ask(location, lambda files, path: bool(files.isdir(path)))

    def find(self, location: str) -> StoredFile | None:
        """See Storage."""
        try:
            info = self._ask(location, lambda files, path: files.info(path))
        except FileNotFoundError:
            return None
        return None if info.get("type") == "directory" else _stored_file(location, info)

    def walk(self, folder: str) -> Iterator[tuple[str, StoredFile]]:
        """See Storage. One folder is in memory at a time."""
        pending = [""]
        while pending:
            prefix = pending.pop()
            location = join_location(folder, prefix.rstrip("/")) if prefix else folder
            if self.scheme in ("http", "https"):
                location = f"{location.rstrip('/')}/"
            try:
                infos = self._ask(location, _list_folder)
            except FileNotFoundError:
                raise SourceError(f"there is no folder {redact_url(location)!r}: check the address") from None
            below = {info["name"].rstrip("/").rpartition("/")[2]: info for info in infos}
            folders = []
            for name in sorted(below, key=natural_key):
                if name.startswith(".") or not name:
                    continue
                if below[name].get("type") == "directory":
                    folders.append(f"{prefix}{name}/")
                else:
                    yield prefix + name, _stored_file(join_location(folder, prefix + name), below[name])
            pending += reversed(folders)

    def glob(self, pattern: str) -> list[StoredFile]:
        """See Storage."""
        found: Mapping[str, Any] = self._ask(pattern, lambda files, path: files.glob(path, detail=True))
        scheme = pattern.partition("://")[0]
        files = [
            _stored_file(name if is_url(name) else f"{scheme}://{name}", info)
            for name, info in found.items()
            if info.get("type") != "directory"
        ]
        return sorted(files, key=lambda file: natural_key(file.location))

    def open(self, location: str) -> BinaryIO:
        """See Storage. Blocks are read as they are needed."""
        return cast(
            BinaryIO,
            self._ask(
                location,
                lambda files, path: files.open(path, "rb", block_size=STREAM_BLOCK_BYTES, cache_type="readahead"),
                reads=True,
            ),
        )

    def read(self, location: str) -> bytes:
        """See Storage."""

        def read(files: AbstractFileSystem, path: str) -> bytes:
            return bytes(files.cat_file(path))

        return self._ask(location, read, reads=True)

    def read_if_there(self, location: str) -> bytes | None:
        """See Storage."""
        try:  # with a beginning, packages read at once, and do not look for the size first
            return self._ask(location, lambda files, path: bytes(files.cat_file(path, start=0)))
        except FileNotFoundError:
            return None

    def copy_to(self, location: str, path: Path) -> None:
        """See Storage."""
        self._ask(location, lambda files, remote: files.get_file(remote, str(path)), reads=True)

    def write(self, location: str, content: bytes) -> None:
        """See Storage. An object appears when its last byte is there."""
        self._ask(location, lambda files, path: files.pipe_file(path, content), writes=True)

    def write_file(self, location: str, path: Path) -> None:
        """See Storage. An object appears when its last part is there."""
        self._ask(location, lambda files, remote: files.put_file(str(path), remote), writes=True)

    def create(self, location: str, content: bytes) -> bool:
        """See Storage."""
        try:
            self._ask(location, lambda files, path: files.pipe_file(path, content, mode="create"), writes=True)
        except FileExistsError:
            try:
                return self.read(location) == content  # an answer that was lost: the request made again finds our own
            except SourceError:
                return False
        return True

    def remove(self, location: str) -> None:
        """See Storage."""
        try:
            self._ask(location, lambda files, path: files.rm_file(path), writes=True)
        except FileNotFoundError:
            return

    def _ask(
        self,
        location: str,
        request: Callable[[AbstractFileSystem, str], Result],
        *,
        reads: bool = False,
        writes: bool = False,
    ) -> Result:
        """Return the answer of a request, made again if it fails for a moment; errors name the redacted address.

        Raises:
            FileNotFoundError, FileExistsError: if that is the answer; a file that `reads` expects is a SourceError.
        """
        from fsspec.core import url_to_fs

        def ask() -> Result:
            files, path = url_to_fs(location, use_listings_cache=False)
            return request(files, path)

        name = redact_url(location)
        try:
            return with_retries(ask, self.policy)
        except ImportError as error:
            raise MissingExtraError.for_package(PACKAGES.get(self.scheme, error.name or "fsspec"), "cloud") from error
        except (FileNotFoundError, FileExistsError) as error:
            if reads:
                raise SourceError(f"there is no file {name!r}: check the address, and whether it was removed") from None
            raise type(error)(name) from None
        except Exception as error:
            reason = redact_urls(describe_error(error)) or type(error).__name__
            if writes:
                raise OutputError(
                    f"{name} could not be written ({type(error).__name__}: {reason}): check the credentials and the "
                    "network, and run the same again to resume"
                ) from None
            raise SourceError(
                f"cannot read {name!r} ({type(error).__name__}: {reason}): check the address, the credentials and the "
                "network"
            ) from None


def _list_folder(files: AbstractFileSystem, path: str) -> list[dict[str, Any]]:
    """Return what is in a folder, without the empty object that some stores have for the folder itself."""
    infos: list[dict[str, Any]] = files.ls(path, detail=True)
    return [info for info in infos if info["name"].rstrip("/") != path.rstrip("/")]


def _stored_file(location: str, info: Mapping[str, Any]) -> StoredFile:
    """Return the file that an answer of fsspec describes; the keys depend on the scheme."""
    size = info.get("size")
    modified = next((info[key] for key in MODIFIED_KEYS if info.get(key)), None)
    if isinstance(modified, datetime):
        aware = modified if modified.tzinfo is not None else modified.replace(tzinfo=timezone.utc)
        modified = aware.timestamp()
    key = next((key for key in VERSION_KEYS if info.get(key)), "")
    version = f"{key.lower()}={info[key]}" if key else "" if modified is None else f"modified={modified}"
    return StoredFile(
        location,
        size if isinstance(size, int) else None,
        version,
        float(modified) if isinstance(modified, (int, float)) else None,
    )
