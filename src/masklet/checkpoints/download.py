"""Download one published file into the cache, completely or not at all.

The bytes go to `NAME.part` in the same folder, are checked for size and SHA-256, and are then renamed, so that a file
under its own name is always complete. An interrupted download is resumed by this call's own attempts or by the next
call. One process downloads; others wait for its lock. Nothing here prints; progress is a callback.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from masklet.errors import DownloadError

__all__ = [
    "DownloadRequest",
    "FatalDownloadError",
    "Progress",
    "cache_dir",
    "download",
    "download_part",
    "file_size",
    "format_megabytes",
    "is_offline",
]

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, total bytes or None) after every block."""


@dataclass(frozen=True)
class DownloadRequest:
    """What to download, to which file, and how to check it."""

    url: str
    target: Path
    size: int | None
    sha256: str | None
    progress: Progress | None

    @property
    def part_file(self) -> Path:
        """File for the bytes until they are complete and checked."""
        return self.target.with_name(self.target.name + ".part")


def file_size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def format_megabytes(count: int) -> str:
    """Format a number of bytes."""
    return f"{count / 1e6:.1f} MB"


_CHUNK_SIZE = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_RETRY_DELAYS = (0.0, 0.5, 1.0, 2.0, 4.0)  # seconds before each attempt
_MIN_FREE_BYTES = 64 << 20  # bytes of the disk that stay free
_STATUS_WORTH_RETRYING = {408, 429, 500, 502, 503, 504}


class _RetryableDownloadError(Exception):
    """The transfer stopped early; the part file stays, and another attempt makes sense."""


class FatalDownloadError(Exception):
    """Another attempt would fail again."""


def download_part(request: DownloadRequest) -> None:
    """Download and check the part file, with several attempts where that makes sense."""
    reason: Exception | None = None
    for pause in _RETRY_DELAYS:
        time.sleep(pause)
        try:
            resumed = _send_request(request)
            size, digest = file_size(request.part_file), hashlib.sha256()
            if request.size is not None and size != request.size:
                request.part_file.unlink()
                raise _RetryableDownloadError(f"{size} bytes arrived where {request.size} are published")
            if not size:
                raise _RetryableDownloadError("nothing arrived")
            if not request.sha256:
                return
            with request.part_file.open("rb") as file:
                while block := file.read(_CHUNK_SIZE):
                    digest.update(block)
            if digest.hexdigest() == request.sha256.lower():
                return
            request.part_file.unlink()
            problem = f"its SHA-256 is {digest.hexdigest()} where {request.sha256} is published; it was removed"
            raise _RetryableDownloadError(problem) if resumed else FatalDownloadError(problem)
        except _RetryableDownloadError as error:
            reason = error
    done = file_size(request.part_file)
    note = f" ({format_megabytes(done)} are kept; download again to resume)" if request.sha256 and done else ""
    raise FatalDownloadError(f"the transfer broke off {len(_RETRY_DELAYS)} times, last: {reason}{note}") from reason


def _send_request(download_request: DownloadRequest) -> bool:
    """Send one request and append the response to the part file; return whether it resumed an earlier part."""
    # Only a hash detects that the publisher changed the file in between.
    start = 0 if download_request.sha256 is None else file_size(download_request.part_file)
    if download_request.size is not None and start >= download_request.size:
        return True
    request = urllib.request.Request(download_request.url, headers={"User-Agent": "masklet"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            if response.status != 206:  # the server ignores the range and sends everything
                start = 0
            elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
                raise FatalDownloadError("the server resumed at another position than requested")
            length = response.headers.get("Content-Length")
            total = start + int(length) if length and length.isdigit() else download_request.size
            if download_request.size is not None and total != download_request.size:
                raise FatalDownloadError(
                    f"the server offers {total} bytes where {download_request.size} are published: "
                    "a proxy or login page in between, or a new file"
                )
            free = shutil.disk_usage(download_request.part_file.parent).free
            needed = (total or 0) - start + _MIN_FREE_BYTES
            if needed > free:
                raise FatalDownloadError(
                    f"{download_request.part_file.parent} has {format_megabytes(free)} free and "
                    f"{format_megabytes(needed)} are needed"
                )
            with download_request.part_file.open("ab" if start else "wb") as part:
                _write_body(response, part, start, total, download_request)
            return start > 0
    except urllib.error.URLError as error:
        raise _classify_error(error, download_request) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException, ssl.SSLError) as error:
        raise _RetryableDownloadError(f"{type(error).__name__} {error}".strip()) from error


def _write_body(
    response: http.client.HTTPResponse, part: BinaryIO, start: int, total: int | None, request: DownloadRequest
) -> None:
    done, block = start, b""
    while True:
        done += len(block)
        if total is not None and done > total:
            raise FatalDownloadError(f"the server sends more than the {total} bytes it should")
        part.write(block)
        if request.progress:
            request.progress(done, total)
        block = response.read(_CHUNK_SIZE)
        if not block:
            break
    if total is not None and done < total:
        raise _RetryableDownloadError(f"{done} of {total} bytes arrived")


def _classify_error(error: urllib.error.URLError, request: DownloadRequest) -> Exception:
    """Return the error to raise, which says whether another attempt makes sense."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code in _STATUS_WORTH_RETRYING:
            return _RetryableDownloadError(f"the server answers {error.code} {error.reason}")
        if error.code == 416:  # the part file is longer than the file
            request.part_file.unlink(missing_ok=True)
            return _RetryableDownloadError("the earlier part does not belong to the file")
        return FatalDownloadError(f"the server answers {error.code} {error.reason}")
    if isinstance(error.reason, ssl.SSLCertVerificationError):
        return FatalDownloadError(
            f"the server's certificate was refused ({error.reason.verify_message}): "
            "set SSL_CERT_FILE to your certificates (python.org on macOS: run Install Certificates.command)"
        )
    if isinstance(error.reason, (TimeoutError, ConnectionResetError)):
        return _RetryableDownloadError(f"no answer ({error.reason})")
    return FatalDownloadError(f"no connection ({error.reason})")


def cache_dir() -> Path:
    """Return the folder of downloaded weights: `MASKLET_HOME`, else the platform's cache folder.

    Example:
        >>> os.environ["MASKLET_HOME"] = "/data/weights"
        >>> cache_dir()
        PosixPath('/data/weights')
    """
    chosen = os.environ.get("MASKLET_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "masklet"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "masklet"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "masklet"


def is_offline() -> bool:
    """Return whether `MASKLET_OFFLINE` forbids the network.

    Example:
        >>> os.environ["MASKLET_OFFLINE"] = "1"
        >>> is_offline()
        True
    """
    return os.environ.get("MASKLET_OFFLINE", "").lower() not in {"", "0", "false", "no"}


def download(
    url: str,
    target: str | PathLike[str],
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download `url` to the file `target`, checked and complete; return `target`.

    `size` in bytes and `sha256` (hex) are checked if given. An existing target of the right size is returned as it is.
    Downloads are resumed only if `sha256` is given. `MASKLET_OFFLINE=1` forbids the network.

    Example:
        >>> download("https://example.org/weights.pt", cache_dir() / "weights.pt", size=155906050)
        PosixPath('/home/me/.cache/masklet/weights.pt')

    Raises:
        DownloadError: if there is no network, the file is not found or has another size or hash, the disk is full, or
            the folder is not writable. It says what to download by other means, from where, and where to put it.
    """
    assert url.startswith(("https://", "http://")), f"only web addresses can be downloaded, not {url}"
    request = DownloadRequest(url, Path(target).expanduser().absolute(), size, sha256, progress)
    if _is_complete(request):
        return request.target
    if is_offline():
        existing = file_size(request.target)
        mismatch = f", and the file there has {existing} bytes, not {size}" if existing else ""
        raise _download_error(request, f"MASKLET_OFFLINE is set, which forbids downloads{mismatch}")
    from filelock import FileLock

    try:
        request.target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(request.target.with_name(request.target.name + ".lock")):
            if not _is_complete(request):
                download_part(request)
                os.replace(request.part_file, request.target)
    except FatalDownloadError as error:
        raise _download_error(request, str(error)) from error.__cause__
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise _download_error(request, f"{request.target.parent} cannot be written ({error})") from error
    return request.target


def _is_complete(request: DownloadRequest) -> bool:
    size = file_size(request.target)
    return size > 0 and request.size in {None, size}


def _download_error(request: DownloadRequest, reason: str) -> DownloadError:
    size = f" ({format_megabytes(request.size)})" if request.size else ""
    return DownloadError(
        f"Could not download {request.target.name}{size}: {reason}. "
        f"Download it by other means from {request.url} and put it at {request.target} "
        "(MASKLET_HOME chooses another folder)."
    )
