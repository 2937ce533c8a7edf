"""Read the lists of a benchmark: categories seen in training, unseen videos, and ranges of measured frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from masklet.damaged_files import decoder_errors
from masklet.datasets.files import read_lines
from masklet.errors import SourceError

__all__ = ["SeenLookup", "lvos_measured_frames", "seen_categories", "unseen_videos"]

SeenLookup = Callable[[str, str], bool | None]
"""Takes a sequence and an object; whether it was seen in training, None if that is unknown."""
UNSEEN_LIST_NAME = "unseen_videos.txt"
LVOS_FRAME_STEP = 5
"""LVOS has every fifth frame of its videos."""
"""What reading a file of another structure raises."""


def seen_categories(root: Path, file: Path | None) -> SeenLookup:
    """Look up seen categories of YouTube-VOS: those in `file`, for the objects of meta.json beside the ground truth.

    `file` is the meta.json of the training set, or a text file with a category a line; None: unknown.

    Example:
        >>> seen_categories(Path("valid"), Path("train/meta.json"))("0062f687f1", "1")
        False

    Raises:
        SourceError: if a file is missing or damaged.
    """
    if file is None:
        return lambda sequence, number: None
    try:
        if file.suffix == ".json":
            training = json.loads(file.read_text())["videos"]
            names = {item["category"] for video in training.values() for item in video["objects"].values()}
        else:
            names = set(read_lines(file))
        meta = next((path for path in (root / "meta.json", root.parent / "meta.json") if path.is_file()), root)
        seen = {
            (name, number): item["category"] in names
            for name, video in json.loads(meta.read_text())["videos"].items()
            for number, item in video["objects"].items()
        }
    except decoder_errors() as problem:
        raise SourceError(
            f"the categories of {file} and of meta.json beside {root} cannot be read ({problem!r}); both are the "
            "meta.json of YouTube-VOS with a category for each object, or the first is a text file of names: check "
            "them, or remove seen"
        ) from None
    return lambda sequence, number: seen.get((sequence, number))


def unseen_videos(root: Path, file: Path | None) -> SeenLookup:
    """Look up unseen videos of LVOS in a list, a name a line; by default unseen_videos.txt beside the ground truth.

    Example:
        >>> unseen_videos(Path("valid"), Path("unseen_videos.txt"))("0tCWPOrc", "1")
        True

    Raises:
        SourceError: if the file is unreadable.
    """
    candidates = (root / UNSEEN_LIST_NAME, root.parent / UNSEEN_LIST_NAME)
    file = file or next((path for path in candidates if path.is_file()), None)
    if file is None:
        return lambda sequence, number: None
    names = set(read_lines(file))
    return lambda sequence, number: sequence not in names


def lvos_measured_frames(truth: Path, names: Sequence[str]) -> dict[str, list[str]] | None:
    """Return, by object, which frames of an LVOS video are measured; `names` are those that exist.

    They are the range of the object in valid_meta.json (or another SET_meta.json) beside the annotations, without its
    first and last frame. None: there is no such list.

    Example:
        >>> lvos_measured_frames(Path("valid/Annotations/0tCWPOrc"), ["00000001", "00000006", "00000011"])
        {'1': ['00000006']}

    Raises:
        SourceError: if the list is damaged or lacks the video, or a frame of a range does not exist.
    """
    top = truth.parent.parent
    candidates = (top / f"{top.name}_meta.json", *sorted(top.glob("*_meta.json")))
    file = next((path for path in candidates if path.is_file()), None)
    if file is None:
        return None
    frames: dict[str, list[str]] = {}
    try:
        for number, item in json.loads(file.read_text())["videos"][truth.name]["objects"].items():
            start, end, count = (int(item["frame_range"][key]) for key in ("start", "end", "frame_nums"))
            inner = range(start, end, LVOS_FRAME_STEP)[1 : max(count - 1, 1)]  # end: the last frame, or behind it
            frames[number] = [f"{frame:08d}" for frame in inner]
    except decoder_errors() as problem:
        raise SourceError(
            f"{file} has no range of frames of each object of {truth.name} ({problem!r}); it is a meta.json of LVOS: "
            "get it again, or remove it to measure each object to the end of its video"
        ) from None
    missing = [name for listed in frames.values() for name in listed if name not in names]
    if missing:
        raise SourceError(f"{truth / missing[0]}.png is missing; {file.name} has it in a range: complete the truth")
    return frames
