"""Frames out of a film file, by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from masklet.datasets.base import DataError, Pixels
from masklet.errors import SourceError
from masklet.media import open_video

__all__ = ["decoded_frames"]


def decoded_frames(path: Path, numbers: Sequence[int]) -> dict[int, Pixels]:
    """RGB (H, W, 3) of each frame asked for; the film is decoded once, from the first of them to the last.

    Raises:
        DataError: the film cannot be read, or has not all of these frames.

    Example:
        >>> decoded_frames(Path("clip.mp4"), [8, 0])[8].shape
        (720, 1280, 3)
    """
    try:
        with open_video(path) as video:
            return {number: video[number].rgb for number in sorted(set(numbers))}
    except SourceError as problem:
        error = DataError(str(problem))
        error.file = path
        raise error from problem
