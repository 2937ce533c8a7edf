"""COCO run-length masks as JSON lines, one a frame: lossless, readable by any tool, and whole after a crash.

A line is `{"frame": 12, "time": 0.4, "size": [height, width], "objects": [...]}` and an object is `{"id", "class",
"name", "state", "presence", "score", "bbox", "area", "segmentation"}`: bbox x, y, width, height in original
pixels, presence a logit, segmentation as pycocotools reads it. What is not known, or not a finite number, is null.
Logits to refine with are not kept.
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
from masklet.errors import InputError
from masklet.masks import rle
from masklet.results import Masks, Results
from masklet.writers.append_file import AppendOnlyFile, copy_byte_ranges, write_error
from masklet.writers.video_base import Sink

__all__ = ["CocoSink", "FrameRecord", "TrackRecord", "read_tracks", "tracked_frames", "truncate_tracks"]

LINE_START = re.compile(rb'\{"frame": ?(\d+),')

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
        >>> record.objects[0].mask.sum() == record.objects[0].area
        True
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
            InputError: a code that is not one.
        """
        return rle.decode(self.segmentation)


@dataclass(frozen=True)
class FrameRecord:
    """One frame read back: its number, seconds (or None), (height, width), and its objects.

    Example:
        >>> for record in read_tracks("out/clip_masks.jsonl"):
        ...     record.frame, [track.id for track in record.objects]
    """

    frame_idx: int
    time: float | None
    size: tuple[int, int]
    objects: tuple[TrackRecord, ...]

    def to_results(self, rgb: npt.NDArray[np.uint8], path: str | None = None) -> Results:
        """The same `Results` as were written, over the image (H, W, 3) RGB of this frame.

        Example:
            >>> record.results(image).plot()

        Raises:
            InputError: an image of another size, or a code that is no mask of this size.
        """
        if rgb.shape[:2] != self.size:
            raise InputError(
                f"the image is {rgb.shape[1]}x{rgb.shape[0]}, but frame {self.frame_idx} was written for "
                f"{self.size[1]}x{self.size[0]}: hand in the image of the same video"
            )
        tracks = self.objects
        masks = [track.mask for track in tracks]
        if any(mask.shape != self.size for mask in masks):
            raise InputError(f"a mask of frame {self.frame_idx} is not {self.size[1]}x{self.size[0]}: write it anew")
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
            object_scores=self._object_scores(),
            states=self._states(),
        )

    def _object_scores(self) -> npt.NDArray[np.float32] | None:
        known = [track.object_score for track in self.objects]
        return None if all(p is None for p in known) else np.array(known, np.float32)  # a single None is NaN

    def _states(self) -> tuple[str, ...] | None:
        known = tuple(track.state for track in self.objects if track.state is not None)
        return known if known and len(known) == len(self.objects) else None


class CocoSink(Sink):
    """COCO run-length masks as JSON lines, STEM_masks.jsonl: any order of frames, every finished line is kept.

    With `append` an earlier file is gone on with after its last whole line. A frame that is written again gets
    a second line; `read_tracks` takes the later one.

    Example:
        >>> with CocoSink("out", "clip") as sink:
        ...     sink.write(frame)
    """

    supports_append = True
    _file: AppendOnlyFile | None = None

    def _write(self, results: Results, frame_idx: int) -> None:
        if self._file is None:
            path = self._path("_masks.jsonl")
            self._file = AppendOnlyFile(path, keep_bytes=_complete_length(path) if self.options.append else 0)
            self._add_path(path)
        self._file.append(json.dumps(_frame_line(results, frame_idx), separators=(",", ":"), allow_nan=False))

    def _finalize(self) -> None:
        if self._file is not None:
            self._file.close()


def read_tracks(path: str | os.PathLike[str]) -> Iterator[FrameRecord]:
    """The frames of a file of coco lines in ascending order, each once, as last written.

    A last line that was cut, as a killed program or a full disk leaves it, is passed over.

    Example:
        >>> for record in read_tracks("out/clip_masks.jsonl"):
        ...     record.results(image).save()

    Raises:
        InputError: no such file, or a line that is not one of these.
    """
    spans = _latest_line_spans(path)

    def read() -> Iterator[FrameRecord]:
        with open(path, "rb") as file:
            for frame in sorted(spans):
                start, length = spans[frame]
                file.seek(start)
                yield _parse_frame(file.read(length), path, frame)

    return read()


def tracked_frames(path: str | os.PathLike[str]) -> list[int]:
    """The numbers of the frames in a file of coco lines, ascending; no file has none.

    Example:
        >>> tracked_frames("out/clip_masks.jsonl")
        [0, 1, 2]

    Raises:
        InputError: a line that is not one of these.
    """
    return sorted(_latest_line_spans(path)) if os.path.exists(path) else []


def truncate_tracks(path: str | os.PathLike[str], frame_idx: int) -> int:
    """Keep the lines of the frames before `frame` and drop all others; returns how many frames are left.

    Example:
        >>> truncate_tracks("out/clip_masks.jsonl", 40)
        40

    Raises:
        InputError: no such file, or a line that is not one of these.
        OutputError: the file cannot be written; it is then as it was.
    """
    kept = {number: span for number, span in _latest_line_spans(path).items() if number < frame_idx}
    with atomic_path(path) as temporary:
        copy_byte_ranges(Path(path), temporary, sorted(kept.values()))
    return len(kept)


def _frame_line(results: Results, frame_idx: int) -> FrameLine:
    objects: list[TrackLine] = []
    for i, found in enumerate(results.to_coco()):
        outline = found["segmentation"]
        assert not isinstance(outline, list), "what is tracked has a mask"
        objects.append(
            {
                "id": int(results.ids[i]),
                "class": int(results.classes[i]),
                "name": results.class_name(i),
                "state": None if results.states is None else results.states[i],
                "presence": None if results.object_scores is None else _shortest_float(results.object_scores[i]),
                "score": _shortest_float(results.scores[i]),
                "bbox": found["bbox"],
                "area": found["area"],
                "segmentation": outline,
            }
        )
    time = results.time if results.time is not None and math.isfinite(results.time) else None
    return {"frame": frame_idx, "time": time, "size": list(results.orig_shape), "objects": objects}


def _shortest_float(value: np.float32) -> float | None:
    """The number with as many digits as a float32 needs to come back the same; JSON has no infinity."""
    return float(str(np.float32(value))) if np.isfinite(value) else None


def _parse_frame(text: bytes, path: str | os.PathLike[str], frame_idx: int) -> FrameRecord:
    try:
        line = cast(FrameLine, json.loads(text))
        height, width = line["size"]
        tracks = tuple(_parse_track(entry) for entry in line["objects"])
        return FrameRecord(line["frame"], line["time"], (int(height), int(width)), tracks)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{os.fspath(path)}: the line of frame {frame_idx} cannot be read ({error}); a line is one JSON with frame, "  # noqa: E501
            "time, size and objects: restore the file, or drop it and what follows with truncate_tracks"
        ) from error


def _parse_track(entry: TrackLine) -> TrackRecord:
    x, y, width, height = entry["bbox"]
    score = entry["score"]
    return TrackRecord(
        entry["id"],
        entry["class"],
        entry["name"],
        entry["state"],
        entry["presence"],
        float("nan") if score is None else score,
        (x, y, width, height),
        entry["area"],
        entry["segmentation"],
    )


def _latest_line_spans(path: str | os.PathLike[str]) -> dict[int, tuple[int, int]]:
    """Where the last line of each frame begins, and its length; of a cut last line nothing."""
    try:
        return dict(_line_spans(path))
    except OSError as error:
        raise InputError(
            f"{os.fspath(path)!r} cannot be read ({error.strerror or error}); give the file STEM_masks.jsonl that "
            "the coco sink wrote"
        ) from error


def _line_spans(path: str | os.PathLike[str]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Frame number, offset and length of every whole line, without reading what is in it."""
    start, end = 0, _complete_length(path)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if start >= end:
                return
            head = LINE_START.match(line)
            if head is None:
                raise InputError(
                    f"{os.fspath(path)}, line {number}: {line[:40]!r} does not begin with the number of a frame; "
                    "give a file that the coco sink wrote, unchanged"
                )
            yield int(head[1]), (start, len(line))
            start += len(line)


def _complete_length(path: str | os.PathLike[str]) -> int:
    """The length of a file up to the end of its last whole line; 0 without a file."""
    if not os.path.exists(path):
        return 0
    whole, last = 0, b""
    try:
        with open(path, "rb") as file:
            for line in file:
                if last:
                    whole += len(last)
                last = line
    except OSError as error:
        raise write_error(Path(path), error) from error
    return whole + (len(last) if _is_complete_line(last) else 0)


def _is_complete_line(line: bytes) -> bool:
    """Whether a line was written to its end: after a power cut its place may hold zeros."""
    try:
        return line.endswith(b"\n") and json.loads(line) is not None
    except ValueError:
        return False
