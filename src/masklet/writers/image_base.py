"""What all writers share: a folder that is checked before any work, names that never meet, a list of files.

Every file appears whole or not at all. When one cannot be written, OutputError says so and what was written
before stays where it is.
"""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from pathlib import Path

from masklet.closing import Closing
from masklet.errors import OutputError, StateError
from masklet.results import Results

__all__ = ["Writer", "check_folder"]


class Writer(Closing):
    """Writes the results of many pictures into one folder; a context manager.

    Making one makes the folder and tries it, so that an unusable folder is known before a model runs.
    Files of an earlier run with the same names are replaced.

    Example:
        >>> with OverlayWriter("out") as writer:
        ...     writer.write(results)
        [PosixPath('out/cat_overlay.png')]

    Raises:
        OutputError: the folder cannot be made or written.
    """

    tag = ""
    """What the name of a file has after the picture's stem, for example `_overlay`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.paths: list[Path] = []
        self._stems: set[str] = set()
        self._open = True
        check_folder(self.folder)

    def write(self, results: Results) -> list[Path]:
        """Write what this format says about one picture; returns the new files (also in `paths`).

        Raises:
            OutputError: a file cannot be written; what was written before stays.
            StateError: the writer is closed.
        """
        if not self._open:
            raise StateError(
                f"{type(self).__name__} for {str(self.folder)!r} is closed; results are written inside its "
                "with block: open a new writer, or move the write into the block"
            )
        before = len(self.paths)
        self._write(results, self._stem(results))
        return self.paths[before:]

    def close(self) -> None:
        """Write what belongs to the run as a whole; leaving the `with` block does it, also after an error."""
        if self._open:
            self._open = False
            self._finish()

    @abstractmethod
    def _write(self, results: Results, stem: str) -> None:
        """Write one picture; `stem` is its name in this folder. Every file goes through `_wrote`."""

    def _finish(self) -> None:
        """Write what belongs to the run as a whole; most formats have nothing of the kind."""
        return

    def _path(self, stem: str, suffix: str, number: int | None = None) -> Path:
        """Folder, stem, tag, number and suffix put together."""
        counted = "" if number is None else f"_{number}"
        return self.folder / f"{stem}{self.tag}{counted}{suffix}"

    def _wrote(self, path: Path) -> None:
        self.paths.append(path)

    def _stem(self, results: Results) -> str:
        """The picture's stem, with _2, _3 ... when an earlier picture of this run has it (case ignored)."""
        stem, number = results.stem, 1
        while stem.lower() in self._stems:
            number += 1
            stem = f"{results.stem}_{number}"
        self._stems.add(stem.lower())
        return stem


def check_folder(folder: Path) -> None:
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
