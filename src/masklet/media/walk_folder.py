"""List the files below a folder: the one order and the one rule for links of all that process folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import compress
from operator import not_

from masklet.damaged_files import describe_error
from masklet.errors import SourceError
from masklet.media.image_source import natural_key

__all__ = ["walk_folder"]


def walk_folder(
    folder: str, is_skipped: Callable[[str], bool] = lambda path: False
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files of a folder, then those of its subfolders: the path below `folder`, with /, and the entry.

    The order is natural, and the same in every process. Hidden files and folders are left out, and folders that
    `is_skipped`. Links to folders are followed, but each folder is listed once, where it comes first: links cannot form
    a circle, nor multiply what is below them. A link that leads nowhere is yielded as a file.

    Example:
        >>> [name for name, _ in walk_folder("photos")]  # doctest: +SKIP
        ['a.jpg', 'cats/2.jpg', 'cats/10.jpg']

    Raises:
        SourceError: if a folder cannot be listed.
    """
    return _walk(folder, "", {os.path.realpath(folder)}, is_skipped)


def _walk(
    folder: str, prefix: str, listed: set[str], is_skipped: Callable[[str], bool]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as scan:
            entries = sorted((e for e in scan if not e.name.startswith(".")), key=lambda e: natural_key(e.name))
    except OSError as error:
        raise SourceError(
            f"cannot list {folder!r}: {describe_error(error)}; a readable folder is needed: check its permissions"
        ) from error
    are_folders = [_is_folder(entry) for entry in entries]
    for entry in compress(entries, map(not_, are_folders)):
        yield prefix + entry.name, entry
    for entry in compress(entries, are_folders):
        real = os.path.realpath(entry.path)
        if real not in listed and not is_skipped(entry.path):
            listed.add(real)
            yield from _walk(entry.path, f"{prefix}{entry.name}/", listed, is_skipped)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
