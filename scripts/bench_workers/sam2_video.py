"""facebookresearch/sam2's video predictor as a worker of the video benchmark, by its public names."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import torch
from sam2.build_sam import build_sam2_video_predictor
from sam2_image import CONFIG_FILES  # and makes torchvision importable where its compiled part is not
from video_worker import Job, Prompt, Seen, serve
from worker import autocast


class Sam2:
    version = version("sam2")

    def __init__(self) -> None:
        self.frames: Iterator[tuple[int, list[int], torch.Tensor]] | None = None

    def load(self, job: Job) -> None:
        self.precision = job.precision
        size = f"++model.image_size={job.image_size}"
        self.predictor = build_sam2_video_predictor(
            CONFIG_FILES[job.model], str(job.weights), device="cpu", hydra_overrides_extra=[size]
        )
        # Its hole filling is CUDA code: here every call would warn and do nothing.
        self.predictor.fill_hole_area = 0
        with torch.inference_mode(), autocast(self.precision):
            self.state = self.predictor.init_state(str(job.film))

    def prompt(self, prompt: Prompt) -> None:
        how = {"box": prompt.box} if prompt.box else {"points": [prompt.point], "labels": [1]}
        with torch.inference_mode(), autocast(self.precision):
            self.predictor.add_new_points_or_box(self.state, frame_idx=0, obj_id=prompt.id, **how)

    def step(self) -> Seen:
        with torch.inference_mode(), autocast(self.precision):
            if self.frames is None:
                self.frames = self.predictor.propagate_in_video(self.state)
            frame, _, masks = next(self.frames)
            return Seen((masks[:, 0] > 0).numpy(), np.stack([self._logits(i, frame) for i in range(len(masks))]))

    def _logits(self, index: int, frame: int) -> np.ndarray:
        kept = self.state["output_dict_per_obj"][index]
        found = kept["cond_frame_outputs"].get(frame) or kept["non_cond_frame_outputs"][frame]
        return found["pred_masks"][0, 0].float().numpy()


if __name__ == "__main__":
    serve(Sam2)
