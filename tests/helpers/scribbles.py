"""A model that answers scribbles with given label maps, a fake clock, and files of first scribbles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from helpers.dataset_files import text
from masklet.evaluate.scribble_robot import Scribble, scribbles_to_json
from masklet.prompts import ObjectPrompt
from masklet.results import Masks, Results


class Recorded:
    """Predicts in its n-th pass the n-th of `answers` (T, H, W), for the prompted objects; it is its own session."""

    def __init__(self, answers: Sequence[np.ndarray]) -> None:
        self.answers = answers
        self.video = SimpleNamespace(size=answers[0].shape[1:])
        self.prompts: list[tuple[int, int, list[tuple[int, int, int]], bool]] = []
        """Object, frame, points with their labels, whether it is refined."""
        self.passes = 0
        self.open = 0

    def session(self, source: Any, *, options: Any = None) -> Recorded:
        assert len(source) == len(self.answers[0])
        assert options.retain == "all"
        self.open += 1
        return self

    def close(self) -> None:
        self.open -= 1

    def cache_features(self, start: int, stop: int) -> bool:
        assert (start, stop) == (0, len(self.answers[0]))
        return True

    def add_object_prompt(self, object_id: int, frame_idx: int, prompt: ObjectPrompt) -> None:
        assert prompt.points is not None
        points = np.column_stack([prompt.points.xy, prompt.points.labels]).astype(int).tolist()
        self.prompts.append((object_id, frame_idx, [tuple(point) for point in points], prompt.refine))

    def propagate(self, *, bidirectional: bool, progress: Callable[[int], None]) -> Iterator[Results]:
        assert bidirectional
        shown = self.answers[min(self.passes, len(self.answers) - 1)]
        self.passes += 1
        for t, labels in enumerate(shown):
            progress(t)
            yield self.results(t, labels)

    def results(self, t: int, labels: np.ndarray) -> Results:
        ids = np.array(sorted({id for id, *_ in self.prompts}), np.int32)
        scores = np.ones(len(ids), np.float32)
        return Results(
            np.zeros((*labels.shape, 3), np.uint8),
            f"{t:05d}.jpg",
            Masks(labels[None] == ids[:, None, None]),
            scores,
            ids=ids,
            classes=np.zeros(len(ids), np.int32),
            names={0: "object"},
            speed={},
            frame_idx=t,
            object_scores=scores,
            states=("visible",) * len(ids),
        )


def ticking(*seconds: float) -> Callable[[], float]:
    """A clock by which the interactions take the given seconds, further ones as long as the last."""

    def times() -> Iterator[float]:
        now = 0.0
        for n in range(1000):
            yield now
            now += seconds[min(n, len(seconds) - 1)]
            yield now
            now += 1000.0  # the time between two interactions does not count

    return times().__next__


def store_scribbles(
    root: Path, sequence: str, frames: int, drawn: dict[int, Sequence[Scribble]], number: int = 1
) -> Path:
    """Write the file of a person."""
    whole = scribbles_to_json({frame: tuple(strokes) for frame, strokes in drawn.items()}, sequence, frames)
    return text(root / "Scribbles" / sequence / f"{number:03d}.json", whole)


def line(id: int, x1: float, y1: float, x2: float, y2: float) -> Scribble:
    """A straight stroke."""
    return Scribble(id, np.linspace((x1, y1), (x2, y2), 50))
