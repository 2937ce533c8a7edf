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

from masklet.image.amg_options import EverythingOptions
from masklet.image.predictor import ImagePredictor
from masklet.models.fast_cpu.shared_prompts import Answer
from masklet.models.heads.mask_decoder import choose
from masklet.models.types import MaskPrediction, PromptTensors
from masklet.transforms import LOGIT_LIMIT, Fit

__all__ = ["Asker", "Candidates", "Explained"]

LARGEST = 0.25
"""Share of the network's input above which a mask explains nothing: other things may lie on it."""


class Explained:
    """The cells of a picture that lie in a mask that was found.

    Example:
        >>> explained = Explained(fit, threshold=0.0)
        >>> explained.add(candidates.logits_NHW)
        >>> points[explained.open(points)]  # still worth asking
    """

    def __init__(self, fit: Fit, threshold: float) -> None:
        self.fit, self.threshold = fit, threshold
        self.cells_HW: npt.NDArray[np.bool_] | None = None

    def add(self, logits_NHW: Tensor) -> None:
        """Masks that were found."""
        masks_NHW = (logits_NHW > self.threshold).cpu().numpy()
        small = masks_NHW.mean(axis=(1, 2)) <= LARGEST
        cells_HW = masks_NHW[small].any(axis=0)
        self.cells_HW = cells_HW if self.cells_HW is None else self.cells_HW | cells_HW

    def open(self, points_N2: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """(N,): which points, xy in pixels of the picture, lie in nothing that was found."""
        if self.cells_HW is None:
            return np.ones(len(points_N2), bool)
        side = len(self.cells_HW)
        x, y = (self.fit.xy(points_N2) * (side / self.fit.side)).astype(int).clip(0, side - 1).T
        return np.asarray(~self.cells_HW[y, x])


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
    """Answers points about the picture that `predictor` holds; `plain` without the way in which prompts share work.

    Example:
        >>> candidates = Asker(predictor, EverythingOptions()).ask(points)
    """

    def __init__(self, predictor: ImagePredictor, options: EverythingOptions, *, plain: bool = False) -> None:
        assert predictor.features is not None, "the predictor holds a picture"
        self.predictor, self.options = predictor, options
        self.features = predictor.features
        self.shared = None if plain else predictor.look()

    @property
    def fit(self) -> Fit:
        """How the picture lies in the network's input."""
        return self.predictor.fit(self.predictor.size)

    def batches(self, points_N2: Floats) -> Iterator[Floats]:
        """Points that are asked together."""
        size = self.options.points_per_batch
        size = size if self.shared is None else min(size, self.shared.at_once)
        return (points_N2[start : start + size] for start in range(0, len(points_N2), size))

    def ask(self, points_N2: Floats) -> Candidates:
        """Candidates with a predicted IoU above the options' threshold, in the order of their points."""
        least = self.options.pred_iou_thresh if self.options.pred_iou_thresh > 0 else -math.inf
        if not self.options.use_m2m:
            return self._candidates(points_N2, None, self.options.multimask_output, least)
        found = self._candidates(points_N2, None, self.options.multimask_output, -math.inf)
        return self._refined(found, least)

    def _candidates(self, points_N2: Floats, earlier_N1HW: Tensor | None, multimask: bool, least: float) -> Candidates:
        xy_N12 = torch.from_numpy(self.fit.xy(points_N2))[:, None].to(self.predictor.device)
        labels_N1 = torch.full((len(points_N2), 1), INSIDE, device=xy_N12.device)
        prompts = PromptTensors(xy_N12, labels_N1, earlier_N1HW)
        if self.shared is None or earlier_N1HW is not None:
            return self._decoded(points_N2, prompts, multimask, least)
        answer = self.shared.ask(prompts)
        return (_three if multimask else self._one)(points_N2, answer, least)

    def _decoded(self, points_N2: Floats, prompts: PromptTensors, multimask: bool, least: float) -> Candidates:
        """By the network's own verb."""
        indices = torch.zeros(len(points_N2), dtype=torch.long, device=prompts.points_BN2.device)
        every = self.predictor.model.decode(self.features.take(indices), prompts)
        return _above(points_N2, choose(every, multimask, threshold=self.predictor.model.stability), least)

    def _one(self, points_N2: Floats, answer: Answer, least: float) -> Candidates:
        """One mask a point; which one it is needs all four, of points of which any is good enough."""
        hopeful_B = (answer.iou_BK > least).any(1).nonzero()[:, 0]
        chosen = choose(answer.candidates(hopeful_B.tolist()), False, threshold=self.predictor.model.stability)
        return _above(points_N2[hopeful_B.numpy()], chosen, least)

    def _refined(self, found: Candidates, least: float) -> Candidates:
        """Every candidate handed back once, with its point."""
        logits = found.logits_NHW[:, None]
        if self.predictor.model.clamps_logits:
            logits = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        size = self.options.points_per_batch
        parts = [
            self._candidates(found.points_N2[i : i + size], logits[i : i + size], multimask=False, least=least)
            for i in range(0, len(found), size)
        ]
        return joined(parts)


def _three(points_N2: Floats, answer: Answer, least: float) -> Candidates:
    """Three masks a point; only those that are good enough are made."""
    good_BK = answer.iou_BK[:, 1:] > least
    prompts, candidates = good_BK.nonzero().unbind(1)
    iou_N = answer.iou_BK[prompts, candidates + 1].numpy()
    return Candidates(answer.some_logits(prompts, candidates + 1), iou_N, points_N2[prompts.numpy()])


def _above(points_N2: Floats, chosen: MaskPrediction, least: float) -> Candidates:
    iou_NK = chosen.iou_BK.float().cpu().numpy()
    every = Candidates(
        chosen.logits_BKHW.float().flatten(0, 1), iou_NK.ravel(), points_N2.repeat(iou_NK.shape[1], axis=0)
    )
    return every if least == -math.inf else every.take(every.iou_N > least)


def joined(parts: list[Candidates]) -> Candidates:
    """One after the other."""
    return Candidates(
        torch.cat([part.logits_NHW for part in parts]),
        np.concatenate([part.iou_N for part in parts]),
        np.concatenate([part.points_N2 for part in parts]),
    )
