"""What a memory policy needs to know of a frame: which candidate to take, and how well the object was found there.

Shapes: B objects, K = 3 candidates, H and W at stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from masklet.masks.ops import masks_to_boxes
from masklet.models.types import MaskPrediction
from masklet.tensors import Tensor, torch
from masklet.video.box_motion import predict_motion
from masklet.video.memory_bank import FrameState, TrackedObject
from masklet.video.memory_policies import MemoryPolicy
from masklet.video.memory_selection import AvailableMemory

__all__ = ["choose_candidates", "score_frame"]

AREA_HISTORY = 15
"""Frames before, of which the usual area is taken: their areas stay stored."""


def choose_candidates(
    policy: MemoryPolicy, prediction: MaskPrediction, objects: Sequence[TrackedObject], frame_idx: int, reverse: bool
) -> Tensor | None:
    """Choose among the three candidates of each object by its motion, (B,); None: the policy does not."""
    if policy.motion is None:
        return None
    choices, present_B = [], (prediction.object_score_B1[:, 0] > policy.min_object_score).tolist()
    for row, one in enumerate(objects):
        masks_KHW = (prediction.logits_BKHW[row, 1:] > 0).cpu().numpy()
        ious_K = prediction.iou_BK[row, 1:].float().cpu().numpy().astype(np.float64)
        predicted = predict_motion(one.motion, frame_idx, reverse=reverse)
        choices.append(policy.motion.choose(predicted, masks_to_boxes(masks_KHW & present_B[row]), ious_K))
    return torch.tensor(choices, device=prediction.iou_BK.device)


def score_frame(
    policy: MemoryPolicy,
    obj: TrackedObject,
    available: AvailableMemory,
    frame_idx: int,
    reverse: bool,
    state: FrameState,
    candidates_KHW: Tensor,
) -> FrameState:
    """Return the state of a frame with what the policy judges it by, and measure the motion of the object.

    `available` are the frames that it may attend to.
    """
    motion, anchors = policy.motion, policy.anchors
    assert state.logits_11HW is not None
    mask_HW = (state.logits_11HW[0, 0] > 0).cpu().numpy()
    if motion is not None:
        predicted, box_14 = predict_motion(obj.motion, frame_idx, reverse=reverse), masks_to_boxes(mask_HW[None])
        agreements = motion.agreements(predicted, box_14)
        state = replace(state, box_agreement=None if agreements is None else float(agreements[0]))
        obj.motion = motion.measure(predicted, frame_idx, reverse, box_14[0], state.iou)
    if anchors is not None:
        before = available.tracked_before(frame_idx, reverse=reverse)
        recent = [frame for frame in before if abs(frame - frame_idx) <= AREA_HISTORY]
        areas = [area for frame in recent if (area := available.scores[frame].area) is not None]
        known = (frame for frame in before if available.scores[frame].is_anchor)
        distance = min((abs(frame - frame_idx) for frame in known), default=None)
        is_anchor = anchors.is_anchor(mask_HW, state.iou, (candidates_KHW > 0).cpu().numpy(), areas, distance)
        state = replace(state, area=int(mask_HW.sum()), is_anchor=is_anchor)
    return state
