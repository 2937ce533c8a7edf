"""Turn tracked logits into `Results`: masks at the frame's size, without small holes and specks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from masklet.masks import morphology, rle
from masklet.masks.edge_refinement import GUIDE_SCALE, EdgeGuide, refine_edges
from masklet.media import Frame
from masklet.results import Masks, Results
from masklet.tensors import Tensor, interpolate, torch
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
    keeps_given_masks: bool = False,
    edge_radius: int | None = None,
    threshold: float = 0.0,
    speed: dict[str, float],
) -> Results:
    """Return the objects of `rows` on `frame`, one row each.

    A pixel is inside above the logit `threshold`. Holes and specks of at most `fill_hole_area` cells are cleared at
    stride 4, before masks are upsampled. Masks follow the edges of the frame within `edge_radius` cells of stride 2;
    None: they are as the decoder drew them. With `keeps_given_masks`, an object that was prompted by a mask on this
    frame has that very mask. An object without a
    mask is "occluded", and "lost" after `lost_after` frames; its score is 0 and its object score at most 0, also where
    the network is sure that it is there but sees less than a cell of it.
    """
    masks = np.zeros((0, *frame.size), bool)
    if rows:
        logits_N1HW = torch.cat([state.logits_11HW.float() for _, state in rows if state.logits_11HW is not None])
        logits_N1HW = logits_N1HW - threshold if threshold else logits_N1HW
        with torch.inference_mode():
            cleaned_N1HW = _fill_holes_and_specks(logits_N1HW, fill_hole_area)
            full_N1HW = interpolate(cleaned_N1HW, frame.size, mode="bilinear", align_corners=False)
            masks = (full_N1HW[:, 0] > 0).cpu().numpy()
            if edge_radius is not None and masks.any():
                height, width = (GUIDE_SCALE * side for side in cleaned_N1HW.shape[-2:])
                soft_N1HW = interpolate(cleaned_N1HW, (height, width), mode="bilinear", align_corners=False).sigmoid()
                image_HW3 = cv2.resize(frame.rgb, (width, height), interpolation=cv2.INTER_AREA) / np.float32(255)
                refine_edges(masks, soft_N1HW[:, 0].cpu().numpy(), EdgeGuide(image_HW3.astype(np.float32), edge_radius))
    for row, (one, _) in enumerate(rows if keeps_given_masks else ()):
        prompt = one.prompts.get(frame.index)
        if prompt is not None and prompt.mask is not None and prompt.points is None:
            masks[row] = prompt.mask.mask
    is_visible = np.asarray(masks.any(axis=(1, 2)))
    object_scores = np.array([state.object_score for _, state in rows], np.float32)
    unseen = ["lost" if one.frames_unseen >= lost_after else "occluded" for one, _ in rows]
    return Results(
        frame.rgb,
        frame.path,
        Masks(masks),
        np.array([state.iou for _, state in rows], np.float32) * is_visible,
        ids=np.array([one.id for one, _ in rows], np.int32),
        classes=np.zeros(len(rows), np.int32),
        names=DEFAULT_NAMES,
        speed=speed,
        frame_idx=frame.index,
        time=frame.time,
        object_scores=np.where(is_visible, object_scores, np.minimum(object_scores, 0)),
        states=tuple("visible" if seen else state for seen, state in zip(is_visible, unseen, strict=True)),
    )


def _fill_holes_and_specks(logits_N1HW: Tensor, max_area: int) -> Tensor:
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
    """The results of one frame in little memory: without its image, masks as run lengths."""

    ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    object_scores: npt.NDArray[np.float32]
    states: tuple[str, ...]
    masks: tuple[rle.Rle, ...]

    @classmethod
    def from_results(cls, results: Results) -> CompressedResults:
        """Compress results of one object or more."""
        assert results.masks is not None
        assert results.object_scores is not None
        assert results.states is not None
        codes = tuple(rle.encode(mask) for mask in results.masks.data)
        return cls(results.ids, results.scores, results.object_scores, results.states, codes)

    def merge_into(self, results: Results, object_ids: Sequence[int]) -> Results:
        """Add these rows to `results` of the same frame with other objects, rows in the order of `object_ids`."""
        earlier = np.stack([rle.decode(code) for code in self.masks])
        assert results.masks is not None
        masks = np.concatenate([results.masks.data, earlier])
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
        order = {number: i for i, number in enumerate(object_ids)}
        return both[sorted(range(len(both)), key=lambda row: order.get(int(both.ids[row]), len(order)))]
