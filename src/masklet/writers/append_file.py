"""A text file that grows by complete lines and keeps them after a crash or on a full disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from masklet.errors import OutputError

__all__ = ["AppendOnlyFile", "copy_byte_ranges", "write_error"]


class AppendOnlyFile:
    """Append lines to a text file, unbuffered: a killed program loses no line that `append` returned from.

    If a line does not fit on the disk, its partial bytes are removed and the lines before it stay.

    Args:
        keep_bytes: Length of the part of an existing file to keep; 0 replaces the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = AppendOnlyFile(Path(folder) / "clip_masks.jsonl")
        ...     file.append('{"frame":0}')
        ...     file.close()
        (0, 12)

    Raises:
        OutputError: if the file cannot be opened.
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
        """Write one or more lines and return their (offset, length) in bytes.

        Raises:
            OutputError: if they cannot be written; the file ends as it did before.
        """
        remaining = memoryview(f"{text}\n".encode("utf-8", "backslashreplace"))
        start, length = self._size, len(remaining)
        try:
            while remaining:  # a nearly full disk takes a part, and fails at the next write
                remaining = remaining[self._file.write(remaining) :]
        except OSError as error:
            self._file.truncate(start)
            self._file.seek(start)
            raise write_error(self.path, error) from error
        self._size += length
        return start, length

    def close(self) -> None:
        """Flush the file to disk and close it.

        Raises:
            OutputError: if the disk did not accept it.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error
        finally:
            self._file.close()


def copy_byte_ranges(source: Path, target: Path, ranges: Iterable[tuple[int, int]]) -> None:
    """Write the (offset, length) byte ranges of `source` to `target`, one after the other.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     source, target = Path(folder) / "source.txt", Path(folder) / "target.txt"
        ...     _ = source.write_text("one two three")
        ...     copy_byte_ranges(source, target, [(8, 5), (3, 4)])
        ...     target.read_text()
        'three two'
    """
    with open(source, "rb") as reader, open(target, "wb") as writer:
        for start, length in ranges:
            reader.seek(start)
            writer.write(reader.read(length))


def write_error(path: Path, error: OSError) -> OutputError:
    """Make the OutputError for a growing file that cannot be written further."""
    return OutputError(
        f"{path} could not be written ({error.strerror or error}); what was written before is kept: free disk space, "
        "or choose another folder"
    )
