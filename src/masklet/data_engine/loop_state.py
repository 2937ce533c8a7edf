"""What the folder of a data engine remembers: its options and its rounds, in DIR/loop.json.

The file is written after every step, completely or not at all, so a loop that was stopped resumes with that step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from masklet.atomic_files import write_text
from masklet.damaged_files import decoder_errors
from masklet.errors import InputError

__all__ = ["STEPS", "LoopOptions", "LoopRound", "LoopState", "QueueEntry", "Step"]

Step: TypeAlias = Literal["label", "review", "train", "finished"]
STEPS: tuple[Step, ...] = ("label", "review", "train", "finished")
"""The steps of a round, in order."""
SELECTIONS = ("doubts", "random")
STATE_FILE, PROJECT_FOLDER = "loop.json", "loop.masklet"
Record = TypeVar("Record")


@dataclass(frozen=True)
class LoopOptions:
    """How the rounds of a data engine run.

    Args:
        model: The first model, as `SAM` takes it.
        everything: How densely objects are detected: "fast", "default" or "fine".
        detect_every: Frames from one detection to the next.
        max_objects: Objects tracked at the same time in a video.
        reviews: Masks that people look at in a round.
        selection: "doubts": the most doubtful masks first. "random": any, to compare with.
        val_fraction: Fraction of the videos that are never trained on; their verified masks measure the models.
        train_steps: Steps of a training run.
        image_size: Side of the input in training; None: the model's own.
        seed: Of the random selection.

    Raises:
        InputError: if a value is out of range.
    """

    model: str | None = None
    everything: str = "fast"
    detect_every: int = 10
    max_objects: int = 16
    reviews: int = 50
    selection: str = "doubts"
    val_fraction: float = 0.25
    train_steps: int = 500
    image_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise InputError(f"selection={self.selection!r} is unknown; choose {' or '.join(map(repr, SELECTIONS))}")
        if not 0 <= self.val_fraction < 1:
            raise InputError(f"val_fraction={self.val_fraction!r} must be from 0 to below 1; 0.25 is usual")
        for name in ("detect_every", "max_objects", "reviews", "train_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)!r} must be 1 or more")


@dataclass(frozen=True)
class QueueEntry:
    """A mask to look at: of an object (its id in the project) on a frame, and why."""

    source: str
    object_id: int
    frame: int
    score: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoopRound:
    """One round: where it is, and what came of it."""

    number: int
    model: str | None
    """The model that labels: None is the one inside the package."""
    step: Step = "label"
    labeled: tuple[str, ...] = ()
    """Names of the videos that are labeled."""
    queue: tuple[QueueEntry, ...] = ()
    trained: str | None = None
    """The file of the model that learned in this round."""
    score_before: float | None = None
    """On verified masks of videos that are not trained on; None: there are none."""
    score_after: float | None = None

    @property
    def next_model(self) -> str | None:
        """The better one of the two models: the one that was trained, unless it is measured to be worse."""
        worse = self.score_before is not None and self.score_after is not None and self.score_after < self.score_before
        return self.model if worse or self.trained is None else self.trained


@dataclass(frozen=True)
class LoopState:
    """The folder of a data engine.

    Example:
        >>> state = LoopState(Path("loop"), LoopOptions())
        >>> state.current.number, state.current.step
        (1, 'label')
    """

    folder: Path
    options: LoopOptions
    rounds: tuple[LoopRound, ...] = field(default=())

    @property
    def project_folder(self) -> Path:
        """The folder of the project with the videos and their masks."""
        return self.folder / PROJECT_FOLDER

    @property
    def current(self) -> LoopRound:
        """The round that is under way, or the next one."""
        if not self.rounds:
            return LoopRound(1, self.options.model)
        last = self.rounds[-1]
        return last if last.step != "finished" else LoopRound(last.number + 1, last.next_model)

    def with_round(self, changed: LoopRound) -> LoopState:
        """Store a round in place of the one of its number, and return the state with it.

        Raises:
            OutputError: if the file cannot be written.
        """
        rounds = (*(one for one in self.rounds if one.number != changed.number), changed)
        state = replace(self, rounds=rounds)
        state.save()
        return state

    def save(self) -> None:
        """Write the file.

        Raises:
            OutputError: if it cannot be written.
        """
        document = {"options": asdict(self.options), "rounds": [asdict(one) for one in self.rounds]}
        write_text(self.folder / STATE_FILE, json.dumps(document, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> LoopState | None:
        """Read the state of a folder; None if it has none.

        Raises:
            InputError: if the file is damaged.
        """
        file = folder / STATE_FILE
        if not file.is_file():
            return None
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            rounds = []
            for row in document["rounds"]:
                queue = tuple(_read(QueueEntry, {**one, "reasons": tuple(one["reasons"])}) for one in row["queue"])
                rounds.append(_read(LoopRound, {**row, "queue": queue, "labeled": tuple(row["labeled"])}))
            return cls(folder, _read(LoopOptions, document["options"]), tuple(rounds))
        except decoder_errors() as error:
            raise InputError(
                f"{file} is no file of a data engine ({error}): restore it, or choose another folder"
            ) from error


def _read(cls: type[Record], row: Mapping[str, Any]) -> Record:
    """Build a record of the values that it has fields for."""
    known = {one.name for one in fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: value for name, value in row.items() if name in known})
