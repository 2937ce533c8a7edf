"""Points in, candidate masks out: those that the network itself thinks well of.

Shapes: N points or candidates, K candidates a point, h and w of low-resolution logits.

Where something has been found already, so that nobody need ask there again.

Shapes: N candidates or points, h and w of low-resolution logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from masklet.image.amg_options import MaskGeneratorOptions
from masklet.image.predictor import ImagePredictor
from masklet.models.fast_cpu.shared_prompts import SharedPrediction
from masklet.models.heads.mask_decoder import select_masks
from masklet.models.types import MaskPrediction, PromptTensors
from masklet.transforms import LOGIT_LIMIT, ImageTransform

__all__ = ["CandidateSampler", "Candidates", "CoveredRegion"]

MAX_MASK_FRACTION = 0.25
"""Share of the network's input above which a mask explains nothing: other things may lie on it."""


class CoveredRegion:
    """The cells of an image that lie in a mask that was found.

    Example:
        >>> explained = Explained(fit, threshold=0.0)
        >>> explained.add(candidates.logits_NHW)
        >>> points[explained.open(points)]  # still worth asking
    """

    def __init__(self, transform: ImageTransform, threshold: float) -> None:
        self.transform, self.threshold = transform, threshold
        self.cells_HW: npt.NDArray[np.bool_] | None = None

    def add(self, logits_NHW: Tensor) -> None:
        """Masks that were found."""
        masks_NHW = (logits_NHW > self.threshold).cpu().numpy()
        small = masks_NHW.mean(axis=(1, 2)) <= MAX_MASK_FRACTION
        cells_HW = masks_NHW[small].any(axis=0)
        self.cells_HW = cells_HW if self.cells_HW is None else self.cells_HW | cells_HW

    def uncovered(self, points_N2: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """(N,): which points, xy in pixels of the image, lie in nothing that was found."""
        if self.cells_HW is None:
            return np.ones(len(points_N2), bool)
        side = len(self.cells_HW)
        x, y = (
            (self.transform.transform_coords(points_N2) * (side / self.transform.input_size))
            .astype(int)
            .clip(0, side - 1)
            .T
        )
        return np.asarray(~self.cells_HW[y, x])


Floats = npt.NDArray[np.float32]
POSITIVE_LABEL = 1
"""The label of a click on an object."""


@dataclass(frozen=True)
class Candidates:
    """Masks at low resolution."""

    logits_NHW: Tensor
    """Of the whole input of the network, above the threshold is inside."""
    iou_N: Floats
    """Predicted overlap with what was meant."""
    points_N2: Floats
    """The point that was asked, xy in pixels of the crop."""

    def __len__(self) -> int:
        return len(self.iou_N)

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Candidates:
        """Some of them."""
        return Candidates(self.logits_NHW[torch.from_numpy(keep)], self.iou_N[keep], self.points_N2[keep])


class CandidateSampler:
    """Answers points about the image that `predictor` holds; `plain` without the way in which prompts share work.

    Example:
        >>> candidates = Asker(predictor, EverythingOptions()).ask(points)
    """

    def __init__(self, predictor: ImagePredictor, options: MaskGeneratorOptions, *, eager: bool = False) -> None:
        assert predictor.features is not None, "the predictor holds an image"
        self.predictor, self.options = predictor, options
        self.features = predictor.features
        self.shared_context = None if eager else predictor._shared_context()

    @property
    def transform(self) -> ImageTransform:
        """How the image lies in the network's input."""
        return self.predictor._image_transform(self.predictor.size)

    def batches(self, points_N2: Floats) -> Iterator[Floats]:
        """Points that are asked together."""
        size = self.options.points_per_batch
        size = size if self.shared_context is None else min(size, self.shared_context.batch_size)
        return (points_N2[start : start + size] for start in range(0, len(points_N2), size))

    def sample(self, points_N2: Floats) -> Candidates:
        """Candidates with a predicted IoU above the options' threshold, in the order of their points."""
        least = self.options.pred_iou_thresh if self.options.pred_iou_thresh > 0 else -math.inf
        if not self.options.use_m2m:
            return self._predict(points_N2, None, self.options.multimask_output, least)
        found = self._predict(points_N2, None, self.options.multimask_output, -math.inf)
        return self._refine(found, least)

    def _predict(
        self, points_N2: Floats, mask_input_N1HW: Tensor | None, multimask_output: bool, min_iou: float
    ) -> Candidates:
        xy_N12 = torch.from_numpy(self.transform.transform_coords(points_N2))[:, None].to(self.predictor.device)
        labels_N1 = torch.full((len(points_N2), 1), POSITIVE_LABEL, device=xy_N12.device)
        prompts = PromptTensors(xy_N12, labels_N1, mask_input_N1HW)
        if self.shared_context is None or mask_input_N1HW is not None:
            return self._decode(points_N2, prompts, multimask_output, min_iou)
        answer = self.shared_context.predict(prompts)
        return (_select_multimask if multimask_output else self._select_single)(points_N2, answer, min_iou)

    def _decode(self, points_N2: Floats, prompts: PromptTensors, multimask_output: bool, min_iou: float) -> Candidates:
        """By the network's own verb."""
        indices = torch.zeros(len(points_N2), dtype=torch.long, device=prompts.points_BN2.device)
        every = self.predictor.model.decode(self.features.index_select(indices), prompts)
        return _filter_by_iou(
            points_N2,
            select_masks(every, multimask_output, threshold=self.predictor.model.stability_threshold),
            min_iou,
        )

    def _select_single(self, points_N2: Floats, prediction: SharedPrediction, min_iou: float) -> Candidates:
        """One mask a point; which one it is needs all four, of points of which any is good enough."""
        hopeful_B = (prediction.iou_BK > min_iou).any(1).nonzero()[:, 0]
        chosen = select_masks(
            prediction.candidates(hopeful_B.tolist()), False, threshold=self.predictor.model.stability_threshold
        )
        return _filter_by_iou(points_N2[hopeful_B.numpy()], chosen, min_iou)

    def _refine(self, candidates: Candidates, min_iou: float) -> Candidates:
        """Every candidate handed back once, with its point."""
        logits = candidates.logits_NHW[:, None]
        if self.predictor.model.clamps_logits:
            logits = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        size = self.options.points_per_batch
        parts = [
            self._predict(
                candidates.points_N2[i : i + size], logits[i : i + size], multimask_output=False, min_iou=min_iou
            )
            for i in range(0, len(candidates), size)
        ]
        return concat_candidates(parts)


def _select_multimask(points_N2: Floats, prediction: SharedPrediction, min_iou: float) -> Candidates:
    """Three masks a point; only those that are good enough are made."""
    good_BK = prediction.iou_BK[:, 1:] > min_iou
    prompts, candidates = good_BK.nonzero().unbind(1)
    iou_N = prediction.iou_BK[prompts, candidates + 1].numpy()
    return Candidates(prediction.logits_of_candidates(prompts, candidates + 1), iou_N, points_N2[prompts.numpy()])


def _filter_by_iou(points_N2: Floats, prediction: MaskPrediction, min_iou: float) -> Candidates:
    iou_NK = prediction.iou_BK.float().cpu().numpy()
    every = Candidates(
        prediction.logits_BKHW.float().flatten(0, 1), iou_NK.ravel(), points_N2.repeat(iou_NK.shape[1], axis=0)
    )
    return every if min_iou == -math.inf else every.select(every.iou_N > min_iou)


def concat_candidates(parts: list[Candidates]) -> Candidates:
    """One after the other."""
    return Candidates(
        torch.cat([part.logits_NHW for part in parts]),
        np.concatenate([part.iou_N for part in parts]),
        np.concatenate([part.points_N2 for part in parts]),
    )
