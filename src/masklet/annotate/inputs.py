"""Which images and videos there are to annotate, and what each is called.

A name is the path below the folder that all of them share, without suffix and with forward slashes: labels keep
folders of any depth. No two have the same name.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from masklet.datasets.write_log import STATE_FOLDER
from masklet.errors import SourceError
from masklet.media.image_source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, has_suffix, missing_path_message, natural_key

__all__ = ["DataLike", "InputFile", "assign_splits", "default_output_dir", "list_inputs"]

DataLike: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"

MEDIA_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
_ALLOWED = "a folder, a glob such as 'photos/**/*.jpg', an image or video file, or a list of these"


@dataclass(frozen=True)
class InputFile:
    """An image or video to annotate; small and picklable. `part` is train, val or empty.

    Example:
        >>> Item("cats/0001", "photos/cats/0001.jpg").is_video
        False
    """

    name: str
    path: str
    split: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its suffix."""
        return has_suffix(self.path, VIDEO_SUFFIXES)

    def fingerprint(self) -> list[int]:
        """Bytes and nanoseconds: another stamp, another image. Zeros for a file that is gone."""
        try:
            status = os.stat(self.path)
        except OSError:
            return [0, 0]
        return [status.st_size, status.st_mtime_ns]


def list_inputs(data: DataLike, exclude: Path | None = None) -> list[InputFile]:
    """Every image and video that `data` names, in natural order; folders with all that are below them.

    Hidden files and folders are left out, and so are `leave_out`, the folder that labels are written to, and folders
    that earlier runs wrote.

    Example:
        >>> [item.name for item in list_items("photos")]
        ['a', 'cats/2', 'cats/10']

    Raises:
        SourceError: nothing of that name, no image or video there, or something that is no path.
    """
    sources = _sources(data)
    paths = list(dict.fromkeys(path for source in sources for path in _expand_source(source, exclude)))
    if not paths:
        raise SourceError(_no_files_message(data, sources))
    root = _names_root(sources, paths)
    return _assign_names([(Path(os.path.relpath(path, root)), path) for path in paths])


def default_output_dir(data: DataLike) -> Path:
    """The folder beside the data that labels go to if no other is named, as people know it.

    Example:
        >>> default_output("photos/")
        PosixPath('photos_auto_annotate_labels')
    """
    sources = _sources(data)
    place = (
        Path(sources[0]) if len(sources) == 1 else Path(_common_folder([os.path.abspath(source) for source in sources]))
    )
    if glob.has_magic(str(place)) and not place.exists():
        place = Path(_glob_base(str(place)))
    if not place.name or place.name == "..":
        place = place.resolve()
    return place.parent / f"{place.stem or 'data'}_auto_annotate_labels"


def assign_splits(items: Sequence[InputFile], train_fraction: float | None) -> list[InputFile]:
    """The items with their parts: about `share` of them train, the rest val, by a hash of each name.

    The same name is always in the same part, whatever else there is; where one part would have nothing, the item that
    is closest to it goes over. None splits nothing.

    Example:
        >>> [item.part for item in split(items, 0.8)]
        ['train', 'train', 'val', 'train']
    """
    if train_fraction is None:
        return list(items)
    places = [_hash_fraction(item.name) for item in items]
    parts = ["train" if place < train_fraction else "val" for place in places]
    if len(items) > 1 and len(set(parts)) == 1:
        order = sorted(range(len(items)), key=places.__getitem__)
        parts[order[-1] if parts[0] == "train" else order[0]] = "val" if parts[0] == "train" else "train"
    return [replace(item, split=part) for item, part in zip(items, parts, strict=True)]


def _hash_fraction(name: str) -> float:
    """Where a name falls between 0 and 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _sources(data: DataLike) -> list[str]:
    """The paths and globs of `data` as text."""
    several = [data] if isinstance(data, (str, os.PathLike)) else data
    if isinstance(several, (bytes, bytearray, dict)) or not isinstance(several, Iterable):
        raise SourceError(f"data of type {type(data).__name__} cannot be annotated; give {_ALLOWED}")
    texts: list[str] = []
    for one in several:
        if not isinstance(one, (str, os.PathLike)) or not str(one).strip():
            raise SourceError(f"{one!r:.80} is not a path; annotated are files, give {_ALLOWED}")
        if "://" in str(one):
            raise SourceError(
                f"{one!s:.80} is an address; annotated are files: download it first, then give {_ALLOWED}"
            )
        texts.append(os.path.expanduser(os.fspath(one)))
    if not texts:
        raise SourceError(f"data is an empty list; give {_ALLOWED}")
    return texts


def _expand_source(source: str, exclude: Path | None) -> Iterator[str]:
    if os.path.isdir(source):
        return _walk(source, None if exclude is None else os.path.realpath(exclude), set())
    if os.path.exists(source):
        return iter([_check_suffix(source)])
    if glob.has_magic(source):
        return iter(_glob_files(source))
    raise SourceError(missing_path_message(source, "image, video or folder"))


def _check_suffix(path: str) -> str:
    if not has_suffix(path, MEDIA_SUFFIXES):
        raise SourceError(
            f"{path!r} is no image or video by its name; those end in {', '.join(MEDIA_SUFFIXES)}: rename it, or give its "  # noqa: E501
            "folder"
        )
    return path


def _walk(folder: str, exclude: str | None, visited: set[str]) -> Iterator[str]:
    """Images and videos of a folder and all below it: files first, then folders, each in natural order.

    `been` holds where the walk has been, so that links that lead back end it.
    """
    visited.add(os.path.realpath(folder))
    try:
        with os.scandir(folder) as found:
            entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda e: natural_key(e.name))
    except OSError as cause:
        raise SourceError(
            f"cannot list {folder!r}: {cause.strerror}; a readable folder is needed: check its permissions"
        ) from cause
    for entry in entries:
        if entry.is_file() and has_suffix(entry.name, MEDIA_SUFFIXES):
            yield entry.path
    for entry in entries:
        if entry.is_dir() and os.path.realpath(entry.path) not in visited and not _is_output(entry.path, exclude):
            yield from _walk(entry.path, exclude, visited)


def _is_output(folder: str, exclude: str | None) -> bool:
    """Whether a folder is what labels are written to, now or by an earlier run of masklet."""
    return os.path.realpath(folder) == exclude or os.path.isdir(os.path.join(folder, STATE_FOLDER))


def _glob_files(pattern: str) -> list[str]:
    found = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    return sorted((path for path in found if has_suffix(path, MEDIA_SUFFIXES)), key=natural_key)


def _names_root(sources: list[str], paths: list[str]) -> str:
    """The folder that names are relative to: what was given, or what several share."""
    if len(sources) == 1 and os.path.isdir(sources[0]):
        return sources[0]
    if len(sources) == 1 and glob.has_magic(sources[0]) and not os.path.exists(sources[0]):
        return _glob_base(sources[0])
    folders = [source for source in sources if os.path.isdir(source)]
    return _common_folder([os.path.abspath(place) for place in (*folders, *(os.path.dirname(path) for path in paths))])


def _glob_base(pattern: str) -> str:
    """The folder of a glob in which nothing is left open."""
    parts = Path(pattern).parts
    sure = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return str(Path(*parts[:sure])) if sure else "."


def _common_folder(paths: list[str]) -> str:
    try:
        return os.path.commonpath(paths)
    except ValueError as cause:  # different drives
        raise SourceError(f"{paths[0]!r} and the others share no folder; annotate them one after the other") from cause


def _assign_names(files: list[tuple[Path, str]]) -> list[InputFile]:
    """Names without suffix; where one is there already, the suffix is part of it: a.jpg and a.png are a and a_png."""
    items: list[InputFile] = []
    taken = {_sanitize_name(relative) for relative, _ in files}
    used = {"classes"}  # classes.txt is a file of its own
    for relative, path in files:
        name = _sanitize_name(relative)
        if name in used:
            name, wanted, number = "", f"{name}_{relative.suffix.lower().lstrip('.')}", 1
            while not name or name in taken or name in used:
                name, number = wanted if number == 1 else f"{wanted}{number}", number + 1
        used.add(name)
        items.append(InputFile(name, path))
    return items


def _sanitize_name(relative: Path) -> str:
    """A path as a name: without what other systems do not allow in one."""
    return re.sub(r"[:\\\\]", "_", relative.with_suffix("").as_posix())


def _no_files_message(data: DataLike, sources: list[str]) -> str:
    where = repr(sources[0]) if len(sources) == 1 else f"{len(sources)} sources"
    matched = "matches" if glob.has_magic(sources[0]) and not os.path.exists(sources[0]) else "holds"
    return (
        f"{where} {matched} no image and no video, in no folder below it either; images end in "
        f"{', '.join(IMAGE_SUFFIXES)}, videos in {', '.join(VIDEO_SUFFIXES)}: check the path"
    )
