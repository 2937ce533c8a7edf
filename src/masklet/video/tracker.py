"""Track objects through one frame at a time; `Session` and `LiveSession` decide which frame is next.

The image is encoded once a frame and shared. Objects that attend to memories at the same distances, which is nearly
always all of them, are one batch; nothing is padded, so that a batch gives what each object gives alone.
Shapes: B objects, C channels, H and W of a map or of the network's input; a leading 1 is one object.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from masklet.cpu_threads import adaptive_threads
from masklet.errors import MaskletError, MaskletWarning, ModelError, PromptError, StateError
from masklet.media import Frame
from masklet.models.sam2.config import MatchingConfig
from masklet.models.sam2.label_matching import label_from_mask, recall_labels
from masklet.models.types import (
    FrameMemory,
    ImageFeatures,
    MaskPrediction,
    MemoryContext,
    PromptTensors,
    SelectedMasks,
)
from masklet.prompts import MaskPrompt, ObjectPrompt
from masklet.results import Results
from masklet.runtime import standard_torch
from masklet.tensors import Tensor, torch
from masklet.transforms import LOGIT_LIMIT, ImageTransform, binary_mask, preprocess_frame, prompt_tensors
from masklet.video.exclusion import HISTORY, apply_non_overlap, exclusive_pairs, share_priors, yield_to_prompted
from masklet.video.frame_cache import FeatureCache, FrameProvider
from masklet.video.frame_scores import choose_candidates, score_frame
from masklet.video.memory_bank import (
    FrameState,
    MemoryBank,
    TrackedObject,
    build_memory_context,
    merge_prompts,
    validate_object_id,
)
from masklet.video.memory_selection import AvailableMemory, MemorySelection
from masklet.video.postprocess import to_results
from masklet.video.reidentification import Appearance
from masklet.video.scene_cuts import SceneCuts, feature_distance
from masklet.video.track_options import TrackOptions

__all__ = ["EncodedFrame", "ObjectState", "Tracker", "VideoNetwork"]

SAME_LOOK, OTHER_LOOK = 0.9, 0.75
"""Similarities of appearance from which something is the object, and under which it is another one."""
LOOK_INTERVAL = 5
"""Every so many frames the look of each object is remembered."""
MIN_RECALLED_AREA, MAX_RECALLED_AREA = 0.05, 4.0
"""Areas between which something may be an object that was absent, as factors of its mean area where it was prompted."""
FOUND_AREA, FOUND_SCORE = 0.5, 1.0
"""Area of a prior, as such a factor, and object score of the answer to it, with which memory does not decide."""
SURE_SCORE, MIN_KNOWN_CELLS = 4.0, 4.0
"""Object score with which memory alone shows an object that no label finds, and the area, in cells of stride 8, from
which an object needs it: of smaller ones labels may fade while they are in full view."""


class VideoNetwork(Protocol):
    """The verbs of a network with memory, tensors in and tensors out; `FastSAM2` has them.

    `features` may hold one image for all objects.
    """

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    @property
    def edge_radius(self) -> int | None:
        """How far masks follow the edges of their frame, in cells of stride 2; None: not at all."""

    @property
    def encodes_ahead(self) -> bool:
        """Whether a frame is encoded while the one before is tracked, each with its share of the threads."""

    @property
    def weights_keys(self) -> bool:
        """Whether memory attention takes weights of memories."""

    @property
    def memory_limits(self) -> tuple[int, int] | None:
        """The largest number of memories and of pointers that a frame attends to; None: as many as are selected."""

    @property
    def matching(self) -> MatchingConfig | None:
        """How labels of earlier frames are copied; None: the last three verbs are not used."""

    def frame_input_size(self, frame_size: tuple[int, int], /) -> tuple[int, int]:
        """Return the height and width that frames of a size are resized to."""

    def encode_image(self, pixels_B3HW: Tensor, /) -> ImageFeatures:
        """Encode normalized RGB."""

    def add_no_memory_embedding(self, features: ImageFeatures, /) -> ImageFeatures:
        """Condition features on an empty memory."""

    def condition_on_memory(self, features: ImageFeatures, memory_context: MemoryContext, /) -> ImageFeatures:
        """Condition the features of one frame on the memory of each object."""

    def decode(self, features: ImageFeatures, prompts: PromptTensors | None = None, /) -> MaskPrediction:
        """Predict all candidate masks of each object, from memory alone where `prompts` is None."""

    def select_mask(
        self,
        prediction: MaskPrediction,
        multimask: bool,
        *,
        choice_B: Tensor | None = None,
        min_object_score: float = 0.0,
    ) -> SelectedMasks:
        """Select one candidate of each object: of three `choice_B`, or the best."""

    def use_mask_as_output(self, features: ImageFeatures, mask_B1HW: Tensor, /) -> SelectedMasks:
        """Use a mask of 0 and 1 as if the network had predicted it."""

    def encode_memory(self, features: ImageFeatures, masks: SelectedMasks, /, *, prompted: bool = False) -> FrameMemory:
        """Encode what later frames attend to."""

    def matching_keys(self, features: ImageFeatures, /) -> Tensor:
        """Return keys (1, H, W, C) at stride 8 by which cells of frames are matched."""

    def match_labels(self, query_HWC: Tensor, keys_FHWC: Tensor, labels_NFHW: Tensor, /) -> Tensor:
        """Copy the labels of earlier frames to priors (N, 1, H, W)."""

    def decode_prior(self, features: ImageFeatures, prior_B1HW: Tensor, /) -> MaskPrediction:
        """Predict all candidate masks of each object from memory and a prior."""


ObjectState = tuple[TrackedObject, FrameState]


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """A frame, its features and keys; without features, those in the cache are its own."""

    frame: Frame
    features: ImageFeatures | None
    keys_HWC: Tensor | None


class Tracker:
    """The objects of one video with their memory, and the steps that prompt and track them."""

    def __init__(self, network: VideoNetwork, frames: FrameProvider, options: TrackOptions) -> None:
        self.network, self.frames, self.options = network, frames, options
        self.policy = options.memory_policy
        if self.policy.weights_keys and not network.weights_keys:
            raise ModelError(
                f"memory={options.memory!r} weights the keys of memories, which exported graphs do not take: open the "
                'model itself, or choose memory="samurai" or memory="dam4sam"'
            )
        self.objects: dict[int, TrackedObject] = {}
        self.cache = FeatureCache()
        self.keys: dict[int, Tensor] = {}
        """By frame: what cells are matched by, for frames that may be matched again."""
        self.propagation_start = 0
        """Where the current pass began: a pass in the other direction may begin there too."""
        self.cuts = SceneCuts()
        """Those that were noticed; with `scene_cuts` off there are none."""
        self.speed: dict[str, float] = {}
        """Milliseconds by stage of the frame that was tracked last."""
        self._has_warned = False
        """Whether a warning was given that memories are left out."""

    def get_object(self, object_id: int) -> TrackedObject:
        """Return an object by its id.

        Raises:
            PromptError: if there is none.
        """
        number = validate_object_id(object_id)
        if number not in self.objects:
            ids = ", ".join(map(str, self.objects)) or "none yet"
            raise PromptError(
                f"there is no object {number}; objects are {ids}: add it first with add_prompt({number}, ...)"
            )
        return self.objects[number]

    @standard_torch()
    @adaptive_threads()
    @torch.inference_mode()
    def encode_frame(self, frame: Frame) -> ImageFeatures:
        """Encode a frame, (1, C, H, W), without any memory."""
        size, exact = self.network.frame_input_size(frame.size), self.network.matching is None  # as published, or fast
        pixels_13HW = preprocess_frame(frame.rgb, size, exact=exact)
        return self.network.encode_image(pixels_13HW.to(self.network.device))

    @standard_torch()
    @adaptive_threads()
    @torch.inference_mode()
    def frame_features(self, frame: Frame) -> ImageFeatures:
        """Return the features of a frame, (1, C, H, W) without any memory, encoded unless they are cached."""
        features = self.cache.get(frame.index)
        return self.store_features(self.encode_unless_cached(frame)) if features is None else features

    @standard_torch()
    @adaptive_threads()
    @torch.inference_mode()
    def encode_unless_cached(self, frame: Frame) -> EncodedFrame:
        """Encode a frame, unless its features are cached, without storing anything; any thread may call this."""
        if frame.index in self.cache:
            return EncodedFrame(frame, None, None)
        features = self.encode_frame(frame)
        if features.stride8_BCHW is None:
            return EncodedFrame(frame, features, None)
        keys_HWC = self.network.matching_keys(features)[0]
        return EncodedFrame(frame, replace(features, stride8_BCHW=None), keys_HWC)

    def store_features(self, encoded: EncodedFrame) -> ImageFeatures:
        """Cache what `encode_unless_cached` returned, and return the features of the frame."""
        index, features = encoded.frame.index, encoded.features
        if features is None:  # cached then, and it may have been released since
            return self.frame_features(encoded.frame)
        if encoded.keys_HWC is not None:
            self.keys[index] = encoded.keys_HWC
        self.cache.put(index, features)
        return features

    @standard_torch()
    @adaptive_threads()
    @torch.inference_mode()
    def add_prompt(self, obj: TrackedObject, frame: Frame, prompt: ObjectPrompt) -> FrameState:
        """Add a prompt to an object on a frame and return its mask there.

        A frame that was tracked is prompted on features conditioned on memory, starting from its mask.
        """
        merged, before = merge_prompts(obj.prompts.get(frame.index), prompt), obj.bank.get(frame.index)
        features, size = self.frame_features(frame), self.network.frame_input_size(frame.size)
        if merged.mask is not None and merged.points is None and merged.box is None:
            mask_11HW = binary_mask(merged.mask.mask, size).to(self.network.device)
            masks = self.network.use_mask_as_output(features, mask_11HW)
        else:
            earlier_11HW = None if before is None or prompt.mask is not None else before.logits_11HW
            if earlier_11HW is not None:
                earlier_11HW = earlier_11HW.float().clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
            transform = ImageTransform(frame.size, size)
            tensors = prompt_tensors([merged], transform, mask_input_B1HW=earlier_11HW, device=self.network.device)
            prediction = self.network.decode(self._prompt_features(obj, frame.index, before, features), tensors)
            masks = self.network.select_mask(prediction, multimask=tensors.points_BN2.shape[1] <= 1)
            given = None if (masks.logits_B1HW > 0).any() else transform.small_prompt_mask(merged)
            if given is not None and self.options.corrections == "kept":
                # the object is smaller than a cell: its box is its mask
                merged = replace(merged, mask=MaskPrompt(given))
                mask_11HW = binary_mask(given, size).to(self.network.device)
                masks = self.network.use_mask_as_output(features, mask_11HW)
        state = FrameState.from_masks(masks)
        tracked = before is not None and before.reverse is not None
        if tracked and before is not None:
            state = replace(state, reverse=before.reverse)
            obj.corrected_frames.add(frame.index)
        if tracked and self.options.corrections == "sam2" and frame.index in obj.bank.tracked:
            [memory] = self._encode_memories(features, [masks], prompted=True)
            obj.bank.tracked[frame.index] = state.with_memory(memory)
        else:
            obj.bank.tracked.pop(frame.index, None)
            obj.bank.prompted[frame.index] = state
        obj.prompts[frame.index] = merged
        obj.frames_unseen, obj.motion = 0, None
        self._remember_look(obj, frame, state)
        return state

    @standard_torch()
    @adaptive_threads()
    @torch.inference_mode()
    def remember_mask(self, obj: TrackedObject, frame: Frame, mask: npt.NDArray[np.bool_], reverse: bool) -> None:
        """Store a mask as what tracking in a direction has found on a frame, unless the frame is prompted."""
        if frame.index in obj.bank.prompted:
            return
        features, size = self.frame_features(frame), self.network.frame_input_size(frame.size)
        masks = self.network.use_mask_as_output(features, binary_mask(mask, size).to(self.network.device))
        [memory] = self._encode_memories(features, [masks], prompted=False)
        obj.bank.tracked[frame.index] = replace(FrameState.from_masks(masks).with_memory(memory), reverse=reverse)

    def _remember_look(self, obj: TrackedObject, frame: Frame, state: FrameState) -> None:
        """Remember how a visible object looks: where it was prompted first, and lately, as long as it looks alike."""
        keys_HWC = self.keys.get(frame.index)
        if not self.options.verify_returns or keys_HWC is None or state.logits_11HW is None:
            return
        look = Appearance.of_logits(frame.rgb, state.logits_11HW, keys_HWC)
        if look is not None and (not obj.looks or look.best_similarity(obj.looks) >= SAME_LOOK):
            obj.looks = [*obj.looks[:1], look]

    def _is_stranger(self, obj: TrackedObject, frame: Frame, masks: SelectedMasks, reverse: bool) -> bool:
        """Whether something is taken for an object that was out of sight, or in another shot, but looks different."""
        neighbor = frame.index + 1 if reverse else frame.index - 1
        before, keys_HWC = obj.bank.get(neighbor), self.keys.get(frame.index)
        if not self.options.verify_returns or not obj.looks or before is None or keys_HWC is None:
            return False
        was_visible = before.object_score > 0 and self.cuts.same_shot(neighbor, frame.index)
        if was_visible or float(masks.object_score_B1) <= 0:
            return False
        look = Appearance.of_logits(frame.rgb, masks.logits_B1HW, keys_HWC)
        return look is not None and look.best_similarity(obj.looks) < OTHER_LOOK

    def _prompt_features(
        self, obj: TrackedObject, frame_idx: int, before: FrameState | None, features: ImageFeatures
    ) -> ImageFeatures:
        """Condition features for a prompt: on memory where the frame was tracked, in the same direction."""
        if before is not None and before.reverse is not None:
            self.encode_prompted_frames([obj])
            selection = self._select_memory(obj, frame_idx, before.reverse)
            if selection.spatial:
                return self.network.condition_on_memory(features, build_memory_context([(obj.bank, selection)]))
        return self.network.add_no_memory_embedding(features)

    def _select_memory(self, obj: TrackedObject, frame_idx: int, reverse: bool) -> MemorySelection:
        """Select what a frame attends to of an object, within what the network can hold."""
        select, length, limits = self.policy.selector.select, self.frames.length, self.network.memory_limits
        selection = select(frame_idx, self._available_memory(obj, frame_idx), reverse=reverse, length=length)
        if limits is None:
            return selection
        limited = selection.limit(frame_idx, *limits)
        if len(limited.spatial) < len(selection.spatial) and not self._has_warned:
            self._has_warned = True
            room = limits[0] - len(obj.bank.prompted)
            fewer = f", or attend to fewer other frames: RecentFrames(memories={room}), --memories {room}"
            warnings.warn(
                f"object {obj.id} has {len(selection.spatial)} memories for frame {frame_idx}, and this exported model "
                f"has slots for {limits[0]}: the farthest prompted frames are left out; use the weights to attend to "
                f"all{fewer if room > 0 else ''}",
                MaskletWarning,
                stacklevel=2,
            )
        return limited

    def _available_memory(self, obj: TrackedObject, frame_idx: int) -> AvailableMemory:
        """Return the stored frames of an object that a frame may attend to: of tracked ones, those of its shot."""
        available = obj.bank.available
        if not self.cuts.frames:
            return available
        return replace(
            available,
            tracked=[frame for frame in available.tracked if self.cuts.same_shot(frame, frame_idx)],
            with_spatial=[f for f in available.with_spatial or () if self.cuts.same_shot(f, frame_idx)],
        )

    def _labeled_frames(self, bank: MemoryBank, frame_idx: int, reverse: bool) -> tuple[int, ...]:
        """Return the frames whose labels a frame copies: of tracked ones, those of its shot."""
        config = self.network.matching
        assert config is not None
        frames = bank.labeled_frames(frame_idx, config, reverse=reverse)
        return tuple(each for each in frames if each in bank.prompted or self.cuts.same_shot(each, frame_idx))

    def _notice_cut(self, frame: Frame, reverse: bool) -> None:
        """Notice whether a cut lies between a frame and the one before; the motion of objects ends there."""

        def read_rgb(index: int) -> npt.NDArray[np.uint8] | None:
            with suppress(MaskletError):  # it has gone by, is no frame of the video, or cannot be read
                return self.frames.frame(index).rgb
            return None

        def distance_to(index: int) -> float | None:
            features = self.cache.get(index)
            with suppress(MaskletError):
                features = features or self.frame_features(self.frames.frame(index))
            if features is None:
                return None
            return feature_distance(features.embed_BCHW, self.frame_features(frame).embed_BCHW)

        if self.cuts.notice(frame.index, frame.rgb, reverse=reverse, read_rgb=read_rgb, distance_to=distance_to):
            for one in self.objects.values():
                one.motion = None

    @standard_torch()
    @adaptive_threads()
    @torch.inference_mode()
    def encode_prompted_frames(self, objects: Sequence[TrackedObject]) -> None:
        """Encode the memory of frames prompted since the last step."""
        missing: dict[int, list[TrackedObject]] = {}
        for one in objects:
            for index, state in one.bank.prompted.items():
                if state.spatial_1MHW is None:
                    missing.setdefault(index, []).append(one)
        for index, some in missing.items():
            features = self.cache.get(index) or self.frame_features(self.frames.frame(index))
            masks = [one.bank.prompted[index].to_masks() for one in some]
            for one, memory in zip(some, self._encode_memories(features, masks, prompted=True), strict=True):
                one.bank.prompted[index] = one.bank.prompted[index].with_memory(memory)

    @standard_torch()
    @adaptive_threads()
    @torch.inference_mode()
    def track_frame(self, frame: Frame, objects: Sequence[TrackedObject], reverse: bool) -> list[ObjectState]:
        """Track objects into a frame from memory; those prompted on it keep their prompted mask."""
        began, index, config = perf_counter(), frame.index, self.network.matching
        self.encode_prompted_frames(objects)
        features = self.frame_features(frame)
        if self.options.scene_cuts:
            self._notice_cut(frame, reverse)
        encoded = perf_counter()
        unprompted = [one for one in objects if index not in one.bank.prompted]
        for one in objects:
            one.bank.tracked.pop(index, None)
        priors, known_cells = self.match_labels(index, unprompted, reverse)
        if self.options.non_overlapping is not False:
            priors = yield_to_prompted(priors, objects, index, reverse=reverse)
        if len(priors) > 1 and self.options.non_overlapping is not False:
            history = min(HISTORY, self.cuts.frames_in_shot_before(index, reverse=reverse))
            priors = share_priors(priors, objects, index, reverse=reverse, history=history)
        recalled = self.recall_labels(index, unprompted, reverse, priors)
        if self.options.non_overlapping is not False:
            recalled = yield_to_prompted(recalled, objects, index, reverse=reverse)
        predicted = self._predict_masks(features, unprompted, frame, reverse, priors, recalled, known_cells)
        masks = {one.id: mask for one, mask, _ in predicted}
        candidates = {one.id: each for one, _, each in predicted}
        priors.update({number: prior for number, prior in recalled.items() if masks[number].object_score_B1 > 0})
        tracked = perf_counter()
        by_mask = self.options.non_overlapping or (self.options.non_overlapping is None and config is None)
        if by_mask and len(objects) > 1:
            every = [masks[one.id] if one.id in masks else one.bank.prompted[index].to_masks() for one in objects]
            exclusive_NN = None
            if not self.options.non_overlapping:
                exclusive_NN = exclusive_pairs([one.bank for one in objects], index, reverse=reverse)
            apart = dict(zip((one.id for one in objects), apply_non_overlap(every, exclusive_NN), strict=True))
            masks = {id: apart[id] for id in masks}
        memories = self._encode_memories(features, [masks[one.id] for one in unprompted], prompted=False)
        labels = {number: label_from_mask(masks[number].logits_B1HW, priors[number]) for number in priors}
        for one, memory in zip(unprompted, memories, strict=True):
            state = FrameState.from_masks(masks[one.id]).with_memory(memory)
            if one.id in labels:
                state = replace(state, label_11HW=labels[one.id].half())
            if self.policy.judges_frames:
                available = self._available_memory(one, index)
                state = score_frame(self.policy, one, available, index, reverse, state, candidates[one.id])
            if state.is_anchor:  # remembered as if its mask had been given
                [memory] = self._encode_memories(features, [masks[one.id]], prompted=True)
                state = state.with_memory(memory)
            one.bank.tracked[index] = state
        times = {"encode": encoded - began, "track": tracked - encoded, "remember": perf_counter() - tracked}
        self.speed = {**{name: 1e3 * seconds for name, seconds in times.items()}, "postprocess": 0.0}
        rows = []
        for one in objects:
            stored = one.bank.prompted if index in one.bank.prompted else one.bank.tracked
            state = stored[index] = replace(stored[index], reverse=reverse)
            one.frames_unseen = 0 if state.object_score > self.policy.min_object_score else one.frames_unseen + 1
            if stored is one.bank.prompted:
                one.motion = None
            elif index % LOOK_INTERVAL == 0:
                self._remember_look(one, frame, state)
            if self.options.retain == "recent":
                following = self._select_memory(one, index - 1 if reverse else index + 1, reverse)
                one.bank.prune(self.policy.selector, (index, self.propagation_start), following)
            rows.append((one, state))
        return rows

    def match_labels(
        self, frame_idx: int, objects: Sequence[TrackedObject], reverse: bool
    ) -> tuple[dict[int, Tensor], dict[int, float]]:
        """Return the prior (1, 1, H, W) of each object that labels of earlier frames find, by the object's id.

        Also returns the mean area in cells that each object has on the prompted frames it was compared with.
        """
        config = self.network.matching
        if config is None:
            return {}, {}
        groups: dict[tuple[int, ...], list[TrackedObject]] = {}
        for one in objects:
            groups.setdefault(self._labeled_frames(one.bank, frame_idx, reverse), []).append(one)
        for index in {frame_idx, *(index for frames in groups for index in frames)} - self.keys.keys():
            with suppress(StateError):  # a frame of a stream that has gone by is not matched
                self.keys[index] = self.network.matching_keys(self.encode_frame(self.frames.frame(index)))[0]
        priors: dict[int, Tensor] = {}
        known_cells: dict[int, float] = {}
        for selected, group in groups.items():
            frames = [index for index in selected if index in self.keys]
            if not frames:
                continue
            prompted = [i for i, index in enumerate(frames) if index in group[0].bank.prompted]
            labels_NFHW = torch.stack([torch.cat([one.bank.label(index)[0] for index in frames]) for one in group])
            keys_FHWC = torch.stack([self.keys[index] for index in frames])
            prior_N1HW = self.network.match_labels(self.keys[frame_idx], keys_FHWC, labels_NFHW)
            found_N = (prior_N1HW > 0.5).flatten(1).any(1).tolist()
            priors.update({one.id: prior_N1HW[i : i + 1] for i, one in enumerate(group) if found_N[i]})
            if prompted:
                cells_N = (labels_NFHW[:, prompted] > 0.5).sum((1, 2, 3)) / len(prompted)
                known_cells.update(zip((one.id for one in group), cells_N.tolist(), strict=True))
        banks = [one.bank for one in self.objects.values()]
        matched = {index for bank in banks for index in self._labeled_frames(bank, frame_idx, reverse)}
        for index in self.keys.keys() - matched:
            distance = min(abs(index - frame_idx), abs(index - self.propagation_start))
            if distance > config.recent and index not in self.cache:
                del self.keys[index]
        return priors, known_cells

    def recall_labels(
        self, frame_idx: int, objects: Sequence[TrackedObject], reverse: bool, priors: dict[int, Tensor]
    ) -> dict[int, Tensor]:
        """Return priors (1, 1, H, W) of objects without one that the frame before does not show, or in another shot.

        They are searched for in the entire frame, by the labels of prompted frames, outside of other objects.
        """
        config, recalled = self.network.matching, {}
        groups: dict[tuple[int, ...], list[TrackedObject]] = {}
        for one in () if config is None else objects:
            neighbor = frame_idx + 1 if reverse else frame_idx - 1
            before, same_shot = one.bank.get(neighbor), self.cuts.same_shot(neighbor, frame_idx)
            if one.id in priors or before is None or (before.object_score > 0 and same_shot):
                continue
            matched = self._labeled_frames(one.bank, frame_idx, reverse)
            frames = tuple(index for index in matched if index in one.bank.prompted and index in self.keys)
            if frames:
                groups.setdefault(frames, []).append(one)
        for frames, group in groups.items():
            assert config is not None
            keys_FHWC = torch.stack([self.keys[index] for index in frames])
            labels_NFHW = torch.stack([torch.cat([one.bank.label(index)[0] for index in frames]) for one in group])
            prior_NHW = recall_labels(self.keys[frame_idx], keys_FHWC, labels_NFHW, config)
            for other_11HW in priors.values():
                prior_NHW = prior_NHW * (1 - other_11HW[0]).clamp(min=0)
            areas_N = (prior_NHW > 0.5).sum((1, 2)).tolist()
            known_N = ((labels_NFHW > 0.5).sum((1, 2, 3)) / len(frames)).tolist()
            for one, prior_HW, area, known in zip(group, prior_NHW, areas_N, known_N, strict=True):
                if area > 0 and known * MIN_RECALLED_AREA <= area <= known * MAX_RECALLED_AREA:
                    recalled[one.id] = prior_HW[None, None]
        return recalled

    def _predict_masks(
        self,
        features: ImageFeatures,
        objects: Sequence[TrackedObject],
        frame: Frame,
        reverse: bool,
        priors: dict[int, Tensor],
        recalled: dict[int, Tensor],
        known_cells: Mapping[int, float],
    ) -> list[tuple[TrackedObject, SelectedMasks, Tensor]]:
        """Predict the mask of each object from memory, in batches of those that attend at the same distances.

        Also returns the three candidates (3, H, W) of each, of which one is selected. For an object with a prior it
        gives way to the single mask that the prior as a prompt gives: the prior finds the object more surely, memory
        its edge. What labels were searched for in vain is absent unless memory is sure of it. What only resembles an
        object is left out, with its prior.
        """
        groups: dict[object, list[tuple[TrackedObject, MemorySelection]]] = {}
        for one in objects:
            selection = self._select_memory(one, frame.index, reverse)
            ages = tuple(age for _, age in selection.spatial)
            offsets = tuple(offset for _, offset in selection.pointers)
            groups.setdefault((ages, offsets, selection.max_pointers), []).append((one, selection))
        predicted = []
        for group in groups.values():
            for start in range(0, len(group), self.options.objects_per_batch):
                batch = group[start : start + self.options.objects_per_batch]
                context = build_memory_context([(one.bank, selection) for one, selection in batch])
                conditioned = self.network.condition_on_memory(features, context)
                prediction = self.network.decode(conditioned)
                masks = self.network.select_mask(
                    prediction,
                    multimask=True,
                    choice_B=choose_candidates(
                        self.policy, prediction, [one for one, _ in batch], frame.index, reverse
                    ),
                    min_object_score=self.policy.min_object_score,
                )
                answers = {row: masks.index(row, clone=True) for row in range(len(batch))}
                found = self._answer_priors(
                    conditioned, features, masks, [one.id for one, _ in batch], priors, recalled, known_cells
                )
                answers |= found
                for row, (one, _) in enumerate(batch):
                    is_unfound = (
                        row not in found
                        and one.id not in priors
                        and known_cells.get(one.id, 0.0) >= MIN_KNOWN_CELLS
                        and 0 < float(answers[row].object_score_B1) < SURE_SCORE
                    )
                    if is_unfound or self._is_stranger(one, frame, answers[row], reverse):
                        absent = self.network.select_mask(prediction, multimask=True, min_object_score=math.inf)
                        score_B1 = -answers[row].object_score_B1
                        answers[row] = replace(absent.index(row, clone=True), object_score_B1=score_B1)
                        priors.pop(one.id, None)
                        recalled.pop(one.id, None)
                    predicted.append((one, answers[row], prediction.logits_BKHW[row, 1:]))
        return predicted

    def _answer_priors(
        self,
        conditioned: ImageFeatures,
        features: ImageFeatures,
        from_memory: SelectedMasks,
        ids: Sequence[int],
        priors: Mapping[int, Tensor],
        recalled: Mapping[int, Tensor],
        known_cells: Mapping[int, float],
    ) -> dict[int, SelectedMasks]:
        """Return, by its row, the mask of each object that its prior, or a recalled one, finds.

        Memory has to see an object with a prior too, unless the prior finds most of it; otherwise memory decides alone.
        """
        rows = [row for row, number in enumerate(ids) if number in priors or number in recalled]
        if not rows:
            return {}
        assert self.network.matching is not None
        # the finer maps are those of the frame, shared by all objects
        part = ImageFeatures(conditioned.embed_BCHW[rows], features.high_res_features)
        prior_B1HW = torch.cat([priors[ids[row]] if ids[row] in priors else recalled[ids[row]] for row in rows])
        prompted = self.network.select_mask(self.network.decode_prior(part, prior_B1HW), multimask=False)
        from_memory = from_memory.index(torch.tensor(rows, device=prior_B1HW.device))
        weight = self.network.matching.memory_weight
        mean = replace(prompted, logits_B1HW=torch.lerp(prompted.logits_B1HW, from_memory.logits_B1HW, weight))
        cells_B = (prior_B1HW > 0.5).sum((1, 2, 3)).tolist()
        scores_2B = [each.object_score_B1.flatten().tolist() for each in (prompted, from_memory)]
        found = {}
        for i, (row, cells, score, memory_score) in enumerate(zip(rows, cells_B, *scores_2B, strict=True)):
            if ids[row] in priors:
                is_found = score > FOUND_SCORE and cells >= FOUND_AREA * known_cells.get(ids[row], math.inf)
                if is_found or min(score, memory_score) > 0:
                    found[row] = mean.index(i, clone=True)
            elif score > 0:
                found[row] = prompted.index(i, clone=True)
        return found

    def _encode_memories(
        self, features: ImageFeatures, masks: Sequence[SelectedMasks], *, prompted: bool
    ) -> list[FrameMemory]:
        memories: list[FrameMemory] = []
        for start in range(0, len(masks), self.options.objects_per_batch):
            batch = SelectedMasks.cat(masks[start : start + self.options.objects_per_batch])
            encoded = self.network.encode_memory(features, batch, prompted=prompted)
            memories += [encoded.row(i) for i in range(len(batch.iou_B1))]
        return memories

    @standard_torch()
    @adaptive_threads()
    def build_results(
        self,
        frame: Frame,
        rows: Sequence[ObjectState],
        speed: dict[str, float] | None = None,
        *,
        threshold: float = 0.0,
    ) -> Results:
        """Return the masks of `rows` at the frame's size; `speed` is of the tracking step before."""
        began = perf_counter()
        results = to_results(
            frame,
            rows,
            fill_hole_area=self.options.fill_hole_area,
            lost_after=self.options.lost_after,
            keeps_given_masks=self.options.corrections == "kept",
            edge_radius=self.network.edge_radius,
            threshold=threshold,
            speed=speed or dict.fromkeys(("encode", "track", "remember", "postprocess"), 0.0),
        )
        results.speed["postprocess"] = 1e3 * (perf_counter() - began)
        return results

    def results_at(self, frame: Frame, *, threshold: float = 0.0) -> Results:
        """Return the stored masks of all objects on a frame; a pixel is inside above the logit `threshold`.

        Raises:
            StateError: if nothing is stored.
        """
        rows = [(one, state) for one in self.objects.values() if (state := one.bank.get(frame.index)) is not None]
        rows = [(one, state) for one, state in rows if state.logits_11HW is not None]
        if not rows:
            raise StateError(
                f'nothing is known of frame {frame.index} (any more): propagate, or open with retain="all"'
            )
        return self.build_results(frame, rows, threshold=threshold)
