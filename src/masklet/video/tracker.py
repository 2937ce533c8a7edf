"""Objects, their memories, and one frame at a time; `Session` and `Live` put verbs on it.

Shapes: a leading 1 is one object.

One frame for many objects: stack, run, unstack.

The image is encoded once a frame and shared. Objects that look back at the same frames, which is nearly always all of
them, are one batch; no padding is ever added, so that a batch gives what each object gives alone.
Shapes: B objects, C channels, M memory channels, H and W of a map; a leading 1 is one object.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from masklet.errors import PromptError, StateError
from masklet.media import Frame
from masklet.models.fast_cpu.sam2 import FastVerbs
from masklet.models.sam2 import SAM2
from masklet.models.types import FrameMemory, ImageFeatures, Memories, ObjectMasks
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.transforms import LOGIT_LIMIT, Fit, hard_mask, prompt_tensors, to_frame_input
from masklet.video.frame_cache import FeatureCache, Frames
from masklet.video.memory_bank import Kept, MemoryBank, TrackedObject, checked_id, merged
from masklet.video.memory_selection import Recall
from masklet.video.postprocess import shown
from masklet.video.track_options import TrackOptions

__all__ = ["Clock", "Engine", "Row", "Stepper", "exclusive"]

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


Row = tuple[TrackedObject, Kept]


class Engine:
    """What a session and a live view have in common."""

    def __init__(self, stepper: Stepper, frames: Frames, options: TrackOptions) -> None:
        self.stepper, self.frames, self.options = stepper, frames, options
        self.objects: dict[int, TrackedObject] = {}
        self.cache = FeatureCache()
        self.anchor = 0
        """Where the present pass began: a pass the other way may begin there too."""
        self.speed: dict[str, float] = {}

    def features(self, frame: Frame) -> ImageFeatures:
        """Of one frame, encoded once."""
        features = self.cache.get(frame.index)
        if features is None:
            features = self.stepper.features(frame)
            self.cache.put(frame.index, features)
        return features

    # prompts ---------------------------------------------------------------------------------------------------

    def prompt(self, one: TrackedObject, frame: Frame, new: ObjectPrompt) -> Kept:
        """Take in what was said about an object on a frame, and answer at once."""
        asked = merged(one.prompts.get(frame.index), new)
        before = one.bank.get(frame.index)
        features = self.features(frame)
        if asked.mask is not None and asked.points is None and asked.box is None:
            masks = self.stepper.adopt(features, asked)
        else:
            earlier = None if before is None or new.mask is not None else before.logits_11HW
            base = self._base(one, frame.index, before, features)
            masks = self.stepper.prompt(base, asked, frame.size, earlier)
        kept = Kept.of(masks)
        tracked = before is not None and before.reverse is not None
        if tracked and before is not None:
            kept = replace(kept, reverse=before.reverse)
            one.stale.add(frame.index)
        if tracked and self.options.corrections == "published" and frame.index in one.bank.tracked:
            one.bank.tracked[frame.index] = self._written(features, [(one, kept)])[0]
        else:
            one.bank.tracked.pop(frame.index, None)
            one.bank.prompted[frame.index] = kept
        one.prompts[frame.index] = asked
        one.hidden = 0
        return kept

    def _base(self, one: TrackedObject, index: int, before: Kept | None, features: ImageFeatures) -> ImageFeatures:
        """Features that a prompt is read on: with memory on a frame that was tracked, as it was then."""
        if before is None or before.reverse is None:
            return self.stepper.alone(features)
        self.write_prompted([one])
        recall = self._recall(one, index, before.reverse)
        if not recall.spatial:
            return self.stepper.alone(features)
        return self.stepper.condition(features, [(one.bank, recall)])

    def _recall(self, one: TrackedObject, index: int, reverse: bool) -> Recall:
        length = self.frames.length
        return self.options.recall.look(index, one.bank.history, reverse=reverse, length=length)

    def write_prompted(self, objects: Sequence[TrackedObject]) -> None:
        """Remember prompted frames whose prompts have been said since."""
        missing: dict[int, list[TrackedObject]] = {}
        for one in objects:
            for index, kept in one.bank.prompted.items():
                if kept.spatial_1MHW is None:
                    missing.setdefault(index, []).append(one)
        for index, some in missing.items():
            features = self.cache.get(index) or self.features(self.frames.frame(index))
            rows = [(one, one.bank.prompted[index]) for one in some]
            for one, kept in zip(some, self._written(features, rows), strict=True):
                one.bank.prompted[index] = kept

    def _written(self, features: ImageFeatures, rows: Sequence[Row]) -> list[Kept]:
        memories = self.stepper.remember(features, [kept.masks() for _, kept in rows], prompted=True)
        return [kept.with_memory(memory) for (_, kept), memory in zip(rows, memories, strict=True)]

    # frames ----------------------------------------------------------------------------------------------------

    def advance(self, frame: Frame, objects: Sequence[TrackedObject], reverse: bool) -> list[Row]:
        """Follow `objects` onto `frame`; those prompted there are taken as they were prompted."""
        clock = Clock()
        self.write_prompted(objects)
        features = self.features(frame)
        clock.tick("encode")
        fresh = [one for one in objects if frame.index not in one.bank.prompted]
        for one in objects:
            one.bank.tracked.pop(frame.index, None)
        looks = [(one.bank, self._recall(one, frame.index, reverse)) for one in fresh]
        found = dict(zip((one.id for one in fresh), self.stepper.track(features, looks), strict=True))
        clock.tick("track")
        if self.options.exclusive:
            found = self._apart(frame.index, objects, found)
        memories = self.stepper.remember(features, [found[one.id] for one in fresh], prompted=False)
        for one, memory in zip(fresh, memories, strict=True):
            kept = Kept.of(found[one.id]).with_memory(memory)
            one.bank.tracked[frame.index] = replace(kept, reverse=reverse)
        clock.tick("remember")
        self.speed = clock.speed
        return [(one, self._passed(one, frame.index, reverse)) for one in objects]

    def _apart(
        self, index: int, objects: Sequence[TrackedObject], found: dict[int, ObjectMasks]
    ) -> dict[int, ObjectMasks]:
        every = [found[one.id] if one.id in found else one.bank.prompted[index].masks() for one in objects]
        return {one.id: masks for one, masks in zip(objects, exclusive(every), strict=True) if one.id in found}

    def _passed(self, one: TrackedObject, index: int, reverse: bool) -> Kept:
        """What is known of an object on a frame, now that it was passed; old frames are let go of."""
        if index in one.bank.prompted:
            one.bank.prompted[index] = replace(one.bank.prompted[index], reverse=reverse)
        kept = one.bank[index]
        one.hidden = 0 if kept.score > 0 else one.hidden + 1
        if self.options.keep == "recent":
            one.bank.forget(self.options.recall, (index, self.anchor))
        return kept

    def show(self, frame: Frame, rows: Sequence[Row], speed: dict[str, float] | None = None) -> Results:
        """Rows as people see them."""
        clock = Clock()
        results = shown(
            frame, rows, clean=self.options.clean, lost_after=self.options.lost_after, speed=speed or dict(clock.speed)
        )
        results.speed["postprocess"] = clock.since()
        return results

    def known_at(self, frame: Frame) -> Results:
        """All that is known of a frame that was passed.

        Raises:
            StateError: nothing.
        """
        rows = [(one, kept) for one in self.objects.values() if (kept := one.bank.get(frame.index)) is not None]
        rows = [(one, kept) for one, kept in rows if kept.logits_11HW is not None]
        if not rows:
            raise StateError(f'nothing is known of frame {frame.index} (any more): propagate, or open with keep="all"')
        return self.show(frame, rows)

    def known(self, value: object) -> TrackedObject:
        """The object of an id.

        Raises:
            PromptError: there is none.
        """
        number = checked_id(value)
        if number not in self.objects:
            ids = ", ".join(map(str, self.objects)) or "none yet"
            raise PromptError(f"there is no object {number}; objects are {ids}: add it first with add({number}, ...)")
        return self.objects[number]


class Clock:
    """Milliseconds between ticks, by name."""

    def __init__(self) -> None:
        self.speed = {"encode": 0.0, "track": 0.0, "remember": 0.0, "postprocess": 0.0}
        self._last = time.perf_counter()

    def since(self) -> float:
        """Since the last tick."""
        return 1e3 * (time.perf_counter() - self._last)

    def tick(self, name: str) -> None:
        """The time since the last tick belongs to `name`."""
        self.speed[name] += self.since()
        self._last = time.perf_counter()
