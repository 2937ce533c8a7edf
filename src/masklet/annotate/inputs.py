"""List the images and videos to annotate, and name each.

A name is the path below the folder that all inputs share, without suffix and with forward slashes, so that labels keep
the subfolders. Names are unique.
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
from masklet.media.image_source import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    entry_kind,
    has_suffix,
    missing_path_message,
    natural_key,
)
from masklet.media.walk_folder import walk_folder

__all__ = ["DataLike", "InputFile", "assign_splits", "default_output_dir", "list_inputs"]

DataLike: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"

MEDIA_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
_ALLOWED = "a folder, a glob such as 'photos/**/*.jpg', an image or video file, or a list of these"


@dataclass(frozen=True)
class InputFile:
    """An image or video to annotate; `split` is "train", "val" or empty.

    Example:
        >>> InputFile("cats/0001", "photos/cats/0001.jpg").is_video
        False
    """

    name: str
    path: str
    split: str = ""

    @property
    def is_video(self) -> bool:
        """Whether the suffix is that of a video."""
        return has_suffix(self.path, VIDEO_SUFFIXES)

    def fingerprint(self) -> list[int]:
        """Size in bytes and modification time in nanoseconds; zeros if the file does not exist."""
        try:
            status = os.stat(self.path)
        except OSError:
            return [0, 0]
        return [status.st_size, status.st_mtime_ns]


def list_inputs(data: DataLike, exclude: Path | None = None) -> list[InputFile]:
    """List the images and videos of `data` in natural order, with those in subfolders.

    Hidden files and folders, the output folder `exclude`, and the output folders of earlier runs are skipped. A link
    that leads nowhere or to itself is skipped with a MaskletWarning.

    Example:
        >>> [item.name for item in list_inputs("photos")]  # doctest: +SKIP
        ['a', 'cats/2', 'cats/10']

    Raises:
        SourceError: if a path does not exist or is not a path, or there is no image and no video.
    """
    sources = _sources(data)
    paths = list(dict.fromkeys(path for source in sources for path in _expand_source(source, exclude)))
    first_is_glob = glob.has_magic(sources[0]) and not os.path.exists(sources[0])
    if not paths:
        where = repr(sources[0]) if len(sources) == 1 else f"{len(sources)} sources"
        matched = "matches" if first_is_glob else "has"
        raise SourceError(
            f"{where} {matched} no image and no video, also not in subfolders; images end in "
            f"{', '.join(IMAGE_SUFFIXES)}, videos in {', '.join(VIDEO_SUFFIXES)}: check the path"
        )
    if len(sources) == 1 and os.path.isdir(sources[0]):
        root = sources[0]
    elif len(sources) == 1 and first_is_glob:
        root = _glob_base(sources[0])
    else:
        folders = [source for source in sources if os.path.isdir(source)]
        folders += [os.path.dirname(path) for path in paths]
        root = _common_folder([os.path.abspath(folder) for folder in folders])
    return _assign_names([(Path(os.path.relpath(path, root)), path) for path in paths])


def default_output_dir(data: DataLike) -> Path:
    """The default output folder, next to the data.

    Example:
        >>> default_output_dir("photos/").name
        'photos_auto_annotate_labels'
    """
    sources = _sources(data)
    if len(sources) == 1:
        path = Path(sources[0])
    else:
        path = Path(_common_folder([os.path.abspath(source) for source in sources]))
    if glob.has_magic(str(path)) and not path.exists():
        path = Path(_glob_base(str(path)))
    if not path.name or path.name == "..":
        path = path.resolve()
    return path.parent / f"{path.stem or 'data'}_auto_annotate_labels"


def assign_splits(items: Sequence[InputFile], val_fraction: float | None) -> list[InputFile]:
    """Assign "train" or "val" to the items: about `val_fraction` of them to "val", by a hash of each name.

    A name always gets the same split, whatever the other items are. If one split would be empty, the item closest to it
    moves there. None assigns no split.

    Example:
        >>> [item.split for item in assign_splits([InputFile(name, "") for name in "abcd"], 0.2)]
        ['val', 'train', 'train', 'train']
    """
    if val_fraction is None:
        return list(items)
    hashes = [
        int.from_bytes(hashlib.sha256(item.name.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
        for item in items
    ]
    splits = ["train" if value < 1 - val_fraction else "val" for value in hashes]
    if len(items) > 1 and len(set(splits)) == 1:
        order = sorted(range(len(items)), key=hashes.__getitem__)
        splits[order[-1] if splits[0] == "train" else order[0]] = "val" if splits[0] == "train" else "train"
    return [replace(item, split=split) for item, split in zip(items, splits, strict=True)]


def _sources(data: DataLike) -> list[str]:
    """Check the paths and globs of `data`."""
    several = [data] if isinstance(data, (str, os.PathLike)) else data
    if isinstance(several, (bytes, bytearray, dict)) or not isinstance(several, Iterable):
        raise SourceError(f"data of type {type(data).__name__} cannot be annotated; give {_ALLOWED}")
    texts: list[str] = []
    for one in several:
        if not isinstance(one, (str, os.PathLike)) or not str(one).strip():
            raise SourceError(f"{one!r:.80} is not a path; give {_ALLOWED}")
        if "://" in str(one):
            raise SourceError(
                f"{one!s:.80} is a URL; only files are annotated: download it first, then give {_ALLOWED}"
            )
        texts.append(os.path.expanduser(os.fspath(one)))
    if not texts:
        raise SourceError(f"data is an empty list; give {_ALLOWED}")
    return texts


def _expand_source(source: str, exclude: Path | None) -> Iterator[str]:
    if os.path.isdir(source):
        return _of_folder(source, exclude)
    if os.path.exists(source):
        if not has_suffix(source, MEDIA_SUFFIXES):
            raise SourceError(
                f"{source!r} is no image or video by its name; those end in {', '.join(MEDIA_SUFFIXES)}: rename it, or "
                "give its folder"
            )
        return iter([source])
    if glob.has_magic(source):
        files = [path for path in glob.glob(source, recursive=True) if os.path.isfile(path)]
        return iter(sorted((path for path in files if has_suffix(path, MEDIA_SUFFIXES)), key=natural_key))
    raise SourceError(missing_path_message(source, "image, video or folder"))


def _of_folder(folder: str, exclude: Path | None) -> Iterator[str]:
    """Images and videos of a folder and of those below it, but for output folders."""
    excluded = None if exclude is None else os.path.realpath(exclude)

    def is_output(path: str) -> bool:
        return os.path.realpath(path) == excluded or os.path.isdir(os.path.join(path, STATE_FOLDER))

    for _, entry in walk_folder(folder, is_output):
        if entry_kind(entry) == "file" and has_suffix(entry.name, MEDIA_SUFFIXES):
            yield entry.path


def _glob_base(pattern: str) -> str:
    """The folder of a glob before its first wildcard."""
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return str(Path(*parts[:first])) if first else "."


def _common_folder(paths: list[str]) -> str:
    try:
        return os.path.commonpath(paths)
    except ValueError as cause:  # different drives
        raise SourceError(f"{paths[0]!r} and the others share no folder; annotate them one after the other") from cause


def _assign_names(files: list[tuple[Path, str]]) -> list[InputFile]:
    """Name files by their path without suffix; an equal name gets the suffix: a.jpg and a.png are a and a_png."""

    def clean(relative: Path) -> str:  # without characters that other systems do not allow
        return re.sub(r"[:\\\\]", "_", relative.with_suffix("").as_posix())

    items: list[InputFile] = []
    reserved = {clean(relative) for relative, _ in files}
    used = {"classes"}  # for classes.txt
    for relative, path in files:
        name = clean(relative)
        if name in used:
            name, base, number = "", f"{name}_{relative.suffix.lower().lstrip('.')}", 1
            while not name or name in reserved or name in used:
                name, number = base if number == 1 else f"{base}{number}", number + 1
        used.add(name)
        items.append(InputFile(name, path))
    return items
