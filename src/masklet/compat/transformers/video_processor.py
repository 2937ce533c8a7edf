"""`Sam2VideoProcessor`: sessions, and prompts on their frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from masklet.compat.transformers.inference_session import Sam2VideoInferenceSession
from masklet.compat.transformers.named_tensors import NamedTensors
from masklet.compat.transformers.nested_prompts import PADDING, NestedPrompt
from masklet.compat.transformers.promptable_processor import Sam2Processor
from masklet.errors import InputError, PromptError
from masklet.media import VideoSource, open_video
from masklet.prompts import Box, MaskPrompt, ObjectPrompt, Points
from masklet.runtime import DeviceLike
from masklet.transforms import binary_mask

__all__ = ["Sam2VideoProcessor"]


class Sam2VideoProcessor(Sam2Processor):
    """Videos as SAM 2 and EdgeTAM see them; frames are resized to squares.

    Example:
        >>> processor = Sam2VideoProcessor.from_pretrained("facebook/sam2.1-hiera-tiny")  # doctest: +SKIP
        >>> session = processor.init_video_session(video=frames)  # doctest: +SKIP
        >>> processor.add_inputs_to_inference_session(  # doctest: +SKIP
        ...     session, frame_idx=0, obj_ids=1, input_points=[[[[210, 350]]]], input_labels=[[[1]]]
        ... )
        >>> for output in model.propagate_in_video_iterator(session):  # doctest: +SKIP
        ...     output.frame_idx, output.pred_masks
    """

    def init_video_session(
        self,
        video: VideoSource | None = None,
        inference_device: DeviceLike = "cpu",
        inference_state_device: DeviceLike | None = None,
        processing_device: DeviceLike | None = None,
        video_storage_device: DeviceLike | None = None,
        max_vision_features_cache_size: int = 1,
        dtype: object = None,
    ) -> Sam2VideoInferenceSession:
        """Open a session on a list of frames or anything else that `masklet.SAM.session` takes; None: frames to come.

        Frames are read when they are needed and tracked where the model is, whatever the other arguments say.

        Raises:
            SourceError: if the video cannot be read.
        """
        return Sam2VideoInferenceSession(None if video is None else open_video(video), self.target_size)

    def add_inputs_to_inference_session(
        self,
        inference_session: Sam2VideoInferenceSession,
        frame_idx: int,
        obj_ids: int | Sequence[int],
        input_points: NestedPrompt = None,
        input_labels: NestedPrompt = None,
        input_boxes: NestedPrompt = None,
        input_masks: NestedPrompt = None,
        original_size: Sequence[int] | Tensor | None = None,
        clear_old_inputs: bool = True,
    ) -> None:
        """Prompt objects on a frame: points [[object][point][x, y]] with labels, boxes [[object][4]], or masks (H, W).

        A model answers when it is called with the frame, or reaches it. In a session without a video, `original_size`
        is (height, width) of the frame.

        Raises:
            PromptError: if a prompt is malformed or outside the frame, or there are not as many as ids.
            InputError: if no size is known, or prompts are combined that exclude each other.
        """
        ids = [obj_ids] if isinstance(obj_ids, int) else list(obj_ids)
        if (input_points is None) != (input_labels is None):
            raise InputError("input_points and input_labels must be given together: one label, 1 or 0, for each point")
        if input_masks is not None and (input_points is not None or input_boxes is not None):
            raise InputError("input_masks cannot be combined with points or boxes: leave one of them out")
        if input_boxes is not None and not clear_old_inputs:
            raise InputError("clear_old_inputs=False cannot be used with a box, which comes first: leave it out")
        session = inference_session
        if original_size is not None:
            session.video_height, session.video_width = (int(side) for side in original_size)
        if input_masks is not None:
            prompts = self._mask_prompts(input_masks)
        elif session.video_height is None or session.video_width is None:
            raise InputError("the size of frames is not known yet: give original_size=(height, width)")
        else:
            size = (session.video_height, session.video_width)
            tensors = self(
                input_points=input_points, input_labels=input_labels, input_boxes=input_boxes, original_sizes=[size]
            )
            prompts = _object_prompts(tensors)
        if len(prompts) != len(ids):
            raise PromptError(f"obj_ids={ids} must be {len(prompts)} ids, one for each prompted object")
        for number, prompt in zip(ids, prompts, strict=True):
            session.add_prompt(number, frame_idx, prompt, clear_old=clear_old_inputs)

    def _mask_prompts(self, masks: NestedPrompt) -> list[ObjectPrompt]:
        """Return the prompts of one mask (H, W), or of a list of them."""
        found = []
        for one in masks if isinstance(masks, (list, tuple)) else [masks]:
            mask = np.asarray(one.cpu() if isinstance(one, Tensor) else one)
            given = MaskPrompt(mask.reshape(mask.shape[-2:]) if mask.ndim > 2 else mask)
            resized = binary_mask(given.mask, (self.target_size, self.target_size))
            found.append(ObjectPrompt(mask=MaskPrompt(resized[0, 0].bool().numpy())))
        return found


def _object_prompts(tensors: NamedTensors) -> list[ObjectPrompt]:
    """Return the prompts of the objects of one frame; points that fill up shorter rows are left out."""
    counts = {len(tensors[name][0]) for name in ("input_points", "input_boxes") if name in tensors}
    if not counts:
        raise PromptError("there is no prompt: give input_points with input_labels, input_boxes or input_masks")
    if len(counts) > 1:
        raise PromptError(f"points and boxes are of {sorted(counts)} objects: give as many of both, or leave one out")
    prompts = []
    for i in range(*counts):
        points, box = None, None
        if "input_points" in tensors:
            is_point = tensors.input_labels[0, i] != PADDING
            coords, labels = tensors.input_points[0, i][is_point], tensors.input_labels[0, i][is_point]
            points = Points(coords.numpy(), labels.numpy()) if len(coords) else None
        if "input_boxes" in tensors:
            box = Box(*tensors.input_boxes[0, i].tolist())
        prompts.append(ObjectPrompt(points, box, refine=True))
    return prompts
