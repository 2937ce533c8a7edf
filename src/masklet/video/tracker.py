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
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.sam2 import SAM2
from masklet.models.types import FrameMemory, ImageFeatures, MemoryContext, SelectedMasks
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.transforms import LOGIT_LIMIT, ImageTransform, binary_mask, preprocess_frame, prompt_tensors
from masklet.video.frame_cache import FeatureCache, FrameProvider
from masklet.video.memory_bank import FrameState, MemoryBank, TrackedObject, merge_prompts, validate_object_id
from masklet.video.memory_selection import MemorySelection
from masklet.video.postprocess import to_results
from masklet.video.track_options import TrackOptions

__all__ = ["ObjectBatcher", "ObjectState", "StageTimer", "Tracker", "apply_non_overlap"]

ImageEncoder = Callable[[Tensor], ImageFeatures]
NON_OVERLAP_LOGIT = -10.0
"""The highest logit that a mask keeps where another object is in front."""


@dataclass(frozen=True)
class ObjectBatcher:
    """The network's verbs, for lists of objects; its weights no longer change."""

    model: SAM2
    encode: ImageEncoder
    device: torch.device
    dtype: torch.dtype | None = None
    """Of memory attention's matrix products; None: fp32."""
    objects_per_batch: int = 8
    fast: FastSAM2 = field(init=False, repr=False)
    """What tracking does to every frame, laid out for this machine."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fast", FastSAM2(self.model, self.dtype))

    def encode_frame(self, frame: Frame) -> ImageFeatures:
        """The frame by itself, before any memory; a batch of one."""
        pixels = preprocess_frame(frame.rgb, self.model.image_size)
        with torch.inference_mode():
            return self.encode(pixels.to(self.device))

    def predict_prompt(
        self, features: ImageFeatures, prompt: ObjectPrompt, size: tuple[int, int], mask_input_11HW: Tensor | None
    ) -> SelectedMasks:
        """What a prompt means, on features with or without memory; `earlier_11HW` are logits to go on from."""
        side = self.model.image_size
        before = None if mask_input_11HW is None else mask_input_11HW.float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        with torch.inference_mode():
            tensors = prompt_tensors([prompt], ImageTransform(size, side), mask_input_B1HW=before, device=self.device)
            return self.model.select_mask(
                self.model.decode(features, tensors), multimask=tensors.points_BN2.shape[1] <= 1
            )

    def use_mask_as_output(self, features: ImageFeatures, prompt: ObjectPrompt) -> SelectedMasks:
        """A mask that a person handed in."""
        assert prompt.mask is not None
        with torch.inference_mode():
            return self.model.use_mask_as_output(
                features, binary_mask(prompt.mask.mask, self.model.image_size).to(self.device)
            )

    def add_no_memory_embedding(self, features: ImageFeatures) -> ImageFeatures:
        """Features of a frame that looks back at nothing."""
        with torch.inference_mode():
            return self.model.add_no_memory_embedding(features)

    def condition_on_memory(
        self, features: ImageFeatures, selections: Sequence[tuple[MemoryBank, MemorySelection]]
    ) -> ImageFeatures:
        """The frame in the light of what is remembered; all `looks` have the same ages and offsets."""
        with torch.inference_mode():
            return self.fast.condition_on_memory(features, _memory_context(selections))

    def track(
        self, features: ImageFeatures, selections: Sequence[tuple[MemoryBank, MemorySelection]]
    ) -> list[SelectedMasks]:
        """Every object on this frame, from memory alone."""
        found: list[SelectedMasks | None] = [None] * len(selections)
        for members in self._batches(selections):
            seen = self.condition_on_memory(features, [selections[i] for i in members])
            with torch.inference_mode():
                masks = self.model.select_mask(self.fast.decode(seen), multimask=True)
            for row, i in enumerate(members):
                found[i] = _row(masks, row)
        return [masks for masks in found if masks is not None]

    def encode_memory(
        self, features: ImageFeatures, object_masks: Sequence[SelectedMasks], *, prompted: bool
    ) -> list[FrameMemory]:
        """What to keep of each object on this frame."""
        kept: list[FrameMemory] = []
        for start in range(0, len(object_masks), self.objects_per_batch):
            some = _stack_masks(object_masks[start : start + self.objects_per_batch])
            with torch.inference_mode():
                memory = self.fast.encode_memory(features, some, prompted=prompted)
            kept.extend(memory.row(i) for i in range(len(some.iou_B1)))
        return kept

    def _batches(self, selections: Sequence[tuple[MemoryBank, MemorySelection]]) -> list[list[int]]:
        """Objects that look back at the same distances, at most `objects_at_once` together."""
        alike: dict[object, list[int]] = {}
        for i, (_, recall) in enumerate(selections):
            ages = tuple(age for _, age in recall.spatial)
            alike.setdefault((ages, tuple(back for _, back in recall.pointers), recall.max_pointers), []).append(i)
        size = self.objects_per_batch
        return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def apply_non_overlap(object_masks: Sequence[SelectedMasks]) -> list[SelectedMasks]:
    """The same masks, each place left to the object that is surest of it."""
    if len(object_masks) < 2:
        return list(object_masks)
    logits_N1HW = torch.cat([masks.logits_B1HW.float() for masks in object_masks])
    winner_11HW = logits_N1HW.argmax(dim=0, keepdim=True)
    rank_N111 = torch.arange(len(object_masks), device=logits_N1HW.device)[:, None, None, None]
    apart = torch.where(winner_11HW == rank_N111, logits_N1HW, logits_N1HW.clamp(max=NON_OVERLAP_LOGIT))
    return [
        SelectedMasks(apart[i : i + 1], masks.iou_B1, masks.object_score_B1, masks.pointer_BC)
        for i, masks in enumerate(object_masks)
    ]


def _memory_context(selections: Sequence[tuple[MemoryBank, MemorySelection]]) -> MemoryContext:
    recall = selections[0][1]
    spatial = tuple(
        torch.cat([_spatial(bank, each.spatial[i][0]) for bank, each in selections]) for i in range(len(recall.spatial))
    )
    pointers = tuple(
        torch.cat([bank[each.pointers[i][0]].pointer_1C for bank, each in selections])
        for i in range(len(recall.pointers))
    )
    ages, offsets = tuple(age for _, age in recall.spatial), tuple(back for _, back in recall.pointers)
    return MemoryContext(spatial, ages, pointers, offsets, recall.max_pointers)


def _spatial(bank: MemoryBank, frame: int) -> Tensor:
    memory = bank[frame].spatial_1MHW
    assert memory is not None
    return memory.float()


def _stack_masks(object_masks: Sequence[SelectedMasks]) -> SelectedMasks:
    return SelectedMasks(
        torch.cat([m.logits_B1HW for m in object_masks]),
        torch.cat([m.iou_B1 for m in object_masks]),
        torch.cat([m.object_score_B1 for m in object_masks]),
        torch.cat([m.pointer_BC for m in object_masks]),
    )


def _row(masks: SelectedMasks, i: int) -> SelectedMasks:
    """Object `i` in storage of its own, so that the batch can be let go of."""
    return SelectedMasks(
        masks.logits_B1HW[i : i + 1].clone(),
        masks.iou_B1[i : i + 1].clone(),
        masks.object_score_B1[i : i + 1].clone(),
        masks.pointer_BC[i : i + 1].clone(),
    )


ObjectState = tuple[TrackedObject, FrameState]


class Tracker:
    """What a session and a live view have in common."""

    def __init__(self, batcher: ObjectBatcher, frames: FrameProvider, options: TrackOptions) -> None:
        self.batcher, self.frames, self.options = batcher, frames, options
        self.objects: dict[int, TrackedObject] = {}
        self.cache = FeatureCache()
        self.propagation_start = 0
        """Where the present pass began: a pass the other way may begin there too."""
        self.speed: dict[str, float] = {}

    def frame_features(self, frame: Frame) -> ImageFeatures:
        """Of one frame, encoded once."""
        features = self.cache.get(frame.index)
        if features is None:
            features = self.batcher.encode_frame(frame)
            self.cache.put(frame.index, features)
        return features

    # prompts ---------------------------------------------------------------------------------------------------

    def add_prompt(self, obj: TrackedObject, frame: Frame, prompt: ObjectPrompt) -> FrameState:
        """Take in what was said about an object on a frame, and answer at once."""
        asked = merge_prompts(obj.prompts.get(frame.index), prompt)
        before = obj.bank.get(frame.index)
        features = self.frame_features(frame)
        if asked.mask is not None and asked.points is None and asked.box is None:
            masks = self.batcher.use_mask_as_output(features, asked)
        else:
            earlier = None if before is None or prompt.mask is not None else before.logits_11HW
            base = self._prompt_features(obj, frame.index, before, features)
            masks = self.batcher.predict_prompt(base, asked, frame.size, earlier)
        kept = FrameState.from_masks(masks)
        tracked = before is not None and before.reverse is not None
        if tracked and before is not None:
            kept = replace(kept, reverse=before.reverse)
            obj.corrected_frames.add(frame.index)
        if tracked and self.options.corrections == "published" and frame.index in obj.bank.tracked:
            obj.bank.tracked[frame.index] = self._encode_memories(features, [(obj, kept)])[0]
        else:
            obj.bank.tracked.pop(frame.index, None)
            obj.bank.prompted[frame.index] = kept
        obj.prompts[frame.index] = asked
        obj.frames_unseen = 0
        return kept

    def _prompt_features(
        self, obj: TrackedObject, index: int, previous: FrameState | None, features: ImageFeatures
    ) -> ImageFeatures:
        """Features that a prompt is read on: with memory on a frame that was tracked, as it was then."""
        if previous is None or previous.reverse is None:
            return self.batcher.add_no_memory_embedding(features)
        self.encode_prompted_frames([obj])
        recall = self._select_memory(obj, index, previous.reverse)
        if not recall.spatial:
            return self.batcher.add_no_memory_embedding(features)
        return self.batcher.condition_on_memory(features, [(obj.bank, recall)])

    def _select_memory(self, obj: TrackedObject, index: int, reverse: bool) -> MemorySelection:
        length = self.frames.length
        return self.options.memory_selector.select(index, obj.bank.available, reverse=reverse, length=length)

    def encode_prompted_frames(self, objects: Sequence[TrackedObject]) -> None:
        """Remember prompted frames whose prompts have been said since."""
        missing: dict[int, list[TrackedObject]] = {}
        for one in objects:
            for index, kept in one.bank.prompted.items():
                if kept.spatial_1MHW is None:
                    missing.setdefault(index, []).append(one)
        for index, some in missing.items():
            features = self.cache.get(index) or self.frame_features(self.frames.frame(index))
            rows = [(one, one.bank.prompted[index]) for one in some]
            for one, kept in zip(some, self._encode_memories(features, rows), strict=True):
                one.bank.prompted[index] = kept

    def _encode_memories(self, features: ImageFeatures, rows: Sequence[ObjectState]) -> list[FrameState]:
        memories = self.batcher.encode_memory(features, [kept.to_masks() for _, kept in rows], prompted=True)
        return [kept.with_memory(memory) for (_, kept), memory in zip(rows, memories, strict=True)]

    # frames ----------------------------------------------------------------------------------------------------

    def track_frame(self, frame: Frame, objects: Sequence[TrackedObject], reverse: bool) -> list[ObjectState]:
        """Follow `objects` onto `frame`; those prompted there are taken as they were prompted."""
        clock = StageTimer()
        self.encode_prompted_frames(objects)
        features = self.frame_features(frame)
        clock.tick("encode")
        fresh = [one for one in objects if frame.index not in one.bank.prompted]
        for one in objects:
            one.bank.tracked.pop(frame.index, None)
        looks = [(one.bank, self._select_memory(one, frame.index, reverse)) for one in fresh]
        found = dict(zip((one.id for one in fresh), self.batcher.track(features, looks), strict=True))
        clock.tick("track")
        if self.options.non_overlapping:
            found = self._without_overlap(frame.index, objects, found)
        memories = self.batcher.encode_memory(features, [found[one.id] for one in fresh], prompted=False)
        for one, memory in zip(fresh, memories, strict=True):
            kept = FrameState.from_masks(found[one.id]).with_memory(memory)
            one.bank.tracked[frame.index] = replace(kept, reverse=reverse)
        clock.tick("remember")
        self.speed = clock.speed
        return [(one, self._finish_frame(one, frame.index, reverse)) for one in objects]

    def _without_overlap(
        self, index: int, objects: Sequence[TrackedObject], object_masks: dict[int, SelectedMasks]
    ) -> dict[int, SelectedMasks]:
        every = [
            object_masks[one.id] if one.id in object_masks else one.bank.prompted[index].to_masks() for one in objects
        ]
        return {
            one.id: masks
            for one, masks in zip(objects, apply_non_overlap(every), strict=True)
            if one.id in object_masks
        }

    def _finish_frame(self, obj: TrackedObject, index: int, reverse: bool) -> FrameState:
        """What is known of an object on a frame, now that it was passed; old frames are let go of."""
        if index in obj.bank.prompted:
            obj.bank.prompted[index] = replace(obj.bank.prompted[index], reverse=reverse)
        kept = obj.bank[index]
        obj.frames_unseen = 0 if kept.object_score > 0 else obj.frames_unseen + 1
        if self.options.retain == "recent":
            obj.bank.prune(self.options.memory_selector, (index, self.propagation_start))
        return kept

    def build_results(
        self, frame: Frame, rows: Sequence[ObjectState], speed: dict[str, float] | None = None
    ) -> Results:
        """Rows as people see them."""
        clock = StageTimer()
        results = to_results(
            frame,
            rows,
            fill_hole_area=self.options.fill_hole_area,
            lost_after=self.options.lost_after,
            speed=speed or dict(clock.speed),
        )
        results.speed["postprocess"] = clock.elapsed_ms()
        return results

    def results_at(self, frame: Frame) -> Results:
        """All that is known of a frame that was passed.

        Raises:
            StateError: nothing.
        """
        rows = [(one, kept) for one in self.objects.values() if (kept := one.bank.get(frame.index)) is not None]
        rows = [(one, kept) for one, kept in rows if kept.logits_11HW is not None]
        if not rows:
            raise StateError(f'nothing is known of frame {frame.index} (any more): propagate, or open with keep="all"')
        return self.build_results(frame, rows)

    def get_object(self, value: object) -> TrackedObject:
        """The object of an id.

        Raises:
            PromptError: there is none.
        """
        number = validate_object_id(value)
        if number not in self.objects:
            ids = ", ".join(map(str, self.objects)) or "none yet"
            raise PromptError(f"there is no object {number}; objects are {ids}: add it first with add({number}, ...)")
        return self.objects[number]


class StageTimer:
    """Milliseconds between ticks, by name."""

    def __init__(self) -> None:
        self.speed = {"encode": 0.0, "track": 0.0, "remember": 0.0, "postprocess": 0.0}
        self._last = time.perf_counter()

    def elapsed_ms(self) -> float:
        """Since the last tick."""
        return 1e3 * (time.perf_counter() - self._last)

    def tick(self, name: str) -> None:
        """The time since the last tick belongs to `name`."""
        self.speed[name] += self.elapsed_ms()
        self._last = time.perf_counter()
