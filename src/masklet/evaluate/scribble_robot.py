"""Scribbles as DAVIS interactive hands them round: a JSON file for each sequence and each person who drew.

    Scribbles/SEQ/001.json  {"scribbles": [frame, frame, ...], "sequence": "SEQ"}
    frame                   a list of {"path": [[x, y], ...], "object_id": 1, "start_time": 0, "end_time": 1000}

There is a list for every frame of the sequence, most of them empty. x and y are shares of the image's width and
height, from 0 to 1; object 0 is the background; times are milliseconds. A hand may slip beyond the image: what sticks
out a little is taken back to its border.

Shapes: N points, x before y.

The robot of DAVIS interactive: strokes through what is wrong with an answer, as a person would draw them.

On the frame whose J&F, mean over objects, is lowest among those it has not drawn on yet, it goes through the
background (0) and the objects in the order of their ids. What the truth gives to one of them and the answer does not is
its region. An opening takes away what is thin (a disc of a tenth of the side of a square as large, at most 16 pixels),
the medial axis is drawn, and each part of it with at least 4 pixels becomes one stroke: its longest path, smoothed as
the Bezier curve of all its pixels (1000 points). So a pixel in excess is told by a stroke of what it should be, the
background or another object, and a missed one by a stroke of the object.

Shapes: T frames, H height, W width.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.evaluate.skeletonize import bezier_curve, binary_opening, longest_paths, medial_axis

__all__ = [
    "Scribble",
    "ScribblesByFrame",
    "choose_correction_frame",
    "choose_first_frame",
    "draw_scribbles",
    "read_scribbles",
    "scribble_files",
    "scribbles_to_json",
]

Labels = npt.NDArray[np.uint8]

DISC_DIAMETER_RATIO = 0.2
"""The diameter of the disc, in sides of a square as large as the region."""
MAX_DISC_RADIUS = 16.0
"""Its radius at most, pixels."""
MIN_LINE_PIXELS = 4
"""Pixels of a line that is drawn."""
POINTS_PER_STROKE = 1000
"""Of a stroke."""


def choose_correction_frame(jf: Sequence[float], used: Collection[int]) -> int:
    """The frame with the lowest J&F that is not in `used`, or of all where each is; of equals the earliest.

    Example:
        >>> frame_to_correct([0.9, 0.2, 0.2], used={1})
        2
    """
    left = [t for t in range(len(jf)) if t not in used] or range(len(jf))
    return min(left, key=lambda t: jf[t])


def choose_first_frame(truth_THW: Labels, objects: int) -> int:
    """The frame that shows the most of the objects 1 to `objects`; of several the one nearest to the middle.

    Example:
        >>> frame_to_begin(np.ones((5, 2, 2), np.uint8), 1)
        2
    """
    shown = [np.isin(np.arange(1, objects + 1), labels).sum() for labels in truth_THW]
    return min(range(len(shown)), key=lambda t: (-shown[t], abs(t - len(shown) // 2)))


def draw_scribbles(predicted_HW: Labels, truth_HW: Labels, objects: int) -> tuple[Scribble, ...]:
    """Strokes through what an answer has wrong on a frame; both are label maps, the objects 1 to `objects`.

    Example:
        >>> draw(np.zeros_like(truth), truth, objects=1)  # nothing is shown yet
        (Scribble(id=1, ...),)
    """
    strokes: list[Scribble] = []
    for id in range(objects + 1):
        wrong = (truth_HW == id) & (predicted_HW != id)
        strokes += [Scribble(id, path) for path in _strokes_through(wrong)] if wrong.any() else []
    return tuple(strokes)


def _strokes_through(region: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.float64]]:
    radius = min(DISC_DIAMETER_RATIO * float(np.sqrt(region.sum())) / 2, MAX_DISC_RADIUS)
    lines = longest_paths(medial_axis(binary_opening(region, radius)), MIN_LINE_PIXELS)
    return [bezier_curve(line, POINTS_PER_STROKE) / region.shape[::-1] for line in lines]


SCRIBBLES_DIR = "Scribbles"
BORDER_TOLERANCE = 0.1
"""How far a stroke may stick out, in widths and heights."""


@dataclass(frozen=True, eq=False)
class Scribble:
    """One stroke: the object it is on, 0 for the background, and its points (N, 2) as shares of width and height."""

    object_id: int
    path: npt.NDArray[np.float64]


ScribblesByFrame = dict[int, tuple[Scribble, ...]]
"""Strokes by frame; only frames that have some."""


def scribble_files(root: Path, sequence: str) -> list[Path]:
    """The files of a sequence, one for each person who drew; none where there are none.

    Example:
        >>> scribble_files(Path("DAVIS"), "bear")
        [PosixPath('DAVIS/Scribbles/bear/001.json'), ...]
    """
    return sorted((root / SCRIBBLES_DIR / sequence).glob("*.json"))


def read_scribbles(file: Path, sequence: str, frames: int, objects: int) -> ScribblesByFrame:
    """The strokes of a file, for a sequence of so many frames whose objects are 1 to `objects`.

    Example:
        >>> read_scribbles(Path("DAVIS/Scribbles/bear/001.json"), "bear", frames=82, objects=1)
        {39: (Scribble(id=1, ...),)}

    Raises:
        SourceError: it cannot be read, is of another sequence or length, or has strokes that cannot be meant.
    """
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
        by_frame = [[_parse_stroke(one) for one in strokes] for strokes in whole["scribbles"]]
        named = whole["sequence"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise SourceError(
            f'{file} cannot be read as scribbles ({problem!r}); allowed is {{"scribbles": [[{{"path": [[x, y], ...], '
            '"object_id": 1}, ...], ...], "sequence": NAME}: unpack it anew, or leave the sequence out'
        ) from None
    if named != sequence or len(by_frame) != frames:
        raise SourceError(
            f"{file} is of {named!r} with {len(by_frame)} frames; needed is {sequence!r} with {frames}: put the file "
            "of that sequence there"
        )
    for stroke in (stroke for strokes in by_frame for stroke in strokes):
        _validate_stroke(stroke, file, objects)
    return {frame: tuple(map(_clip_stroke, strokes)) for frame, strokes in enumerate(by_frame) if strokes}


def _parse_stroke(raw: dict[str, Any]) -> Scribble:
    path = np.array(raw["path"], float)
    if path.ndim != 2 or path.shape[1] != 2 or not len(path):
        raise ValueError(f"a path of shape {path.shape}")
    return Scribble(int(raw["object_id"]), path)


def _clip_stroke(stroke: Scribble) -> Scribble:
    return Scribble(stroke.object_id, stroke.path.clip(0, 1))


def _validate_stroke(stroke: Scribble, file: Path, objects: int) -> None:
    if not 0 <= stroke.object_id <= objects:
        raise SourceError(
            f"{file} has a stroke on object {stroke.object_id}; the annotations have objects 1 to {objects}, and 0 is the "  # noqa: E501
            "background: take scribbles and annotations of one edition"
        )
    inside = (np.abs(stroke.path - 0.5) <= 0.5 + BORDER_TOLERANCE).all(1)  # what is not a number is not
    if not inside.all():
        raise SourceError(
            f"{file} has a point at {stroke.path[int(inside.argmin())].tolist()}; x and y are shares of width and "
            "height, from 0 to 1: unpack it anew"
        )


def scribbles_to_json(scribbles: ScribblesByFrame, sequence: str, frames: int) -> str:
    """Strokes as such a file has them; times are 0.

    Example:
        >>> Path("001.json").write_text(scribbles_json(drawn, "bear", 82))
    """
    return json.dumps(
        {"scribbles": [_strokes_to_dicts(scribbles.get(t, ())) for t in range(frames)], "sequence": sequence}
    )


def _strokes_to_dicts(strokes: Sequence[Scribble]) -> list[dict[str, Any]]:
    return [{"path": one.path.tolist(), "object_id": one.object_id, "start_time": 0, "end_time": 0} for one in strokes]
