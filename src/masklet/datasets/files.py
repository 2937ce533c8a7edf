"""Files and folders of a dataset in natural order, and the helpers that make a dataset of several folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from masklet.damaged_files import damage_errors, open_regular_file
from masklet.datasets.dataset import DataError, DataIssue, Dataset, Sample
from masklet.errors import SourceError
from masklet.media.image_source import IMAGE_SUFFIXES, entry_kind, has_suffix, natural_key

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
    "sample_names",
    "validate_choice",
]

DatasetPart = tuple[Sequence[Sample], Sequence[DataIssue]]
"""The samples of one folder or file of a dataset, and its issues."""


def files_in(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """List the files that have one of the (lower case) suffixes, in natural order, without hidden ones.

    Example:
        >>> files_in(Path("images"))  # doctest: +SKIP
        [PosixPath('images/2.jpg'), PosixPath('images/10.jpg')]
    """
    return natural_sorted(
        folder / name for name in _list_names(folder, directories=False) if has_suffix(name, suffixes)
    )


def folders_in(folder: Path) -> list[Path]:
    """List the folders directly below, in natural order, without hidden ones."""
    return natural_sorted(folder / name for name in _list_names(folder, directories=True))


def _list_names(folder: Path, *, directories: bool) -> list[str]:
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as items:
            kinds = {item.name: entry_kind(item) for item in items if not item.name.startswith(".")}
    except OSError as problem:
        raise SourceError(
            f"cannot list {folder}: {problem.strerror}; a readable folder is needed: check its permissions"
        ) from problem
    return [name for name, kind in kinds.items() if kind and (kind == "folder") is directories]


def read_lines(file: Path) -> list[str]:
    """Read the lines of a text file that are not blank, stripped.

    Raises:
        DataError: if the file cannot be read or is not text.
    """
    try:
        with open_regular_file(file) as stream:
            lines = stream.read().decode("utf-8-sig").splitlines()
    except damage_errors() as problem:
        raise DataError.for_file(
            file, f"cannot be read ({problem}); a plain text file is needed: copy or export it again"
        ) from problem
    return [line.strip() for line in lines if line.strip()]


def natural_sorted(paths: Iterable[Path]) -> list[Path]:
    """Sort paths in natural order: frame2 before frame10.

    Example:
        >>> [path.name for path in natural_sorted([Path("frame10"), Path("frame2")])]
        ['frame2', 'frame10']
    """
    return sorted(paths, key=lambda path: natural_key(path.as_posix()))


def is_split_name(name: str) -> bool:
    """Return whether `name` is a usual name of a split.

    Example:
        >>> is_split_name("val2017"), is_split_name("zoo")
        (True, False)
    """
    return re.fullmatch(r"(?i:train|valid|val|validation|test|minival)\d*", name) is not None


def has_matching_file(folder: Path, pattern: str) -> bool:
    """Return whether a file matches the glob pattern; stops at the first one."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.glob(pattern))


def files_by_stem(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> tuple[dict[str, Path], list[DataIssue]]:
    """Map file names without suffix to files. A second file of the same name is an issue."""
    files: dict[str, Path] = {}
    issues: list[DataIssue] = []
    for path in files_in(folder, suffixes):
        first = files.setdefault(path.stem, path)
        if first is not path:
            reason = f"has the name of {first.name}; names are unique: remove or rename one of the two"
            issues.append(DataIssue.for_file(path.stem, path, reason))
    return files, issues


def sample_names(files: Sequence[str]) -> list[str]:
    """Return the names of samples by the paths of their files: without suffix, unless two files would share a name.

    A path that is there twice has the same name twice.

    Example:
        >>> sample_names(["a.png", "a.jpg", "zoo/b.jpg"])
        ['a.png', 'a.jpg', 'zoo/b']
    """
    stems = [file.removesuffix(PurePosixPath(file).suffix) for file in files]
    users = Counter(dict(zip(files, stems, strict=True)).values())
    taken = set(files)  # a name with suffix may be that of a file with two
    return [
        stem if users[stem] == 1 and (stem == file or stem not in taken) else file
        for file, stem in zip(files, stems, strict=True)
    ]


def validate_choice(root: Path, split: str, available: Iterable[str], description: str) -> str:
    """Return `split` if it is available.

    Raises:
        SourceError: if it is not; the message lists the `available` ones and calls them `description`.
    """
    known = list(available)
    if split not in known:
        raise SourceError(
            f"{root} has no {description} {split!r}; it has {', '.join(known) or 'none'}: choose among these, or "
            "leave split out to take everything"
        )
    return split


def find_source_folders(
    path: Path, is_source: Callable[[Path], object], split: str | None, description: str
) -> list[Path]:
    """List the source folders: `path` itself if it is one, else those directly below it; `split` selects one by name.

    Example:
        >>> find_source_folders(Path("photos"), is_source, "ants", "source")  # doctest: +SKIP
        [PosixPath('photos/ants')]

    Raises:
        SourceError: if no source has that name; the message calls sources `description`.
    """
    if split is None and is_source(path):
        return [path]
    below = [folder for folder in folders_in(path) if is_source(folder)]
    if split is None:
        return below
    by_name = {folder.name: folder for folder in ([path, *below] if is_source(path) else below)}
    return [by_name[validate_choice(path, split, by_name, description)]]


def read_parts(path: Path, folders: Iterable[Path], read: Callable[[Path, str], DatasetPart]) -> Iterator[DatasetPart]:
    """Call `read(folder, prefix)` for each folder; samples are named after their folder, except in `path` itself."""
    for folder in folders:
        yield read(folder, "" if folder == path else f"{folder.name}/")


def build_dataset(
    data_format: str,
    path: Path,
    parts: Iterable[DatasetPart],
    *,
    missing: str,
    expected: str,
    names: Mapping[int, str] | None = None,
    splits: Mapping[str, str] | None = None,
    video_names: Mapping[str, str] | None = None,
) -> Dataset:
    """Join all parts, in their order, in one dataset.

    Raises:
        SourceError: if there is no sample. The message says what is `missing`, the first issue, and what is `expected`.
    """
    samples: list[Sample] = []
    issues: list[DataIssue] = []
    for part_samples, part_issues in parts:
        samples += part_samples
        issues += part_issues
    if not samples:
        first = f": {issues[0].reason}" if issues else ""
        raise SourceError(f"{path} holds {missing}{first}; allowed are {expected}")
    return Dataset(data_format, path, tuple(samples), tuple(issues), names or {}, splits or {}, video_names or {})
