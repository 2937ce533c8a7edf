"""Record when each object of a video tracked without prompts started and ended, and why."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypedDict

__all__ = ["END_OF_VIDEO", "NOT_FOUND_AGAIN", "OUT_OF_SIGHT", "Track", "TrackHistory", "TrackSpan"]

OUT_OF_SIGHT = "out of sight"
NOT_FOUND_AGAIN = "not found again"
END_OF_VIDEO = "end of the video"
MAX_ENDED_TRACKS = 10_000
"""Ended tracks that are still reported; a camera that runs for weeks has more, and the oldest are released."""


class TrackSpan(TypedDict):
    """One track, ready for JSON; `reason` is null while it is active."""

    id: int
    name: str
    first: int
    last: int
    visible: int
    reason: str | None
    class_id: int
    score: float


@dataclass
class Track:
    """One object, from the frame of its first detection to the last frame on which it was visible."""

    id: int
    class_id: int
    name: str
    score: float
    """Of its first detection."""
    first_frame: int
    last_frame: int
    visible_frames: int = 1
    end_reason: str | None = None
    """None: it is active."""
    class_scores: dict[int, float] = field(default_factory=dict)
    """By class, the sum of its detection scores: a detector may change its mind. `class_id` stays the first one."""
    frames_unseen: int = 0
    """Consecutive frames, up to now, on which it was not visible."""
    missed_detections: int = 0
    """Consecutive detector runs, up to now, without a match."""
    truncated: bool = False
    """It touched the edge of the frame when it was detected, and may be larger than what was visible."""
    extensions: int = 0
    """How often it then turned out to be larger."""

    @property
    def likely_class(self) -> int:
        """The class with the highest sum of scores."""
        return max(self.class_scores, key=lambda number: self.class_scores[number], default=self.class_id)

    def to_dict(self) -> TrackSpan:
        """Return the track as plain numbers and text.

        Example:
            >>> Track(1, 0, "dog", 0.9, first_frame=0, last_frame=44, end_reason=OUT_OF_SIGHT).to_dict()["reason"]
            'out of sight'
        """
        return {
            "id": self.id,
            "name": self.name,
            "first": self.first_frame,
            "last": self.last_frame,
            "visible": self.visible_frames,
            "reason": self.end_reason,
            "class_id": self.class_id,
            "score": self.score,
        }

    def __str__(self) -> str:
        frames = f"frames {self.first_frame} to {self.last_frame}"
        return f"object {self.id}: {self.name}, {frames}, {self.end_reason or 'still tracked'}"


class TrackHistory:
    """All tracks of a video by id, active and ended; it grows while the video is tracked. `print` shows it.

    Example:
        >>> history = TrackHistory()
        >>> history.start_track(Track(1, 0, "dog", 0.9, first_frame=0, last_frame=44))
        >>> history.end_track(1, OUT_OF_SIGHT)
        >>> print(history)
        object 1: dog, frames 0 to 44, out of sight
    """

    def __init__(self) -> None:
        self.active: dict[int, Track] = {}
        self.finished: deque[Track] = deque(maxlen=MAX_ENDED_TRACKS)
        """In the order in which they ended."""
        self.started: tuple[int, ...] = ()
        """Ids that started on the last frame, or were recognized after they had ended."""
        self.ended: tuple[int, ...] = ()
        """Ids that ended on the last frame."""
        self.rejected = 0
        """Detections not tracked because `max_objects` were active; the same object counts at every detector run."""
        self.num_started = 0
        """Number of tracks so far; ids are 1 to `num_started`."""

    def __iter__(self) -> Iterator[Track]:
        return iter(sorted([*self.finished, *self.active.values()], key=lambda track: track.id))

    def __len__(self) -> int:
        return len(self.finished) + len(self.active)

    def __getitem__(self, track_id: int) -> Track:
        if track_id in self.active:
            return self.active[track_id]
        for track in self.finished:
            if track.id == track_id:
                return track
        raise KeyError(track_id)

    def __str__(self) -> str:
        rejected = [f"turned away for want of a place: {self.rejected}"] if self.rejected else []
        return "\n".join([*map(str, self), *rejected]) or "nothing was found"

    def to_dicts(self) -> list[TrackSpan]:
        """Return every track as plain numbers and text, by id, ready for JSON."""
        return [track.to_dict() for track in self]

    def begin_frame(self) -> None:
        """Begin a frame, on which no track has started or ended yet."""
        self.started = self.ended = ()

    def start_track(self, track: Track) -> None:
        """Add a track."""
        self.num_started = max(self.num_started, track.id)
        self.active[track.id] = track
        self.started += (track.id,)

    def end_track(self, track_id: int, reason: str) -> None:
        """End an active track."""
        track = self.active.pop(track_id)
        track.end_reason = reason
        self.finished.append(track)
        self.ended += (track_id,)

    def resume_track(self, track_id: int, frame_idx: int) -> None:
        """Continue a track that is out of sight, or has ended: its object is back."""
        track = self[track_id]
        if track_id not in self.active:
            self.finished.remove(track)
            self.active[track_id] = track
            self.started += (track_id,)
        track.end_reason, track.frames_unseen, track.missed_detections = None, 0, 0
        track.last_frame, track.visible_frames = frame_idx, track.visible_frames + 1

    def finish(self) -> None:
        """End all active tracks at the end of the video; they do not count as ended on the last frame."""
        ended = self.ended
        for track_id in list(self.active):
            self.end_track(track_id, END_OF_VIDEO)
        self.ended = ended
