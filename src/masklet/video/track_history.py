"""What became of the objects of a video that nobody pointed at: who was born when, and who died of what."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypedDict

__all__ = ["END_OF_VIDEO", "NOT_FOUND_AGAIN", "OUT_OF_SIGHT", "Track", "TrackHistory", "TrackRecord"]

OUT_OF_SIGHT = "out of sight"
NOT_FOUND_AGAIN = "not found again"
END_OF_VIDEO = "end of the video"
MAX_ENDED_TRACKS = 10_000
"""Lives that are over and still reported; a camera that runs for weeks has more, and the oldest are let go of."""


class TrackRecord(TypedDict):
    """One life, ready for JSON; `reason` is null while it lasts."""

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
    """One object from its birth on: `first` the frame where it was found, `last` the last one where it was seen."""

    id: int
    class_id: int
    name: str
    score: float
    """The finder's, when it was born."""
    first_frame: int
    last_frame: int
    visible_frames: int = 1
    """Frames on which it was seen."""
    end_reason: str | None = None
    """Why it is over; None: it is not."""
    class_scores: dict[int, float] = field(default_factory=dict)
    """By class, the sum of the finder's scores: a detector may change its mind. The class stays that of the birth."""
    frames_unseen: int = 0
    """Frames in a row, up to now, on which it was not seen."""
    missed_detections: int = 0
    """Looks in a row, up to now, in which the finder did not find it."""
    truncated: bool = False
    """It was at the edge of the frame when it was found, and may be larger than what was seen."""
    extensions: int = 0
    """Times that it was then seen to be larger."""

    @property
    def likely_class(self) -> int:
        """The class that the finder gave it most."""
        return max(self.class_scores, key=lambda number: self.class_scores[number], default=self.class_id)

    def to_dict(self) -> TrackRecord:
        """The same in plain numbers and text.

        Example:
            >>> life.record()["reason"]
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
        return f"object {self.id}: {self.name}, frames {self.first_frame} to {self.last_frame}, {self.end_reason or 'still followed'}"  # noqa: E501


class TrackHistory:
    """All objects of a video by id, the dead and the living; it grows while the video is followed. `print` shows it.

    Example:
        >>> following = model.follow("clip.mp4")
        >>> for frame in following:
        ...     following.lives.born, following.lives.died  # ids, on this frame
        >>> print(following.lives)
        object 1: object, frames 0 to 89, end of the video
        object 2: object, frames 20 to 44, out of sight
    """

    def __init__(self) -> None:
        self.active: dict[int, Track] = {}
        self.finished: deque[Track] = deque(maxlen=MAX_ENDED_TRACKS)
        """In the order in which they ended."""
        self.started: tuple[int, ...] = ()
        """Ids that were born on the frame that came last."""
        self.ended: tuple[int, ...] = ()
        """Ids that died on the frame that came last."""
        self.rejected = 0
        """Finds that were not followed, for want of a place; the same thing counts at every look."""
        self.num_started = 0
        """How many were born; ids are 1 to `count`."""

    def __iter__(self) -> Iterator[Track]:
        return iter(sorted([*self.finished, *self.active.values()], key=lambda life: life.id))

    def __len__(self) -> int:
        return len(self.finished) + len(self.active)

    def __getitem__(self, track_id: int) -> Track:
        if track_id in self.active:
            return self.active[track_id]
        for life in self.finished:
            if life.id == track_id:
                return life
        raise KeyError(track_id)

    def __str__(self) -> str:
        waited = [f"turned away for want of a place: {self.rejected}"] if self.rejected else []
        return "\n".join([*map(str, self), *waited]) or "nothing was found"

    def to_dicts(self) -> list[TrackRecord]:
        """Every life in plain numbers and text, by id, ready for JSON.

        Example:
            >>> json.dumps(following.lives.records())
        """
        return [life.to_dict() for life in self]

    # what happens ------------------------------------------------------------------------------------------------

    def begin_frame(self) -> None:
        """A new frame: nobody was born or died on it yet."""
        self.started = self.ended = ()

    def start_track(self, track: Track) -> None:
        """An object is born."""
        self.num_started = max(self.num_started, track.id)
        self.active[track.id] = track
        self.started += (track.id,)

    def end_track(self, track_id: int, reason: str) -> None:
        """An object dies."""
        life = self.active.pop(track_id)
        life.end_reason = reason
        self.finished.append(life)
        self.ended += (track_id,)

    def finish(self) -> None:
        """The video is over, and with it what lives; nobody dies of it on the last frame."""
        died = self.ended
        for id in list(self.active):
            self.end_track(id, END_OF_VIDEO)
        self.ended = died
