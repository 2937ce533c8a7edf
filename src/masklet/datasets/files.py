"""Files of a folder in natural order, and what is doubtful about their names.

From folders to a data set: which of them are sources, and what there is in all of them together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from masklet.datasets.dataset import DataError, Dataset, Entry, Finding
from masklet.errors import SourceError
from masklet.media.image_source import PICTURE_SUFFIXES, has_suffix, natural_key

__all__ = [
    "PICTURE_SUFFIXES",
    "Part",
    "any_file",
    "by_stem",
    "chosen",
    "files_in",
    "folders_in",
    "gathered",
    "in_order",
    "is_split",
    "lines_of",
    "parts_of",
    "sources_in",
]


def files_in(folder: Path, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> list[Path]:
    """Files with one of the (lower case) suffixes, in natural order; hidden ones are left out.

    Example:
        >>> files_in(Path("images"))
        [PosixPath('images/2.jpg'), PosixPath('images/10.jpg')]
    """
    return in_order(folder / name for name in _names(folder, directories=False) if has_suffix(name, suffixes))


def folders_in(folder: Path) -> list[Path]:
    """Folders directly below, in natural order; hidden ones are left out."""
    return in_order(folder / name for name in _names(folder, directories=True))


def lines_of(file: Path) -> list[str]:
    """The lines of a text that are not blank, without spaces at their ends.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as problem:
        raise DataError.of(
            file, f"cannot be read ({problem}); it is a plain text: copy or export it again"
        ) from problem
    return [line.strip() for line in lines if line.strip()]


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Natural order: frame2 before frame10."""
    return sorted(paths, key=lambda path: natural_key(path.as_posix()))


def is_split(name: str) -> bool:
    """Whether a name is what parts of a data set are called.

    Example:
        >>> is_split("val2017"), is_split("zoo")
        (True, False)
    """
    return re.fullmatch(r"(?i:train|valid|val|validation|test|minival)\d*", name) is not None


def any_file(folder: Path, pattern: str) -> bool:
    """Whether a file fits the glob; stops at the first."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.glob(pattern))


def by_stem(folder: Path, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> tuple[dict[str, Path], list[Finding]]:
    """Files by their names without suffix; of two with one name the second is a finding."""
    found: dict[str, Path] = {}
    twice: list[Finding] = []
    for path in files_in(folder, suffixes):
        first = found.setdefault(path.stem, path)
        if first is not path:
            reason = f"has the name of {first.name}; a name is there once: remove or rename one of the two"
            twice.append(Finding.of(path.stem, path, reason))
    return found, twice


def chosen(root: Path, split: str, there: Iterable[str], what: str) -> str:
    """`split`, if it is among those that are there.

    Raises:
        SourceError: it is not; says which there are.
    """
    known = list(there)
    if split not in known:
        raise SourceError(
            f"{root} has no {what} {split!r}; it has {', '.join(known) or 'none'}: choose among these, or leave split "
            "out to take everything"
        )
    return split


def _names(folder: Path, *, directories: bool) -> list[str]:
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as items:
            return [item.name for item in items if item.is_dir() is directories and not item.name.startswith(".")]
    except OSError as problem:
        raise SourceError(
            f"cannot list {folder}: {problem.strerror}; a readable folder is needed: check its permissions"
        ) from problem


Part = tuple[Sequence[Entry], Sequence[Finding]]
"""What one folder or file of a data set holds: its entries, and what is broken."""


def sources_in(path: Path, is_source: Callable[[Path], bool], split: str | None, what: str) -> list[Path]:
    """`path` itself where it is a source, or else those directly below it; of several, `split` names one.

    Example:
        >>> sources_in(Path("stills"), is_source, "ants", "source")
        [PosixPath('stills/ants')]

    Raises:
        SourceError: no source of that name; says which there are (`what` is what they are called).
    """
    if split is None and is_source(path):
        return [path]
    below = [folder for folder in folders_in(path) if is_source(folder)]
    if split is None:
        return below
    named = {folder.name: folder for folder in ([path, *below] if is_source(path) else below)}
    return [named[chosen(path, split, named, what)]]


def parts_of(path: Path, folders: Iterable[Path], read: Callable[[Path, str], Part]) -> Iterator[Part]:
    """What `read` finds in each folder, told what goes before its names: its own name, nothing for `path` itself."""
    for folder in folders:
        yield read(folder, "" if folder == path else f"{folder.name}/")


def gathered(kind: str, path: Path, parts: Iterable[Part], nothing: str, allowed: str) -> Dataset:
    """All parts as one data set, in their order.

    Raises:
        SourceError: there is no entry; what `nothing` calls it, the first finding, and what is `allowed`.
    """
    entries: list[Entry] = []
    problems: list[Finding] = []
    for found, wrong in parts:
        entries += found
        problems += wrong
    if not entries:
        first = f": {problems[0].reason}" if problems else ""
        raise SourceError(f"{path} holds {nothing}{first}; allowed are {allowed}")
    return Dataset(kind, path, tuple(entries), tuple(problems))
