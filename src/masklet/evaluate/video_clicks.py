"""Evaluate interactive video segmentation: how well a video is segmented when a person corrects it, offline and online.

Both protocols are those of SAM 2 (Ravi et al., 2024): clicks only, at most 8 interacted frames in a video, 3 clicks on
each. Every object has its own session, forward from the first annotated frame that shows it (its first frame).

**The clicks of a frame** are given one after the other, each on the pixel deepest inside the error of the current
prediction on that frame (`masklet.evaluate.prompts_from_masks.next_correction_click`): on the first frame that is the
middle of the object, since the prediction is empty. The model answers each click before the next one is chosen, with
all clicks of that frame so far. No pixel is clicked twice, and a frame without an error gets fewer clicks.

**offline**: several passes over the video. The first interacts with the first frame; each further one with the frame
whose J is lowest in the current prediction, the earliest of several. A frame is interacted with again only if it has an
error and no other frame has. Then the video is tracked again from all clicks so far, from the first frame to the last
annotated one. After k passes there are k interacted frames; J&F after 1, 2, ... 8 are the curve, and the figure is its
mean. When no error is left, the rest of the curve stays as it is.

**online**: one pass forward. It interacts with the first frame; wherever J of an annotated frame falls below 0.75, the
pass pauses, the frame is corrected, and the pass continues from the corrected frame, until there are 8 interacted
frames; from there on nothing is corrected. Earlier frames are not tracked again. The curve is J&F of runs with at most
1, 2, ... 8 frames, and the figure is its mean, as in the paper. A run with at most k frames equals the run with 8 up to
where the latter interacts with frame k + 1; so it continues from there and does not start over.

**Measured** are J and F (`masklet.evaluate.metrics`) on every annotated frame from the first frame on, interacted ones
included, as they are after the clicks. Where the truth does not show the object, both are 1 if the prediction is empty,
else 0; so such a frame may be corrected, too. An object has the mean over its frames, J&F is the mean of J and F, and a
data set has the mean over the objects of all its videos.

What the paper (appendix on interactive evaluation) leaves open, and the choice here: whether an interacted frame counts
(yes); the first frame of an object that appears late (its first annotated one); frames without the object (above); ties
(the earliest); a frame that is the worst again (above); whether the logits of the last pass are used for a click on a
frame that was tracked before (yes, with the memory of the frames before it, as `Session.correct` does); and whether the
mean of a data set is over objects or videos (objects). Figures compare models measured here; compared with those of the
paper they are an indication.

Shapes: H height, W width.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from masklet.datasets import Sample
from masklet.errors import InputError, SourceError
from masklet.evaluate.argument_checks import validate_positive_int
from masklet.evaluate.metrics import boundary_f_score, region_similarity
from masklet.evaluate.prompts_from_masks import Click, clicks_prompt, next_correction_click
from masklet.evaluate.semi_supervised_vos import GroundTruth, first_visible, load_masks
from masklet.evaluate.tracking import VideoModel, masks_by_id, require_frames, validate_mask_size
from masklet.results import Results
from masklet.video import Session, TrackOptions
from masklet.video.session_save import SessionState

__all__ = [
    "MODES",
    "InteractiveOptions",
    "InteractiveReport",
    "InteractiveResult",
    "VideoModel",
    "evaluate_interactive",
    "interactive_report",
]

Mask = npt.NDArray[np.bool_]
MODES = ("offline", "online")
OBJECT_ID = 1
"""The id of the object in its session."""


@dataclass(frozen=True)
class InteractiveOptions:
    """How a video is interacted with; the defaults are those of the paper.

    Example:
        >>> InteractiveOptions("online", frames=4)

    Raises:
        InputError: if a value is out of its range.
    """

    mode: str = "offline"
    frames: int = 8
    """Interacted frames, at most."""
    clicks: int = 3
    """Clicks on each of them, at most."""
    iou_threshold: float = 0.75
    """online: the J below which a frame is corrected."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode={self.mode!r} is unknown; choose {' or '.join(map(repr, MODES))}")
        validate_positive_int("frames", self.frames)
        validate_positive_int("clicks", self.clicks)
        if not 0 <= self.iou_threshold <= 1:
            raise InputError(f"iou_threshold={self.iou_threshold!r} must be an IoU, from 0 to 1")


@dataclass(frozen=True)
class InteractiveResult:
    """The result of one object: means over its `frames` annotated frames, 0 to 1.

    `j` and `f` have a value for each number of interacted frames, from 1 to the maximum.
    """

    video: str
    id: int
    frames: int
    j: tuple[float, ...]
    f: tuple[float, ...]
    interacted_frames: tuple[int, ...]
    """Interacted frames of the longest run, in that order, counted in the video from 0."""
    clicks: int
    """Clicks of the longest run."""
    seconds: float = 0.0

    @property
    def curve(self) -> tuple[float, ...]:
        """J&F by the number of interacted frames."""
        return tuple((j + f) / 2 for j, f in zip(self.j, self.f, strict=True))


@dataclass(frozen=True)
class InteractiveReport:
    """Figures over all objects; curves have a value for each number of interacted frames.

    Example:
        >>> report = interactive_report(results, InteractiveOptions())
        >>> report.curve[0], report.mean_jf  # J&F after one frame, and the mean over 1 to 8
    """

    options: InteractiveOptions
    videos: int
    objects: int
    frames: int
    mean_jf: float
    """The mean of `curve`."""
    curve: tuple[float, ...]
    """J&F."""
    j: tuple[float, ...]
    f: tuple[float, ...]
    mean_interacted_frames: float
    mean_clicks: float
    """Clicks on an object, all frames together."""
    seconds: float
    results: tuple[InteractiveResult, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return options, all figures, and those of every object under "rows", as `json` can write them."""
        figures = asdict(self)
        options, rows = figures.pop("options"), figures.pop("results")
        curves = [{**row, "curve": one.curve} for row, one in zip(rows, self.results, strict=True)]
        return {"options": options, "figures": figures, "rows": curves}

    def to_json(self, model: str = "", **extra_options: str | int | None) -> str:
        """Return protocol, model and options, all figures, and those of every object as JSON."""
        document = self.to_dict()
        options = {**document["options"], **extra_options}
        document = {"protocol": "interactive", "model": model, **document, "options": options}
        return json.dumps(document, indent=2, allow_nan=False)


def evaluate_interactive(
    model: VideoModel,
    sample: Sample,
    options: InteractiveOptions | None = None,
    on_progress: Callable[[], None] | None = None,
    previous_results: Sequence[InteractiveResult] = (),
) -> Iterator[InteractiveResult]:
    """Interact with every object of a video, in the order of their ids, and yield the result of each.

    `on_progress` is called after every frame of every pass. Objects in `previous_results`, of an earlier run, are not
    evaluated again: their results are yielded.

    Example:
        >>> [video] = open_dataset("videos").samples
        >>> results = list(evaluate_interactive(SAM(), video, InteractiveOptions("online")))

    Raises:
        SourceError: if an image or an annotation is unreadable or has another size.
        ModelError: if the model does not track.
    """
    options, truth = options or InteractiveOptions(), load_masks(sample)
    by_id, first = {one.id: one for one in previous_results}, first_visible(truth)
    if not set(first) - set(by_id):
        yield from (by_id[number] for number in sorted(first))
        return
    retain = TrackOptions(retain="all" if options.mode == "offline" else "recent")  # a frame far back may be corrected
    with model.session(sample.source, options=retain) as session:
        session.cache_features(sample.frame_indices[min(first.values())], sample.frame_indices[-1] + 1)
        for number, at in sorted(first.items()):
            if number in by_id:
                yield by_id[number]
                continue
            started = time.perf_counter()
            target = _VideoObject(sample, truth, number, at)
            run = _InteractiveRun(session, target, options, on_progress or (lambda: None))
            j, f = zip(*(run.run_offline() if options.mode == "offline" else run.run_online()), strict=True)
            session.remove_object(OBJECT_ID)
            clicks, seconds = sum(map(len, run.clicks.values())), time.perf_counter() - started
            frames = tuple(run.interacted_frames)
            yield InteractiveResult(sample.name, number, len(target.frames), j, f, frames, clicks, seconds)


def interactive_report(results: Sequence[InteractiveResult], options: InteractiveOptions) -> InteractiveReport:
    """Average the results of `evaluate_interactive` over objects.

    Raises:
        SourceError: if there is no object.
    """
    if not results:
        raise SourceError("no video has an object, so there is nothing to interact with; name videos with masks")
    j, f = np.mean([one.j for one in results], axis=0), np.mean([one.f for one in results], axis=0)
    return InteractiveReport(
        options=options,
        videos=len({one.video for one in results}),
        objects=len(results),
        frames=sum(one.frames for one in results),
        mean_jf=float(np.mean((j + f) / 2)),
        curve=tuple(map(float, (j + f) / 2)),
        j=tuple(map(float, j)),
        f=tuple(map(float, f)),
        mean_interacted_frames=float(np.mean([len(one.interacted_frames) for one in results])),
        mean_clicks=float(np.mean([one.clicks for one in results])),
        seconds=sum(one.seconds for one in results),
        results=tuple(results),
    )


class _VideoObject:
    """The masks of one object by frame, on the annotated frames from its first on."""

    def __init__(self, sample: Sample, truth: GroundTruth, id: int, first: int) -> None:
        self.name, self.id = sample.name, id
        self.frames = sample.frame_indices[first:]
        self._masks = dict(zip(self.frames, truth[first:], strict=True))
        self._empty_mask = np.zeros_like(truth[first][id])

    def __getitem__(self, frame: int) -> Mask:
        mask = self._masks[frame].get(self.id, self._empty_mask)
        validate_mask_size(mask, self._empty_mask.shape, f"{self.name}, frame {frame}")
        return mask


class _MeanScores(NamedTuple):
    """J and F, means over frames."""

    j: float
    f: float


class _PausedPass(NamedTuple):
    """A pass before a frame is corrected: the state of the session, and the predictions so far."""

    frame: int
    session_state: SessionState
    predicted: dict[int, Mask]


class _InteractiveRun:
    """One object in its session: the predictions on the annotated frames, and the clicks so far."""

    def __init__(
        self, session: Session, target: _VideoObject, options: InteractiveOptions, on_progress: Callable[[], None]
    ) -> None:
        self.session, self.target, self.options, self.on_progress = session, target, options, on_progress
        self.first_frame = target.frames[0]
        validate_mask_size(target[self.first_frame], session.video.size, f"{target.name}, frame {self.first_frame}")
        self._empty_mask = np.zeros(session.video.size, bool)
        self.predicted = dict.fromkeys(target.frames, self._empty_mask)
        self.clicks: dict[int, list[Click]] = {}
        self.interacted_frames: list[int] = []

    def run_offline(self) -> list[_MeanScores]:
        """Return the scores for each number of interacted frames."""
        scores: list[_MeanScores] = []
        while len(scores) < self.options.frames:
            j = {frame: region_similarity(self.predicted[frame], self.target[frame]) for frame in self.target.frames}
            wrong = [frame for frame in self.target.frames if j[frame] < 1]
            worst_first = sorted(wrong, key=lambda frame: (frame in self.clicks, j[frame]))
            if not any(map(self._correct_frame, worst_first if self.clicks else [self.first_frame])):
                break
            passing = self.session.propagate(stop=self.target.frames[-1] + 1)
            for _ in self._pass_over(passing, self.target.frames):
                pass
            scores.append(self._mean_scores())
        return scores + scores[-1:] * (self.options.frames - len(scores))

    def run_online(self) -> list[_MeanScores]:
        """Return the scores for each maximum number of interacted frames."""
        paused: dict[int, _PausedPass] = {}
        self._correct_frame(self.first_frame)
        passing = self.session.propagate(stop=self.target.frames[-1] + 1)
        for frame in self._pass_over(passing, self.target.frames):
            fails = region_similarity(self.predicted[frame], self.target[frame]) < self.options.iou_threshold
            if fails and frame not in self.clicks and len(self.interacted_frames) < self.options.frames:
                paused[len(self.interacted_frames)] = _PausedPass(frame, self.session.snapshot(), dict(self.predicted))
                self._correct_frame(frame)
        scores, longest = [], self._mean_scores()
        for count in range(1, self.options.frames + 1):
            if count >= len(self.interacted_frames):
                scores.append(longest)
                continue
            self.session.restore_snapshot(paused[count].session_state)  # and continue without the correction
            self.predicted = paused[count].predicted
            remaining = [frame for frame in self.target.frames if frame > paused[count].frame]
            for _ in self._pass_over(self.session.resume(), remaining):
                pass
            scores.append(self._mean_scores())
        return scores

    def _pass_over(self, frame_results: Iterable[Results], frames: Sequence[int]) -> Iterator[int]:
        """Store the predictions of a pass and yield the annotated `frames`; a yielded frame may be corrected."""
        annotated = set(frames)
        for results in require_frames(frame_results, frames, lambda frame: f"frame {frame} of {self.target.name}"):
            assert results.frame_idx is not None
            if results.frame_idx in annotated:
                self.predicted[results.frame_idx] = masks_by_id(results).get(OBJECT_ID, self._empty_mask)
                yield results.frame_idx
            self.on_progress()

    def _correct_frame(self, frame: int) -> bool:
        """Click on a frame, up to the maximum; False if it has no error."""
        for count in range(self.options.clicks):
            clicks = self.clicks.get(frame, [])
            click = next_correction_click(self.predicted[frame], self.target[frame], clicks)
            if click is None:
                return count > 0
            if not count:
                self.interacted_frames.append(frame)
            refine = bool(self.clicks)  # only the very first click must be on the object
            self.clicks[frame] = [*clicks, click]
            results = self.session.add_object_prompt(OBJECT_ID, frame, clicks_prompt([click], refine=refine))
            self.predicted[frame] = masks_by_id(results).get(OBJECT_ID, self._empty_mask)
        return True

    def _mean_scores(self) -> _MeanScores:
        pairs = [(self.predicted[frame], self.target[frame]) for frame in self.target.frames]
        j, f = ([measure(*pair) for pair in pairs] for measure in (region_similarity, boundary_f_score))
        return _MeanScores(float(np.mean(j)), float(np.mean(f)))
