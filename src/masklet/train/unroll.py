"""Through a clip as a tracker goes: the first frame is prompted, the others are found from memory; what each costs.

Gradients run through all frames. Shapes: N objects, T frames, S side, H and W at stride 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from masklet.models.base import FrameMemory, ImageFeatures, Memories, ObjectMasks, PromptTensors, no_points
from masklet.models.sam2 import SAM2
from masklet.pixels import LOGIT_LIMIT
from masklet.train.clips import ClipBatch
from masklet.train.config import LossConfig, PromptConfig
from masklet.train.losses import Cost, at_stride_4, prediction_cost
from masklet.train.prompting import drawn_kinds, drawn_rounds, unroll, wanted_click
from masklet.video.recall import History, Recent

__all__ = ["follow", "frame_numbers"]

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


def frame_numbers(frames: int, generator: torch.Generator) -> list[int]:
    """Numbers of a clip's frames in its film: in half of the clips some frames are left out at one place.

    So a short clip also shows what it is to look back farther than it is long.
    """
    lot = torch.rand(3, generator=generator).tolist()
    gap = 1 + int(lot[0] * LONGEST_GAP) if lot[1] < 0.5 else 0
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
    frames = batch.masks_NTSS.shape[1]
    numbers = frame_numbers(frames, generator)
    correction = _correction(batch, prompts, generator)
    masks, costs = _start(model, _at(features, batch, 0), batch.masks_NTSS[:, 0], prompts, losses, generator)
    bank = Bank()
    bank.write(numbers[0], model.remember(_at(features, batch, 0), masks, prompted=True), prompted=True)
    for t in range(1, frames):
        here, truth = _at(features, batch, t), batch.masks_NTSS[:, t]
        seen = model.condition(here, bank.seen_from(numbers[t]))
        prediction = model.decode(seen, no_points(len(truth), truth.device))
        costs.setdefault("tracked", []).append(prediction_cost(prediction, at_stride_4(truth), losses))
        masks = model.settle(prediction, multimask=True)
        if t == correction:
            masks, cost = _corrected(model, seen, masks, truth, losses, generator)
            costs["corrected"] = [cost]
        if t + 1 < frames:
            memory = model.remember(here, masks, prompted=t == correction)
            bank.write(numbers[t], memory, prompted=t == correction)
    return costs


def _at(features: ImageFeatures, batch: ClipBatch, t: int) -> ImageFeatures:
    """Frame `t` as each object has it."""
    return features.take(batch.clip_N * batch.masks_NTSS.shape[1] + t)


def _correction(batch: ClipBatch, prompts: PromptConfig, generator: torch.Generator) -> int | None:
    """A later frame that shows all objects, now and then."""
    lot, which = torch.rand(2, generator=generator).tolist()
    possible = batch.masks_NTSS[:, 1:].flatten(2).any(2).all(0).nonzero()[:, 0] + 1
    if lot >= prompts.later_click or not len(possible):
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
            noise=prompts.box_noise,
            losses=losses,
            generator=generator,
        )
        found.append(model.settle(done[-1].prediction, multimask=done[-1].ambiguous))
        costs[kind] = [each.cost for each in done]
    return _in_order(found, torch.cat([*kinds.values()])), costs


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
    losses: LossConfig,
    generator: torch.Generator,
) -> tuple[ObjectMasks, Cost]:
    """A click on what tracking got wrong; the earlier mask is gone on from."""
    before = masks.logits_B1HW.detach().float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    points, labels = wanted_click(before, truth_NSS, generator)
    prediction = model.decode(seen, PromptTensors(points, labels, before))
    return model.settle(prediction, multimask=True), prediction_cost(prediction, at_stride_4(truth_NSS), losses)
