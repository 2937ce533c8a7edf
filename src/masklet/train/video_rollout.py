"""Track through a clip as a tracker does: prompt the first frame, find the others from memory, and compute the losses.

A network that copies labels (`SAM2Config.matching`) also answers to the prior of each frame, and goes on with the mean
of both answers. Gradients flow through all frames, but not through labels.
Shapes: B clips, N objects, T frames, S side, H and W at stride 4; labels, priors and keys are at stride 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from masklet.models.fast_cpu.label_matching_blocks import match_labels_in_blocks
from masklet.models.sam2 import SAM2
from masklet.models.sam2.label_matching import label_from_mask
from masklet.models.types import (
    FrameMemory,
    ImageFeatures,
    MaskPrediction,
    MemoryContext,
    PromptTensors,
    SelectedMasks,
    empty_prompt,
)
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
"""Largest number of frames skipped between two frames of a clip."""


@dataclass
class TrainMemoryBank:
    """The memories of all objects, by frame number."""

    frames: dict[int, FrameMemory] = field(default_factory=dict)
    prompted: set[int] = field(default_factory=set)

    def add(self, number: int, memory: FrameMemory, prompted: bool) -> None:
        """Store the memory of a frame."""
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
        """Collect the memories that frame `number` attends to, by the published rule."""
        available = AvailableMemory(self.prompted, self.frames.keys() - self.prompted)
        return build_memory_context([(self, RecentFrames().select(number, available, reverse=False, length=None))])


class ClipLabels:
    """The labels of all objects of a batch by position in the clip, copied to later frames as `Tracker` does."""

    def __init__(self, model: SAM2, features: ImageFeatures, batch: ClipBatch, numbers: Sequence[int]) -> None:
        self.model, self.batch, self.numbers = model, batch, numbers
        self.keys_BTHWC = torch.unflatten(model.matching_keys(features).detach(), 0, (-1, batch.num_frames))
        self.labels_NHW: dict[int, Tensor] = {}
        self.prompted: set[int] = set()

    @torch.no_grad()
    def add(self, t: int, masks: SelectedMasks, prior_N1HW: Tensor | None, *, prompted: bool = False) -> None:
        """Keep the labels of a frame: the mask's, averaged with the prior where it found the object."""
        labels_N1HW = label_from_mask(masks.logits_B1HW)
        if prompted:
            self.prompted.add(t)
        elif prior_N1HW is not None:
            found_N = found_objects(prior_N1HW)
            labels_N1HW[found_N] = label_from_mask(masks.logits_B1HW[found_N], prior_N1HW[found_N])
        self.labels_NHW[t] = labels_N1HW[:, 0]

    @torch.no_grad()
    def prior(self, t: int) -> Tensor:
        """Return the prior of each object on a frame, (N, 1, H, W) in 0..1."""
        config = self.model.config.matching
        assert config is not None
        recent = {s for s in self.labels_NHW if self.numbers[t] - self.numbers[s] <= config.recent}
        frames = sorted(recent | self.prompted)
        labels_NFHW = torch.stack([self.labels_NHW[s] for s in frames], 1)
        prior_N1HW = torch.zeros_like(labels_NFHW[:, :1])
        for clip, clip_THWC in enumerate(self.keys_BTHWC):
            own_N = self.batch.clip_index_N == clip
            prior_N1HW[own_N] = match_labels_in_blocks(clip_THWC[t], clip_THWC[frames], labels_NFHW[own_N], config)
        return prior_N1HW


def found_objects(prior_N1HW: Tensor) -> Tensor:
    """Tell which objects a prior found: those with a cell above one half."""
    return (prior_N1HW > 0.5).flatten(1).any(1)


def video_forward(
    model: SAM2,
    features: ImageFeatures,
    batch: ClipBatch,
    *,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> dict[str, list[LossTerms]]:
    """Prompt the first frame and track through the others.

    Returns the loss of the first frame by type of prompt, of the `tracked` frames, of the same frames answered from the
    `prior`, and of the rounds on the `corrected` frame. `features` hold every frame of every clip, clip after clip.
    """
    numbers = sample_frame_numbers(batch.num_frames, prompts.frame_gap_prob, generator)
    draw, position = torch.rand(2, generator=generator).tolist()
    all_visible = batch.masks_NTSS[:, 1:].flatten(2).any(2).all(0).nonzero()[:, 0] + 1
    correction_frame = None  # a later frame in which all objects are visible
    if draw < prompts.correction_frame_prob and prompts.correction_clicks and len(all_visible):
        correction_frame = int(all_visible[int(position * len(all_visible))])
    labels = None if features.stride8_BCHW is None else ClipLabels(model, features, batch, numbers)
    first_features, first_gt_NSS = _frame_features(features, batch, 0), batch.masks_NTSS[:, 0]
    masks, loss_terms = _prompt_first_frame(model, first_features, first_gt_NSS, prompts, losses, generator)
    bank = TrainMemoryBank()
    # features are selected again, not reused: the order in which gradients are summed stays that of earlier versions
    memory = model.encode_memory(_frame_features(features, batch, 0), masks, prompted=True)
    bank.add(numbers[0], memory, prompted=True)
    if labels is not None:
        labels.add(0, masks, None, prompted=True)
    for t in range(1, batch.num_frames):
        frame_features, gt_NSS = _frame_features(features, batch, t), batch.masks_NTSS[:, t]
        conditioned = model.condition_on_memory(frame_features, bank.memory_context(numbers[t]))
        answers = answer_frame(model, conditioned, None if labels is None else labels.prior(t))
        masks, target = answers.masks, downsample_masks(gt_NSS)
        loss_terms.setdefault("tracked", []).append(prediction_loss(answers.by_memory, target, losses))
        if answers.by_prior is not None:
            loss = prediction_loss(answers.by_prior, target[answers.found_N], losses, ambiguous=False)
            loss_terms.setdefault("prior", []).append(loss)
        is_corrected = t == correction_frame
        if is_corrected:
            masks, loss_terms["corrected"] = _correct(model, conditioned, masks, gt_NSS, prompts, losses, generator)
        if t + 1 < batch.num_frames:
            memory = model.encode_memory(frame_features, masks, prompted=is_corrected)
            bank.add(numbers[t], memory, prompted=is_corrected)
            if labels is not None:
                labels.add(t, masks, answers.prior_N1HW, prompted=is_corrected)
    return loss_terms


@dataclass(frozen=True)
class FrameAnswers:
    """What a network says about a frame that is not prompted."""

    masks: SelectedMasks
    by_memory: MaskPrediction
    """From memory alone."""
    by_prior: MaskPrediction | None = None
    """From memory and the prior, for the objects that the prior found; None: it found none."""
    prior_N1HW: Tensor | None = None
    found_N: Tensor | None = None


def answer_frame(model: SAM2, conditioned: ImageFeatures, prior_N1HW: Tensor | None) -> FrameAnswers:
    """Predict the mask of each object on a frame as `Tracker` does: from memory, or rather from memory and the prior.

    Memory decides alone where the prior did not find the object, or where either answer sees none.
    """
    count, device = len(conditioned.embed_BCHW), conditioned.embed_BCHW.device
    by_memory = model.decode(conditioned, empty_prompt(count, device))
    masks = model.select_mask(by_memory, multimask=True)
    if prior_N1HW is None or not (found_N := found_objects(prior_N1HW)).any():
        return FrameAnswers(masks, by_memory, prior_N1HW=prior_N1HW)
    assert model.config.matching is not None
    index = found_N.nonzero()[:, 0]
    by_prior = model.decode_prior(conditioned.index_select(index), prior_N1HW[index])
    prompted = model.select_mask(by_prior, multimask=False)
    visible = (torch.minimum(prompted.object_score_B1, masks.object_score_B1[index]) > 0).flatten()
    index, prompted = index[visible], prompted.index(visible.nonzero()[:, 0])
    weight = model.config.matching.memory_weight
    mean_B1HW = torch.lerp(prompted.logits_B1HW.float(), masks.logits_B1HW[index].float(), weight)
    averaged = SelectedMasks(
        masks.logits_B1HW.index_put((index,), mean_B1HW.to(masks.logits_B1HW)),
        masks.iou_B1.index_put((index,), prompted.iou_B1.to(masks.iou_B1)),
        masks.object_score_B1.index_put((index,), prompted.object_score_B1.to(masks.object_score_B1)),
        masks.pointer_BC.index_put((index,), prompted.pointer_BC.to(masks.pointer_BC)),
    )
    return FrameAnswers(averaged, by_memory, by_prior, prior_N1HW, found_N)


def sample_frame_numbers(frames: int, gap_prob: float, generator: torch.Generator) -> list[int]:
    """Sample the frame numbers of a clip; a fraction `gap_prob` of the clips skips some frames at one position.

    So a short clip also teaches to attend further back than it is long.
    """
    draw = torch.rand(3, generator=generator).tolist()
    gap = 1 + int(draw[0] * MAX_FRAME_GAP) if draw[1] < gap_prob else 0
    position = 1 + int(draw[2] * (frames - 1))
    return [t + (gap if t >= position else 0) for t in range(frames)]


def _frame_features(features: ImageFeatures, batch: ClipBatch, t: int) -> ImageFeatures:
    """Return the features of frame `t`, one entry per object."""
    return features.index_select(batch.clip_index_N * batch.num_frames + t)


def _prompt_first_frame(
    model: SAM2,
    features: ImageFeatures,
    gt_NSS: Tensor,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> tuple[SelectedMasks, dict[str, list[LossTerms]]]:
    """Prompt some objects by a mask, some by a box, the others by a click; then correct box and click."""
    rounds = sample_num_rounds(prompts, generator)
    index_by_type = sample_prompt_types(len(gt_NSS), prompts, generator)
    parts: list[SelectedMasks] = []
    loss_terms: dict[str, list[LossTerms]] = {}
    for prompt_type, index_N in index_by_type.items():
        index_N = index_N.to(gt_NSS.device)
        object_features, object_gt = features.index_select(index_N), gt_NSS[index_N]
        if prompt_type == "mask":
            parts.append(model.use_mask_as_output(object_features, object_gt[:, None].float()))
            continue
        done = simulate_rounds(
            model,
            model.add_no_memory_embedding(object_features),
            object_gt,
            prompt_type=prompt_type,
            rounds=rounds,
            prompts=prompts,
            losses=losses,
            generator=generator,
        )
        parts.append(model.select_mask(done[-1].prediction, multimask=done[-1].ambiguous))
        loss_terms[prompt_type] = [each.loss for each in done]
    order = torch.cat([*index_by_type.values()]).to(gt_NSS.device).argsort()
    return SelectedMasks.cat(parts).index(order), loss_terms


def _correct(
    model: SAM2,
    features: ImageFeatures,
    masks: SelectedMasks,
    gt_NSS: Tensor,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> tuple[SelectedMasks, list[LossTerms]]:
    """Click on tracking errors, round by round; each round refines the mask before."""
    target = downsample_masks(gt_NSS)
    points = torch.zeros(len(gt_NSS), 0, 2, device=gt_NSS.device)
    labels = torch.zeros(len(gt_NSS), 0, dtype=torch.long, device=gt_NSS.device)
    loss_terms: list[LossTerms] = []
    for i in range(prompts.correction_clicks):
        mask = masks.logits_B1HW.detach().float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        click, label = sample_correction_click(mask, gt_NSS, prompts, generator)
        points, labels = torch.cat([points, click], 1), torch.cat([labels, label], 1)
        prediction = model.decode(features, PromptTensors(points, labels, mask))
        loss_terms.append(prediction_loss(prediction, target, losses, ambiguous=i == 0))
        masks = model.select_mask(prediction, multimask=i == 0)
    return masks, loss_terms


@torch.no_grad()
def predict_clip(model: SAM2, features: ImageFeatures, batch: ClipBatch) -> Tensor:
    """Track from a tight box on the first frame, as a user would; returns bool masks (N, T, S, S)."""
    labels = None
    if features.stride8_BCHW is not None:
        labels = ClipLabels(model, features, batch, range(batch.num_frames))
    first_features, gt_NSS = _frame_features(features, batch, 0), batch.masks_NTSS[:, 0]
    corners = noisy_boxes(gt_NSS, 0.0, torch.Generator())
    box_labels = torch.tensor([[2, 3]], device=corners.device).expand(len(corners), -1)
    prediction = model.decode(model.add_no_memory_embedding(first_features), PromptTensors(corners, box_labels))
    masks = model.select_mask(prediction, multimask=False)
    bank, logits = TrainMemoryBank(), [masks.logits_B1HW]
    if batch.num_frames > 1:
        bank.add(0, model.encode_memory(first_features, masks, prompted=True), prompted=True)
    if labels is not None:
        labels.add(0, masks, None, prompted=True)
    for t in range(1, batch.num_frames):
        frame_features = _frame_features(features, batch, t)
        conditioned = model.condition_on_memory(frame_features, bank.memory_context(t))
        answers = answer_frame(model, conditioned, None if labels is None else labels.prior(t))
        bank.add(t, model.encode_memory(frame_features, answers.masks), prompted=False)
        if labels is not None:
            labels.add(t, answers.masks, answers.prior_N1HW)
        logits.append(answers.masks.logits_B1HW)
    logits_NTHW = torch.cat([frame_logits.float() for frame_logits in logits], 1)
    return interpolate(logits_NTHW, size=gt_NSS.shape[-2:], mode="bilinear") > 0
