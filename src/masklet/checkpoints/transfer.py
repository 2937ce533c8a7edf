"""Fill a part file from a server: one request after another, until it is whole or nothing helps.

Imported when something is fetched, because the standard library's HTTP client takes longer to import than
all of the registry.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from masklet.checkpoints.order import Order, megabytes, size_of

__all__ = ["HopelessError", "fill"]

_BLOCK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)  # seconds before each try
_SPARE = 64 << 20  # bytes of the disk that are left alone
_STATUS_WORTH_RETRYING = {408, 429, 500, 502, 503, 504}


class _BrokenOffError(Exception):
    """The transfer stopped early; what arrived is kept and trying again makes sense."""


class HopelessError(Exception):
    """Trying again would fail again."""


def fill(order: Order) -> None:
    """Fill and check the part file, trying again while that makes sense."""
    reason: Exception | None = None
    for pause in _PAUSES:
        time.sleep(pause)
        try:
            resumed = _transfer(order)
            _check(order, resumed)
        except _BrokenOffError as error:
            reason = error
        else:
            return
    times = len(_PAUSES)
    raise HopelessError(f"the transfer broke off {times} times, last: {reason}{_kept(order)}") from reason


def _transfer(order: Order) -> bool:
    """One request: append to the part file whatever arrives; return whether there was a part before."""
    start = size_of(order.part) if order.resumable else 0
    if order.size is not None and start >= order.size:
        return True
    request = urllib.request.Request(order.url, headers={"User-Agent": "masklet"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            start = _agreed_start(response, start)
            total = _agreed_total(response, start, order)
            _check_disk(order, start, total)
            with order.part.open("ab" if start else "wb") as part:
                _pour(response, part, start, total, order)
            return start > 0
    except urllib.error.HTTPError as error:
        raise _http_failure(error, order) from error
    except urllib.error.URLError as error:
        raise _no_connection(error) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException, ssl.SSLError) as error:
        raise _BrokenOffError(f"{type(error).__name__} {error}".strip()) from error


def _agreed_start(response: http.client.HTTPResponse, start: int) -> int:
    """Where the answer begins: a server may ignore a wish to resume, and sends everything."""
    if response.status != 206:
        return 0
    if not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
        raise HopelessError("the server resumed at another place than it was asked to")
    return start


def _agreed_total(response: http.client.HTTPResponse, start: int, order: Order) -> int | None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length and length.isdigit() else None
    if total is not None and order.size is not None and total != order.size:
        raise HopelessError(
            f"the server offers {total} bytes where {order.size} are published: "
            "a proxy or login page in between, or a new file"
        )
    return total if total is not None else order.size


def _check_disk(order: Order, start: int, total: int | None) -> None:
    free, needed = shutil.disk_usage(order.part.parent).free, (total or 0) - start
    if needed + _SPARE > free:
        raise HopelessError(
            f"{order.part.parent} has {megabytes(free)} free and {megabytes(needed + _SPARE)} are needed"
        )


def _pour(response: http.client.HTTPResponse, part: BinaryIO, start: int, total: int | None, order: Order) -> None:
    done = start
    order.report(done, total)
    while block := response.read(_BLOCK):
        done += len(block)
        if total is not None and done > total:
            raise HopelessError(f"the server sends more than the {total} bytes it should")
        part.write(block)
        order.report(done, total)
    if total is not None and done < total:
        raise _BrokenOffError(f"{done} of {total} bytes arrived")


def _http_failure(error: urllib.error.HTTPError, order: Order) -> Exception:
    error.close()
    if error.code in _STATUS_WORTH_RETRYING:
        return _BrokenOffError(f"the server answers {error.code} {error.reason}")
    if error.code == 416:  # the part file is longer than the file
        order.part.unlink(missing_ok=True)
        return _BrokenOffError("the part that was there does not belong to the file")
    return HopelessError(f"the server answers {error.code} {error.reason}")


def _no_connection(error: urllib.error.URLError) -> Exception:
    if isinstance(error.reason, ssl.SSLCertVerificationError):
        return HopelessError(
            f"the server's certificate was refused ({error.reason.verify_message}): "
            "set SSL_CERT_FILE to your certificates (python.org on macOS: run Install Certificates.command)"
        )
    if isinstance(error.reason, (TimeoutError, ConnectionResetError)):
        return _BrokenOffError(f"no answer ({error.reason})")
    return HopelessError(f"no connection ({error.reason})")


def _check(order: Order, resumed: bool) -> None:
    """Compare the part file with what is published; one that differs is removed."""
    found = size_of(order.part)
    if order.size is not None and found != order.size:
        order.part.unlink()
        raise _BrokenOffError(f"{found} bytes arrived where {order.size} are published")
    if not found:
        raise _BrokenOffError("nothing arrived")
    digest = _digest(order.part) if order.sha256 else None
    if order.sha256 and digest != order.sha256.lower():
        order.part.unlink()
        problem = f"its SHA-256 is {digest} where {order.sha256} is published; it was removed"
        raise _BrokenOffError(problem) if resumed else HopelessError(problem)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _kept(order: Order) -> str:
    there = size_of(order.part)
    return f" ({megabytes(there)} are kept; ask again to go on)" if order.resumable and there else ""
