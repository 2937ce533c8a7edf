"""Through a clip as a tracker goes: the first frame is prompted, the others are found from memory; what each costs.

Gradients run through all frames. Shapes: N objects, T frames, S side, H and W at stride 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from masklet.models.sam2 import SAM2
from masklet.models.types import FrameMemory, ImageFeatures, Memories, ObjectMasks, PromptTensors, no_points
from masklet.train.config import LossConfig, PromptConfig
from masklet.train.data import ClipBatch
from masklet.train.losses import Cost, at_stride_4, prediction_cost
from masklet.train.prompt_simulation import drawn_kinds, drawn_rounds, noisy_boxes, unroll, wanted_click
from masklet.transforms import LOGIT_LIMIT
from masklet.video.memory_selection import History, Recent

__all__ = ["follow", "frame_numbers", "shown"]

LONGEST_GAP = 9
"""Frames that may lie unseen between two frames of a clip."""


@dataclass
class Bank:
    """What is remembered of all objects, by frame number."""

    kept: dict[int, FrameMemory] = field(default_factory=dict)
    prompted: set[int] = field(default_factory=set)

    def write(self, number: int, memory: FrameMemory, prompted: bool) -> None:
        """Keep a frame."""
        self.kept[number] = memory
        if prompted:
            self.prompted.add(number)

    def seen_from(self, number: int) -> Memories:
        """What the published rule looks back at."""
        history = History(self.prompted, self.kept.keys() - self.prompted)
        recall = Recent().look(number, history, reverse=False, length=None)
        return Memories(
            tuple(self.kept[frame].spatial_BMHW for frame, _ in recall.spatial),
            tuple(age for _, age in recall.spatial),
            tuple(self.kept[frame].pointer_BC for frame, _ in recall.pointers),
            tuple(back for _, back in recall.pointers),
            recall.horizon,
        )


def frame_numbers(frames: int, share: float, generator: torch.Generator) -> list[int]:
    """Numbers of a clip's frames in its film: in that share of the clips some frames are left out at one place.

    So a short clip also shows what it is to look back farther than it is long.
    """
    lot = torch.rand(3, generator=generator).tolist()
    gap = 1 + int(lot[0] * LONGEST_GAP) if lot[1] < share else 0
    place = 1 + int(lot[2] * (frames - 1))
    return [t + (gap if t >= place else 0) for t in range(frames)]


def follow(
    model: SAM2,
    features: ImageFeatures,
    batch: ClipBatch,
    *,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> dict[str, list[Cost]]:
    """The costs of the first frame by kind of prompt, of frames that are `tracked`, of one that is `corrected`.

    `features` hold every frame of every clip, clip after clip.
    """
    numbers = frame_numbers(batch.frames, prompts.gaps, generator)
    correction = _correction(batch, prompts, generator)
    masks, costs = _start(model, _at(features, batch, 0), batch.masks_NTSS[:, 0], prompts, losses, generator)
    bank = Bank()
    bank.write(numbers[0], model.remember(_at(features, batch, 0), masks, prompted=True), prompted=True)
    for t in range(1, batch.frames):
        here, truth = _at(features, batch, t), batch.masks_NTSS[:, t]
        seen = model.condition(here, bank.seen_from(numbers[t]))
        prediction = model.decode(seen, no_points(len(truth), truth.device))
        costs.setdefault("tracked", []).append(prediction_cost(prediction, at_stride_4(truth), losses))
        masks = model.settle(prediction, multimask=True)
        if t == correction:
            masks, costs["corrected"] = _corrected(model, seen, masks, truth, prompts, losses, generator)
        if t + 1 < batch.frames:
            memory = model.remember(here, masks, prompted=t == correction)
            bank.write(numbers[t], memory, prompted=t == correction)
    return costs


def _at(features: ImageFeatures, batch: ClipBatch, t: int) -> ImageFeatures:
    """Frame `t` as each object has it."""
    return features.take(batch.clip_N * batch.frames + t)


def _correction(batch: ClipBatch, prompts: PromptConfig, generator: torch.Generator) -> int | None:
    """A later frame that shows all objects, now and then."""
    lot, which = torch.rand(2, generator=generator).tolist()
    possible = batch.masks_NTSS[:, 1:].flatten(2).any(2).all(0).nonzero()[:, 0] + 1
    if lot >= prompts.later or not prompts.later_rounds or not len(possible):
        return None
    return int(possible[int(which * len(possible))])


def _start(
    model: SAM2,
    features: ImageFeatures,
    truth_NSS: Tensor,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> tuple[ObjectMasks, dict[str, list[Cost]]]:
    """The first frame: some objects by a mask, some by a box, the others by a click; then clicks that correct."""
    rounds = drawn_rounds(prompts, generator)
    kinds = drawn_kinds(len(truth_NSS), prompts, generator)
    found: list[ObjectMasks] = []
    costs: dict[str, list[Cost]] = {}
    for kind, index_N in kinds.items():
        index_N = index_N.to(truth_NSS.device)
        own, truth = features.take(index_N), truth_NSS[index_N]
        if kind == "mask":
            found.append(model.adopt(own, truth[:, None].float()))
            continue
        done = unroll(
            model,
            model.without_memory(own),
            truth,
            first=kind,
            rounds=rounds,
            prompts=prompts,
            losses=losses,
            generator=generator,
        )
        found.append(model.settle(done[-1].prediction, multimask=done[-1].ambiguous))
        costs[kind] = [each.cost for each in done]
    return _in_order(found, torch.cat([*kinds.values()]).to(truth_NSS.device)), costs


def _in_order(found: list[ObjectMasks], index_N: Tensor) -> ObjectMasks:
    """Parts of a batch as one, each object at its place again."""
    back = index_N.argsort()
    return ObjectMasks(
        torch.cat([masks.logits_B1HW for masks in found])[back],
        torch.cat([masks.iou_B1 for masks in found])[back],
        torch.cat([masks.object_score_B1 for masks in found])[back],
        torch.cat([masks.pointer_BC for masks in found])[back],
    )


def _corrected(
    model: SAM2,
    seen: ImageFeatures,
    masks: ObjectMasks,
    truth_NSS: Tensor,
    prompts: PromptConfig,
    losses: LossConfig,
    generator: torch.Generator,
) -> tuple[ObjectMasks, list[Cost]]:
    """Clicks on what tracking got wrong; the earlier mask is gone on from."""
    target = at_stride_4(truth_NSS)
    points, labels = _none(truth_NSS)
    costs: list[Cost] = []
    for turn in range(prompts.later_rounds):
        before = masks.logits_B1HW.detach().float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        click, label = wanted_click(before, truth_NSS, prompts, generator)
        points, labels = torch.cat([points, click], 1), torch.cat([labels, label], 1)
        prediction = model.decode(seen, PromptTensors(points, labels, before))
        costs.append(prediction_cost(prediction, target, losses, ambiguous=turn == 0))
        masks = model.settle(prediction, multimask=turn == 0)
    return masks, costs


def _none(truth_NSS: Tensor) -> tuple[Tensor, Tensor]:
    """Points and labels before the first click."""
    count, device = len(truth_NSS), truth_NSS.device
    return torch.zeros(count, 0, 2, device=device), torch.zeros(count, 0, dtype=torch.long, device=device)


@torch.no_grad()
def shown(model: SAM2, features: ImageFeatures, batch: ClipBatch) -> Tensor:
    """What a user would get, (N, T, S, S) bool: a tight box on the first frame, then alone."""
    first, truth_NSS = _at(features, batch, 0), batch.masks_NTSS[:, 0]
    corners = noisy_boxes(truth_NSS, 0.0, torch.Generator())
    labels = torch.tensor([[2, 3]], device=corners.device).expand(len(corners), -1)
    masks = model.settle(model.decode(model.without_memory(first), PromptTensors(corners, labels)), multimask=False)
    bank, found = Bank(), [masks.logits_B1HW]
    if batch.frames > 1:
        bank.write(0, model.remember(first, masks, prompted=True), prompted=True)
    for t in range(1, batch.frames):
        here = _at(features, batch, t)
        prediction = model.decode(model.condition(here, bank.seen_from(t)), no_points(len(corners), corners.device))
        masks = model.settle(prediction, multimask=True)
        bank.write(t, model.remember(here, masks), prompted=False)
        found.append(masks.logits_B1HW)
    logits_NTHW = torch.cat([logits.float() for logits in found], 1)
    return interpolate(logits_NTHW, size=truth_NSS.shape[-2:], mode="bilinear") > 0
