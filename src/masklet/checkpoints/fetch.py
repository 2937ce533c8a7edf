"""Fetch one published file into the cache, whole or not at all.

The bytes go to `NAME.part` beside the target, are checked for size and SHA-256, and are then renamed into
place, so that a file under its own name is always complete. An interrupted fetch is taken up again where
it stopped, by this call's own retries or by the next call. One process fetches; others wait for its lock.

Every model comes by this one path, whatever spelling of its name was asked for: one cache folder, one
check, one set of errors. Nothing here prints; progress is a callback.
"""

from __future__ import annotations

import os
import sys
from os import PathLike
from pathlib import Path

from masklet.checkpoints.order import Order, Progress, megabytes, size_of
from masklet.errors import DownloadError

__all__ = ["Progress", "cache_dir", "download", "is_offline"]


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
    order = Order(url, Path(target).expanduser().absolute(), size, sha256, progress)
    if _is_complete(order):
        return order.target
    if is_offline():
        raise _error(order, f"MASKLET_OFFLINE is set, which forbids downloads{_unlike(order)}")
    from filelock import FileLock

    from masklet.checkpoints.transfer import HopelessError, fill

    try:
        order.target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(order.target.with_name(order.target.name + ".lock")):
            if not _is_complete(order):
                fill(order)
                os.replace(order.part, order.target)
    except HopelessError as error:
        raise _error(order, str(error)) from error.__cause__
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise _error(order, f"{order.target.parent} cannot be written ({error})") from error
    return order.target


def _is_complete(order: Order) -> bool:
    try:
        there = order.target.stat().st_size
    except OSError:
        return False
    return there > 0 and order.size in {None, there}


def _unlike(order: Order) -> str:
    there = size_of(order.target)
    return f", and the file there has {there} bytes, not {order.size}" if there else ""


def _error(order: Order, reason: str) -> DownloadError:
    size = f" ({megabytes(order.size)})" if order.size else ""
    return DownloadError(
        f"Could not download {order.target.name}{size}: {reason}. "
        f"Fetch it by other means from {order.url} and put it at {order.target} "
        "(MASKLET_HOME chooses another folder)."
    )
