"""`SAM2VideoPredictor` with the arguments, logits and order of sam2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch import device as TorchDevice

from masklet import sam
from masklet.compat.prompted_image import PromptArray
from masklet.errors import InputError, PromptError
from masklet.media import VideoSource, open_video
from masklet.video import Session, TrackOptions
from masklet.video.tracker import Tracker

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NO_OBJECT_LOGIT", "InferenceState", "SAM2VideoPredictor", "frame_logits", "object_prompt"]

NO_OBJECT_LOGIT = -1024.0
"""The mask of an object of which nothing is known on a frame."""
OPTIONS = TrackOptions(retain="all", corrections="sam2", fill_hole_area=0).as_published()
FrameMasks = tuple[int, list[int], Tensor]
"""Number of the frame, ids of all objects, and their logits (N, 1, H, W) at the size of the video."""


class InferenceState(dict[str, Any]):
    """A video that is tracked: `session` is the `masklet.video.Session`; the items describe the video."""

    def __init__(self, session: Session, device: TorchDevice) -> None:
        height, width = session.video.size
        super().__init__(
            num_frames=session.video.num_frames, video_height=height, video_width=width, device=device, obj_ids=[]
        )
        self.session = session

    def refresh(self) -> list[int]:
        """Update and return the ids of all objects."""
        self["obj_ids"] = list(self.session.object_ids)
        return list(self.session.object_ids)


class SAM2VideoPredictor:
    """Track objects through videos; `native` is the `masklet.SAM`.

    Example:
        >>> from masklet.compat.sam2.build_sam import build_sam2_video_predictor
        >>> predictor = build_sam2_video_predictor("sam2.1_hiera_t.yaml", "sam2.1_t.pt")  # doctest: +SKIP
        >>> state = predictor.init_state("frames/")  # doctest: +SKIP
        >>> predictor.add_new_points_or_box(state, 0, 1, points=[[210, 350]], labels=[1])  # doctest: +SKIP
        >>> for frame_idx, ids, masks in predictor.propagate_in_video(state):  # doctest: +SKIP
        ...     visible = masks > 0
    """

    def __init__(self, model: sam.SAM) -> None:
        self.native = model

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> Self:
        """Open a model by its name on the hub: "facebook/sam2.1-hiera-tiny"."""
        return cls(sam.SAM(model_id, precision="fp32", **kwargs))

    @property
    def device(self) -> TorchDevice:
        """Where the network is."""
        return self.native.predictor.device

    @property
    def image_size(self) -> int:
        """Side of the square that frames are resized to."""
        return self.native.info().image_size

    def init_state(
        self,
        video_path: VideoSource,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
    ) -> InferenceState:
        """Open a video: a file, a folder of images, or anything that `masklet.SAM.session` takes.

        Frames are read when they are needed, whatever the three options say.

        Raises:
            SourceError: if the video cannot be read.
            ModelError: if the model is for images only.
        """
        return InferenceState(self.native.session(open_video(video_path), options=OPTIONS), self.device)

    def add_new_points_or_box(
        self,
        inference_state: InferenceState,
        frame_idx: int,
        obj_id: int,
        points: PromptArray = None,
        labels: PromptArray = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: PromptArray = None,
    ) -> FrameMasks:
        """Prompt an object on a frame with points (P, 2) and labels (P,), a box (4,), or both.

        With `clear_old_points` they replace earlier prompts of the object on the frame; its mask there is refined.

        Raises:
            PromptError: if a prompt is malformed, or outside the frame.
        """
        session = inference_state.session
        if box is not None and not clear_old_points:
            raise InputError("clear_old_points=False cannot be used with a box, which comes first: leave it out")
        if clear_old_points and obj_id in session.tracker.objects:
            session.tracker.objects[obj_id].prompts.pop(frame_idx, None)
        size = (inference_state["video_width"], inference_state["video_height"])
        prompt = object_prompt(points, labels, box, None if normalize_coords else size)
        session.add_prompt(obj_id, frame_idx, **prompt)
        return frame_idx, inference_state.refresh(), frame_logits(session.tracker, frame_idx)

    add_new_points = add_new_points_or_box

    def add_new_mask(
        self, inference_state: InferenceState, frame_idx: int, obj_id: int, mask: PromptArray
    ) -> FrameMasks:
        """Prompt an object on a frame with a mask (H, W).

        Raises:
            PromptError: if the mask is malformed.
        """
        session = inference_state.session
        session.add_prompt(obj_id, frame_idx, mask=np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask))
        return frame_idx, inference_state.refresh(), frame_logits(session.tracker, frame_idx)

    def propagate_in_video(
        self,
        inference_state: InferenceState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[FrameMasks]:
        """Track all objects from a frame, by default the first prompted one, over so many frames more, or to the end.

        Raises:
            StateError: if there is no prompt.
        """
        session = inference_state.session
        prompted = [frame for one in session.tracker.objects.values() for frame in one.prompts]
        start = min(prompted, default=0) if start_frame_idx is None else start_frame_idx
        if reverse and start == 0 and prompted:
            return  # as sam2, which has nothing to track before the first frame
        stop = None
        if max_frame_num_to_track is not None:
            last = start - max_frame_num_to_track if reverse else start + max_frame_num_to_track
            stop = (last - 1 if last > 0 else None) if reverse else last + 1
        for results in session.propagate(start, stop, reverse=reverse):
            assert results.frame_idx is not None
            yield results.frame_idx, inference_state.refresh(), frame_logits(session.tracker, results.frame_idx)

    def clear_all_prompts_in_frame(
        self, inference_state: InferenceState, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> FrameMasks | None:
        """Remove the prompts of an object on a frame.

        Raises:
            PromptError: if there is no such object.
        """
        session = inference_state.session
        if frame_idx in session.tracker.get_object(obj_id).prompts:
            session.clear_prompts(obj_id, frame_idx)
        if not need_output:
            return None
        return frame_idx, inference_state.refresh(), frame_logits(session.tracker, frame_idx)

    def remove_object(
        self, inference_state: InferenceState, obj_id: int, strict: bool = False, need_output: bool = True
    ) -> tuple[list[int], list[tuple[int, Tensor]]]:
        """Remove an object; return the ids that stay, and their masks on the frames where it was prompted.

        Raises:
            PromptError: with `strict`, if there is no such object.
        """
        session = inference_state.session
        if obj_id not in session.object_ids:
            if strict:
                raise PromptError(f"there is no object {obj_id}; there are {list(session.object_ids)}")
            return inference_state.refresh(), []
        frames = sorted(session.tracker.get_object(obj_id).prompts)
        session.remove_object(obj_id)
        ids = inference_state.refresh()
        return ids, [(frame, frame_logits(session.tracker, frame)) for frame in frames] if need_output and ids else []

    def reset_state(self, inference_state: InferenceState) -> None:
        """Remove all objects, so that the video can be tracked from the beginning."""
        session = inference_state.session
        for number in session.object_ids:
            session.remove_object(number)
        session._next_frame = session._propagation = None
        inference_state.refresh()


def object_prompt(
    points: PromptArray, labels: PromptArray, box: PromptArray, size: tuple[int, int] | None
) -> dict[str, Any]:
    """Return a prompt as masklet takes it; with `size` (width, height) points and boxes are fractions of it.

    Raises:
        InputError: if points come without labels or labels without points, or there is nothing.
    """
    if (points is None) != (labels is None):
        raise InputError("points and labels must be given together: one label, 1 or 0, for each point")
    if points is None and box is None:
        raise InputError("points and box are both None: give one, such as points=[[x, y]] with labels=[1]")
    scale = np.array(size or (1, 1), np.float32)
    prompt: dict[str, Any] = {}
    if points is not None:
        prompt["points"] = (torch.as_tensor(np.asarray(points)).float().numpy().reshape(-1, 2) * scale).tolist()
        prompt["labels"] = np.asarray(labels).astype(int).ravel().tolist()
    if box is not None:
        prompt["box"] = (np.asarray(box, np.float32).ravel() * np.tile(scale, 2)).tolist()
    return prompt


def frame_logits(tracker: Tracker, frame_idx: int) -> Tensor:
    """Return the logits of all objects on a frame at the size of the video, (N, 1, H, W).

    Objects of which nothing is known there have `NO_OBJECT_LOGIT`.
    """
    size = tracker.frames.frame(frame_idx).size
    masks = []
    for one in tracker.objects.values():
        state = one.bank.get(frame_idx)
        if state is None or state.logits_11HW is None:
            masks.append(torch.full((1, 1, *size), NO_OBJECT_LOGIT))
        else:
            logits = state.logits_11HW.float()
            masks.append(torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False))
    return torch.cat(masks) if masks else torch.zeros(0, 1, *size)
