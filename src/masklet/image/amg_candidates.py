"""Candidate masks for a grid of points, filtered by their predicted IoU.

Shapes: N points or candidates, K candidates per point, h and w of low-resolution logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from masklet.image.amg_options import MaskGeneratorOptions
from masklet.image.predictor import ImagePredictor
from masklet.masks.ops import are_similar, mask_nms, masks_to_boxes
from masklet.models.heads.mask_selection import select_masks
from masklet.models.types import PromptTensors
from masklet.tensors import Tensor, torch
from masklet.transforms import LOGIT_LIMIT, ImageTransform

__all__ = ["CandidateSampler", "Candidates", "CoveredRegion", "concat_candidates", "merge_candidates"]

Floats = npt.NDArray[np.float32]
MAX_MASK_FRACTION = 0.25
"""Fraction of the network's input above which a mask does not cover points: other objects may lie on it."""
POSITIVE_LABEL = 1
"""Label of a click on an object."""
BOX_LABELS = (2, 3)
"""Labels of the upper left and the lower right corner of a box."""
MAX_BOXES = 32
"""Boxes that are decoded together."""
AGREEMENT_POWER = 0.15
"""How much the points in a mask that agree on it count in its score; chosen on the built-in model's training images."""


@dataclass(eq=False)
class CoveredRegion:
    """The cells of an image that lie in a mask found so far.

    Example:
        >>> covered = CoveredRegion(transform, threshold=0.0)
        >>> covered.add(candidates.logits_NHW)
        >>> points = points[covered.uncovered(points)]
    """

    transform: ImageTransform
    threshold: float
    cells_HW: npt.NDArray[np.bool_] | None = None

    def add(self, logits_NHW: Tensor) -> None:
        """Add masks, except for large ones."""
        masks_NHW = (logits_NHW > self.threshold).cpu().numpy()
        small = masks_NHW.mean(axis=(1, 2)) <= MAX_MASK_FRACTION
        cells_HW = masks_NHW[small].any(axis=0)
        self.cells_HW = cells_HW if self.cells_HW is None else self.cells_HW | cells_HW

    def uncovered(self, points_N2: Floats) -> npt.NDArray[np.bool_]:
        """Return (N,): which points, xy in pixels of the image, lie in no mask."""
        if self.cells_HW is None:
            return np.ones(len(points_N2), bool)
        side = len(self.cells_HW)
        xy_N2 = self.transform.transform_coords(points_N2) * (side / max(self.transform.input_shape))
        x, y = xy_N2.astype(int).clip(0, side - 1).T
        return np.asarray(~self.cells_HW[y, x])


@dataclass(frozen=True)
class Candidates:
    """Masks at low resolution."""

    logits_NHW: Tensor
    """Of the network's full input; above the threshold is inside."""
    iou_N: Floats
    """Predicted IoU with the true mask."""
    points_N2: Floats
    """The point of the prompt, xy in pixels of the crop."""

    def __len__(self) -> int:
        return len(self.iou_N)

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Candidates:
        """Select rows by mask or index."""
        return Candidates(self.logits_NHW[torch.from_numpy(keep)], self.iou_N[keep], self.points_N2[keep])


def concat_candidates(parts: list[Candidates]) -> Candidates:
    """Concatenate candidates."""
    return Candidates(
        torch.cat([part.logits_NHW for part in parts]),
        np.concatenate([part.iou_N for part in parts]),
        np.concatenate([part.points_N2 for part in parts]),
    )


def merge_candidates(
    candidates: Candidates, points_N2: Floats, transform: ImageTransform, options: MaskGeneratorOptions
) -> Candidates:
    """Average the masks that several points agree on, and rank them by their points.

    A mask that stays after NMS (`mask_nms_thresh`) becomes the mean of the candidates with a larger IoU with it than
    `merge_thresh`, each weighted by its predicted IoU. Of the `points_N2` of the grid that lie in the mask, those with
    such a candidate agree: their fraction lowers the score, and a mask with fewer than `min_points` is dropped.
    """
    if not len(candidates):
        return candidates
    bits_NHW = (candidates.logits_NHW > options.mask_threshold).cpu().numpy()
    areas_N, boxes_N4 = np.count_nonzero(bits_NHW, axis=(1, 2)), masks_to_boxes(bits_NHW).astype(int)
    scale, last = bits_NHW.shape[2] / transform.input_shape[1], np.array(bits_NHW.shape[:0:-1]) - 1
    cells_N2, own_N2 = (
        (transform.transform_coords(each) * scale).astype(int).clip(0, last)
        for each in (points_N2, candidates.points_N2)
    )
    _, numbers_N = np.unique(candidates.points_N2, axis=0, return_inverse=True)

    every = np.arange(len(candidates))

    logits, scores, chosen = [], [], []
    for best in mask_nms(bits_NHW, candidates.iou_N, options.mask_nms_thresh).tolist():
        members = np.flatnonzero(are_similar(bits_NHW, areas_N, boxes_N4, best, every, options.merge_thresh))
        if not len(members):  # an empty mask
            continue
        inside = bits_NHW[best, own_N2[members, 1], own_N2[members, 0]]
        agreeing = len(np.unique(numbers_N.ravel()[members[inside]]))
        if agreeing < options.min_points:
            continue
        total = int(np.count_nonzero(bits_NHW[best, cells_N2[:, 1], cells_N2[:, 0]]))
        weights = torch.from_numpy(candidates.iou_N[members]).to(candidates.logits_NHW.device).clamp_min(1e-6)
        logits.append(torch.einsum("n,nhw->hw", weights / weights.sum(), candidates.logits_NHW[members]))
        scores.append(candidates.iou_N[best] * ((1 + agreeing) / (2 + total)) ** AGREEMENT_POWER)
        chosen.append(best)
    if not chosen:
        return candidates.select(np.zeros(len(candidates), bool))
    return Candidates(torch.stack(logits), np.array(scores, np.float32), candidates.points_N2[chosen])


class CandidateSampler:
    """Prompts the predictor's image with points; `eager` decodes by the network's own verb only.

    Example:
        >>> candidates = CandidateSampler(predictor, MaskGeneratorOptions()).sample(points)
    """

    def __init__(self, predictor: ImagePredictor, options: MaskGeneratorOptions, *, eager: bool = False) -> None:
        assert predictor.features is not None, "the predictor has no image"
        self.predictor, self.options = predictor, options
        self.features, self.transform = predictor.features, predictor._image_transform(predictor.size)
        self.shared_context = None if eager else predictor._shared_context()
        self.batch_size = options.points_per_batch
        """Points that are decoded together."""
        if self.shared_context is not None:
            self.batch_size = min(self.batch_size, self.shared_context.batch_size)

    def sample(self, points_N2: Floats) -> Candidates:
        """Return the candidates with a predicted IoU above the options' threshold, in the order of their points.

        With `use_m2m`, each candidate is refined once, by its logits and its point.
        """
        min_iou = self.options.pred_iou_thresh if self.options.pred_iou_thresh > 0 else -math.inf
        if not self.options.use_m2m:
            return self._predict(points_N2, None, self.options.multimask_output, min_iou)
        candidates = self._predict(points_N2, None, self.options.multimask_output, -math.inf)
        logits = candidates.logits_NHW[:, None]
        if self.predictor.model.clamps_logits:
            logits = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        size, points_N2 = self.options.points_per_batch, candidates.points_N2
        parts = [
            self._predict(points_N2[i : i + size], logits[i : i + size], False, min_iou)
            for i in range(0, len(candidates), size)
        ]
        return concat_candidates(parts)

    def refine(self, candidates: Candidates, boxes_N4: Floats) -> Candidates:
        """Prompt candidates by their boxes, xyxy in pixels of the crop, both ends inclusive; returns the answers.

        A box raises the predicted IoU of whatever is in it, so an answer has the mean of that and its candidate's.
        """
        corners_N22 = (boxes_N4 + np.array([0, 0, 1, 1], np.float32)).reshape(-1, 2, 2)
        xy_N22 = torch.from_numpy(self.transform.transform_coords(corners_N22.reshape(-1, 2)).reshape(-1, 2, 2))
        model, parts = self.predictor.model, [candidates.select(np.zeros(len(candidates), bool))]
        for start in range(0, len(candidates), MAX_BOXES):
            xy_B22 = xy_N22[start : start + MAX_BOXES].to(self.predictor.device)
            rows_B = torch.zeros(len(xy_B22), dtype=torch.long, device=xy_B22.device)
            labels_B2 = torch.tensor(BOX_LABELS, device=xy_B22.device).expand(len(xy_B22), 2)
            decoded = model.decode(self.features.index_select(rows_B), PromptTensors(xy_B22, labels_B2, None))
            selected = select_masks(decoded, False, threshold=model.stability_threshold)
            iou_B = (candidates.iou_N[start : start + MAX_BOXES] + selected.iou_BK[:, 0].float().cpu().numpy()) / 2
            points_B2 = candidates.points_N2[start : start + MAX_BOXES]
            parts.append(Candidates(selected.logits_BKHW[:, 0].float(), iou_B, points_B2))
        return concat_candidates(parts)

    def _predict(
        self, points_N2: Floats, mask_input_N1HW: Tensor | None, multimask_output: bool, min_iou: float
    ) -> Candidates:
        """Decode points, with logits to refine or without, by the shared context where that is possible."""
        xy_N12 = torch.from_numpy(self.transform.transform_coords(points_N2))[:, None].to(self.predictor.device)
        labels_N1 = torch.full((len(points_N2), 1), POSITIVE_LABEL, device=xy_N12.device)
        prompts, model = PromptTensors(xy_N12, labels_N1, mask_input_N1HW), self.predictor.model
        if self.shared_context is None or mask_input_N1HW is not None:
            rows = torch.zeros(len(points_N2), dtype=torch.long, device=xy_N12.device)
            decoded = model.decode(self.features.index_select(rows), prompts)
        else:
            prediction = self.shared_context.predict(prompts)
            if multimask_output:  # only the masks that are good enough are computed
                rows_N, k_N = (prediction.iou_BK[:, 1:] > min_iou).nonzero().unbind(1)
                iou_N = prediction.iou_BK[rows_N, k_N + 1].numpy()
                return Candidates(prediction.logits_of_candidates(rows_N, k_N + 1), iou_N, points_N2[rows_N.numpy()])
            # Which mask is selected depends on all four; they are computed where any is good enough.
            rows_N = (prediction.iou_BK > min_iou).any(1).nonzero()[:, 0]
            decoded, points_N2 = prediction.candidates(rows_N.tolist()), points_N2[rows_N.numpy()]

        selected = select_masks(decoded, multimask_output, threshold=model.stability_threshold)
        iou_NK = selected.iou_BK.float().cpu().numpy()
        points_N2 = points_N2.repeat(iou_NK.shape[1], axis=0)
        every = Candidates(selected.logits_BKHW.float().flatten(0, 1), iou_NK.ravel(), points_N2)
        return every if min_iou == -math.inf else every.select(every.iou_N > min_iou)
