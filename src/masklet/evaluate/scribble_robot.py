"""Scribbles of DAVIS interactive: read and write their files, and draw them as the challenge's robot does.

**Files.** There is one for each sequence and each person who drew:

    Scribbles/SEQ/001.json  {"scribbles": [frame, frame, ...], "sequence": "SEQ"}
    frame                   a list of {"path": [[x, y], ...], "object_id": 1, "start_time": 0, "end_time": 1000}

It has a list for every frame of the sequence, most of them empty. x and y are fractions of the image's width and
height, from 0 to 1; object 0 is the background; times are milliseconds. A hand may slip beyond the image: points
slightly outside are moved to its border.

**The robot.** On a frame it draws on the background (0) and on the objects in the order of their ids. The region of
each is what the truth assigns to it and the prediction does not. An opening removes thin parts (a disc of a tenth of
the side of a square of the same area, at most 16 pixels), the medial axis is computed, and each part of it with at
least 4 pixels becomes one stroke: its longest path, smoothed as the Bezier curve of all its pixels (1000 points). So an
excess pixel gets a stroke of what it should be, the background or another object, and a missed one a stroke of the
object.

Shapes: T frames, N points (x before y), H height, W width.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.damaged_files import decoder_errors
from masklet.errors import SourceError
from masklet.evaluate.skeletonize import bezier_curve, binary_opening, longest_paths, medial_axis

__all__ = [
    "SCRIBBLES_DIR",
    "Scribble",
    "ScribblesByFrame",
    "choose_correction_frame",
    "choose_first_frame",
    "draw_scribbles",
    "read_scribbles",
    "scribbles_to_json",
]

Labels = npt.NDArray[np.uint8]

SCRIBBLES_DIR = "Scribbles"
BORDER_TOLERANCE = 0.1
"""How far a stroke may leave the image, in widths and heights."""
DISC_DIAMETER_RATIO = 0.2
"""The diameter of the disc, in sides of a square of the region's area."""
MAX_DISC_RADIUS = 16.0
"""Pixels."""
MIN_LINE_PIXELS = 4
"""Shorter lines are not drawn."""
STROKE_POINTS = 1000


@dataclass(frozen=True, eq=False)
class Scribble:
    """One stroke: its object, 0 for the background, and its points (N, 2) as fractions of width and height."""

    object_id: int
    path: npt.NDArray[np.float64]


ScribblesByFrame = dict[int, tuple[Scribble, ...]]
"""Strokes by frame, without empty frames."""


def read_scribbles(file: Path, sequence: str, frames: int, objects: int) -> ScribblesByFrame:
    """Read the strokes of a file, for a sequence of `frames` frames with the objects 1 to `objects`.

    Example:
        >>> read_scribbles(Path("DAVIS/Scribbles/bear/001.json"), "bear", frames=82, objects=1)
        {39: (Scribble(object_id=1, ...),)}

    Raises:
        SourceError: if it is unreadable, of another sequence or length, or a stroke is invalid.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        name = document["sequence"]
        by_frame = [
            [Scribble(int(raw["object_id"]), np.array(raw["path"], float)) for raw in strokes]
            for strokes in document["scribbles"]
        ]
        for path in (stroke.path for strokes in by_frame for stroke in strokes):
            if path.ndim != 2 or path.shape[1] != 2 or not len(path):
                raise ValueError(f"a path of shape {path.shape}")
    except decoder_errors() as problem:
        raise SourceError(
            f'{file} cannot be read as scribbles ({problem!r}); allowed is {{"scribbles": [[{{"path": [[x, y], ...], '
            '"object_id": 1}, ...], ...], "sequence": NAME}: unpack it again, or exclude the sequence'
        ) from None
    if name != sequence or len(by_frame) != frames:
        raise SourceError(
            f"{file} is of {name!r} with {len(by_frame)} frames; expected {sequence!r} with {frames}: put the file of "
            "that sequence there"
        )
    for stroke in (stroke for strokes in by_frame for stroke in strokes):
        if not 0 <= stroke.object_id <= objects:
            raise SourceError(
                f"{file} has a stroke on object {stroke.object_id}; the annotations have objects 1 to {objects}, and 0 "
                "is the background: take scribbles and annotations of one edition"
            )
        inside = (np.abs(stroke.path - 0.5) <= 0.5 + BORDER_TOLERANCE).all(1)  # False for nan
        if not inside.all():
            raise SourceError(
                f"{file} has a point at {stroke.path[int(inside.argmin())].tolist()}; x and y are fractions of width "
                "and height, from 0 to 1: unpack it again"
            )
    return {
        frame: tuple(Scribble(stroke.object_id, stroke.path.clip(0, 1)) for stroke in strokes)
        for frame, strokes in enumerate(by_frame)
        if strokes
    }


def scribbles_to_json(scribbles: ScribblesByFrame, sequence: str, frames: int) -> str:
    """Return strokes as the text of such a file; times are 0.

    Example:
        >>> Path("001.json").write_text(scribbles_to_json(scribbles, "bear", 82))
    """
    by_frame = [
        [
            {"path": stroke.path.tolist(), "object_id": stroke.object_id, "start_time": 0, "end_time": 0}
            for stroke in scribbles.get(frame, ())
        ]
        for frame in range(frames)
    ]
    return json.dumps({"scribbles": by_frame, "sequence": sequence})


def choose_correction_frame(jf: Sequence[float], used: Collection[int]) -> int:
    """Return the frame with the lowest J&F that is not in `used`, or of all if each is; the earliest of several.

    Example:
        >>> choose_correction_frame([0.9, 0.2, 0.2], used={1})
        2
    """
    unused = [t for t in range(len(jf)) if t not in used] or range(len(jf))
    return min(unused, key=lambda t: jf[t])


def choose_first_frame(truth_THW: Labels, objects: int) -> int:
    """Return the frame that shows the most of the objects 1 to `objects`; of several the one nearest to the middle.

    Example:
        >>> choose_first_frame(np.ones((5, 2, 2), np.uint8), 1)
        2
    """
    visible = [np.isin(np.arange(1, objects + 1), labels).sum() for labels in truth_THW]
    return min(range(len(visible)), key=lambda t: (-visible[t], abs(t - len(visible) // 2)))


def draw_scribbles(predicted_HW: Labels, truth_HW: Labels, objects: int) -> tuple[Scribble, ...]:
    """Draw strokes through the error of a predicted label map with the objects 1 to `objects`.

    Example:
        >>> draw_scribbles(np.zeros_like(truth), truth, objects=1)
        (Scribble(object_id=1, ...),)
    """
    strokes: list[Scribble] = []
    for id in range(objects + 1):
        wrong = (truth_HW == id) & (predicted_HW != id)
        if wrong.any():
            radius = min(DISC_DIAMETER_RATIO * float(np.sqrt(wrong.sum())) / 2, MAX_DISC_RADIUS)
            lines = longest_paths(medial_axis(binary_opening(wrong, radius)), MIN_LINE_PIXELS)
            strokes += [Scribble(id, bezier_curve(line, STROKE_POINTS) / wrong.shape[::-1]) for line in lines]
    return tuple(strokes)
