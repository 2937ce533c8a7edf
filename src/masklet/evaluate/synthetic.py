"""The synthetic benchmark: how a tracker handles each scenario, without any download.

The benchmark is fixed: two clips of each scenario of `masklet.synthetic`, drawn from `SEED`; a fingerprint in the tests
identifies their content. A changed benchmark is another `VERSION`, and figures of two versions are not comparable.
Clips are tracked as `masklet.evaluate.semi_supervised_vos` tracks sequences of DAVIS. The figures of a scenario are
means over its objects; the total is the mean over scenarios, so that each has the same weight.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from masklet.errors import InputError
from masklet.evaluate.davis_sequences import DavisSequence
from masklet.evaluate.motion_speed import SpeedMetrics, mean_by_speed
from masklet.evaluate.prompts_from_masks import validate_prompt_type
from masklet.evaluate.semi_supervised_vos import (
    PresenceAccuracy,
    SequenceResult,
    VOSMetrics,
    evaluate_sequence,
    vos_report,
)
from masklet.evaluate.tracking import VideoModel
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
    """One clip of the benchmark."""

    scenario: str
    number: int

    @property
    def name(self) -> str:
        """The name of its result."""
        return f"{self.scenario}-{self.number}"

    @property
    def num_frames(self) -> int:
        """Its length."""
        return LONG_NUM_FRAMES if self.scenario == "long" else NUM_FRAMES

    def render(self) -> Clip:
        """Render its frames and masks, the same on every machine."""
        return SCENARIOS[self.scenario](SEED, self.number, FRAME_SIZE, self.num_frames, ProceduralSource())


BENCHMARK_CLIPS = tuple(SyntheticClip(name, number) for name in SCENARIOS for number in range(CLIPS_PER_SCENARIO))
"""Every clip of this version."""


@dataclass(frozen=True)
class SyntheticReport:
    """Figures of the benchmark, or of some of its scenarios."""

    version: int
    mean_metrics: VOSMetrics
    """J, F and J&F are means over scenarios; objects and frames are sums."""
    per_scenario: dict[str, VOSMetrics]
    presence: PresenceAccuracy
    """Over all scenarios."""
    by_speed: dict[str, SpeedMetrics]
    """Means over the frames of all objects, by class of speed."""
    results: tuple[SequenceResult, ...]


def benchmark_clips(scenarios: Sequence[str] = ()) -> tuple[SyntheticClip, ...]:
    """Return the clips of some scenarios; of all without any.

    Raises:
        InputError: if a scenario is unknown.
    """
    for name in scenarios:
        if name not in SCENARIOS:
            raise InputError(f"scenario {name!r} is unknown; choose among {', '.join(SCENARIOS)}")
    return tuple(clip for clip in BENCHMARK_CLIPS if not scenarios or clip.scenario in scenarios)


def evaluate_synthetic(
    model: VideoModel,
    prompt: str = "mask",
    scenarios: Sequence[str] = (),
    on_progress: Callable[[], None] | None = None,
) -> Iterator[SequenceResult]:
    """Track the objects of each clip from the prompts on its first frame, and yield the results.

    `prompt` is "mask", "box" or "click". `on_progress` is called after every frame.

    Example:
        >>> synthetic_report(list(evaluate_synthetic(SAM(), scenarios=["twins"]))).mean_metrics.jf

    Raises:
        InputError: if the prompt or a scenario is unknown.
        ModelError: if the model does not track.
    """
    validate_prompt_type(prompt)
    for clip in benchmark_clips(scenarios):
        yield evaluate_clip(model, clip, prompt, on_progress)


def evaluate_clip(
    model: VideoModel, clip: SyntheticClip, prompt: str = "mask", on_progress: Callable[[], None] | None = None
) -> SequenceResult:
    """Track the objects of one clip; see `evaluate_synthetic`.

    Example:
        >>> evaluate_clip(SAM(), BENCHMARK_CLIPS[0]).metrics.jf
    """
    with tempfile.TemporaryDirectory(prefix="masklet-synthetic-") as folder:
        stored = save_clip(Path(folder), clip.name, clip.render(), lossless=True)
        return evaluate_sequence(model, DavisSequence(stored.name, stored.frames, stored.masks), prompt, on_progress)


def synthetic_report(results: Sequence[SequenceResult]) -> SyntheticReport:
    """Average the results of `evaluate_synthetic`, at least one."""
    by_scenario: dict[str, list[SequenceResult]] = {}
    for one in results:
        by_scenario.setdefault(one.name.rsplit("-", 1)[0], []).append(one)
    per_scenario = {name: vos_report(own).total for name, own in by_scenario.items()}
    total = vos_report(results).total
    j, f, jf = (float(np.mean([getattr(own, name) for own in per_scenario.values()])) for name in ("j", "f", "jf"))
    mean_metrics = VOSMetrics(total.objects, total.frames, j, f, jf, total.fps)
    parts = [one.presence for one in results]
    frames, visible = sum(part.frames for part in parts), sum(part.visible for part in parts)
    presence = PresenceAccuracy(frames, visible, sum(part.correct for part in parts))
    by_speed = mean_by_speed(one.by_speed for one in results)
    return SyntheticReport(VERSION, mean_metrics, per_scenario, presence, by_speed, tuple(results))
