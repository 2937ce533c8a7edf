"""`Sam2VideoModel` and `EdgeTamVideoModel`: sessions of `Sam2VideoProcessor`, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from masklet.compat.sam2.sam2_video_predictor import NO_OBJECT_LOGIT
from masklet.compat.transformers.inference_session import Sam2VideoInferenceSession
from masklet.compat.transformers.named_tensors import NamedTensors
from masklet.compat.transformers.promptable_model import PretrainedModel
from masklet.errors import InputError, StateError
from masklet.sam.video import make_video_network
from masklet.video.tracker import Tracker

__all__ = ["EdgeTamVideoModel", "Sam2VideoModel"]


class Sam2VideoModel(PretrainedModel):
    """SAM 2 on videos.

    Example:
        >>> from masklet.compat.transformers import Sam2VideoModel
        >>> model = Sam2VideoModel.from_pretrained("facebook/sam2.1-hiera-tiny")  # doctest: +SKIP
        >>> output = model(inference_session=session, frame_idx=0)  # doctest: +SKIP
        >>> output.pred_masks.shape  # doctest: +SKIP
        torch.Size([1, 1, 256, 256])
    """

    def __call__(
        self,
        inference_session: Sam2VideoInferenceSession,
        frame_idx: int | None = None,
        frame: Tensor | None = None,
        reverse: bool = False,
    ) -> NamedTensors:
        """Answer the prompts on a frame, and track the other objects into it.

        `frame` are the pixel values (3, S, S) of the next frame of a session without a video, else `frame_idx` is one
        of the video. `reverse` tracks backward in time.

        Returns:
            `object_ids`, `pred_masks` (N, 1, S / 4, S / 4), logits of the network's input, `object_score_logits` (N, 1)
            and `frame_idx`. An object without a prompt so far has logits of -1024.

        Raises:
            InputError: if there is no frame, or it has another size than the network's input.
            StateError: if there is no object.
            ModelError: if the model is for images only.
            SourceError: if the frame does not exist, or cannot be read.
        """
        session, side = inference_session, self.network.still_image_size
        if session.input_size != side and self.network.score_family != "builtin":
            raise InputError(
                f"a session of frames of side {session.input_size} is not for this network, whose inputs have {side}: "
                f"make it with Sam2VideoProcessor({side})"
            )
        if not session.obj_ids:
            raise StateError("there is no object yet: call processor.add_inputs_to_inference_session(...) first")
        if frame is not None:
            shown = session.push(frame, frame_idx)
        elif frame_idx is not None:
            shown = session.frame(frame_idx)
        else:
            raise InputError("frame_idx and frame are both None: give a number, or pixel values in a stream")
        if session.tracker is None:
            session.start(make_video_network(self.native._loaded, self.native.predictor, "fp32"))
        tracker = session.move_to(shown)
        corrected = session.answer_prompts(shown)
        tracked = [one for one in tracker.objects.values() if one.id not in corrected]
        tracker.track_frame(shown, tracked, reverse)
        tracker.encode_prompted_frames(tracked)
        return self._output(session, tracker, shown.index, tracker.network.frame_input_size(shown.size))

    forward: Any = __call__

    def propagate_in_video_iterator(
        self,
        inference_session: Sam2VideoInferenceSession,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
        show_progress_bar: bool = False,
    ) -> Iterator[NamedTensors]:
        """Track all objects from a frame, by default the first prompted one, over so many frames more, or to the end.

        No progress is printed, whatever `show_progress_bar` says.

        Raises:
            StateError: if there is no prompt, or the session has no video.
        """
        count = inference_session.num_frames
        if inference_session.video is None or count is None:
            raise StateError("this session has no video: hand frames in with model(session, frame=pixel_values)")
        start = inference_session.first_prompted_frame() if start_frame_idx is None else start_frame_idx
        most = count if max_frame_num_to_track is None else max_frame_num_to_track
        if reverse:
            order = range(start, max(start - most, 0) - 1, -1) if start > 0 else range(0)
        else:
            order = range(start, min(start + most, count - 1) + 1)
        for frame_idx in order:
            yield self(inference_session, frame_idx, reverse=reverse)

    def _output(
        self, session: Sam2VideoInferenceSession, tracker: Tracker, frame_idx: int, input_size: tuple[int, int]
    ) -> NamedTensors:
        logits, scores = [], []
        for number in session.obj_ids:
            obj = tracker.objects.get(number)
            state = None if obj is None else obj.bank.get(frame_idx)
            if state is None or state.logits_11HW is None:
                logits.append(torch.full((1, 1, input_size[0] // 4, input_size[1] // 4), NO_OBJECT_LOGIT))
                scores.append(NO_OBJECT_LOGIT)
            else:
                logits.append(state.logits_11HW.float().to(self.device))
                scores.append(state.object_score)
        return NamedTensors(
            object_ids=list(session.obj_ids),
            pred_masks=torch.cat([one.to(self.device) for one in logits]),
            object_score_logits=torch.tensor(scores, device=self.device)[:, None],
            frame_idx=frame_idx,
        )


class EdgeTamVideoModel(Sam2VideoModel):
    """EdgeTAM on videos, called as `Sam2VideoModel`, with `Sam2VideoProcessor`."""
