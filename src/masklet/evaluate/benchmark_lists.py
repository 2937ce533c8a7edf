"""What the lists of a benchmark say of its videos and objects.

seen_categories  of which objects of YouTube-VOS the category was trained on
unseen_videos     which videos of LVOS are of categories that its training set has not
frames_of_lvos   on which frames each object of a video of LVOS is measured
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from masklet.datasets.files import read_lines
from masklet.errors import SourceError

__all__ = ["SeenLookup", "lvos_measured_frames", "seen_categories", "unseen_videos"]

SeenLookup = Callable[[str, str], bool | None]
"""By sequence and object, whether it is of a category that was trained on; None: that is not known."""
UNSEEN_LIST_NAME = "unseen_videos.txt"
LVOS_FRAME_STEP = 5
"""LVOS has each fifth frame of its videos."""


def seen_categories(root: Path, file: Path | None) -> SeenLookup:
    """By the categories of meta.json beside the truth; `file` is that of the training set, or a text of names.

    Example:
        >>> seen_categories(Path("valid"), Path("train/meta.json"))("0062f687f1", "1")
        False

    Raises:
        SourceError: a file that is missing or damaged.
    """
    if file is None:
        return lambda sequence, number: None
    try:
        if file.suffix != ".json":
            names = set(read_lines(file))
        else:
            names = {own["category"] for video in _read_videos(file).values() for own in video["objects"].values()}
        meta = next((place / "meta.json" for place in (root, root.parent) if (place / "meta.json").is_file()), root)
        objects = {
            (v, n): o["category"] in names
            for v, video in _read_videos(meta).items()
            for n, o in video["objects"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise SourceError(
            f"the categories cannot be read of {file} and of meta.json beside {root} ({problem!r}); both are the "
            "meta.json of YouTube-VOS with a category for each object, or the first a text of names: check them, or "
            "leave seen out"
        ) from None
    return lambda sequence, number: objects.get((sequence, number))


def unseen_videos(root: Path, file: Path | None) -> SeenLookup:
    """By the list of unseen videos, a name a line; without `file` that of unseen_videos.txt beside the truth, if any.

    Example:
        >>> unseen_videos(Path("valid"), Path("unseen_videos.txt"))("0tCWPOrc", "1")
        True

    Raises:
        SourceError: a file that cannot be read.
    """
    there = (place / UNSEEN_LIST_NAME for place in (root, root.parent) if (place / UNSEEN_LIST_NAME).is_file())
    found = file or next(there, None)
    if found is None:
        return lambda sequence, number: None
    names = set(read_lines(found))
    return lambda sequence, number: sequence not in names


def lvos_measured_frames(truth: Path, names: Sequence[str]) -> dict[str, list[str]] | None:
    """Of the video whose annotations are in `truth`, by object, those frames of `names` that are measured.

    They are those of its range in valid_meta.json (or another SET_meta.json) beside the annotations, but the first and
    the last of it. None: there is no such list.

    Example:
        >>> frames_of_lvos(Path("valid/Annotations/0tCWPOrc"), ["00000001", "00000006", "00000011"])
        {'1': ['00000006']}

    Raises:
        SourceError: a list that is damaged or does not have the video, or a frame of a range that is not there.
    """
    top = truth.parent.parent
    file = next(
        (place for place in (top / f"{top.name}_meta.json", *sorted(top.glob("*_meta.json"))) if place.is_file()), None
    )
    if file is None:
        return None
    try:
        objects = _read_videos(file)[truth.name]["objects"]
        ranges = {number: own["frame_range"] for number, own in objects.items()}
        found = {
            number: _inner_frame_names(int(own["start"]), int(own["end"]), int(own["frame_nums"]))
            for number, own in ranges.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise SourceError(
            f"{file} says no range of frames of each object of {truth.name} ({problem!r}); it is a meta.json of LVOS: "
            "get it again, or take it away to have each object measured to the end of its video"
        ) from None
    lacking = [name for own in found.values() for name in own if name not in names]
    if lacking:
        raise SourceError(f"{truth / lacking[0]}.png is missing; {file.name} has it in a range: complete the truth")
    return found


def _inner_frame_names(start: int, end: int, count: int) -> list[str]:
    """The frames of a range but its first and its last; `end` may be the last one or lie behind it."""
    return [f"{number:08d}" for n, number in enumerate(range(start, end, LVOS_FRAME_STEP)) if 0 < n < count - 1]


class _ObjectEntry(TypedDict, total=False):
    """What is listed of an object: by YouTube-VOS its category, by LVOS its range."""

    category: str
    frame_range: dict[str, str | int]


def _read_videos(file: Path) -> dict[str, dict[str, dict[str, _ObjectEntry]]]:
    found: dict[str, dict[str, dict[str, _ObjectEntry]]] = json.loads(file.read_text())["videos"]
    return found
