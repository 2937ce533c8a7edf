"""The base of all image writers: a checked folder, unique file names, a list of the files written.

Every file is written atomically. If one cannot be written, the files before it stay. A file that masklet did not
write, or that a person changed, is kept.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.errors import OutputError, StateError
from masklet.results import Results, image_stem
from masklet.written_files import WrittenFiles

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Writer", "ensure_writable_folder"]

MAX_NAME_BYTES = 255
"""The longest file name of most file systems, in bytes."""


class Writer(ABC):
    """Write the results of many images into one folder; a context manager.

    The folder is created and checked when the writer is created, so that an unusable folder fails before a model
    runs. Files of an earlier run of the same image are replaced; those of another image of the same name, in this run
    or an earlier one, are kept and the new files get a number. `paths` lists the files written so far.

    With `root`, an image below that folder keeps its subfolders. With `overwrite`, files that masklet did not write or
    that were changed since are replaced too.

    A format implements `_write`, and `_prepare` and `_finalize` if it has a file for the entire run.

    Raises:
        OutputError: if the folder cannot be created or written, or the file of the entire run is somebody else's.
    """

    name_suffix = ""
    """What follows the stem of the image in a file name, for example `_overlay`."""
    extension = ".png"
    """The suffix of the files of one image."""
    numbered = False
    """Whether an image has a file for each object, with a number from 0."""
    run_file: str | None = None
    """The name of the file of the entire run."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.root = None if root is None else os.path.abspath(root)
        self.paths: list[Path] = []
        self._used_stems: set[str] = set()
        self._is_open = True
        ensure_writable_folder(self.folder)
        self._files = WrittenFiles(self.folder, overwrite=overwrite)
        if self.run_file is not None:
            self._files.check(self.folder / self.run_file)
        self._prepare()

    def _prepare(self) -> None:  # noqa: B027
        """Set up what the format collects over the run."""

    def check(self, paths: Iterable[str]) -> None:
        """Check before a run that no image of these paths has a file here that somebody else made.

        Raises:
            OutputError: if one has; the message names it.
        """
        used = set(self._used_stems)
        for path in paths:
            stem = self._unique_stem(path, used)
            self._files.check(self._path(stem, self.extension, 0 if self.numbered else None))

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
        stem = self._unique_stem(results.path, self._used_stems)
        before = len(self.paths)
        with self._files.protect(_identity(results.path)):
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
            try:
                with self._files.protect():
                    self._finalize()
            finally:
                self._files.close()

    @abstractmethod
    def _write(self, results: Results, stem: str) -> None:
        """Write one image under the unique name `stem`, maybe with folders, and add every new file to `paths`."""

    def _finalize(self) -> None:  # noqa: B027
        """Write the files of the entire run; most formats have none."""

    def _unique_stem(self, path: str, used: set[str]) -> str:
        """Choose the name of the files of an image, without suffix, and add it to `used`.

        A name is taken if an earlier image of this run has it, or another image of an earlier run.
        """
        base, number = self._base_name(path), 1
        stem = base
        while stem.lower() in used or self._belongs_to_other(stem, path):
            number += 1
            stem = f"{base}_{number}"
        used.add(stem.lower())
        return stem

    def _base_name(self, path: str) -> str:
        """Return the name of an image without suffix, with its folders below `root`."""
        if self.root is None or not os.path.exists(path):
            return image_stem(path)
        folder = Path(os.path.relpath(os.path.dirname(os.path.abspath(path)), self.root)).as_posix()
        return image_stem(path) if folder == "." or folder.startswith("..") else f"{folder}/{image_stem(path)}"

    def _belongs_to_other(self, stem: str, path: str) -> bool:
        """Whether the file of this name was made of another image, in an earlier run."""
        source = self._files.source_of(self._path(stem, self.extension, 0 if self.numbered else None))
        return source is not None and source != _identity(path)

    def _path(self, stem: str, suffix: str, index: int | None = None) -> Path:
        """Return the path of a file; a name that is too long for a file system is cut, and gets a hash."""
        ending = f"{self.name_suffix}{'' if index is None else f'_{index}'}{suffix}"
        folder, _, name = stem.rpartition("/")
        if len(os.fsencode(name + ending)) > MAX_NAME_BYTES:
            name_hash = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
            room = MAX_NAME_BYTES - len(os.fsencode(ending)) - len(name_hash) - 1
            name = f"{os.fsencode(name)[:room].decode(errors='ignore')}_{name_hash}"
        return self.folder / folder / f"{name}{ending}"


def _identity(path: str) -> str:
    """What tells one image from another of the same name: its full path, or the address or name that it has."""
    return os.path.abspath(path) if os.path.exists(path) else path


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
