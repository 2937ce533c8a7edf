"""Simulate a user: a box, a click or a rough mask first, then clicks where the prediction is wrong.

Training samples clicks at random; evaluation uses the deepest pixel of the error, which is the same in every run
(`masklet.evaluate.prompts_from_masks`).

Coordinates are pixels of the maps passed in, x before y, at pixel centers: column + 0.5 is the same point in continuous
coordinates, and the prompt encoder adds the half itself.
Shapes: B and N objects, T points, S side of the image, H and W at stride 4.
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
"""Pixels; the depth of an error is measured in cells of this size."""


@dataclass(frozen=True)
class PromptRound:
    """One round of a simulated user: the prediction for the prompts so far, and its loss."""

    prediction: MaskPrediction
    ambiguous: bool
    """Whether the prompt was a single click."""
    loss: LossTerms


def image_forward(
    model: SAM2,
    features: ImageFeatures,
    batch: ClipBatch,
    *,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> dict[str, list[LossTerms]]:
    """Prompt the objects of images; return the loss of each round by type of prompt.

    `features` hold one entry per image.
    """
    prompts = prompts.for_images()
    rounds = sample_num_rounds(prompts, generator)
    loss_terms = {}
    for prompt_type, index_N in sample_prompt_types(len(batch.clip_index_N), prompts, generator).items():
        gt_NSS = batch.masks_NTSS[index_N.to(batch.masks_NTSS.device), 0]
        object_features = features.index_select(batch.clip_index_N[index_N.to(batch.clip_index_N.device)])
        done = simulate_rounds(
            model,
            object_features,
            gt_NSS,
            prompt_type=prompt_type,
            rounds=rounds,
            prompts=prompts,
            losses=losses,
            generator=generator,
        )
        loss_terms[prompt_type] = [each.loss for each in done]
    return loss_terms


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
    """Prompt with a box, a click or a mask, then correct; `features` hold one entry per object."""
    target = downsample_masks(gt_NSS)
    device = gt_NSS.device
    points = torch.zeros(len(gt_NSS), 0, 2, device=device)
    labels = torch.zeros(len(gt_NSS), 0, dtype=torch.long, device=device)
    mask = None
    if prompt_type == "box":
        points = noisy_boxes(gt_NSS, prompts.box_noise, generator)
        labels = torch.tensor([[2, 3]], device=device).expand(len(gt_NSS), -1)
    elif prompt_type == "mask":
        mask = sample_rough_masks(target, generator)
    else:
        click, label = sample_click(torch.zeros_like(gt_NSS), gt_NSS, generator)
        points, labels = click[:, None], label[:, None]
    done: list[PromptRound] = []
    for i in range(rounds):
        prediction = model.decode(features, PromptTensors(points, labels, mask))
        ambiguous = i == 0 and prompt_type == "click"
        loss = prediction_loss(prediction, target, losses, ambiguous=ambiguous)
        done.append(PromptRound(prediction, ambiguous, loss))
        if i + 1 < rounds:
            # the logits that a user refines: the best of three masks after a single click, else the single mask
            best = 1 + prediction.iou_BK[:, 1:].argmax(1) if ambiguous else prediction.iou_BK[:, :1].argmax(1)
            mask = prediction.select_candidates(best).logits_BKHW.detach().float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
            click, label = sample_correction_click(mask, gt_NSS, prompts, generator)
            points, labels = torch.cat([points, click], 1), torch.cat([labels, label], 1)
    return done


def sample_click(pred_BHW: Tensor, gt_BHW: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Sample a pixel of the error region, more likely the deeper inside: coordinates (B, 2) and labels (B,).

    The label is 1 inside the ground truth, else 0. Depth is the wrong fraction of a neighborhood of about
    `3 * CLICK_GRID_STRIDE` pixels; sides are multiples of `CLICK_GRID_STRIDE`. Without an error, the pixel is one of
    the ground truth.
    """
    gt_BHW = gt_BHW.bool()
    error = pred_BHW.bool() ^ gt_BHW
    correct_B = ~error.flatten(1).any(1)
    error = torch.where(correct_B[:, None, None], gt_BHW, error).float()
    coarse = avg_pool2d(avg_pool2d(error[:, None], CLICK_GRID_STRIDE, CLICK_GRID_STRIDE), 3, 1, 1)[:, 0]
    depth = coarse.repeat_interleave(CLICK_GRID_STRIDE, 1).repeat_interleave(CLICK_GRID_STRIDE, 2)
    cumulative = (error * depth**3).flatten(1).double().cumsum(1)
    drawn = torch.rand(len(gt_BHW), 1, generator=generator, dtype=torch.float64).to(gt_BHW.device) * cumulative[:, -1:]
    index_B = torch.searchsorted(cumulative, drawn, right=True)[:, 0].clamp(max=cumulative.shape[1] - 1)
    label_B = gt_BHW.flatten(1).gather(1, index_B[:, None])[:, 0].long()
    width = gt_BHW.shape[-1]
    return torch.stack([index_B % width, index_B // width], dim=-1).float(), label_B


def sample_correction_click(
    pred_N1HW: Tensor, gt_NSS: Tensor, prompts: PromptConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sample the click of a user who sees these logits: points (N, 1, 2) and labels (N, 1).

    The click is on the error region; with `prompts.gt_click_prob`, as in the paper, anywhere on the object.
    """
    predicted = interpolate(pred_N1HW, size=gt_NSS.shape[-2:], mode="bilinear")[:, 0] > 0
    if prompts.gt_click_prob > 0:
        on_object_N = torch.rand(len(predicted), generator=generator) < prompts.gt_click_prob
        visible_N = gt_NSS.flatten(1).any(1)
        predicted = predicted & ~(on_object_N.to(predicted.device) & visible_N)[:, None, None]
    click, label = sample_click(predicted, gt_NSS, generator)
    return click[:, None], label[:, None]


def noisy_boxes(masks_NSS: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Return the masks' boxes as corners (N, 2, 2), x before y, each side shifted by up to `noise` of the box size."""
    side = masks_NSS.shape[-1]
    low_high = []
    for axis in (1, 2):  # the axis that is reduced: columns first gives x
        line_NS = masks_NSS.any(dim=axis).float()
        low_high.append((line_NS.argmax(1), side - line_NS.flip(1).argmax(1)))
    low = torch.stack([low_high[0][0], low_high[1][0]], dim=-1).float()
    high = torch.stack([low_high[0][1], low_high[1][1]], dim=-1).float()
    corners = torch.stack([low, high], dim=1)
    shift = (torch.rand(corners.shape, generator=generator) * 2 - 1).to(corners) * noise
    return (corners + shift * (high - low)[:, None]).clamp(0, side)


def sample_rough_masks(target_N1HW: Tensor, generator: torch.Generator) -> Tensor:
    """Sample logits (N, 1, H, W) of imprecise masks: blurred, with dents and bumps."""
    soft = avg_pool2d(target_N1HW, 5, 1, 2)
    noise = torch.randn(len(soft), 1, 6, 6, generator=generator).to(soft)
    smooth_noise = interpolate(noise, size=soft.shape[-2:], mode="bilinear")
    return ((soft - 0.5) * 20 + smooth_noise * 3).clamp(-MASK_PROMPT_LOGIT, MASK_PROMPT_LOGIT)


def sample_prompt_types(count: int, prompts: PromptConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Assign `count` objects to mask, box and click; return the indices of each type that has any."""
    draw_N = torch.rand(count, generator=generator)
    box_N, mask_N = draw_N < prompts.box_prob, draw_N >= 1 - prompts.mask_prob
    by_type = {"box": box_N, "click": ~box_N & ~mask_N, "mask": mask_N}
    return {prompt_type: chosen_N.nonzero()[:, 0] for prompt_type, chosen_N in by_type.items() if chosen_N.any()}


def sample_num_rounds(prompts: PromptConfig, generator: torch.Generator) -> int:
    """Sample the number of rounds on a frame."""
    return 1 + int(torch.multinomial(torch.tensor(prompts.round_probs), 1, generator=generator))
