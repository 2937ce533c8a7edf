"""Rank tracked frames by how much they should be checked: where a mask is probably wrong, and why, in words.

Everything here works on numbers that are stored anyway, so that a list of doubts costs no tracking: `observe` reduces
the masks of a frame to one `Observation` for each object, and `rank_doubts` compares those of all frames. A score is
from 0 (no doubt) to 1. Prompted frames have none: somebody has seen them.
Shapes: N objects, T observed frames of one object, H and W of a mask at any scale, the same on all frames.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError

__all__ = ["REASONS", "WEIGHTS", "Doubt", "Observation", "disagreements", "doubt_signals", "observe", "rank_doubts"]

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]

REASONS = {
    "iou": "uncertain mask",
    "presence": "unsure whether it is there",
    "vanished": "vanished",
    "appeared": "reappeared",
    "area": "changed its size",
    "place": "jumped",
    "contested": "shares pixels with another object",
    "backward": "differs when tracked backward",
}
"""Signals, and how a reason names them."""
WEIGHTS = {
    "iou": 1.0,
    "presence": 0.5,
    "vanished": 0.5,
    "appeared": 0.7,
    "area": 0.5,
    "place": 0.5,
    "contested": 0.5,
    "backward": 1.0,
}
MIN_REASON = 0.05
"""A signal that adds less than this to a score is no reason."""
EVENT_FRAMES = 4
"""Doubts of one object at most this many frames apart are one event."""
PRESENCE_SCALE = 4.0
"""Object score (a logit) at which the doubt about its sign has fallen to a third."""
USUAL_FRAMES = 9
"""Frames before, at most, from which the usual change of an object is estimated."""
MIN_SCALE_CELLS = 2.0
"""Smallest length, in cells, to which a change is relative: outlines move by a cell without cause."""


@dataclass(frozen=True)
class Observation:
    """One object on one tracked frame; lengths are in cells of the observed masks."""

    frame_idx: int
    object_id: int
    iou: float
    """Predicted IoU."""
    object_score: float
    """Logit; above 0 the object is in the frame."""
    area: float
    x: float
    y: float
    """Center of the mask; 0 without a mask."""
    contested: float = 0.0
    """Fraction of the mask that masks of other objects cover too."""
    prompted: bool = False


@dataclass(frozen=True)
class Doubt:
    """A frame to check, for one object.

    Example:
        >>> print(Doubt(31, 2, 0.8, ("jumped", "uncertain mask")))
        31 (object 2: jumped, uncertain mask)
    """

    frame_idx: int
    object_id: int
    score: float
    """0 to 1."""
    reasons: tuple[str, ...]
    """Values of `REASONS`, the strongest first."""

    def __str__(self) -> str:
        return f"{self.frame_idx} (object {self.object_id}: {', '.join(self.reasons)})"


def observe(
    frame_idx: int,
    object_ids: Sequence[int],
    masks_NHW: Masks,
    ious: Sequence[float],
    object_scores: Sequence[float],
    prompted: Collection[int] = (),
) -> list[Observation]:
    """Reduce the masks of one frame to an observation for each object; `prompted` are ids with a prompt there.

    An object that lies in another shares its pixels, so what is contested is measured against the larger of two masks:
    all of a hat is on the person, but little of the person is on the hat.

    Example:
        >>> [seen] = observe(3, [7], np.ones((1, 4, 6), bool), [0.9], [5.0])
        >>> seen.area, seen.x, seen.y
        (24.0, 2.5, 1.5)
    """
    flat_ND = masks_NHW.reshape(len(masks_NHW), -1).astype(np.float32)
    areas_N = flat_ND.sum(1)
    overlap_NN = flat_ND @ flat_ND.T
    np.fill_diagonal(overlap_NN, 0)
    contested_NN = overlap_NN / np.maximum(np.maximum(areas_N[:, None], areas_N), 1)
    height, width = masks_NHW.shape[1:]
    x_N = flat_ND @ np.tile(np.arange(width, dtype=np.float32), height) / np.maximum(areas_N, 1)
    y_N = flat_ND @ np.repeat(np.arange(height, dtype=np.float32), width) / np.maximum(areas_N, 1)
    return [
        Observation(
            frame_idx,
            int(number),
            float(ious[row]),
            float(object_scores[row]),
            float(areas_N[row]),
            float(x_N[row]),
            float(y_N[row]),
            float(contested_NN[row].max(initial=0)),
            number in prompted,
        )
        for row, number in enumerate(object_ids)
    ]


def doubt_signals(
    track: Sequence[Observation], disagreement: Mapping[tuple[int, int], float] | None = None
) -> dict[str, Floats]:
    """Return the signals (T,) from 0 to 1 of one object, whose observations are in the order of their frames.

    A change is compared with the usual one of the object, the median over some frames before, and a shift with the
    shift of the frame before, so that steady motion is no jump. `disagreement` is that of `disagreements`.

    Example:
        >>> track = [Observation(t, 1, 0.9, 8.0, 100.0, 10.0 + 40 * (t > 3), 10.0) for t in range(6)]
        >>> doubt_signals(track)["place"].argmax()
        4
    """
    iou, score, area, x, y, contested = np.array(
        [(one.iou, one.object_score, one.area, one.x, one.y, one.contested) for one in track], np.float64
    ).T.reshape(6, -1)
    visible = area > 0
    scale = np.maximum(np.sqrt(area), MIN_SCALE_CELLS)
    signals = {name: np.zeros(len(track)) for name in REASONS}
    signals["iou"] = np.where(visible, np.clip(1 - iou, 0, 1), 0)
    signals["presence"] = np.exp(-np.abs(score) / PRESENCE_SCALE)
    signals["contested"] = np.clip(contested, 0, 1)
    changes: list[float] = []
    shifts: list[float] = []
    speed = np.zeros(2)
    for t in range(1, len(track)):
        if not visible[t] or not visible[t - 1]:
            signals["vanished"][t] = visible[t - 1] and not visible[t]
            signals["appeared"][t] = visible[t] and not visible[t - 1]
            speed = np.zeros(2)
            continue
        step = np.array([x[t] - x[t - 1], y[t] - y[t - 1]])
        change = float(abs(np.log(scale[t] / scale[t - 1])))
        shift = float(np.hypot(*(step - speed)) / max(min(scale[t], scale[t - 1]), MIN_SCALE_CELLS))
        usual_change, usual_shift = (float(np.median(past)) if past else 0.0 for past in (changes, shifts))
        signals["area"][t] = 1 - np.exp(-2 * max(change - usual_change, 0))
        signals["place"][t] = 1 - np.exp(-max(shift - usual_shift, 0))
        changes, shifts, speed = [*changes, change][-USUAL_FRAMES:], [*shifts, shift][-USUAL_FRAMES:], step
    for t, one in enumerate(track):
        signals["backward"][t] = (disagreement or {}).get((one.frame_idx, one.object_id), 0.0)
    return signals


def rank_doubts(
    observations: Iterable[Observation],
    limit: int | None = None,
    disagreement: Mapping[tuple[int, int], float] | None = None,
) -> list[Doubt]:
    """Return doubts about tracked frames, the greatest first; one for each event of an object, at its worst frame.

    A score is 1 - exp(-s), with s the sum of the `doubt_signals` times their `WEIGHTS`; frames within `EVENT_FRAMES` of
    a greater doubt about the same object belong to its event. Observations may come in any order.

    Example:
        >>> track = [Observation(t, 1, 0.9, 8.0, 100.0, 10.0 + 40 * (t > 3), 10.0) for t in range(6)]
        >>> print(*rank_doubts(track, limit=1))
        4 (object 1: jumped, uncertain mask)

    Raises:
        InputError: if `limit` is no whole number of at least 1.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InputError(f"limit={limit!r} must be a whole number, 1 or more, or None for all doubts")
    tracks: dict[int, list[Observation]] = {}
    for one in sorted(observations, key=lambda one: (one.frame_idx, one.object_id)):
        tracks.setdefault(one.object_id, []).append(one)
    doubts = []
    for number, track in tracks.items():
        signals = doubt_signals(track, disagreement)
        parts = {name: WEIGHTS[name] * values for name, values in signals.items()}
        scores = 1 - np.exp(-np.sum(list(parts.values()), axis=0))
        chosen: list[int] = []
        for row in np.argsort(-scores, kind="stable").tolist():
            frame_idx = track[row].frame_idx
            if track[row].prompted or any(abs(frame_idx - before) <= EVENT_FRAMES for before in chosen):
                continue
            chosen.append(frame_idx)
            strength = sorted(((-float(values[row]), name) for name, values in parts.items()), key=lambda one: one[0])
            reasons = [REASONS[name] for value, name in strength if -value >= MIN_REASON]
            reasons = reasons or [REASONS[strength[0][1]]]
            doubts.append(Doubt(frame_idx, number, float(scores[row]), tuple(reasons)))
    return sorted(doubts, key=lambda one: (-one.score, one.frame_idx, one.object_id))[:limit]


def disagreements(
    forward: Mapping[tuple[int, int], Masks], backward: Mapping[tuple[int, int], Masks]
) -> dict[tuple[int, int], float]:
    """Compare the masks of two directions by (frame, object id): 0 where they agree, up to 1 - IoU where they part.

    When one direction has lost an object, all frames beyond differ; what is doubtful is the frame where that begins.
    So half of a difference counts only as far as it is greater than that of the next frame.

    Example:
        >>> full, empty = np.ones((2, 2), bool), np.zeros((2, 2), bool)
        >>> disagreements({(1, 7): full, (2, 7): full, (3, 7): full}, {(1, 7): empty, (2, 7): empty, (3, 7): full})
        {(1, 7): 0.5, (2, 7): 1.0, (3, 7): 0.0}
    """
    difference: dict[tuple[int, int], float] = {}
    for key in sorted(forward.keys() & backward.keys()):
        either = int((forward[key] | backward[key]).sum())
        difference[key] = 1 - int((forward[key] & backward[key]).sum()) / either if either else 0.0
    return {
        (frame_idx, number): (value + max(value - difference.get((frame_idx + 1, number), 0.0), 0.0)) / 2
        for (frame_idx, number), value in difference.items()
    }
