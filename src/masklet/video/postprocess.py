"""From what the network found on a frame to what people see: masks at the frame's size, in one `Results`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from masklet.masks import morphology, rle
from masklet.media import Frame
from masklet.results import Masks, Results
from masklet.video.memory_bank import FrameState, TrackedObject

__all__ = ["CompressedResults", "to_results"]

DEFAULT_NAMES = {0: "object"}
FILLED_LOGIT, REMOVED_LOGIT = 0.1, -0.1
"""Logits of a cell that was a small hole, or part of a speck."""


def to_results(
    frame: Frame,
    rows: Sequence[tuple[TrackedObject, FrameState]],
    *,
    fill_hole_area: int,
    lost_after: int,
    speed: dict[str, float],
) -> Results:
    """The objects of `rows` on `frame`, masks at its size, cleared of holes and specks up to `clean` cells."""
    masks = np.zeros((0, *frame.size), bool)
    if rows:
        logits = torch.cat([_logits(kept) for _, kept in rows])
        with torch.inference_mode():
            full = interpolate(
                _fill_holes_and_specks(logits, fill_hole_area), frame.size, mode="bilinear", align_corners=False
            )
            masks = (full[:, 0] > 0).cpu().numpy()
    return Results(
        frame.rgb,
        frame.path,
        Masks(masks) if rows else None,
        np.array([kept.iou for _, kept in rows], np.float32),
        ids=np.array([one.id for one, _ in rows], np.int32),
        classes=np.zeros(len(rows), np.int32),
        names=DEFAULT_NAMES,
        speed=speed,
        frame_idx=frame.index,
        time=frame.time,
        object_scores=np.array([kept.object_score for _, kept in rows], np.float32),
        states=tuple(_object_state(one, bool(masks[i].any()), lost_after) for i, (one, _) in enumerate(rows)),
    )


def _logits(frame_state: FrameState) -> Tensor:
    assert frame_state.logits_11HW is not None
    return frame_state.logits_11HW.float()


def _object_state(obj: TrackedObject, seen: bool, lost_after: int) -> str:
    """What to call an object that is seen, or has not been for a while."""
    if seen:
        return "visible"
    return "lost" if obj.frames_unseen >= lost_after else "occluded"


def _fill_holes_and_specks(logits_N1HW: Tensor, max_area: int) -> Tensor:
    """Holes filled and specks removed, as far as they are at most `clean` cells large."""
    if not max_area:
        return logits_N1HW
    out = logits_N1HW.clone()
    for mask_1HW in out:
        before = (mask_1HW[0] > 0).cpu().numpy()
        if not before.any():
            continue
        after = morphology.remove_islands(morphology.fill_holes(before, max_area), max_area)
        changed = torch.from_numpy(before != after).to(out.device)
        value = torch.from_numpy(np.where(after, FILLED_LOGIT, REMOVED_LOGIT).astype(np.float32)).to(out.device)
        mask_1HW[0] = torch.where(changed, value, mask_1HW[0])
    return out


@dataclass(frozen=True)
class CompressedResults:
    """What was shown of a frame, in little room: without its image, masks as run lengths."""

    ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    object_scores: npt.NDArray[np.float32]
    states: tuple[str, ...]
    masks: tuple[rle.Rle, ...]

    @classmethod
    def from_results(cls, results: Results) -> CompressedResults:
        """From what was shown of one object or more."""
        assert results.masks is not None
        assert results.object_scores is not None
        assert results.states is not None
        codes = tuple(rle.encode(mask) for mask in results.masks.data)
        return cls(results.ids, results.scores, results.object_scores, results.states, codes)

    def merge_into(self, results: Results, object_ids: Sequence[int]) -> Results:
        """`shown`, the same frame with other objects, and these, rows in the `order` of ids."""
        held = np.stack([rle.decode(code) for code in self.masks])
        masks = held if results.masks is None else np.concatenate([results.masks.data, held])
        assert results.object_scores is not None
        assert results.states is not None
        both = replace(
            results,
            masks=Masks(masks),
            scores=np.concatenate([results.scores, self.scores]),
            ids=np.concatenate([results.ids, self.ids]),
            classes=np.zeros(len(masks), np.int32),
            object_scores=np.concatenate([results.object_scores, self.object_scores]),
            states=results.states + self.states,
        )
        place = {number: i for i, number in enumerate(object_ids)}
        return both[sorted(range(len(both)), key=lambda row: place.get(int(both.ids[row]), len(place)))]
