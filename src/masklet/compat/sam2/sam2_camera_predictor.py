"""`SAM2CameraPredictor` of segment-anything-2-real-time: frames are handed in one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from masklet import sam
from masklet.compat.prompted_image import PromptArray, read_rgb
from masklet.compat.sam2.sam2_video_predictor import FrameMasks, frame_logits, object_prompt
from masklet.errors import StateError
from masklet.video import LiveSession, TrackOptions

__all__ = ["SAM2CameraPredictor"]


class SAM2CameraPredictor:
    """Track objects through live frames; `live` is the `masklet.video.LiveSession`.

    Example:
        >>> from masklet.compat.sam2.build_sam import build_sam2_camera_predictor
        >>> predictor = build_sam2_camera_predictor("sam2.1_hiera_t.yaml", "sam2.1_t.pt")  # doctest: +SKIP
        >>> predictor.load_first_frame(rgb)  # doctest: +SKIP
        >>> predictor.add_new_prompt(frame_idx=0, obj_id=1, points=[[210, 350]], labels=[1])  # doctest: +SKIP
        >>> ids, masks = predictor.track(next_rgb)  # doctest: +SKIP
    """

    def __init__(self, model: sam.SAM) -> None:
        self.native = model
        self.live: LiveSession | None = None

    def load_first_frame(self, img: npt.NDArray[np.uint8]) -> None:
        """Begin with a frame, (H, W, 3) RGB uint8; earlier objects are removed."""
        options = TrackOptions(corrections="sam2", fill_hole_area=0).as_published()
        self.live = self.native.live(options=options)
        self.live.step(read_rgb(img))

    def add_new_prompt(
        self,
        frame_idx: int,
        obj_id: int,
        points: PromptArray = None,
        labels: PromptArray = None,
        bbox: PromptArray = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
    ) -> FrameMasks:
        """Prompt an object on the frame that was handed in last, which is `frame_idx`.

        Raises:
            StateError: if there is no frame, or `frame_idx` is another one.
            PromptError: if a prompt is malformed, or outside the frame.
        """
        live = self._started()
        assert live.frames.last is not None
        last = live.frames.last
        if frame_idx != last.index:
            raise StateError(f"frame_idx={frame_idx} is no longer there; prompt the last frame, frame_idx={last.index}")
        if clear_old_points and obj_id in live.tracker.objects:
            live.tracker.objects[obj_id].prompts.pop(frame_idx, None)
        live.add_prompt(obj_id, **object_prompt(points, labels, bbox, None if normalize_coords else last.size[::-1]))
        return frame_idx, list(live.object_ids), frame_logits(live.tracker, frame_idx)

    def track(self, img: npt.NDArray[np.uint8]) -> tuple[list[int], Tensor]:
        """Track all objects into the next frame; return their ids and logits (N, 1, H, W).

        Raises:
            StateError: if there is no first frame.
        """
        live = self._started()
        results = live.step(read_rgb(img))
        assert results.frame_idx is not None
        return list(live.object_ids), frame_logits(live.tracker, results.frame_idx)

    def _started(self) -> LiveSession:
        if self.live is None:
            raise StateError("there is no frame yet; call load_first_frame(rgb) first")
        return self.live
