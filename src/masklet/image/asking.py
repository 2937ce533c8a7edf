"""Points in, candidate masks out: those that the network itself thinks well of.

Shapes: N points or candidates, K candidates a point, h and w of low-resolution logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from masklet.image.predictor import ImagePredictor
from masklet.image.presets import EverythingOptions
from masklet.models.base import MaskPrediction, PromptTensors
from masklet.models.heads.mask_decoder import choose
from masklet.pixels import LOGIT_LIMIT, Fit

__all__ = ["Asker", "Candidates"]

Floats = npt.NDArray[np.float32]
INSIDE = 1
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

    def take(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Candidates:
        """Some of them."""
        return Candidates(self.logits_NHW[torch.from_numpy(keep)], self.iou_N[keep], self.points_N2[keep])


class Asker:
    """Answers points about the picture that `predictor` holds.

    Example:
        >>> candidates = Asker(predictor, EverythingOptions()).ask(points)
    """

    def __init__(self, predictor: ImagePredictor, options: EverythingOptions) -> None:
        assert predictor.features is not None, "the predictor holds a picture"
        self.predictor, self.options = predictor, options
        self.features = predictor.features

    @property
    def fit(self) -> Fit:
        """How the picture lies in the network's input."""
        return self.predictor.fit(self.predictor.size)

    def batches(self, points_N2: Floats) -> Iterator[Floats]:
        """Points that are asked together."""
        size = self.options.points_per_batch
        return (points_N2[start : start + size] for start in range(0, len(points_N2), size))

    def ask(self, points_N2: Floats) -> Candidates:
        """Candidates with a predicted IoU above the options' threshold, in the order of their points."""
        found = self._candidates(points_N2, None, self.options.multimask_output)
        if self.options.use_m2m:
            found = self._refined(found)
        return found.take(found.iou_N > self.options.pred_iou_thresh) if self.options.pred_iou_thresh > 0 else found

    def _candidates(self, points_N2: Floats, earlier_N1HW: Tensor | None, multimask: bool) -> Candidates:
        xy_N12 = torch.from_numpy(self.fit.xy(points_N2))[:, None].to(self.predictor.device)
        labels_N1 = torch.full((len(points_N2), 1), INSIDE, device=xy_N12.device)
        chosen = self._decoded(PromptTensors(xy_N12, labels_N1, earlier_N1HW), multimask)
        iou_NK = chosen.iou_BK.float().cpu().numpy()
        points = points_N2.repeat(iou_NK.shape[1], axis=0)
        return Candidates(chosen.logits_BKHW.float().flatten(0, 1), iou_NK.ravel(), points)

    def _decoded(self, prompts: PromptTensors, multimask: bool) -> MaskPrediction:
        model = self.predictor.model
        indices = torch.zeros(len(prompts.points_BN2), dtype=torch.long, device=prompts.points_BN2.device)
        every = model.decode(self.features.take(indices), prompts)
        return choose(every, multimask, threshold=model.stability)

    def _refined(self, found: Candidates) -> Candidates:
        """Every candidate handed back once, with its point."""
        logits = found.logits_NHW[:, None]
        if self.predictor.model.clamps_logits:
            logits = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        size = self.options.points_per_batch
        parts = [
            self._candidates(found.points_N2[i : i + size], logits[i : i + size], multimask=False)
            for i in range(0, len(found), size)
        ]
        return joined(parts)


def joined(parts: list[Candidates]) -> Candidates:
    """One after the other."""
    return Candidates(
        torch.cat([part.logits_NHW for part in parts]),
        np.concatenate([part.iou_N for part in parts]),
        np.concatenate([part.points_N2 for part in parts]),
    )
