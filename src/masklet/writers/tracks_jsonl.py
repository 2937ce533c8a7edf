"""COCO run-length masks as JSON lines, one per frame: lossless, readable by any tool, and complete after a crash.

A line is `{"frame": 12, "time": 0.4, "size": [height, width], "objects": [...]}` and an object is `{"id", "class",
"name", "state", "presence", "score", "bbox", "area", "segmentation"}`: bbox is x, y, width, height in original
pixels, presence the object score as a logit, segmentation as pycocotools reads it. A value that is unknown or not
finite is null. Logits to refine with are not stored.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import atomic_path
from masklet.damaged_files import damage_errors, decoder_errors
from masklet.errors import InputError
from masklet.masks import rle
from masklet.results import Masks, Results
from masklet.writers.append_file import AppendOnlyFile, copy_byte_ranges, write_error
from masklet.writers.video_base import Sink, SinkOptions

__all__ = ["CocoSink", "FrameRecord", "TrackRecord", "read_tracks", "tracked_frames", "truncate_tracks"]

LINE_START = re.compile(rb'\{"frame": ?(\d{1,10}),')
MAX_INT = 2**31 - 1
"""The largest number of an object, a class or a frame: results hold them in 32 bits."""
MAX_AMOUNT = 1e300
"""The largest score, coordinate or time that is read: JSON has whole numbers that no float holds."""

TrackLine = TypedDict(
    "TrackLine",
    {
        "id": int,
        "class": int,
        "name": str,
        "state": str | None,
        "presence": float | None,
        "score": float | None,
        "bbox": list[float],
        "area": int,
        "segmentation": rle.Rle,
    },
)


class FrameLine(TypedDict):
    """One line of the file."""

    frame: int
    time: float | None
    size: list[int]
    objects: list[TrackLine]


@dataclass(frozen=True)
class TrackRecord:
    """One object of one frame: `bbox` x, y, width, height in original pixels, `segmentation` its COCO mask.

    Example:
        >>> segmentation = rle.encode(np.ones((2, 3), bool))
        >>> TrackRecord(1, 0, "object", None, None, 0.9, (0, 0, 3, 2), 6, segmentation).mask.tolist()
        [[True, True, True], [True, True, True]]
    """

    id: int
    class_id: int
    name: str
    state: str | None
    object_score: float | None
    score: float
    bbox: tuple[float, float, float, float]
    area: int
    segmentation: rle.Rle

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """The (H, W) mask.

        Raises:
            InputError: if `segmentation` is malformed.
        """
        return rle.decode(self.segmentation)


@dataclass(frozen=True)
class FrameRecord:
    """One frame read back: its number, seconds (or None), (height, width), and its objects."""

    frame_idx: int
    time: float | None
    size: tuple[int, int]
    objects: tuple[TrackRecord, ...]

    def to_results(self, rgb: npt.NDArray[np.uint8], path: str | None = None) -> Results:
        """Return the `Results` that were written, on the image (H, W, 3) RGB of this frame.

        Raises:
            InputError: if the image has another size, or a mask is malformed.
        """
        if rgb.shape[:2] != self.size:
            raise InputError(
                f"the image is {rgb.shape[1]}x{rgb.shape[0]}, but frame {self.frame_idx} was written for "
                f"{self.size[1]}x{self.size[0]}: pass the image of the same video"
            )
        tracks = self.objects
        masks = [track.mask for track in tracks]
        if any(mask.shape != self.size for mask in masks):
            raise InputError(
                f"a mask of frame {self.frame_idx} is not {self.size[1]}x{self.size[0]}: track the frame again"
            )
        scores = [track.object_score for track in tracks]
        states = tuple(track.state for track in tracks if track.state is not None)
        return Results(
            rgb,
            path or f"frame{self.frame_idx:05d}",
            Masks(np.stack(masks)) if masks else None,
            np.array([track.score for track in tracks], np.float32),
            ids=np.array([track.id for track in tracks], np.int32),
            classes=np.array([track.class_id for track in tracks], np.int32),
            names={track.class_id: track.name for track in tracks} or {0: "object"},
            frame_idx=self.frame_idx,
            time=self.time,
            object_scores=None if all(score is None for score in scores) else np.array(scores, np.float32),
            states=states if states and len(states) == len(tracks) else None,
        )


class CocoSink(Sink):
    """Write STEM_masks.jsonl, COCO run-length masks as JSON lines: frames in any order, every finished line is kept.

    `append` resumes an earlier file after its last complete line. A frame that is written again gets a second line;
    `read_tracks` reads the later one.
    """

    supports_append = True

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._file: AppendOnlyFile | None = None

    def _write(self, results: Results, frame_idx: int) -> None:
        if self._file is None:
            path = self._path("_masks.jsonl")
            self._file = AppendOnlyFile(path, keep_bytes=_complete_length(path) if self.options.append else 0)
            self.paths.append(path)
        objects: list[TrackLine] = []
        for row, annotation in enumerate(results.to_coco()):
            segmentation = annotation["segmentation"]
            assert not isinstance(segmentation, list), "a tracked object has a mask"
            objects.append(
                {
                    "id": int(results.ids[row]),
                    "class": int(results.classes[row]),
                    "name": results.class_name(row),
                    "state": None if results.states is None else results.states[row],
                    "presence": None if results.object_scores is None else _shortest_float(results.object_scores[row]),
                    "score": _shortest_float(results.scores[row]),
                    "bbox": annotation["bbox"],
                    "area": annotation["area"],
                    "segmentation": segmentation,
                }
            )
        time = results.time if results.time is not None and math.isfinite(results.time) else None
        line: FrameLine = {"frame": frame_idx, "time": time, "size": list(results.orig_shape), "objects": objects}
        self._file.append(json.dumps(line, separators=(",", ":"), allow_nan=False))

    def _finalize(self) -> None:
        if self._file is not None:
            self._file.close()


def read_tracks(path: str | os.PathLike[str]) -> Iterator[FrameRecord]:
    """Read the frames of a file of coco lines in ascending order, each once, as last written.

    A truncated last line, as a killed program or a full disk leaves it, is skipped.

    Example:
        >>> for record in read_tracks("out/clip_masks.jsonl"):  # doctest: +SKIP
        ...     print(record.frame_idx, [track.id for track in record.objects])

    Raises:
        InputError: if there is no such file, or a line is malformed.
    """
    ranges = _latest_line_ranges(path)

    def records() -> Iterator[FrameRecord]:
        with open(path, "rb") as file:
            for frame_idx, (start, length) in sorted(ranges.items()):
                file.seek(start)
                yield _parse_frame(file.read(length), path, frame_idx)

    return records()


def tracked_frames(path: str | os.PathLike[str]) -> list[int]:
    """Return the frame numbers in a file of coco lines, ascending; an empty list if there is no file.

    Raises:
        InputError: if a line is malformed.
    """
    return sorted(_latest_line_ranges(path)) if os.path.exists(path) else []


def truncate_tracks(path: str | os.PathLike[str], frame_idx: int) -> int:
    """Remove the lines of `frame_idx` and later frames, and return how many frames are left.

    Raises:
        InputError: if there is no such file, or a line is malformed.
        OutputError: if the file cannot be written; it is then unchanged.
    """
    kept = {number: span for number, span in _latest_line_ranges(path).items() if number < frame_idx}
    with atomic_path(path) as temporary:
        copy_byte_ranges(Path(path), temporary, sorted(kept.values()))
    return len(kept)


def _shortest_float(value: np.float32) -> float | None:
    """The number with as many digits as a float32 needs to come back equal; JSON has no infinity."""
    return float(str(np.float32(value))) if np.isfinite(value) else None


def _parse_frame(text: bytes, path: str | os.PathLike[str], frame_idx: int) -> FrameRecord:
    try:
        line = cast(FrameLine, json.loads(text))
        height, width = line["size"]
        numbers: list[int] = []
        counts = [line["frame"], height, width]
        amounts = [line["time"]]
        tracks = []
        for entry in line["objects"]:
            x, y, box_width, box_height = entry["bbox"]
            code, state = entry["segmentation"], entry["state"]
            if code["size"] != line["size"] or not isinstance(code["counts"], str):
                raise ValueError(f"the segmentation {code!r:.60} is no mask of {line['size']!r:.40}")
            if not isinstance(entry["name"], str) or not (state is None or isinstance(state, str)):
                raise ValueError(f"the name {entry['name']!r:.40} or the state {state!r:.40} is no text")
            numbers += entry["id"], entry["class"]
            counts.append(entry["area"])
            amounts += entry["presence"], entry["score"], x, y, box_width, box_height
            tracks.append(
                TrackRecord(
                    entry["id"],
                    entry["class"],
                    entry["name"],
                    state,
                    entry["presence"],
                    float("nan") if entry["score"] is None else entry["score"],
                    (x, y, box_width, box_height),
                    entry["area"],
                    code,
                )
            )
        if not all(type(number) is int and -MAX_INT <= number <= MAX_INT for number in (*numbers, *counts)):
            raise ValueError(f"frame, size, id, class and area must be whole numbers of at most {MAX_INT}")
        known = [value for value in amounts if value is not None]
        if min(counts) < 0 or any(type(value) not in (int, float) or abs(value) > MAX_AMOUNT for value in known):
            raise ValueError("frame, size and area must be from 0 on; time, presence, score and bbox must be numbers")
        if line["frame"] != frame_idx or height * width > rle.MAX_MASK_PIXELS:
            raise ValueError(f"it is of frame {line['frame']} with {width} x {height} pixels")
        return FrameRecord(line["frame"], line["time"], (height, width), tuple(tracks))
    except decoder_errors() as error:
        raise InputError(
            f"{os.fspath(path)}: the line of frame {frame_idx} cannot be read ({error}); a line is one JSON with "
            "frame, time, size and objects: restore the file, or remove it and what follows with truncate_tracks"
        ) from error


def _latest_line_ranges(path: str | os.PathLike[str]) -> dict[int, tuple[int, int]]:
    """Find the (offset, length) of the last complete line of each frame, without parsing the lines."""
    ranges: dict[int, tuple[int, int]] = {}
    try:
        start, end = 0, _complete_length(path)
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if start >= end:
                    break
                head = LINE_START.match(line)
                if head is None:
                    raise InputError(
                        f"{os.fspath(path)}, line {number}: {line[:40]!r} does not begin with a frame number of at "
                        "most ten digits; "
                        "give a file that the coco sink wrote, unchanged"
                    )
                ranges[int(head[1])] = (start, len(line))
                start += len(line)
    except OSError as error:
        raise InputError(
            f"{os.fspath(path)!r} cannot be read ({error.strerror or error}); give the file STEM_masks.jsonl that "
            "the coco sink wrote"
        ) from error
    return ranges


def _complete_length(path: str | os.PathLike[str]) -> int:
    """The length of a file up to the end of its last complete line; 0 if there is no file."""
    if not os.path.exists(path):
        return 0
    length, last = 0, b""
    try:
        with open(path, "rb") as file:
            for line in file:
                length += len(last)
                last = line
    except OSError as error:
        raise write_error(Path(path), error) from error
    try:
        is_complete = last.endswith(b"\n") and json.loads(last) is not None
    except damage_errors():  # after a power cut a line may be zeros
        is_complete = False
    return length + len(last) if is_complete else length
