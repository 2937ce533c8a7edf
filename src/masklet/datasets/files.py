"""Files of a folder in natural order, and what is doubtful about their names.

From folders to a data set: which of them are sources, and what there is in all of them together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from masklet.datasets.dataset import DataError, DataIssue, Dataset, Sample
from masklet.errors import SourceError
from masklet.media.image_source import IMAGE_SUFFIXES, has_suffix, natural_key

__all__ = [
    "IMAGE_SUFFIXES",
    "DatasetPart",
    "build_dataset",
    "files_by_stem",
    "files_in",
    "find_source_folders",
    "folders_in",
    "has_matching_file",
    "is_split_name",
    "natural_sorted",
    "read_lines",
    "read_parts",
    "validate_choice",
]


def files_in(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """Files with one of the (lower case) suffixes, in natural order; hidden ones are left out.

    Example:
        >>> files_in(Path("images"))
        [PosixPath('images/2.jpg'), PosixPath('images/10.jpg')]
    """
    return natural_sorted(
        folder / name for name in _list_names(folder, directories=False) if has_suffix(name, suffixes)
    )


def folders_in(folder: Path) -> list[Path]:
    """Folders directly below, in natural order; hidden ones are left out."""
    return natural_sorted(folder / name for name in _list_names(folder, directories=True))


def read_lines(file: Path) -> list[str]:
    """The lines of a text that are not blank, without spaces at their ends.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as problem:
        raise DataError.for_file(
            file, f"cannot be read ({problem}); it is a plain text: copy or export it again"
        ) from problem
    return [line.strip() for line in lines if line.strip()]


def natural_sorted(paths: Iterable[Path]) -> list[Path]:
    """Natural order: frame2 before frame10."""
    return sorted(paths, key=lambda path: natural_key(path.as_posix()))


def is_split_name(name: str) -> bool:
    """Whether a name is what parts of a data set are called.

    Example:
        >>> is_split("val2017"), is_split("zoo")
        (True, False)
    """
    return re.fullmatch(r"(?i:train|valid|val|validation|test|minival)\d*", name) is not None


def has_matching_file(folder: Path, pattern: str) -> bool:
    """Whether a file fits the glob; stops at the first."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.glob(pattern))


def files_by_stem(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> tuple[dict[str, Path], list[DataIssue]]:
    """Files by their names without suffix; of two with one name the second is a finding."""
    found: dict[str, Path] = {}
    twice: list[DataIssue] = []
    for path in files_in(folder, suffixes):
        first = found.setdefault(path.stem, path)
        if first is not path:
            reason = f"has the name of {first.name}; a name is there once: remove or rename one of the two"
            twice.append(DataIssue.for_file(path.stem, path, reason))
    return found, twice


def validate_choice(root: Path, split: str, available: Iterable[str], description: str) -> str:
    """`split`, if it is among those that are there.

    Raises:
        SourceError: it is not; says which there are.
    """
    known = list(available)
    if split not in known:
        raise SourceError(
            f"{root} has no {description} {split!r}; it has {', '.join(known) or 'none'}: choose among these, or leave split "  # noqa: E501
            "out to take everything"
        )
    return split


def _list_names(folder: Path, *, directories: bool) -> list[str]:
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as items:
            return [item.name for item in items if item.is_dir() is directories and not item.name.startswith(".")]
    except OSError as problem:
        raise SourceError(
            f"cannot list {folder}: {problem.strerror}; a readable folder is needed: check its permissions"
        ) from problem


DatasetPart = tuple[Sequence[Sample], Sequence[DataIssue]]
"""What one folder or file of a data set holds: its entries, and what is broken."""


def find_source_folders(
    path: Path, is_source: Callable[[Path], bool], split: str | None, description: str
) -> list[Path]:
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
    return [named[validate_choice(path, split, named, description)]]


def read_parts(path: Path, folders: Iterable[Path], read: Callable[[Path, str], DatasetPart]) -> Iterator[DatasetPart]:
    """What `read` finds in each folder, told what goes before its names: its own name, nothing for `path` itself."""
    for folder in folders:
        yield read(folder, "" if folder == path else f"{folder.name}/")


def build_dataset(data_format: str, path: Path, parts: Iterable[DatasetPart], missing: str, expected: str) -> Dataset:
    """All parts as one data set, in their order.

    Raises:
        SourceError: there is no entry; what `nothing` calls it, the first finding, and what is `allowed`.
    """
    entries: list[Sample] = []
    problems: list[DataIssue] = []
    for found, wrong in parts:
        entries += found
        problems += wrong
    if not entries:
        first = f": {problems[0].reason}" if problems else ""
        raise SourceError(f"{path} holds {missing}{first}; allowed are {expected}")
    return Dataset(data_format, path, tuple(entries), tuple(problems))
