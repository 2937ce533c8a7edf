"""Evaluate doubts: what correcting the frames that `Session.doubts` names gains, compared with other frames.

Clips are those of the synthetic benchmark (`masklet.evaluate.synthetic`). Every object is tracked from its mask on the
first frame. Then a person corrects a number of frames, five by default, and the clip is tracked again from its first
frame with all prompts. Which frames is chosen in four ways, each from the same state:

doubts    one by one, as in the app: the first frame that `Session.doubts` names is corrected, the clip is tracked
          again, and the next frame is the first one named then; a frame is corrected once
at once   the first ones that are named before any correction; a frame named for two objects counts once
even      evenly spread between the first frame and the end
random    drawn at random, without the first frame, from a seed that is the clip's own

The last three are corrected together, and tracked once. A pass starts from the first frame with all prompts, so that
the order of corrections by true masks makes no difference where frames do not depend on the state. Clicks depend on the
masks of the last pass, which is a newer one where frames are corrected one by one.

**A correction** of a frame concerns all objects that the truth shows there: each is prompted with its true mask, or
with `correction="clicks"` as in `masklet.evaluate.video_clicks`, by at most three clicks one after the other, each on
the pixel deepest inside the error; an object without an error there gets none, and one that the truth does not show
gets only clicks.

**Measured** is J&F (`masklet.evaluate.metrics`) of every object on every frame but the first, corrected ones included,
as it is after the last pass. A clip has the mean over its objects, a scenario the mean over its clips, and the figure
is the mean over scenarios. The gain is the difference to J&F before any correction.

Shapes: T frames, N objects, H and W of a frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.evaluate.argument_checks import validate_positive_int
from masklet.evaluate.metrics import boundary_f_score, region_similarity
from masklet.evaluate.prompts_from_masks import Click, clicks_prompt, next_correction_click
from masklet.evaluate.synthetic import SyntheticClip
from masklet.evaluate.tracking import VideoModel, masks_by_id
from masklet.prompts import MaskPrompt, ObjectPrompt
from masklet.video import Session, TrackOptions

__all__ = ["CORRECTIONS", "DoubtOptions", "DoubtReport", "DoubtResult", "doubts_report", "evaluate_doubts"]

CORRECTIONS = ("mask", "clicks")
MAX_CLICKS = 3


@dataclass(frozen=True)
class DoubtOptions:
    """How clips are corrected.

    Example:
        >>> DoubtOptions("clicks").frames
        5

    Raises:
        InputError: if a value is out of its range.
    """

    correction: str = "mask"
    frames: int = 5
    """Corrected frames of a clip."""
    check_backward: bool = False

    def __post_init__(self) -> None:
        if self.correction not in CORRECTIONS:
            raise InputError(f"correction={self.correction!r} is unknown; choose {' or '.join(map(repr, CORRECTIONS))}")
        validate_positive_int("frames", self.frames)


@dataclass(frozen=True)
class DoubtResult:
    """J&F of one clip, means over its objects, before and after corrections; and which frames, in their order."""

    name: str
    objects: int
    before: float
    doubts: float
    at_once: float
    even: float
    random: float
    doubt_frames: tuple[int, ...]
    at_once_frames: tuple[int, ...]
    even_frames: tuple[int, ...]
    random_frames: tuple[int, ...]


@dataclass(frozen=True)
class DoubtReport:
    """J&F, means over scenarios, before and after corrections."""

    clips: int
    before: float
    doubts: float
    at_once: float
    even: float
    random: float
    results: tuple[DoubtResult, ...]


def evaluate_doubts(
    model: VideoModel,
    clip: SyntheticClip,
    options: DoubtOptions | None = None,
    on_progress: Callable[[], None] | None = None,
) -> DoubtResult:
    """Track a clip and correct it in each of the four ways; `on_progress` is called after every frame of every pass.

    Example:
        >>> result = evaluate_doubts(SAM(), BENCHMARK_CLIPS[0])
        >>> result.doubts - result.before, result.even - result.before

    Raises:
        ModelError: if the model does not track.
    """
    options, rendered = options or DoubtOptions(), clip.render()
    truth_TNHW = rendered.masks_TNHW
    length = len(truth_TNHW)
    with model.session(rendered.frames_THW3, options=TrackOptions(retain="all")) as session:
        session.cache_features(0, length)
        for row, mask in enumerate(truth_TNHW[0]):
            session.add_object_prompt(row + 1, 0, ObjectPrompt(mask=MaskPrompt(mask)))
        before = _track(session, truth_TNHW, on_progress)
        tracked = session.snapshot()
        rng = np.random.default_rng(zlib.crc32(clip.name.encode()))
        spread = np.linspace(0, length, options.frames + 2)[1:-1].round().astype(int).tolist()
        drawn = rng.choice(np.arange(1, length), min(options.frames, length - 1), replace=False).tolist()
        together = [_named_frames(session, options)[: options.frames], list(dict.fromkeys(spread)), sorted(drawn)]
        after = []
        for frames in together:
            session.restore_snapshot(tracked)
            for frame_idx in sorted(frames):
                _correct(session, frame_idx, truth_TNHW[frame_idx], options.correction)
            after.append(_track(session, truth_TNHW, on_progress))
        session.restore_snapshot(tracked)
        corrected: list[int] = []
        one_by_one = before
        while len(corrected) < options.frames:
            frame = next((frame for frame in _named_frames(session, options) if frame not in corrected), None)
            if frame is None:
                break
            corrected.append(frame)
            _correct(session, frame, truth_TNHW[frame], options.correction)
            one_by_one = _track(session, truth_TNHW, on_progress)
    return DoubtResult(
        clip.name,
        truth_TNHW.shape[1],
        before,
        doubts=one_by_one,
        at_once=after[0],
        even=after[1],
        random=after[2],
        doubt_frames=tuple(corrected),
        at_once_frames=tuple(together[0]),
        even_frames=tuple(together[1]),
        random_frames=tuple(together[2]),
    )


def doubts_report(results: Sequence[DoubtResult]) -> DoubtReport:
    """Average the results of `evaluate_doubts`, at least one."""
    by_scenario: dict[str, list[DoubtResult]] = {}
    for one in results:
        by_scenario.setdefault(one.name.rsplit("-", 1)[0], []).append(one)
    before, doubts, at_once, even, random = (
        float(np.mean([np.mean([getattr(one, name) for one in clips]) for clips in by_scenario.values()]))
        for name in ("before", "doubts", "at_once", "even", "random")
    )
    return DoubtReport(len(results), before, doubts, at_once, even, random, tuple(results))


def _named_frames(session: Session, options: DoubtOptions) -> list[int]:
    """Return the doubted frames, the first one first."""
    named = session.doubts(check_backward=options.check_backward)
    return list(dict.fromkeys(doubt.frame_idx for doubt in named))


def _track(session: Session, truth_TNHW: npt.NDArray[np.bool_], on_progress: Callable[[], None] | None) -> float:
    """Track all frames, and return J&F of all objects, without the first frame."""
    scores = []
    for results in session.propagate(0):
        if results.frame_idx:
            predicted = masks_by_id(results)
            for row, truth in enumerate(truth_TNHW[results.frame_idx]):
                pair = predicted[row + 1], truth
                scores.append((region_similarity(*pair) + boundary_f_score(*pair)) / 2)
        if on_progress is not None:
            on_progress()
    return float(np.mean(scores))


def _correct(session: Session, frame_idx: int, truth_NHW: npt.NDArray[np.bool_], correction: str) -> None:
    """Correct all objects on a frame."""
    predicted = masks_by_id(session.results_at(frame_idx))
    for row, truth in enumerate(truth_NHW):
        if correction == "mask":
            if truth.any():
                session.add_object_prompt(row + 1, frame_idx, ObjectPrompt(mask=MaskPrompt(truth)))
            continue
        mask, clicks = predicted[row + 1], list[Click]()
        for _ in range(MAX_CLICKS):
            click = next_correction_click(mask, truth, clicks)
            if click is None:
                break
            clicks.append(click)
            results = session.add_object_prompt(row + 1, frame_idx, clicks_prompt([click], refine=True))
            mask = masks_by_id(results)[row + 1]
