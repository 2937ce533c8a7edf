"""Read the items of a source ahead of the stage that processes them: on threads, in order, with a bound on memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TypeVar

from masklet.errors import SourceError
from masklet.media.prefetch import Prefetcher
from masklet.scale.items import Item
from masklet.scale.storage import Storage, StoredFile, is_url, storage_of

__all__ = ["ItemContent", "read_ahead", "read_item"]

Prepared = TypeVar("Prepared")

LISTED_AHEAD = 16
"""Items that are listed, or read from an archive, before a thread takes them."""
MAX_WAITING_BYTES = 512 << 20
"""Of the items that are read and wait for the stage, as far as their sizes are known."""
HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class ItemContent:
    """What was read of an item: `content` of an image, `path` of a video on this machine, and the SHA-256."""

    sha256: str
    content: bytes | None = field(default=None, repr=False)
    path: Path | None = None
    is_temporary: bool = False

    def discard(self) -> None:
        """Remove the file of a video that was copied from elsewhere."""
        if self.is_temporary and self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def read_item(item: Item, temp_dir: Path) -> ItemContent:
    """Read an item: an image into memory, a video from elsewhere to a file in `temp_dir`.

    Example:
        >>> read_item(Item("a.jpg", "photos/a.jpg"), Path("/tmp")).sha256  # doctest: +SKIP
        'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

    Raises:
        SourceError: if it cannot be read, is cut short, or changed since it was listed.
    """
    if item.problem:
        raise SourceError(item.problem)
    if item.content is not None and not item.is_video:
        return ItemContent(sha256(item.content).hexdigest(), item.content)
    key = sha256(item.name.encode("utf-8", "surrogateescape")).hexdigest()
    copy = temp_dir / f"{key}{PurePosixPath(item.name).suffix}"
    if item.content is not None:
        copy.write_bytes(item.content)
        return ItemContent(sha256(item.content).hexdigest(), None, copy, True)
    storage = storage_of(item.location)
    listed = StoredFile(item.location, item.size, item.version) if item.version else storage.find(item.location)
    if not item.is_video:
        content = storage.read(item.location)
        _check_unchanged(storage, item, listed, len(content))
        return ItemContent(sha256(content).hexdigest(), content)
    is_remote = is_url(item.location)
    if is_remote:
        storage.copy_to(item.location, copy)
    path = copy if is_remote else Path(item.location)
    digest = sha256()
    with storage_of(str(path)).open(str(path)) as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
        size = file.tell()
    found = ItemContent(digest.hexdigest(), None, path, is_remote)
    try:
        _check_unchanged(storage, item, listed, size)
    except SourceError:
        found.discard()
        raise
    return found


def _check_unchanged(storage: Storage, item: Item, listed: StoredFile | None, num_bytes: int) -> None:
    """Compare what was read with what was listed, and with what is there now."""
    now = storage.find(item.location)
    if listed is None or now is None:  # a server that says nothing about files
        return
    if listed.is_changed(now):
        raise SourceError(
            f"{item.source!r} changed between the time it was listed and the time it was read ({listed.version}, "
            f"{listed.size} bytes then; {now.version}, {now.size} bytes now): run the same again to process what is "
            "there now"
        )
    if now.size is not None and now.size != num_bytes:
        raise SourceError(
            f"{item.source!r} was cut short: {num_bytes} of {now.size} bytes came: run the same again to read it"
        )


def read_ahead(
    items: Iterable[Item], prepare: Callable[[Item], Prepared], *, threads: int, max_items: int
) -> Generator[Prepared, None, None]:
    """Yield `prepare(item)` for each item, in order; threads prepare at most `max_items` ahead.

    Example:
        >>> items = [Item(name, name) for name in "abc"]
        >>> list(read_ahead(items, lambda item: item.name, threads=2, max_items=2))
        ['a', 'b', 'c']
    """
    pending: deque[tuple[Future[Prepared], int]] = deque()
    waiting_bytes = 0
    with Prefetcher(items, LISTED_AHEAD) as listed, closing(_Pool(threads)) as pool:
        for item in listed:
            size = item.size or 0
            while pending and (len(pending) >= max_items or waiting_bytes + size > MAX_WAITING_BYTES):
                future, its_size = pending.popleft()
                waiting_bytes -= its_size
                yield future.result()
            pending.append((pool.submit(prepare, item), size))
            waiting_bytes += size
        while pending:
            yield pending.popleft()[0].result()


class _Pool(ThreadPoolExecutor):
    """Threads that start nothing new once the pool is closed."""

    def close(self) -> None:
        self.shutdown(wait=True, cancel_futures=True)
