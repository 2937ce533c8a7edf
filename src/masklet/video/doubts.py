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
    "iou": 1.2,
    "presence": 0.2,
    "vanished": 0.3,
    "appeared": 0.5,
    "area": 0.2,
    "place": 0.2,
    "contested": 0.3,
    "backward": 0.5,
}
"""Chosen by errors of the built-in model on synthetic clips of another seed than the benchmark's; not `backward`."""
MIN_REASON = 0.05
"""A signal that adds less than this to a score is no reason."""
RESOLVED_AFTER, RESOLVED_BEFORE, REACH = 3.0, 1.0, 20
"""Frames after and before a correction at which what it resolves falls by a factor of e, and beyond which it ends."""
CONTESTED_POWER = 0.07
"""How much less is corrected where an object lies in another one: it may be hidden there, with nothing to point at."""
MIN_DISTANCE = 4
"""Frames between two doubts, or a doubt and a prompt, at least: corrections of neighbors show the model the same."""
MIN_RESOLVED = 0.1
"""Doubts that resolve less than this, in frames of full doubt, are not listed."""
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
    """Values of `REASONS`, the strongest first, of the frame and its neighbors."""

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
    height, width = masks_NHW.shape[1:]
    flat_ND = masks_NHW.reshape(len(masks_NHW), height * width).astype(np.float32)
    areas_N = flat_ND.sum(1)
    overlap_NN = flat_ND @ flat_ND.T
    np.fill_diagonal(overlap_NN, 0)
    contested_NN = overlap_NN / np.maximum(np.maximum(areas_N[:, None], areas_N), 1)
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
        >>> doubt_signals(track)["place"].argmax().item()
        4
    """
    values = [(one.iou, one.object_score, one.area, one.x, one.y, one.contested) for one in track]
    iou, score, area, x, y, contested = np.array(values, np.float64).reshape(-1, 6).T
    visible = area > 0
    seen_before = np.concatenate([[False], visible[:-1]])
    scale = np.maximum(np.sqrt(area), MIN_SCALE_CELLS)
    scale_before = np.concatenate([scale[:1], scale[:-1]])
    step_T2 = np.diff(np.stack([x, y], 1), axis=0, prepend=[[x[0], y[0]]])
    step_T2[~(visible & seen_before)] = 0
    turn_T2 = np.diff(step_T2, axis=0, prepend=np.zeros((1, 2)))
    signals = {
        "iou": np.where(visible, np.clip(1 - iou, 0, 1), 0),
        "presence": np.exp(-np.abs(score) / PRESENCE_SCALE),
        "vanished": (seen_before & ~visible).astype(np.float64),
        "appeared": (~seen_before & visible).astype(np.float64),
        "contested": np.clip(contested, 0, 1),
        "backward": np.array([(disagreement or {}).get((one.frame_idx, one.object_id), 0.0) for one in track]),
    }
    signals["appeared"][0] = 0
    changes = {
        "area": 2 * np.abs(np.log(scale / scale_before)),
        "place": np.hypot(*turn_T2.T) / np.minimum(scale, scale_before),
    }
    for name, change in changes.items():
        change[~(visible & seen_before)] = 0
        past = np.concatenate([np.zeros(USUAL_FRAMES), change[:-1]])
        usual = np.median(np.lib.stride_tricks.sliding_window_view(past, USUAL_FRAMES), axis=1)
        signals[name] = 1 - np.exp(-np.maximum(change - usual, 0))
    return {name: signals[name] for name in REASONS}


def correctable_shares(track: Sequence[Observation]) -> Floats:
    """Return which share (T,) of an object can be corrected on each frame: of its usual area, at most all of it.

    Where the object has no mask, it is as likely as its object score says. On the frames in which an object is hidden
    there is nothing to correct, and trackers often put its mask on what hides it.

    Example:
        >>> track = [Observation(t, 1, 0.9, 8.0, area, 0, 0) for t, area in enumerate([100.0, 100.0, 25.0, 400.0])]
        >>> correctable_shares(track).tolist()
        [1.0, 1.0, 0.25, 1.0]
    """
    values = [(one.area, one.object_score, one.contested) for one in track]
    area, score, contested = np.array(values, np.float64).reshape(-1, 3).T
    usual = float(np.median(area[area > 0])) if (area > 0).any() else 1.0
    likely = 1 / (1 + np.exp(-np.clip(score, -50, 50)))
    return np.where(area > 0, np.minimum(area / usual, 1) * (1 - np.clip(contested, 0, 1)) ** CONTESTED_POWER, likely)


def rank_doubts(
    observations: Iterable[Observation],
    limit: int | None = None,
    disagreement: Mapping[tuple[int, int], float] | None = None,
) -> list[Doubt]:
    """Return doubts about tracked frames, those first whose correction resolves most.

    The score of an object on a frame is 1 - exp(-s), with s the sum of its `doubt_signals` times their `WEIGHTS`. A
    correction acts on the frames around it as well, on later ones farther than on earlier ones, and so did the prompts
    given; and it acts the more, the more of the object can be seen (`correctable_shares`). So each doubt is the frame
    that resolves most of the scores, all objects together, that no prompt and no doubt before it in the list has
    resolved; neighboring frames of one event are one doubt (`MIN_DISTANCE`), about the object with most to resolve
    there, and those of a prompt have none. Observations may come in any order.

    Example:
        >>> track = [Observation(t, 1, 0.9, 8.0, 100.0, 10.0 + 40 * (t > 3), 10.0, prompted=t == 0) for t in range(6)]
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
    if not tracks:
        return []
    first = min(track[0].frame_idx for track in tracks.values()) - REACH  # no window of REACH frames leaves the arrays
    length = max(track[-1].frame_idx for track in tracks.values()) + REACH + 1 - first
    offsets = np.arange(-REACH, REACH + 1)
    falloff = np.exp(-np.abs(offsets) / np.where(offsets < 0, RESOLVED_BEFORE, RESOLVED_AFTER))
    parts_NST = np.zeros((len(tracks), len(REASONS), length))
    open_NT = np.ones((len(tracks), length))
    shares_NT = np.zeros_like(open_NT)
    for row, track in enumerate(tracks.values()):
        columns = [one.frame_idx - first for one in track]
        signals = doubt_signals(track, disagreement)
        parts_NST[row][:, columns] = [WEIGHTS[name] * values for name, values in signals.items()]
        shares_NT[row, columns] = correctable_shares(track)
        for t in (one.frame_idx - first for one in track if one.prompted):
            open_NT[row, t - REACH : t + REACH + 1] *= 1 - falloff
            shares_NT[row, t - MIN_DISTANCE + 1 : t + MIN_DISTANCE] = 0
    scores_NT = 1 - np.exp(-parts_NST.sum(1))
    open_NT *= scores_NT  # what no prompt, and no doubt in the list, has resolved
    can_list_T = np.asarray((open_NT > 0).any(0))
    gains_NT, gains_T = np.zeros_like(open_NT), np.full(length, -1.0)
    begin, end = REACH, length - REACH
    listed: list[Doubt] = []
    while limit is None or len(listed) < limit:
        nearby_NT = open_NT[:, begin - REACH : end + REACH]
        windows = np.lib.stride_tricks.sliding_window_view(nearby_NT, 2 * REACH + 1, axis=1)
        gains_NT[:, begin:end] = shares_NT[:, begin:end] * (windows @ falloff)
        gains_T[begin:end] = np.where(can_list_T[begin:end], gains_NT[:, begin:end].sum(0), -1)
        best = int(gains_T.argmax())
        if gains_T[best] < MIN_RESOLVED:
            break
        row = int(gains_NT[:, best].argmax())
        event = slice(best - MIN_DISTANCE + 1, best + MIN_DISTANCE)
        strength = sorted(zip((-parts_NST[row, :, event].max(1)).tolist(), REASONS.values(), strict=True))
        reasons = [reason for value, reason in strength if -value >= MIN_REASON] or [strength[0][1]]
        listed.append(Doubt(best + first, list(tracks)[row], float(scores_NT[row, best]), tuple(reasons)))
        open_NT[:, best - REACH : best + REACH + 1] *= 1 - shares_NT[:, best, None] * falloff
        can_list_T[event] = False
        begin, end = max(REACH, best - 2 * REACH), min(length - REACH, best + 2 * REACH)
    return listed


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
