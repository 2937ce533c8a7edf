"""The files of a project's sources: what they are, whether they have changed, and where they went.

A source is identified by its content (SHA-256), not by its path. A video that is a folder of images has the hash of
the names, sizes and hashes of these.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from masklet.damaged_files import open_regular_file
from masklet.errors import SourceError
from masklet.media import IMAGE_SUFFIXES, Video, open_video
from masklet.media.image_sequence import ImageSequence
from masklet.media.image_source import has_suffix, missing_path_message, natural_key
from masklet.projects.project_schema import Row

__all__ = ["SourceLocation", "find_sources", "fingerprint", "open_source", "probe_source"]

SourceLocation = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file, a folder of images, or the images of one folder in order."""
CHUNK_BYTES = 1 << 20


def probe_source(location: SourceLocation) -> tuple[Path, Row]:
    """Open an image or a video, and return its absolute path and its row in a project, without id and name.

    Raises:
        SourceError: if it cannot be read, or is no file or folder.
    """
    is_list = not isinstance(location, (str, os.PathLike))
    given = [location] if isinstance(location, (str, os.PathLike)) else list(location)
    paths = [Path(os.path.abspath(os.path.expanduser(one))) for one in given]
    if not paths or any(path.parent != paths[0].parent for path in paths):
        raise SourceError(
            f"{location!r:.60} are no images of one folder; a video of images is one folder: copy them into one"
        )
    path, files = paths[0], None
    if "://" in str(given[0]) or not path.exists():
        raise SourceError(
            missing_path_message(str(path), "image or video") + "; a project has files, no streams and addresses"
        )
    if is_list:
        path, files = path.parent, [one.name for one in paths]
    elif path.is_dir():
        files = sorted((one for one in os.listdir(path) if has_suffix(one, IMAGE_SUFFIXES)), key=natural_key)
    with open_source(path, files) as video:
        is_image = files is None and isinstance(video, ImageSequence)
        row: Row = {
            "kind": "image" if is_image else "video",
            "height": video.size[0],
            "width": video.size[1],
            "frames": video.num_frames,
            "fps": None if video.fps is None else float(video.fps),
            "files": None if files is None else json.dumps(files),
        }
    row["sha256"], row["bytes"], _ = fingerprint(path, files)
    return path, row


def open_source(path: Path, files: Sequence[str] | None) -> Video:
    """Open the frames of a source at `path`; `files` are the names of its images, if it is a folder.

    Raises:
        SourceError: if it cannot be read.
    """
    return open_video(path if files is None else [path / name for name in files])


def fingerprint(path: Path, files: Sequence[str] | None, *, content: bool = True) -> tuple[str, int, int]:
    """Return (SHA-256, size in bytes, latest time of change in ns) of a source; without `content`, no hash.

    Raises:
        SourceError: if a file is missing or cannot be read.
    """
    whole, total, latest = hashlib.sha256(), 0, 0
    for name in (None,) if files is None else files:
        file = path if name is None else path / name
        one = whole if name is None else hashlib.sha256()
        try:
            status = os.stat(file)
            if content:
                with open_regular_file(file) as stream:
                    while chunk := stream.read(CHUNK_BYTES):
                        one.update(chunk)
        except (OSError, ValueError) as error:
            raise SourceError(
                f"{file} cannot be read ({getattr(error, 'strerror', None) or error}); a source of a project is a file "
                "that can be read, or a folder of such: copy it again, or relocate it"
            ) from error
        if name is not None:
            whole.update(f"{name}\0{status.st_size}\0{one.hexdigest()}\n".encode("utf-8", "surrogatepass"))
        total, latest = total + status.st_size, max(latest, status.st_mtime_ns)
    return whole.hexdigest() if content else "", total, latest


def find_sources(
    wanted: Mapping[int, tuple[Row, Sequence[str] | None, str]], folders: Sequence[str | os.PathLike[str]]
) -> Iterator[tuple[int, Path]]:
    """Search folders, and those below them, for files with the content of sources, and yield (id, path).

    `wanted` has for each id the row, the names of the images of a folder, and the last known file name. Files are
    hashed only if their size is that of a source. Files that cannot be read are passed over.
    """
    left = dict(wanted)
    for top in folders:
        for folder, _, names in os.walk(os.path.expanduser(top)):
            present = set(names)
            for source_id, (row, files, _) in list(left.items()):
                if files is None or not present.issuperset(files):
                    continue
                if _has_content(Path(folder), files, row):
                    del left[source_id]
                    yield source_id, Path(folder).absolute()
            sizes: dict[int, list[Path]] = {}
            for name in names:
                file = Path(folder, name)
                try:
                    sizes.setdefault(file.stat().st_size, []).append(file)
                except OSError:  # a link that leads nowhere
                    continue
            for source_id, (row, files, known) in list(left.items()):
                same_size = sizes.get(row["bytes"], []) if files is None else []
                for file in sorted(same_size, key=lambda one: one.name != known):
                    if _has_content(file, None, row):
                        del left[source_id]
                        yield source_id, file.absolute()
                        break


def _has_content(path: Path, files: Sequence[str] | None, row: Row) -> bool:
    try:
        if fingerprint(path, files, content=False)[1] != row["bytes"]:
            return False
        return bool(fingerprint(path, files)[0] == row["sha256"])
    except SourceError:
        return False
