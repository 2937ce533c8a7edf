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
from masklet.video.memory_bank import Kept, TrackedObject

__all__ = ["HeldRows", "shown"]

NAMES = {0: "object"}
FILLED, EMPTIED = 0.1, -0.1
"""Logits of a cell that was a small hole, or part of a speck."""


def shown(
    frame: Frame, rows: Sequence[tuple[TrackedObject, Kept]], *, clean: int, lost_after: int, speed: dict[str, float]
) -> Results:
    """The objects of `rows` on `frame`, masks at its size, cleared of holes and specks up to `clean` cells."""
    masks = np.zeros((0, *frame.size), bool)
    if rows:
        logits = torch.cat([_logits(kept) for _, kept in rows])
        with torch.inference_mode():
            full = interpolate(_cleaned(logits, clean), frame.size, mode="bilinear", align_corners=False)
            masks = (full[:, 0] > 0).cpu().numpy()
    return Results(
        frame.rgb,
        frame.path,
        Masks(masks) if rows else None,
        np.array([kept.iou for _, kept in rows], np.float32),
        prompt_ids=np.array([one.id for one, _ in rows], np.int32),
        classes=np.zeros(len(rows), np.int32),
        names=NAMES,
        speed=speed,
        frame=frame.index,
        time=frame.time,
        presence=np.array([kept.score for _, kept in rows], np.float32),
        states=tuple(_state(one, bool(masks[i].any()), lost_after) for i, (one, _) in enumerate(rows)),
    )


def _logits(kept: Kept) -> Tensor:
    assert kept.logits_11HW is not None
    return kept.logits_11HW.float()


def _state(one: TrackedObject, seen: bool, lost_after: int) -> str:
    """What to call an object that is seen, or has not been for a while."""
    if seen:
        return "visible"
    return "lost" if one.hidden >= lost_after else "occluded"


def _cleaned(logits_N1HW: Tensor, clean: int) -> Tensor:
    """Holes filled and specks removed, as far as they are at most `clean` cells large."""
    if not clean:
        return logits_N1HW
    out = logits_N1HW.clone()
    for mask_1HW in out:
        before = (mask_1HW[0] > 0).cpu().numpy()
        if not before.any():
            continue
        after = morphology.remove_islands(morphology.fill_holes(before, clean), clean)
        changed = torch.from_numpy(before != after).to(out.device)
        value = torch.from_numpy(np.where(after, FILLED, EMPTIED).astype(np.float32)).to(out.device)
        mask_1HW[0] = torch.where(changed, value, mask_1HW[0])
    return out


@dataclass(frozen=True)
class HeldRows:
    """What was shown of a frame, in little room: without its picture, masks as run lengths."""

    ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    states: tuple[str, ...]
    masks: tuple[rle.Rle, ...]

    @classmethod
    def of(cls, results: Results) -> HeldRows:
        """From what was shown of one object or more."""
        assert results.masks is not None
        assert results.presence is not None
        assert results.states is not None
        codes = tuple(rle.encode(mask) for mask in results.masks.data)
        return cls(results.ids, results.scores, results.presence, results.states, codes)

    def onto(self, shown: Results, order: Sequence[int]) -> Results:
        """`shown`, the same frame with other objects, and these, rows in the `order` of ids."""
        held = np.stack([rle.decode(code) for code in self.masks])
        masks = held if shown.masks is None else np.concatenate([shown.masks.data, held])
        assert shown.presence is not None
        assert shown.states is not None
        both = replace(
            shown,
            masks=Masks(masks),
            scores=np.concatenate([shown.scores, self.scores]),
            prompt_ids=np.concatenate([shown.ids, self.ids]),
            classes=np.zeros(len(masks), np.int32),
            presence=np.concatenate([shown.presence, self.presence]),
            states=shown.states + self.states,
        )
        place = {number: i for i, number in enumerate(order)}
        return both[sorted(range(len(both)), key=lambda row: place.get(int(both.ids[row]), len(place)))]
