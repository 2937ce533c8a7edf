"""What all writers share: a folder that is checked before any work, names that never meet, a list of files.

Every file appears whole or not at all. When one cannot be written, OutputError says so and what was written
before stays where it is.
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
    """Writes the results of many images into one folder; a context manager.

    Making one makes the folder and tries it, so that an unusable folder is known before a model runs.
    Files of an earlier run with the same names are replaced.

    Example:
        >>> with OverlayWriter("out") as writer:
        ...     writer.write(results)
        [PosixPath('out/cat_overlay.png')]

    Raises:
        OutputError: the folder cannot be made or written.
    """

    name_suffix = ""
    """What the name of a file has after the image's stem, for example `_overlay`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.paths: list[Path] = []
        self._used_stems: set[str] = set()
        self._is_open = True
        ensure_writable_folder(self.folder)

    def write(self, results: Results) -> list[Path]:
        """Write what this format says about one image; returns the new files (also in `paths`).

        Raises:
            OutputError: a file cannot be written; what was written before stays.
            StateError: the writer is closed.
        """
        if not self._is_open:
            raise StateError(
                f"{type(self).__name__} for {str(self.folder)!r} is closed; results are written inside its "
                "with block: open a new writer, or move the write into the block"
            )
        before = len(self.paths)
        self._write(results, self._unique_stem(results))
        return self.paths[before:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what belongs to the run as a whole; leaving the `with` block does it, also after an error."""
        if self._is_open:
            self._is_open = False
            self._finalize()

    @abstractmethod
    def _write(self, results: Results, stem: str) -> None:
        """Write one image; `stem` is its name in this folder. Every file goes through `_wrote`."""

    def _finalize(self) -> None:
        """Write what belongs to the run as a whole; most formats have nothing of the kind."""
        return

    def _path(self, stem: str, suffix: str, index: int | None = None) -> Path:
        """Folder, stem, tag, number and suffix put together."""
        counted = "" if index is None else f"_{index}"
        return self.folder / f"{stem}{self.name_suffix}{counted}{suffix}"

    def _add_path(self, path: Path) -> None:
        self.paths.append(path)

    def _unique_stem(self, results: Results) -> str:
        """The image's stem, with _2, _3 ... when an earlier image of this run has it (case ignored)."""
        stem, number = results.stem, 1
        while stem.lower() in self._used_stems:
            number += 1
            stem = f"{results.stem}_{number}"
        self._used_stems.add(stem.lower())
        return stem


def ensure_writable_folder(folder: Path) -> None:
    """Make the folder and put a file of no length in it for a moment.

    Example:
        >>> check_folder(Path("out"))

    Raises:
        OutputError: it is a file, or cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".masklet"):
            return
    except OSError as error:
        what = "is a file" if folder.is_file() else f"cannot be written ({error.strerror or error})"
        raise OutputError(
            f"{str(folder)!r} {what}; results go into a folder that exists or can be made: "
            "choose another folder, or check its permissions"
        ) from error
