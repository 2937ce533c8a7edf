"""The benchmark of made clips: what a tracker does with each difficulty, without any download.

The suite is fixed: two clips a difficulty of `masklet.synthetic`, drawn from `SEED`, and what they show is known by a
fingerprint in the tests. A change of the suite is another `VERSION`, and figures of two versions are not compared.
Clips are followed as `masklet.evaluate.semi_supervised_vos` follows films of DAVIS. A difficulty's figures are means
over its
objects; the figure of the suite is the mean over difficulties, so that each counts the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from masklet.errors import InputError
from masklet.evaluate.davis_sequences import DavisSequence
from masklet.evaluate.semi_supervised_vos import (
    FilmFigures,
    FilmRow,
    Follows,
    Presence,
    check_prompt,
    evaluate_film,
    films_report,
)
from masklet.synthetic import DIFFICULTIES, Clip, Drawn
from masklet.synthetic.export import store

__all__ = [
    "SUITE",
    "VERSION",
    "Scene",
    "SyntheticReport",
    "evaluate_scene",
    "evaluate_synthetic",
    "scenes",
    "synthetic_report",
]

VERSION = 1
SEED = 2026
SIZE = (270, 480)
CLIPS = 2
FRAMES = 30
LONG = 120


@dataclass(frozen=True)
class Scene:
    """One clip of the suite."""

    difficulty: str
    number: int

    @property
    def name(self) -> str:
        """As its row is called."""
        return f"{self.difficulty}-{self.number}"

    @property
    def frames(self) -> int:
        """How long it is."""
        return LONG if self.difficulty == "long" else FRAMES

    def clip(self) -> Clip:
        """Its frames and masks, the same on every machine."""
        return DIFFICULTIES[self.difficulty](SEED, self.number, SIZE, self.frames, Drawn())


SUITE = tuple(Scene(name, number) for name in DIFFICULTIES for number in range(CLIPS))
"""Every clip of this version."""


@dataclass(frozen=True)
class SyntheticReport:
    """Figures of the suite, or of some difficulties of it."""

    version: int
    mean: FilmFigures
    """J, F and J&F are means over difficulties; objects and frames are sums."""
    by_difficulty: dict[str, FilmFigures]
    presence: Presence
    """How often it was said right whether an object is in sight, over all of them."""
    rows: tuple[FilmRow, ...]


def scenes(difficulties: Sequence[str] = ()) -> tuple[Scene, ...]:
    """The clips of some difficulties; of none: all.

    Raises:
        InputError: an unknown difficulty.
    """
    for name in difficulties:
        if name not in DIFFICULTIES:
            raise InputError(f"no difficulty {name!r}; the suite has {', '.join(DIFFICULTIES)}: choose among them")
    return tuple(scene for scene in SUITE if not difficulties or scene.difficulty in difficulties)


def evaluate_synthetic(
    model: Follows,
    prompt: str = "mask",
    difficulties: Sequence[str] = (),
    step: Callable[[], None] | None = None,
) -> Iterator[FilmRow]:
    """Follow the objects of each clip from what is said of them in its first frame, and yield what it gave.

    `prompt` is "mask", "box" or "click". `step` is called after every frame.

    Example:
        >>> synthetic_report(list(evaluate_synthetic(SAM(), difficulties=["twins"]))).mean.jf

    Raises:
        InputError: an unknown prompt or difficulty.
        ModelError: a model for pictures only.
    """
    check_prompt(prompt)
    for scene in scenes(difficulties):
        yield evaluate_scene(model, scene, prompt, step)


def evaluate_scene(
    model: Follows, scene: Scene, prompt: str = "mask", step: Callable[[], None] | None = None
) -> FilmRow:
    """As `evaluate_synthetic`, of one clip.

    Example:
        >>> evaluate_scene(SAM(), SUITE[0]).figures.jf
    """
    with tempfile.TemporaryDirectory(prefix="masklet-synthetic-") as folder:
        stored = store(Path(folder), scene.name, scene.clip(), lossless=True)
        return evaluate_film(model, DavisSequence(stored.name, stored.frames, stored.masks), prompt, step)


def synthetic_report(rows: Sequence[FilmRow]) -> SyntheticReport:
    """Means of what `evaluate_synthetic` yielded, at least one row."""
    by_difficulty: dict[str, list[FilmRow]] = {}
    for row in rows:
        by_difficulty.setdefault(row.name.rsplit("-", 1)[0], []).append(row)
    figures = {name: films_report(own).total for name, own in by_difficulty.items()}
    total = films_report(rows).total
    j, f, jf = (float(np.mean([getattr(own, name) for own in figures.values()])) for name in ("j", "f", "jf"))
    mean = FilmFigures(total.objects, total.frames, j, f, jf, total.fps)
    presence = sum((row.presence for row in rows), Presence())
    return SyntheticReport(VERSION, mean, figures, presence, tuple(rows))
