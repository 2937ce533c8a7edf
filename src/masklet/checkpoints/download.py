"""Fill a part file from a server: one request after another, until it is whole or nothing helps.

Imported when something is fetched, because the standard library's HTTP client takes longer to import than
all of the registry.

What is to be fetched, as the parts of `fetch` and `transfer` hand it on.

Fetch one published file into the cache, whole or not at all.

The bytes go to `NAME.part` beside the target, are checked for size and SHA-256, and are then renamed into
place, so that a file under its own name is always complete. An interrupted fetch is taken up again where
it stopped, by this call's own retries or by the next call. One process fetches; others wait for its lock.

Every model comes by this one path, whatever spelling of its name was asked for: one cache folder, one
check, one set of errors. Nothing here prints; progress is a callback.
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
"""Called with (bytes there, bytes in all or None) after every block."""


@dataclass(frozen=True)
class DownloadRequest:
    """What to fetch, where to, and what it must be."""

    url: str
    target: Path
    size: int | None
    sha256: str | None
    progress: Progress | None

    @property
    def part_file(self) -> Path:
        """Where the bytes go until they are whole and checked."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def resumable(self) -> bool:
        """Only a hash would notice that the publisher changed the file between two pieces."""
        return self.sha256 is not None

    def report(self, done: int, total: int | None) -> None:
        """Tell the caller how far it is."""
        if self.progress:
            self.progress(done, total)


def file_size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def format_megabytes(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:.1f} MB"


_CHUNK_SIZE = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_RETRY_DELAYS = (0.0, 0.5, 1.0, 2.0, 4.0)  # seconds before each try
_MIN_FREE_BYTES = 64 << 20  # bytes of the disk that are left alone
_STATUS_WORTH_RETRYING = {408, 429, 500, 502, 503, 504}


class _RetryableDownloadError(Exception):
    """The transfer stopped early; what arrived is kept and trying again makes sense."""


class FatalDownloadError(Exception):
    """Trying again would fail again."""


def download_part(request: DownloadRequest) -> None:
    """Fill and check the part file, trying again while that makes sense."""
    reason: Exception | None = None
    for pause in _RETRY_DELAYS:
        time.sleep(pause)
        try:
            resumed = _send_request(request)
            _verify_part(request, resumed)
        except _RetryableDownloadError as error:
            reason = error
        else:
            return
    times = len(_RETRY_DELAYS)
    raise FatalDownloadError(
        f"the transfer broke off {times} times, last: {reason}{_partial_note(request)}"
    ) from reason


def _send_request(download_request: DownloadRequest) -> bool:
    """One request: append to the part file whatever arrives; return whether there was a part before."""
    start = file_size(download_request.part_file) if download_request.resumable else 0
    if download_request.size is not None and start >= download_request.size:
        return True
    request = urllib.request.Request(download_request.url, headers={"User-Agent": "masklet"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            start = _resume_offset(response, start)
            total = _total_size(response, start, download_request)
            _check_disk(download_request, start, total)
            with download_request.part_file.open("ab" if start else "wb") as part:
                _write_body(response, part, start, total, download_request)
            return start > 0
    except urllib.error.HTTPError as error:
        raise _http_error(error, download_request) from error
    except urllib.error.URLError as error:
        raise _connection_error(error) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException, ssl.SSLError) as error:
        raise _RetryableDownloadError(f"{type(error).__name__} {error}".strip()) from error


def _resume_offset(response: http.client.HTTPResponse, start: int) -> int:
    """Where the answer begins: a server may ignore a wish to resume, and sends everything."""
    if response.status != 206:
        return 0
    if not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
        raise FatalDownloadError("the server resumed at another place than it was asked to")
    return start


def _total_size(response: http.client.HTTPResponse, start: int, request: DownloadRequest) -> int | None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length and length.isdigit() else None
    if total is not None and request.size is not None and total != request.size:
        raise FatalDownloadError(
            f"the server offers {total} bytes where {request.size} are published: "
            "a proxy or login page in between, or a new file"
        )
    return total if total is not None else request.size


def _check_disk(request: DownloadRequest, start: int, total: int | None) -> None:
    free, needed = shutil.disk_usage(request.part_file.parent).free, (total or 0) - start
    if needed + _MIN_FREE_BYTES > free:
        raise FatalDownloadError(
            f"{request.part_file.parent} has {format_megabytes(free)} free and {format_megabytes(needed + _MIN_FREE_BYTES)} are needed"  # noqa: E501
        )


def _write_body(
    response: http.client.HTTPResponse, part: BinaryIO, start: int, total: int | None, request: DownloadRequest
) -> None:
    done = start
    request.report(done, total)
    while block := response.read(_CHUNK_SIZE):
        done += len(block)
        if total is not None and done > total:
            raise FatalDownloadError(f"the server sends more than the {total} bytes it should")
        part.write(block)
        request.report(done, total)
    if total is not None and done < total:
        raise _RetryableDownloadError(f"{done} of {total} bytes arrived")


def _http_error(error: urllib.error.HTTPError, request: DownloadRequest) -> Exception:
    error.close()
    if error.code in _STATUS_WORTH_RETRYING:
        return _RetryableDownloadError(f"the server answers {error.code} {error.reason}")
    if error.code == 416:  # the part file is longer than the file
        request.part_file.unlink(missing_ok=True)
        return _RetryableDownloadError("the part that was there does not belong to the file")
    return FatalDownloadError(f"the server answers {error.code} {error.reason}")


def _connection_error(error: urllib.error.URLError) -> Exception:
    if isinstance(error.reason, ssl.SSLCertVerificationError):
        return FatalDownloadError(
            f"the server's certificate was refused ({error.reason.verify_message}): "
            "set SSL_CERT_FILE to your certificates (python.org on macOS: run Install Certificates.command)"
        )
    if isinstance(error.reason, (TimeoutError, ConnectionResetError)):
        return _RetryableDownloadError(f"no answer ({error.reason})")
    return FatalDownloadError(f"no connection ({error.reason})")


def _verify_part(request: DownloadRequest, resumed: bool) -> None:
    """Compare the part file with what is published; one that differs is removed."""
    found = file_size(request.part_file)
    if request.size is not None and found != request.size:
        request.part_file.unlink()
        raise _RetryableDownloadError(f"{found} bytes arrived where {request.size} are published")
    if not found:
        raise _RetryableDownloadError("nothing arrived")
    digest = _digest(request.part_file) if request.sha256 else None
    if request.sha256 and digest != request.sha256.lower():
        request.part_file.unlink()
        problem = f"its SHA-256 is {digest} where {request.sha256} is published; it was removed"
        raise _RetryableDownloadError(problem) if resumed else FatalDownloadError(problem)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK_SIZE):
            digest.update(block)
    return digest.hexdigest()


def _partial_note(request: DownloadRequest) -> str:
    there = file_size(request.part_file)
    return f" ({format_megabytes(there)} are kept; ask again to go on)" if request.resumable and there else ""


def cache_dir() -> Path:
    """The folder that holds downloaded weights: `MASKLET_HOME`, else the platform's cache folder.

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
    """Whether `MASKLET_OFFLINE` forbids the network.

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
    """Fetch `url` to the file `target`, checked and complete; return `target`.

    `size` in bytes and `sha256` (hex) are checked where given. A target that is there already, with the
    right size, is returned as it is. Fetches are resumed only where `sha256` is given.
    `MASKLET_OFFLINE=1` forbids the network.

    Example:
        >>> download("https://example.org/weights.pt", cache_dir() / "weights.pt", size=155906050)
        PosixPath('/home/me/.cache/masklet/weights.pt')

    Errors: DownloadError (no network, offline, not found, wrong size or hash, disk full, folder not
    writable); it says what to fetch by other means, from where, and where to put it.
    """
    assert url.startswith(("https://", "http://")), f"only web addresses are fetched, not {url}"
    order = DownloadRequest(url, Path(target).expanduser().absolute(), size, sha256, progress)
    if _is_complete(order):
        return order.target
    if is_offline():
        raise _download_error(order, f"MASKLET_OFFLINE is set, which forbids downloads{_size_mismatch(order)}")
    from filelock import FileLock

    try:
        order.target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(order.target.with_name(order.target.name + ".lock")):
            if not _is_complete(order):
                download_part(order)
                os.replace(order.part_file, order.target)
    except FatalDownloadError as error:
        raise _download_error(order, str(error)) from error.__cause__
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise _download_error(order, f"{order.target.parent} cannot be written ({error})") from error
    return order.target


def _is_complete(request: DownloadRequest) -> bool:
    try:
        there = request.target.stat().st_size
    except OSError:
        return False
    return there > 0 and request.size in {None, there}


def _size_mismatch(request: DownloadRequest) -> str:
    there = file_size(request.target)
    return f", and the file there has {there} bytes, not {request.size}" if there else ""


def _download_error(request: DownloadRequest, reason: str) -> DownloadError:
    size = f" ({format_megabytes(request.size)})" if request.size else ""
    return DownloadError(
        f"Could not download {request.target.name}{size}: {reason}. "
        f"Fetch it by other means from {request.url} and put it at {request.target} "
        "(MASKLET_HOME chooses another folder)."
    )
