"""The base of all image writers: a checked folder, unique file names, a list of the files written.

Every file is written atomically. If one cannot be written, the files before it stay.
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.errors import OutputError, StateError
from masklet.results import Results

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Writer", "ensure_writable_folder"]


class Writer(ABC):
    """Write the results of many images into one folder; a context manager.

    The folder is created and checked when the writer is created, so that an unusable folder fails before a model
    runs. Files of an earlier run with the same names are replaced. `paths` lists the files written so far.

    A format implements `_write`, and `_finalize` if it has a file for the entire run.

    Raises:
        OutputError: if the folder cannot be created or written.
    """

    name_suffix = ""
    """What follows the stem of the image in a file name, for example `_overlay`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.paths: list[Path] = []
        self._used_stems: set[str] = set()
        self._is_open = True
        ensure_writable_folder(self.folder)

    def write(self, results: Results) -> list[Path]:
        """Write the results of one image and return the new files.

        Raises:
            OutputError: if a file cannot be written; the files before it stay.
            StateError: if the writer is closed.
        """
        if not self._is_open:
            raise StateError(
                f"{type(self).__name__} for {str(self.folder)!r} is closed; results are written inside its "
                "with block: open a new writer, or move the write into the block"
            )
        stem, number = results.stem, 1
        while stem.lower() in self._used_stems:  # an earlier image of this run has it
            number += 1
            stem = f"{results.stem}_{number}"
        self._used_stems.add(stem.lower())
        before = len(self.paths)
        self._write(results, stem)
        return self.paths[before:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the files of the entire run; leaving the `with` block does it, also after an error."""
        if self._is_open:
            self._is_open = False
            self._finalize()

    @abstractmethod
    def _write(self, results: Results, stem: str) -> None:
        """Write one image under the unique name `stem`, and add every new file to `paths`."""

    def _finalize(self) -> None:  # noqa: B027
        """Write the files of the entire run; most formats have none."""

    def _path(self, stem: str, suffix: str, index: int | None = None) -> Path:
        numbered = "" if index is None else f"_{index}"
        return self.folder / f"{stem}{self.name_suffix}{numbered}{suffix}"


def ensure_writable_folder(folder: Path) -> None:
    """Create `folder` if it does not exist, and check that files can be created in it.

    Example:
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     ensure_writable_folder(Path(parent) / "out")

    Raises:
        OutputError: if it is a file, or cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".masklet"):
            return
    except OSError as error:
        problem = "is a file" if folder.is_file() else f"cannot be written ({error.strerror or error})"
        raise OutputError(
            f"{str(folder)!r} {problem}; results go into a folder that exists or can be created: "
            "choose another folder, or check its permissions"
        ) from error
