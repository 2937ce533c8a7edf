"""A text file that grows by whole lines and keeps them whatever happens next."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from masklet.errors import OutputError

__all__ = ["AppendOnlyFile", "copy_byte_ranges", "write_error"]


class AppendOnlyFile:
    """Lines are with the operating system when `add` returns, so a killed program loses none of them.

    When a line does not fit on the disk, the part of it that did is taken back and the lines before stay.

    Example:
        >>> lines = LineFile(Path("out/clip_masks.jsonl"))
        >>> lines.add('{"frame":0}')
        (0, 12)

    Raises:
        OutputError: the file cannot be opened.
    """

    def __init__(self, path: Path, *, keep_bytes: int = 0) -> None:
        self.path = path
        self._size = keep_bytes
        try:
            self._file = open(path, "r+b" if keep_bytes else "wb", buffering=0)  # noqa: SIM115
            self._file.truncate(keep_bytes)
            self._file.seek(keep_bytes)
        except OSError as error:
            raise write_error(path, error) from error

    def append(self, text: str) -> tuple[int, int]:
        """Write one or more lines; returns where they begin in the file and their length in bytes.

        Raises:
            OutputError: they cannot be written; the file ends as it did before.
        """
        left = memoryview(f"{text}\n".encode())
        start, length = self._size, len(left)
        try:
            while left:  # a disk that is nearly full takes a part and says so only the next time
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(start)
            self._file.seek(start)
            raise write_error(self.path, error) from error
        self._size += length
        return start, length

    def close(self) -> None:
        """Close the file; what was added is in it already.

        Raises:
            OutputError: the disk did not take it.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error
        finally:
            self._file.close()


def copy_byte_ranges(old: Path, new: Path, spans: Iterable[tuple[int, int]]) -> None:
    """Write the parts of `old` that begin at an offset and have a length, one after the other, to `new`.

    Example:
        >>> copy_spans(Path("old.txt"), Path("new.txt"), [(0, 12)])
    """
    with open(old, "rb") as source, open(new, "wb") as target:
        for start, length in spans:
            source.seek(start)
            target.write(source.read(length))


def write_error(path: Path, error: OSError) -> OutputError:
    """The OutputError for a file that cannot go on growing."""
    return OutputError(
        f"{path} could not be written ({error.strerror or error}); what was written before is kept: make room, "
        "or choose another folder"
    )
