"""What became of the objects of a film that nobody pointed at: who was born when, and who died of what."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypedDict

__all__ = ["END", "NOT_FOUND_AGAIN", "OUT_OF_SIGHT", "Life", "LifeRecord", "Lives"]

OUT_OF_SIGHT = "out of sight"
NOT_FOUND_AGAIN = "not found again"
END = "end of the film"
HELD = 10_000
"""Lives that are over and still reported; a camera that runs for weeks has more, and the oldest are let go of."""


class LifeRecord(TypedDict):
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
class Life:
    """One object from its birth on: `first` the frame where it was found, `last` the last one where it was seen."""

    id: int
    class_id: int
    name: str
    score: float
    """The finder's, when it was born."""
    first: int
    last: int
    visible: int = 1
    """Frames on which it was seen."""
    reason: str | None = None
    """Why it is over; None: it is not."""
    votes: dict[int, float] = field(default_factory=dict)
    """By class, the sum of the finder's scores: a detector may change its mind. The class stays that of the birth."""
    hidden: int = 0
    """Frames in a row, up to now, on which it was not seen."""
    unfound: int = 0
    """Looks in a row, up to now, in which the finder did not find it."""
    cut: bool = False
    """It was at the edge of the frame when it was found, and may be larger than what was seen."""
    grown: int = 0
    """Times that it was then seen to be larger."""

    @property
    def likely_class(self) -> int:
        """The class that the finder gave it most."""
        return max(self.votes, key=lambda number: self.votes[number], default=self.class_id)

    def record(self) -> LifeRecord:
        """The same in plain numbers and text.

        Example:
            >>> life.record()["reason"]
            'out of sight'
        """
        return {
            "id": self.id,
            "name": self.name,
            "first": self.first,
            "last": self.last,
            "visible": self.visible,
            "reason": self.reason,
            "class_id": self.class_id,
            "score": self.score,
        }

    def __str__(self) -> str:
        return f"object {self.id}: {self.name}, frames {self.first} to {self.last}, {self.reason or 'still followed'}"


class Lives:
    """All objects of a film by id, the dead and the living; it grows while the film is followed. `print` shows it.

    Example:
        >>> following = model.follow("clip.mp4")
        >>> for frame in following:
        ...     following.lives.born, following.lives.died  # ids, on this frame
        >>> print(following.lives)
        object 1: object, frames 0 to 89, end of the film
        object 2: object, frames 20 to 44, out of sight
    """

    def __init__(self) -> None:
        self.alive: dict[int, Life] = {}
        self.ended: deque[Life] = deque(maxlen=HELD)
        """In the order in which they ended."""
        self.born: tuple[int, ...] = ()
        """Ids that were born on the frame that came last."""
        self.died: tuple[int, ...] = ()
        """Ids that died on the frame that came last."""
        self.turned_away = 0
        """Finds that were not followed, for want of a place; the same thing counts at every look."""
        self.count = 0
        """How many were born; ids are 1 to `count`."""

    def __iter__(self) -> Iterator[Life]:
        return iter(sorted([*self.ended, *self.alive.values()], key=lambda life: life.id))

    def __len__(self) -> int:
        return len(self.ended) + len(self.alive)

    def __getitem__(self, id: int) -> Life:
        if id in self.alive:
            return self.alive[id]
        for life in self.ended:
            if life.id == id:
                return life
        raise KeyError(id)

    def __str__(self) -> str:
        waited = [f"turned away for want of a place: {self.turned_away}"] if self.turned_away else []
        return "\n".join([*map(str, self), *waited]) or "nothing was found"

    def records(self) -> list[LifeRecord]:
        """Every life in plain numbers and text, by id, ready for JSON.

        Example:
            >>> json.dumps(following.lives.records())
        """
        return [life.record() for life in self]

    # what happens ------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """A new frame: nobody was born or died on it yet."""
        self.born = self.died = ()

    def bear(self, life: Life) -> None:
        """An object is born."""
        self.count = max(self.count, life.id)
        self.alive[life.id] = life
        self.born += (life.id,)

    def end(self, id: int, reason: str) -> None:
        """An object dies."""
        life = self.alive.pop(id)
        life.reason = reason
        self.ended.append(life)
        self.died += (id,)

    def finish(self) -> None:
        """The film is over, and with it what lives; nobody dies of it on the last frame."""
        died = self.died
        for id in list(self.alive):
            self.end(id, END)
        self.died = died
