"""One frame for many objects: stack, run, unstack.

The image is encoded once a frame and shared. Objects that look back at the same frames, which is nearly always all of
them, are one batch; no padding is ever added, so that a batch gives what each object gives alone.
Shapes: B objects, C channels, M memory channels, H and W of a map; a leading 1 is one object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from masklet.media import Frame
from masklet.models.base import FrameMemory, ImageFeatures, Memories, ObjectMasks
from masklet.models.sam2 import SAM2
from masklet.models.sam2.inference import FastVerbs
from masklet.pixels import LOGIT_LIMIT, Fit, hard_mask, prompt_tensors, to_frame_input
from masklet.prompts import ObjectPrompt
from masklet.video.objects import MemoryBank
from masklet.video.recall import Recall

__all__ = ["Stepper", "exclusive"]

Encode = Callable[[Tensor], ImageFeatures]
EXCLUDED = -10.0
"""The highest logit that a mask keeps where another object is in front."""


@dataclass(frozen=True)
class Stepper:
    """The network's verbs, for lists of objects; its weights no longer change."""

    model: SAM2
    encode: Encode
    device: torch.device
    dtype: torch.dtype | None = None
    """Of memory attention's matrix products; None: fp32."""
    objects_at_once: int = 8
    fast: FastVerbs = field(init=False, repr=False)
    """What tracking does to every frame, laid out for this machine."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fast", FastVerbs(self.model, self.dtype))

    def features(self, frame: Frame) -> ImageFeatures:
        """The frame by itself, before any memory; a batch of one."""
        pixels = to_frame_input(frame.rgb, self.model.image_size)
        with torch.inference_mode():
            return self.encode(pixels.to(self.device))

    def prompt(
        self, features: ImageFeatures, asked: ObjectPrompt, size: tuple[int, int], earlier_11HW: Tensor | None
    ) -> ObjectMasks:
        """What a prompt means, on features with or without memory; `earlier_11HW` are logits to go on from."""
        side = self.model.image_size
        before = None if earlier_11HW is None else earlier_11HW.float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        with torch.inference_mode():
            tensors = prompt_tensors([asked], Fit(size, side), earlier_B1HW=before, device=self.device)
            return self.model.settle(self.model.decode(features, tensors), multimask=tensors.points_BN2.shape[1] <= 1)

    def adopt(self, features: ImageFeatures, asked: ObjectPrompt) -> ObjectMasks:
        """A mask that a person handed in."""
        assert asked.mask is not None
        with torch.inference_mode():
            return self.model.adopt(features, hard_mask(asked.mask.mask, self.model.image_size).to(self.device))

    def alone(self, features: ImageFeatures) -> ImageFeatures:
        """Features of a frame that looks back at nothing."""
        with torch.inference_mode():
            return self.model.without_memory(features)

    def condition(self, features: ImageFeatures, looks: Sequence[tuple[MemoryBank, Recall]]) -> ImageFeatures:
        """The frame in the light of what is remembered; all `looks` have the same ages and offsets."""
        with torch.inference_mode():
            return self.fast.condition(features, _memories(looks))

    def track(self, features: ImageFeatures, looks: Sequence[tuple[MemoryBank, Recall]]) -> list[ObjectMasks]:
        """Every object on this frame, from memory alone."""
        found: list[ObjectMasks | None] = [None] * len(looks)
        for members in self._batches(looks):
            seen = self.condition(features, [looks[i] for i in members])
            with torch.inference_mode():
                masks = self.model.settle(self.fast.decode(seen), multimask=True)
            for row, i in enumerate(members):
                found[i] = _row(masks, row)
        return [masks for masks in found if masks is not None]

    def remember(self, features: ImageFeatures, found: Sequence[ObjectMasks], *, prompted: bool) -> list[FrameMemory]:
        """What to keep of each object on this frame."""
        kept: list[FrameMemory] = []
        for start in range(0, len(found), self.objects_at_once):
            some = _stacked(found[start : start + self.objects_at_once])
            with torch.inference_mode():
                memory = self.fast.remember(features, some, prompted=prompted)
            kept.extend(memory.row(i) for i in range(len(some.iou_B1)))
        return kept

    def _batches(self, looks: Sequence[tuple[MemoryBank, Recall]]) -> list[list[int]]:
        """Objects that look back at the same distances, at most `objects_at_once` together."""
        alike: dict[object, list[int]] = {}
        for i, (_, recall) in enumerate(looks):
            ages = tuple(age for _, age in recall.spatial)
            alike.setdefault((ages, tuple(back for _, back in recall.pointers), recall.horizon), []).append(i)
        size = self.objects_at_once
        return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def exclusive(found: Sequence[ObjectMasks]) -> list[ObjectMasks]:
    """The same masks, each place left to the object that is surest of it."""
    if len(found) < 2:
        return list(found)
    logits_N1HW = torch.cat([masks.logits_B1HW.float() for masks in found])
    winner_11HW = logits_N1HW.argmax(dim=0, keepdim=True)
    rank_N111 = torch.arange(len(found), device=logits_N1HW.device)[:, None, None, None]
    apart = torch.where(winner_11HW == rank_N111, logits_N1HW, logits_N1HW.clamp(max=EXCLUDED))
    return [
        ObjectMasks(apart[i : i + 1], masks.iou_B1, masks.object_score_B1, masks.pointer_BC)
        for i, masks in enumerate(found)
    ]


def _memories(looks: Sequence[tuple[MemoryBank, Recall]]) -> Memories:
    recall = looks[0][1]
    spatial = tuple(
        torch.cat([_spatial(bank, each.spatial[i][0]) for bank, each in looks]) for i in range(len(recall.spatial))
    )
    pointers = tuple(
        torch.cat([bank[each.pointers[i][0]].pointer_1C for bank, each in looks]) for i in range(len(recall.pointers))
    )
    ages, offsets = tuple(age for _, age in recall.spatial), tuple(back for _, back in recall.pointers)
    return Memories(spatial, ages, pointers, offsets, recall.horizon)


def _spatial(bank: MemoryBank, frame: int) -> Tensor:
    memory = bank[frame].spatial_1MHW
    assert memory is not None
    return memory.float()


def _stacked(found: Sequence[ObjectMasks]) -> ObjectMasks:
    return ObjectMasks(
        torch.cat([m.logits_B1HW for m in found]),
        torch.cat([m.iou_B1 for m in found]),
        torch.cat([m.object_score_B1 for m in found]),
        torch.cat([m.pointer_BC for m in found]),
    )


def _row(masks: ObjectMasks, i: int) -> ObjectMasks:
    """Object `i` in storage of its own, so that the batch can be let go of."""
    return ObjectMasks(
        masks.logits_B1HW[i : i + 1].clone(),
        masks.iou_B1[i : i + 1].clone(),
        masks.object_score_B1[i : i + 1].clone(),
        masks.pointer_BC[i : i + 1].clone(),
    )
