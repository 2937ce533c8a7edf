"""Interactive video segmentation: what a video needs of a person who corrects it, offline and online.

The two protocols of promptable video segmentation are those of SAM 2 (Ravi et al., 2024): clicks only, at most 8
frames of a video are interacted with, 3 clicks on each. Every object is asked about by itself, in a session of its own,
from the first annotated frame that shows it on (its first frame), forwards.

**The clicks of a frame** are given one after the other, each on the pixel that lies deepest inside what is wrong with
the present answer on that frame (`masklet.evaluate.prompts_from_masks.next_click`): on the first frame that is the
middle of
the object, since nothing is shown yet. Each click is answered before the next one is chosen, and every answer has all
clicks of that frame so far. No pixel is clicked twice, and a frame on which nothing is wrong any more gets fewer.

**offline**: several passes over the video. In the first the first frame is interacted with; in each further one the
frame whose J is lowest in the present prediction, the earliest of several. A frame that was interacted with is taken
again only when something is wrong with it and with no other one. Then the video is followed anew from all clicks given
so far, from the first frame to the last annotated one. After k passes k frames were interacted with; J&F after 1, 2,
... 8 are the curve, and the figure is its mean. When nothing is wrong anywhere the rest of the curve stays as it is.

**online**: one pass forwards. The first frame is interacted with; wherever J of an annotated frame falls below 0.75,
the pass halts, the frame is interacted with, and the pass goes on from the corrected frame, until 8 frames were
interacted with; from there on nothing is corrected. Frames that lie behind are not followed again. The curve is J&F of
runs with at most 1, 2, ... 8 frames, and the figure is its mean, as in the paper. A run with at most k frames is that
with 8 up to where the latter interacts with frame k + 1; so it is followed on from there, and is not begun anew.

**Measured** are J and F (`masklet.evaluate.metrics`) on every annotated frame from the first frame on, those that were
interacted with included, as they are after the clicks. Where the truth does not show the object, both are 1 if nothing
is shown, else 0; so such a frame may be corrected too. An object has the mean over its frames, J&F is the mean of J
and F, and a data set has the mean over the objects of all its videos.

What the paper (appendix on interactive evaluation) leaves open, and what is done here: whether an interacted frame
counts (yes); the first frame of an object that comes late (its first annotated one); frames without the object
(above); ties (the earliest); a frame that is the worst again (above); whether the logits of the last pass go with a
click on a frame that was followed before (yes, with the memory of the frames before it, as `Session.correct` does);
and whether the mean of a data set is over objects or videos (objects). Figures are for comparison among models measured
here; beside the paper's they are a guide.

Shapes: H height, W width.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from masklet.datasets import Sample
from masklet.errors import InputError, SourceError
from masklet.evaluate.metrics import boundary_f_score, region_similarity
from masklet.evaluate.prompts_from_masks import Click, next_correction_click
from masklet.evaluate.semi_supervised_vos import GroundTruth, first_visible, load_masks, validate_mask_size
from masklet.prompts import ObjectPrompt, Points
from masklet.results import Results
from masklet.video import Session, TrackOptions
from masklet.video.session_save import SessionState

__all__ = [
    "MODES",
    "InteractiveOptions",
    "InteractiveReport",
    "InteractiveResult",
    "evaluate_interactive",
    "interactive_report",
]

Mask = npt.NDArray[np.bool_]
MODES = ("offline", "online")
OBJECT_ID = 1
"""Of the object in its session."""


class InteractiveVideoModel(Protocol):
    """What is evaluated: `SAM`, or anything that opens a session in which frames can be corrected."""

    def session(self, source: Any, *, options: TrackOptions | None = None) -> Session:
        """A video to work on."""


@dataclass(frozen=True)
class InteractiveOptions:
    """How a video is interacted with; the defaults are those of the paper.

    Example:
        >>> InteractiveOptions("online", frames=4)

    Raises:
        InputError: a value outside its range.
    """

    mode: str = "offline"
    frames: int = 8
    """Frames interacted with, at most."""
    clicks: int = 3
    """Clicks on each of them, at most."""
    iou_threshold: float = 0.75
    """online: the J under which a frame is corrected."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode={self.mode!r} is unknown; choose {' or '.join(map(repr, MODES))}")
        for name in ("frames", "clicks"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r} must be a whole number, 1 or more")
        if not 0 <= self.iou_threshold <= 1:
            raise InputError(f"pause_below={self.iou_threshold!r} must be an IoU, from 0 to 1")


@dataclass(frozen=True)
class InteractiveResult:
    """What one object had: means over its `frames` annotated frames, 0 to 1.

    `j` and `f` have a value for each number of interacted frames, 1 to the most.
    """

    video: str
    id: int
    frames: int
    j: tuple[float, ...]
    f: tuple[float, ...]
    interacted_frames: tuple[int, ...]
    """Frames that were interacted with, in that order, counted in the video from 0; of the run with the most."""
    clicks: int
    """Clicks in all."""
    seconds: float = 0.0

    @property
    def curve(self) -> tuple[float, ...]:
        """J&F."""
        return tuple((j + f) / 2 for j, f in zip(self.j, self.f, strict=True))


@dataclass(frozen=True)
class InteractiveReport:
    """Figures over all objects; curves have a value for each number of interacted frames.

    Example:
        >>> report = interactive_report(rows, InteractiveOptions())
        >>> report.curve[0], report.mean  # J&F after one frame, and the mean over 1 to 8
    """

    options: InteractiveOptions
    videos: int
    objects: int
    frames: int
    mean_jf: float
    """Of `curve`."""
    curve: tuple[float, ...]
    """J&F."""
    j: tuple[float, ...]
    f: tuple[float, ...]
    mean_interacted_frames: float
    """Mean number of frames interacted with."""
    mean_clicks: float
    """Mean number of clicks on an object, all frames together."""
    seconds: float
    results: tuple[InteractiveResult, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Options, all figures, and those of every object, as `json` can write them."""
        figures = asdict(self)
        options, rows = figures.pop("options"), figures.pop("rows")
        named = [{**row, "curve": one.curve} for row, one in zip(rows, self.results, strict=True)]
        return {"options": options, "figures": figures, "rows": named}

    def to_json(self, model: str = "", **extra_options: str | int | None) -> str:
        """Protocol, model and options, then all figures, then those of every object; `settings` join the options."""
        own = self.to_dict()
        whole = {"protocol": "interactive", "model": model, **own, "options": {**own["options"], **extra_options}}
        return json.dumps(whole, indent=2, allow_nan=False)


def evaluate_interactive(
    model: InteractiveVideoModel,
    sample: Sample,
    options: InteractiveOptions | None = None,
    on_progress: Callable[[], None] | None = None,
    previous_results: Sequence[InteractiveResult] = (),
) -> Iterator[InteractiveResult]:
    """Interact with every object of a video, in the order of their ids, and yield what each had.

    `step` is called after every frame of every pass. Objects of which `known` has a row, of an earlier run, are not
    asked about: the row is theirs.

    Example:
        >>> [video] = open_dataset("videos").entries
        >>> rows = list(evaluate_interactive(SAM(), video, InteractiveOptions("online")))

    Raises:
        SourceError: an image or an annotation that cannot be read or has another size.
        ModelError: a model for images only.
    """
    asked, truth = options or InteractiveOptions(), load_masks(sample)
    by_id, first = {row.id: row for row in previous_results}, first_visible(truth)
    if not set(first) - set(by_id):  # nothing is left
        yield from (by_id[number] for number in sorted(first))
        return
    kept = TrackOptions(retain="all" if asked.mode == "offline" else "recent")  # a frame far back may be corrected
    with model.session(sample.source, options=kept) as session:
        session.cache_features(sample.frame_indices[min(first.values())], sample.frame_indices[-1] + 1)
        for number, at in sorted(first.items()):
            video = _VideoObject(sample, truth, number, at)
            yield by_id.get(number) or _evaluate_object(session, video, asked, on_progress or (lambda: None))


def _evaluate_object(
    session: Session, target: _VideoObject, options: InteractiveOptions, on_progress: Callable[[], None]
) -> InteractiveResult:
    started = time.perf_counter()
    played = _InteractiveRun(session, target, options, on_progress)
    measures = played.run_offline() if options.mode == "offline" else played.run_online()
    session.remove_object(OBJECT_ID)
    return _make_result(target, played, measures, time.perf_counter() - started)


def interactive_report(results: Sequence[InteractiveResult], options: InteractiveOptions) -> InteractiveReport:
    """Means over objects of what `evaluate_interactive` yielded.

    Raises:
        SourceError: no object.
    """
    if not results:
        raise SourceError("no video has an object, so there is nothing to interact with; name videos with masks")
    j, f = np.mean([row.j for row in results], axis=0), np.mean([row.f for row in results], axis=0)
    return InteractiveReport(
        options=options,
        videos=len({row.video for row in results}),
        objects=len(results),
        frames=sum(row.frames for row in results),
        mean_jf=float(np.mean((j + f) / 2)),
        curve=tuple(map(float, (j + f) / 2)),
        j=tuple(map(float, j)),
        f=tuple(map(float, f)),
        mean_interacted_frames=float(np.mean([len(row.interacted_frames) for row in results])),
        mean_clicks=float(np.mean([row.clicks for row in results])),
        seconds=sum(row.seconds for row in results),
        results=tuple(results),
    )


class _VideoObject:
    """One object of a video: its masks on the annotated frames from its first on, by the frame's number."""

    def __init__(self, sample: Sample, truth: GroundTruth, id: int, first_index: int) -> None:
        self.name, self.id = sample.name, id
        self.frames = sample.frame_indices[first_index:]
        self._masks = dict(zip(self.frames, truth[first_index:], strict=True))
        self._empty_mask = np.zeros_like(truth[first_index][id])

    def __getitem__(self, frame: int) -> Mask:
        mask = self._masks[frame].get(self.id, self._empty_mask)
        validate_mask_size(mask, self._empty_mask.shape, f"{self.name}, frame {frame}")
        return mask


MeanScores = tuple[float, float]
"""J and F, means over frames."""


@dataclass(frozen=True)
class _PausedPass:
    """A pass at a frame that is about to be corrected: what the session knows, and what is shown."""

    frame: int
    session_state: SessionState
    predicted: dict[int, Mask]


class _InteractiveRun:
    """One object in its session: what is shown of it on the annotated frames, and the clicks given so far."""

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

    def run_offline(self) -> list[MeanScores]:
        """A measure for each number of interacted frames."""
        found: list[MeanScores] = []
        while len(found) < self.options.frames and self._correct_worst_frame():
            for _ in self._iterate_frames(self._propagate(), self.target.frames):
                pass
            found.append(self._mean_scores())
        return found + found[-1:] * (self.options.frames - len(found))

    def run_online(self) -> list[MeanScores]:
        """A measure for each number of frames at most."""
        paused: dict[int, _PausedPass] = {}
        self._correct_frame(self.first_frame)
        for frame in self._iterate_frames(self._propagate(), self.target.frames):
            fails = region_similarity(self.predicted[frame], self.target[frame]) < self.options.iou_threshold
            if fails and frame not in self.clicks and len(self.interacted_frames) < self.options.frames:
                paused[len(self.interacted_frames)] = _PausedPass(frame, self.session.snapshot(), dict(self.predicted))
                self._correct_frame(frame)
        counts, whole = range(1, self.options.frames + 1), self._mean_scores()
        return [
            self._finish_without_correction(paused[n]) if n < len(self.interacted_frames) else whole for n in counts
        ]

    def _finish_without_correction(self, paused: _PausedPass) -> MeanScores:
        """The measure of the run that goes on where another one corrects a frame."""
        self.session.restore_snapshot(paused.session_state)
        self.predicted = paused.predicted
        for _ in self._iterate_frames(
            self.session.resume(), [frame for frame in self.target.frames if frame > paused.frame]
        ):
            pass
        return self._mean_scores()

    def _propagate(self) -> Iterator[Results]:
        return self.session.propagate(stop=self.target.frames[-1] + 1)

    def _correct_worst_frame(self) -> bool:
        """Interact with the frame that needs it most; False: there is nothing to click on any frame."""
        if not self.clicks:
            return self._correct_frame(self.first_frame)
        j = {frame: region_similarity(self.predicted[frame], self.target[frame]) for frame in self.target.frames}
        wrong = [frame for frame in self.target.frames if j[frame] < 1]
        return any(map(self._correct_frame, sorted(wrong, key=lambda frame: (frame in self.clicks, j[frame]))))

    def _correct_frame(self, frame: int) -> bool:
        """Interact with a frame; False: there is nothing to click."""
        given = [self._add_click(frame) for _ in range(self.options.clicks)]
        if given[0]:
            self.interacted_frames.append(frame)
        return given[0]

    def _add_click(self, frame: int) -> bool:
        """One click; the session adds it to those that were given on the frame."""
        taken = self.clicks.get(frame, [])
        click = next_correction_click(self.predicted[frame], self.target[frame], taken)
        if click is None:
            return False
        point = Points(np.array([click[:2]], np.float32), np.array([click.label], np.int32))
        refine = bool(self.clicks)  # only the very first click must be on the object
        self.clicks[frame] = [*taken, click]
        self.predicted[frame] = self._object_mask(
            self.session._add_object_prompt(OBJECT_ID, frame, ObjectPrompt(points=point, refine=refine))
        )
        return True

    def _iterate_frames(self, results_iter: Iterator[Results], frames: Sequence[int]) -> Iterator[int]:
        """A pass over annotated `frames`; it may be halted to correct the one that is yielded."""
        left = set(frames)
        for results in results_iter:
            assert results.frame_idx is not None
            if results.frame_idx in left:
                self.predicted[results.frame_idx] = self._object_mask(results)
                left.discard(results.frame_idx)
                yield results.frame_idx
            self.on_progress()
        if left:  # the reader leaves a damaged image out and goes on
            raise SourceError(
                f"frame {min(left)} of {self.target.name} is damaged or is not there; every annotated frame counts: "
                "mend it, or take the video out"
            )

    def _object_mask(self, results: Results) -> Mask:
        shown: dict[int, Mask] = {}
        if results.masks is not None:
            shown = dict(zip(results.ids.tolist(), results.masks.data, strict=True))
        return shown.get(OBJECT_ID, self._empty_mask)

    def _mean_scores(self) -> MeanScores:
        pairs = [(self.predicted[frame], self.target[frame]) for frame in self.target.frames]
        return float(np.mean([region_similarity(*pair) for pair in pairs])), float(
            np.mean([boundary_f_score(*p) for p in pairs])
        )


def _make_result(
    target: _VideoObject, run: _InteractiveRun, scores: Sequence[MeanScores], seconds: float
) -> InteractiveResult:
    j, f = zip(*scores, strict=True)
    clicks = sum(map(len, run.clicks.values()))
    return InteractiveResult(
        target.name, target.id, len(target.frames), j, f, tuple(run.interacted_frames), clicks, seconds
    )
