"""The benchmark of made clips: what a tracker does with each difficulty, without any download.

The suite is fixed: two clips a difficulty of `masklet.synthetic`, drawn from `SEED`, and what they show is known by a
fingerprint in the tests. A change of the suite is another `VERSION`, and figures of two versions are not compared.
Clips are followed as `masklet.evaluate.semi_supervised_vos` follows videos of DAVIS. A difficulty's figures are means
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
    PresenceAccuracy,
    SequenceResult,
    VideoModel,
    VOSMetrics,
    evaluate_sequence,
    validate_prompt_type,
    vos_report,
)
from masklet.synthetic import SCENARIOS, Clip, ProceduralSource
from masklet.synthetic.export import save_clip

__all__ = [
    "BENCHMARK_CLIPS",
    "VERSION",
    "SyntheticClip",
    "SyntheticReport",
    "benchmark_clips",
    "evaluate_clip",
    "evaluate_synthetic",
    "synthetic_report",
]

VERSION = 1
SEED = 2026
FRAME_SIZE = (270, 480)
CLIPS_PER_SCENARIO = 2
NUM_FRAMES = 30
LONG_NUM_FRAMES = 120


@dataclass(frozen=True)
class SyntheticClip:
    """One clip of the suite."""

    scenario: str
    number: int

    @property
    def name(self) -> str:
        """As its row is called."""
        return f"{self.scenario}-{self.number}"

    @property
    def num_frames(self) -> int:
        """How long it is."""
        return LONG_NUM_FRAMES if self.scenario == "long" else NUM_FRAMES

    def render(self) -> Clip:
        """Its frames and masks, the same on every machine."""
        return SCENARIOS[self.scenario](SEED, self.number, FRAME_SIZE, self.num_frames, ProceduralSource())


BENCHMARK_CLIPS = tuple(SyntheticClip(name, number) for name in SCENARIOS for number in range(CLIPS_PER_SCENARIO))
"""Every clip of this version."""


@dataclass(frozen=True)
class SyntheticReport:
    """Figures of the suite, or of some difficulties of it."""

    version: int
    mean_metrics: VOSMetrics
    """J, F and J&F are means over difficulties; objects and frames are sums."""
    per_scenario: dict[str, VOSMetrics]
    presence: PresenceAccuracy
    """How often it was said right whether an object is in sight, over all of them."""
    results: tuple[SequenceResult, ...]


def benchmark_clips(scenarios: Sequence[str] = ()) -> tuple[SyntheticClip, ...]:
    """The clips of some difficulties; of none: all.

    Raises:
        InputError: an unknown difficulty.
    """
    for name in scenarios:
        if name not in SCENARIOS:
            raise InputError(f"no difficulty {name!r}; the suite has {', '.join(SCENARIOS)}: choose among them")
    return tuple(scene for scene in BENCHMARK_CLIPS if not scenarios or scene.scenario in scenarios)


def evaluate_synthetic(
    model: VideoModel,
    prompt: str = "mask",
    scenarios: Sequence[str] = (),
    on_progress: Callable[[], None] | None = None,
) -> Iterator[SequenceResult]:
    """Follow the objects of each clip from what is said of them in its first frame, and yield what it gave.

    `prompt` is "mask", "box" or "click". `step` is called after every frame.

    Example:
        >>> synthetic_report(list(evaluate_synthetic(SAM(), difficulties=["twins"]))).mean.jf

    Raises:
        InputError: an unknown prompt or difficulty.
        ModelError: a model for images only.
    """
    validate_prompt_type(prompt)
    for scene in benchmark_clips(scenarios):
        yield evaluate_clip(model, scene, prompt, on_progress)


def evaluate_clip(
    model: VideoModel, clip: SyntheticClip, prompt: str = "mask", on_progress: Callable[[], None] | None = None
) -> SequenceResult:
    """As `evaluate_synthetic`, of one clip.

    Example:
        >>> evaluate_scene(SAM(), SUITE[0]).figures.jf
    """
    with tempfile.TemporaryDirectory(prefix="masklet-synthetic-") as folder:
        stored = save_clip(Path(folder), clip.name, clip.render(), lossless=True)
        return evaluate_sequence(model, DavisSequence(stored.name, stored.frames, stored.masks), prompt, on_progress)


def synthetic_report(results: Sequence[SequenceResult]) -> SyntheticReport:
    """Means of what `evaluate_synthetic` yielded, at least one row."""
    by_difficulty: dict[str, list[SequenceResult]] = {}
    for row in results:
        by_difficulty.setdefault(row.name.rsplit("-", 1)[0], []).append(row)
    figures = {name: vos_report(own).total for name, own in by_difficulty.items()}
    total = vos_report(results).total
    j, f, jf = (float(np.mean([getattr(own, name) for own in figures.values()])) for name in ("j", "f", "jf"))
    mean = VOSMetrics(total.objects, total.frames, j, f, jf, total.fps)
    presence = sum((row.presence for row in results), PresenceAccuracy())
    return SyntheticReport(VERSION, mean, figures, presence, tuple(results))
