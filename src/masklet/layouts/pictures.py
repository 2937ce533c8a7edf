"""Pictures put where a layout has them: copied, linked, or written from pixels."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath

from masklet.errors import InputError, OutputError
from masklet.files import atomic_path, write_image
from masklet.layouts.records import LabelledPicture

__all__ = ["check_name", "picture_suffix", "place_picture"]

FRAME_SUFFIX = ".jpg"


def picture_suffix(picture: LabelledPicture) -> str:
    """The end of its file's name: that of its file, or .jpg for a frame given as pixels."""
    return picture.path.suffix if picture.rgb is None else FRAME_SUFFIX


def place_picture(picture: LabelledPicture, target: Path, how: str) -> None:
    """Put a picture at `target`; `how` is "none", "copy" or "link" (hard where the disk is the same, else symbolic).

    Pixels are written as a JPEG of quality 95 in either case.

    Raises:
        OutputError: it cannot be written, or there are no links on this disk.
    """
    if how == "none":
        return
    if picture.rgb is not None:
        write_image(target, picture.rgb)
    elif not _is_same(picture.path, target):
        with atomic_path(target) as temporary:
            (shutil.copyfile if how == "copy" else _link)(picture.path, temporary)


def check_name(name: str) -> None:
    """Raise InputError where a name is no relative path inside the data set."""
    parts = PurePosixPath(name).parts
    inside = parts and not name.startswith("/") and ".." not in parts and PurePosixPath(name).as_posix() == name
    if not inside or "\\" in name or "\0" in name or ":" in parts[0]:
        raise InputError(
            f"{name!r} is no name of a picture; it is a relative path without suffix and without .., such as zoo/cat"
        )


def _link(source: Path, target: Path) -> None:
    with suppress(OSError):
        os.link(source.resolve(), target)
        return
    try:
        target.symlink_to(source.resolve())
    except OSError as error:
        raise OutputError(
            f"{source} cannot be linked from {target.parent} ({error.strerror or error}); choose pictures 'copy'"
        ) from error


def _is_same(source: Path, target: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(source, target)
    return False
