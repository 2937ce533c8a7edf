"""A simulated user: a box, a click or a rough mask first, then clicks where the prediction is wrong.

Shapes: N objects, T points, S side of the image, H and W at stride 4.

The next corrective click from a prediction and the truth, as training draws it: at random from what is wrong.

Evaluation asks with the deepest pixel instead, which is the same in every run (`masklet.evaluate.prompts_from_masks`).

Coordinates are pixels of the maps handed in, x before y, at pixel centers (column + 0.5 would be the same point
in continuous coordinates; the prompt encoder adds the half itself).
Shapes: B objects, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from masklet.models.sam2 import SAM2
from masklet.models.types import ImageFeatures, MaskPrediction, PromptTensors
from masklet.train.config import LossConfig, PromptConfig
from masklet.train.data import ClipBatch
from masklet.train.losses import LossTerms, downsample_masks, prediction_loss
from masklet.transforms import LOGIT_LIMIT, MASK_PROMPT_LOGIT

__all__ = [
    "PromptRound",
    "image_forward",
    "noisy_boxes",
    "sample_click",
    "sample_correction_click",
    "sample_num_rounds",
    "sample_prompt_types",
    "sample_rough_masks",
    "simulate_rounds",
]

CLICK_GRID_STRIDE = 4
"""Pixels; random clicks look at depth in cells of this size."""


def sample_click(pred_BHW: Tensor, gt_BHW: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """A pixel drawn from what is wrong, the likelier the deeper inside: (B, 2) coordinates, and (B,) labels.

    A label is 1 where truth was missed and 0 where there is none.
    Depth is judged by the share of a neighbourhood of about `3 * CELL` pixels that is wrong too; sides are multiples
    of `CELL`. Where nothing is wrong, a pixel of the truth.
    """
    truth = gt_BHW.bool()
    wrong = pred_BHW.bool() ^ truth
    none_B = ~wrong.flatten(1).any(1)
    wrong = torch.where(none_B[:, None, None], truth, wrong).float()
    coarse = avg_pool2d(avg_pool2d(wrong[:, None], CLICK_GRID_STRIDE, CLICK_GRID_STRIDE), 3, 1, 1)[:, 0]
    depth = coarse.repeat_interleave(CLICK_GRID_STRIDE, 1).repeat_interleave(CLICK_GRID_STRIDE, 2)
    ladder = (wrong * depth**3).flatten(1).double().cumsum(1)
    height = torch.rand(len(truth), 1, generator=generator, dtype=torch.float64).to(truth.device) * ladder[:, -1:]
    index_B = torch.searchsorted(ladder, height, right=True)[:, 0].clamp(max=ladder.shape[1] - 1)
    label_B = truth.flatten(1).gather(1, index_B[:, None])[:, 0].long()
    return index_to_xy(index_B, truth.shape[-1]), label_B


def index_to_xy(index_B: Tensor, width: int) -> Tensor:
    return torch.stack([index_B % width, index_B // width], dim=-1).float()


@dataclass(frozen=True)
class PromptRound:
    """What was answered to a prompt, and what it cost."""

    prediction: MaskPrediction
    ambiguous: bool
    """The prompt was a lone click."""
    loss: LossTerms


def noisy_boxes(masks_NSS: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Corners (N, 2, 2), x before y, of the masks' boxes, each side moved by up to `noise` of the box's own."""
    side = masks_NSS.shape[-1]
    low_high = []
    for axis in (1, 2):  # the axis that is squeezed: columns first gives x
        line_NS = masks_NSS.any(dim=axis).float()
        low_high.append((line_NS.argmax(1), side - line_NS.flip(1).argmax(1)))
    low = torch.stack([low_high[0][0], low_high[1][0]], dim=-1).float()
    high = torch.stack([low_high[0][1], low_high[1][1]], dim=-1).float()
    corners = torch.stack([low, high], dim=1)
    moved = (torch.rand(corners.shape, generator=generator) * 2 - 1).to(corners) * noise
    return (corners + moved * (high - low)[:, None]).clamp(0, side)


def sample_rough_masks(target_N1HW: Tensor, generator: torch.Generator) -> Tensor:
    """Logits (N, 1, H, W) of masks that are about right: blurred, and with bays and bulges."""
    soft = avg_pool2d(target_N1HW, 5, 1, 2)
    bumps = torch.randn(len(soft), 1, 6, 6, generator=generator).to(soft)
    wavy = interpolate(bumps, size=soft.shape[-2:], mode="bilinear")
    return ((soft - 0.5) * 20 + wavy * 3).clamp(-MASK_PROMPT_LOGIT, MASK_PROMPT_LOGIT)


def sample_prompt_types(count: int, prompts: PromptConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Which of `count` objects are asked for by a mask, a box or a click: indices, none of them empty."""
    lot_N = torch.rand(count, generator=generator)
    by_box_N, by_mask_N = lot_N < prompts.box_prob, lot_N >= 1 - prompts.mask_prob
    kinds = {"box": by_box_N, "click": ~by_box_N & ~by_mask_N, "mask": by_mask_N}
    return {kind: chosen_N.nonzero()[:, 0] for kind, chosen_N in kinds.items() if chosen_N.any()}


def sample_num_rounds(prompts: PromptConfig, generator: torch.Generator) -> int:
    """How many rounds somebody goes on for."""
    return 1 + int(torch.multinomial(torch.tensor(prompts.round_probs), 1, generator=generator))


def image_forward(
    model: SAM2,
    features: ImageFeatures,
    batch: ClipBatch,
    *,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> dict[str, list[LossTerms]]:
    """The cost of each round by kind of prompt, for the objects of stills; `features` hold one entry an image."""
    prompts = prompts.for_images()
    rounds = sample_num_rounds(prompts, generator)
    costs = {}
    for kind, index_N in sample_prompt_types(len(batch.clip_index_N), prompts, generator).items():
        truth_NSS = batch.masks_NTSS[index_N.to(batch.masks_NTSS.device), 0]
        own = features.index_select(batch.clip_index_N[index_N.to(batch.clip_index_N.device)])
        done = simulate_rounds(
            model, own, truth_NSS, prompt_type=kind, rounds=rounds, prompts=prompts, losses=losses, generator=generator
        )
        costs[kind] = [each.loss for each in done]
    return costs


def simulate_rounds(
    model: SAM2,
    features: ImageFeatures,
    gt_NSS: Tensor,
    *,
    prompt_type: str,
    rounds: int,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> list[PromptRound]:
    """What each round gives; `features` hold one entry an object, `first` is box, click or mask."""
    target = downsample_masks(gt_NSS)
    points, labels = _first_prompt(gt_NSS, prompt_type, prompts.box_noise, generator)
    mask = sample_rough_masks(target, generator) if prompt_type == "mask" else None
    done: list[PromptRound] = []
    for turn in range(rounds):
        prediction = model.decode(features, PromptTensors(points, labels, mask))
        ambiguous = turn == 0 and prompt_type == "click"
        done.append(
            PromptRound(prediction, ambiguous, prediction_loss(prediction, target, losses, ambiguous=ambiguous))
        )
        if turn + 1 < rounds:
            mask = _mask_input(prediction, ambiguous)
            click, label = sample_correction_click(mask, gt_NSS, prompts, generator)
            points, labels = torch.cat([points, click], 1), torch.cat([labels, label], 1)
    return done


def sample_correction_click(
    pred_N1HW: Tensor, gt_NSS: Tensor, prompts: PromptConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Where somebody who sees these logits would click: points (N, 1, 2) and labels (N, 1).

    On what is wrong; now and then, as the paper does it, anywhere on the object.
    """
    shown = interpolate(pred_N1HW, size=gt_NSS.shape[-2:], mode="bilinear")[:, 0] > 0
    if prompts.gt_click_prob > 0:
        careless_N = torch.rand(len(shown), generator=generator) < prompts.gt_click_prob
        there_N = gt_NSS.flatten(1).any(1)
        shown = shown & ~(careless_N.to(shown.device) & there_N)[:, None, None]
    click, label = sample_click(shown, gt_NSS, generator)
    return click[:, None], label[:, None]


def _first_prompt(gt_NSS: Tensor, prompt_type: str, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points (N, T, 2) and labels (N, T) that an object is asked for with; none for a mask."""
    count, device = len(gt_NSS), gt_NSS.device
    if prompt_type == "box":
        return noisy_boxes(gt_NSS, noise, generator), torch.tensor([[2, 3]], device=device).expand(count, -1)
    if prompt_type == "mask":
        return torch.zeros(count, 0, 2, device=device), torch.zeros(count, 0, dtype=torch.long, device=device)
    click, label = sample_click(torch.zeros_like(gt_NSS), gt_NSS, generator)
    return click[:, None], label[:, None]


def _mask_input(prediction: MaskPrediction, ambiguous: bool) -> Tensor:
    """The logits a user would go on from: the best of three after a lone click, else the unambiguous mask."""
    first = 1 if ambiguous else 0
    iou = prediction.iou_BK[:, first:] if ambiguous else prediction.iou_BK[:, :1]
    return (
        prediction.select_candidates(first + iou.argmax(1))
        .logits_BKHW.detach()
        .float()
        .clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    )
