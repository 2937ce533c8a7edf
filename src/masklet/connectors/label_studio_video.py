"""Rectangles of Label Studio tracked through a video: keyframes in, keyframes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from masklet.connectors.host_requests import make_prompt, percent_box
from masklet.errors import InputError
from masklet.results import Results
from masklet.sam import SAM

__all__ = ["RectangleTrack", "track_rectangles"]

JsonObject: TypeAlias = "dict[str, Any]"
ASSUMED_FRAMES_PER_SECOND = 24.0
"""What Label Studio counts with where a video has no other rate."""


@dataclass(frozen=True, eq=False)
class RectangleTrack:
    """The region of one object. Frames count from 1; after a keyframe that is not "enabled" the object is hidden."""

    region: Mapping[str, Any]
    keyframes: Mapping[int, Mapping[str, Any]]
    """By frame, in order."""
    frames_per_second: float

    @classmethod
    def from_region(cls, region: Mapping[str, Any]) -> RectangleTrack:
        """Read a region of type videorectangle.

        Raises:
            InputError: if it is malformed, or has no keyframe.
        """
        try:
            value, number = region["value"], region["id"]
            keyframes = {int(one["frame"]): one for one in sorted(value["sequence"], key=lambda one: one["frame"])}
            duration = float(value.get("duration") or 0.0)
            speed = float(value["framesCount"]) / duration if duration > 0 else ASSUMED_FRAMES_PER_SECOND
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"a region of the request cannot be read: {type(error).__name__}: {error}") from error
        if min(keyframes, default=0) < 1:
            raise InputError(f"region {number!r} must have keyframes, counted from 1: draw its rectangle on a frame")
        return cls(region, keyframes, speed)

    def box(self, frame: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return the box of a keyframe in pixels.

        Raises:
            InputError: if it has no numbers.
        """
        one = self.keyframes[frame]
        try:
            x, y, width, height = (float(one[name]) for name in ("x", "y", "width", "height"))
            return percent_box(x, y, width, height, float(one.get("rotation") or 0.0), size=size)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"keyframe {frame} cannot be read: {type(error).__name__}: {error}") from error

    def fill(self, boxes: Mapping[int, JsonObject | None]) -> list[JsonObject]:
        """Return the keyframes and those of the tracked frames (None: out of sight) between and after them.

        Nothing is added before the first keyframe, and after one where the object was hidden by a person.
        """
        sequence: list[JsonObject] = []
        hidden = True
        for frame in sorted({*self.keyframes, *boxes}):
            if frame in self.keyframes:
                sequence.append(dict(self.keyframes[frame]))
                hidden = not sequence[-1].get("enabled", True)
            elif not hidden:
                box, time = boxes[frame], frame / self.frames_per_second
                if box is None:
                    sequence[-1]["enabled"] = False
                else:
                    sequence.append({**box, "frame": frame, "time": time, "enabled": True, "rotation": 0})
        return sequence


def track_rectangles(
    model: SAM, path: str, regions: Sequence[JsonObject], from_name: str, to_name: str, *, max_frames: int
) -> JsonObject:
    """Track all rectangles of a request from their keyframes on, as one prediction with the same region ids.

    Frames are filled from at most `max_frames` before the last keyframe to as many after it.

    Raises:
        InputError: if a region is malformed, there is none, or it lies outside the frame.
        SourceError: if the video or a frame cannot be read.
    """
    tracks = {
        number: RectangleTrack.from_region(region)
        for number, region in enumerate((one for one in regions if one.get("type") == "videorectangle"), 1)
    }
    if not tracks:
        raise InputError("the request has no region of type videorectangle: draw a rectangle on the video first")
    prompted = [frame for track in tracks.values() for frame in track.keyframes]
    first, last = max(min(prompted), max(prompted) - max_frames), max(prompted)
    boxes: dict[int, dict[int, JsonObject | None]] = {number: {} for number in tracks}
    with model.session(path) as session:
        for number, track in tracks.items():
            for frame in track.keyframes:
                size = session.frame(frame - 1).size
                session.add_object_prompt(number, frame - 1, make_prompt([], box=track.box(frame, size), size=size))
        for results in session.propagate(first - 1, last + max_frames):
            assert results.frame_idx is not None
            for number, box in percent_boxes(results).items():
                boxes[number][results.frame_idx + 1] = box
    answered = [
        {
            "id": track.region["id"],
            "from_name": from_name,
            "to_name": to_name,
            "type": "videorectangle",
            "origin": "prediction",
            "value": {**track.region["value"], "sequence": track.fill(boxes[number])},
        }
        for number, track in tracks.items()
    ]
    return {"result": answered, "score": 1.0, "model_version": "masklet"}


def percent_boxes(results: Results) -> dict[int, JsonObject | None]:
    """Return the box of each object of a frame in percent; None: its mask is empty."""
    height, width = results.orig_shape
    boxes: dict[int, JsonObject | None] = {}
    for number, (x1, y1, x2, y2) in zip(results.ids.tolist(), results.boxes.xyxy.tolist(), strict=True):
        shape = {"x": x1 / width, "y": y1 / height, "width": (x2 - x1) / width, "height": (y2 - y1) / height}
        boxes[number] = {name: 100 * value for name, value in shape.items()} if x2 > x1 else None
    return boxes
