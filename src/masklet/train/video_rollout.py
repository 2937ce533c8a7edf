"""Through a clip as a tracker goes: the first frame is prompted, the others are found from memory; what each costs.

Gradients run through all frames. Shapes: N objects, T frames, S side, H and W at stride 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from masklet.models.sam2 import SAM2
from masklet.models.types import FrameMemory, ImageFeatures, MemoryContext, PromptTensors, SelectedMasks, empty_prompt
from masklet.train.config import LossConfig, PromptConfig
from masklet.train.data import ClipBatch
from masklet.train.losses import LossTerms, downsample_masks, prediction_loss
from masklet.train.prompt_simulation import (
    noisy_boxes,
    sample_correction_click,
    sample_num_rounds,
    sample_prompt_types,
    simulate_rounds,
)
from masklet.transforms import LOGIT_LIMIT
from masklet.video.memory_bank import build_memory_context
from masklet.video.memory_selection import AvailableMemory, RecentFrames

__all__ = ["predict_clip", "sample_frame_numbers", "video_forward"]

MAX_FRAME_GAP = 9
"""Frames that may lie unseen between two frames of a clip."""


@dataclass
class TrainMemoryBank:
    """What is remembered of all objects, by frame number."""

    frames: dict[int, FrameMemory] = field(default_factory=dict)
    prompted: set[int] = field(default_factory=set)

    def add(self, number: int, memory: FrameMemory, prompted: bool) -> None:
        """Keep a frame."""
        self.frames[number] = memory
        if prompted:
            self.prompted.add(number)

    def spatial(self, number: int) -> Tensor:
        """Return the spatial memories of a frame."""
        return self.frames[number].spatial_BMHW

    def pointer(self, number: int) -> Tensor:
        """Return the object pointers of a frame."""
        return self.frames[number].pointer_BC

    def memory_context(self, number: int) -> MemoryContext:
        """Collect what the published rule attends to."""
        available = AvailableMemory(self.prompted, self.frames.keys() - self.prompted)
        return build_memory_context([(self, RecentFrames().select(number, available, reverse=False, length=None))])


def sample_frame_numbers(frames: int, gap_prob: float, generator: torch.Generator) -> list[int]:
    """Numbers of a clip's frames in its video: in that share of the clips some frames are left out at one place.

    So a short clip also shows what it is to look back farther than it is long.
    """
    lot = torch.rand(3, generator=generator).tolist()
    gap = 1 + int(lot[0] * MAX_FRAME_GAP) if lot[1] < gap_prob else 0
    place = 1 + int(lot[2] * (frames - 1))
    return [t + (gap if t >= place else 0) for t in range(frames)]


def video_forward(
    model: SAM2,
    features: ImageFeatures,
    batch: ClipBatch,
    *,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> dict[str, list[LossTerms]]:
    """The costs of the first frame by kind of prompt, of frames that are `tracked`, of one that is `corrected`.

    `features` hold every frame of every clip, clip after clip.
    """
    numbers = sample_frame_numbers(batch.num_frames, prompts.frame_gap_prob, generator)
    correction = _sample_correction_frame(batch, prompts, generator)
    masks, costs = _first_frame(
        model, _frame_features(features, batch, 0), batch.masks_NTSS[:, 0], prompts, losses, generator
    )
    bank = TrainMemoryBank()
    bank.add(numbers[0], model.encode_memory(_frame_features(features, batch, 0), masks, prompted=True), prompted=True)
    for t in range(1, batch.num_frames):
        here, truth = _frame_features(features, batch, t), batch.masks_NTSS[:, t]
        seen = model.condition_on_memory(here, bank.memory_context(numbers[t]))
        prediction = model.decode(seen, empty_prompt(len(truth), truth.device))
        costs.setdefault("tracked", []).append(prediction_loss(prediction, downsample_masks(truth), losses))
        masks = model.select_mask(prediction, multimask=True)
        if t == correction:
            masks, costs["corrected"] = _correction_rounds(model, seen, masks, truth, prompts, losses, generator)
        if t + 1 < batch.num_frames:
            memory = model.encode_memory(here, masks, prompted=t == correction)
            bank.add(numbers[t], memory, prompted=t == correction)
    return costs


def _frame_features(features: ImageFeatures, batch: ClipBatch, t: int) -> ImageFeatures:
    """Frame `t` as each object has it."""
    return features.index_select(batch.clip_index_N * batch.num_frames + t)


def _sample_correction_frame(batch: ClipBatch, prompts: PromptConfig, generator: torch.Generator) -> int | None:
    """A later frame that shows all objects, now and then."""
    lot, which = torch.rand(2, generator=generator).tolist()
    possible = batch.masks_NTSS[:, 1:].flatten(2).any(2).all(0).nonzero()[:, 0] + 1
    if lot >= prompts.correction_frame_prob or not prompts.correction_clicks or not len(possible):
        return None
    return int(possible[int(which * len(possible))])


def _first_frame(
    model: SAM2,
    features: ImageFeatures,
    gt_NSS: Tensor,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> tuple[SelectedMasks, dict[str, list[LossTerms]]]:
    """The first frame: some objects by a mask, some by a box, the others by a click; then clicks that correct."""
    rounds = sample_num_rounds(prompts, generator)
    kinds = sample_prompt_types(len(gt_NSS), prompts, generator)
    found: list[SelectedMasks] = []
    costs: dict[str, list[LossTerms]] = {}
    for kind, index_N in kinds.items():
        index_N = index_N.to(gt_NSS.device)
        own, truth = features.index_select(index_N), gt_NSS[index_N]
        if kind == "mask":
            found.append(model.use_mask_as_output(own, truth[:, None].float()))
            continue
        done = simulate_rounds(
            model,
            model.add_no_memory_embedding(own),
            truth,
            prompt_type=kind,
            rounds=rounds,
            prompts=prompts,
            losses=losses,
            generator=generator,
        )
        found.append(model.select_mask(done[-1].prediction, multimask=done[-1].ambiguous))
        costs[kind] = [each.loss for each in done]
    order_N = torch.cat([*kinds.values()]).to(gt_NSS.device).argsort()
    return SelectedMasks.cat(found).index(order_N), costs


def _correction_rounds(
    model: SAM2,
    features: ImageFeatures,
    masks: SelectedMasks,
    gt_NSS: Tensor,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> tuple[SelectedMasks, list[LossTerms]]:
    """Clicks on what tracking got wrong; the earlier mask is gone on from."""
    target = downsample_masks(gt_NSS)
    points, labels = _empty_points(gt_NSS)
    costs: list[LossTerms] = []
    for turn in range(prompts.correction_clicks):
        before = masks.logits_B1HW.detach().float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        click, label = sample_correction_click(before, gt_NSS, prompts, generator)
        points, labels = torch.cat([points, click], 1), torch.cat([labels, label], 1)
        prediction = model.decode(features, PromptTensors(points, labels, before))
        costs.append(prediction_loss(prediction, target, losses, ambiguous=turn == 0))
        masks = model.select_mask(prediction, multimask=turn == 0)
    return masks, costs


def _empty_points(gt_NSS: Tensor) -> tuple[Tensor, Tensor]:
    """Points and labels before the first click."""
    count, device = len(gt_NSS), gt_NSS.device
    return torch.zeros(count, 0, 2, device=device), torch.zeros(count, 0, dtype=torch.long, device=device)


@torch.no_grad()
def predict_clip(model: SAM2, features: ImageFeatures, batch: ClipBatch) -> Tensor:
    """What a user would get, (N, T, S, S) bool: a tight box on the first frame, then alone."""
    first, truth_NSS = _frame_features(features, batch, 0), batch.masks_NTSS[:, 0]
    corners = noisy_boxes(truth_NSS, 0.0, torch.Generator())
    labels = torch.tensor([[2, 3]], device=corners.device).expand(len(corners), -1)
    masks = model.select_mask(
        model.decode(model.add_no_memory_embedding(first), PromptTensors(corners, labels)), multimask=False
    )
    bank, found = TrainMemoryBank(), [masks.logits_B1HW]
    if batch.num_frames > 1:
        bank.add(0, model.encode_memory(first, masks, prompted=True), prompted=True)
    for t in range(1, batch.num_frames):
        here = _frame_features(features, batch, t)
        prediction = model.decode(
            model.condition_on_memory(here, bank.memory_context(t)), empty_prompt(len(corners), corners.device)
        )
        masks = model.select_mask(prediction, multimask=True)
        bank.add(t, model.encode_memory(here, masks), prompted=False)
        found.append(masks.logits_B1HW)
    logits_NTHW = torch.cat([logits.float() for logits in found], 1)
    return interpolate(logits_NTHW, size=truth_NSS.shape[-2:], mode="bilinear") > 0
