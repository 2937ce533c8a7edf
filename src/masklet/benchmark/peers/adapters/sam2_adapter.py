"""facebookresearch/sam2 (`pip install sam2`, Apache-2.0) beside masklet, by its public names."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from serving import Job, Seen, autocast, plain, serve
from torchvision_ops import import_torchvision

CONFIG_FILES = {
    f"sam{generation}_hiera_{size}": f"configs/sam{generation}/sam{generation}_hiera_{letter}.yaml"
    for generation in ("2", "2.1")
    for size, letter in {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}.items()
}


class ImageProgram:
    """Its image predictor and its automatic mask generator."""

    def __init__(self) -> None:
        self.version = version("sam2")
        import_torchvision()
        from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
        from sam2.build_sam import build_sam2
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        self.build_model, self.predictor_class, self.generator_class = (
            build_sam2,
            SAM2ImagePredictor,
            SAM2AutomaticMaskGenerator,
        )

    def load(self, job: Job) -> None:
        """Open the weights."""
        self.job = job
        model = self.build_model(
            CONFIG_FILES[job.model], job.weights, device=job.device, hydra_overrides_extra=hydra_overrides(job)
        )
        self.predictor = set_feature_sizes(self.predictor_class(model))

    def encode(self, rgb: Any) -> None:
        """Take an image."""
        import torch

        with torch.inference_mode(), autocast(self.job):
            self.predictor.set_image(rgb)

    def click(self, point: list[float]) -> Seen:
        """Three candidates for one positive click."""
        return self._predict(point_coords=[point], point_labels=[1], multimask_output=True)

    def box(self, box: list[float]) -> Seen:
        """One mask for one box."""
        return self._predict(box=box, multimask_output=False)

    def prompts(self, points: list[list[float]]) -> Seen:
        """One mask for each of many clicks."""
        labels = [[1]] * len(points)
        return self._predict(point_coords=[[point] for point in points], point_labels=labels, multimask_output=False)

    def everything(self, rgb: Any, options: dict[str, Any]) -> Seen:
        """A grid of points, from the image to coded masks."""
        generator = self.generator_class(self.predictor.model, **options, output_mode="uncompressed_rle")
        set_feature_sizes(generator.predictor)
        with autocast(self.job):
            return Seen([record["segmentation"] for record in generator.generate(rgb)])

    def _predict(self, **prompt: Any) -> Seen:
        import numpy as np
        import torch

        given = {name: np.array(value) if isinstance(value, list) else value for name, value in prompt.items()}
        with torch.inference_mode(), autocast(self.job):
            masks, _, logits = self.predictor.predict(**given)
        return Seen(masks.reshape(-1, *masks.shape[-2:]), logits.reshape(-1, *logits.shape[-2:]))


class VideoProgram:
    """Its video predictor."""

    def __init__(self) -> None:
        self.version = version("sam2")
        import_torchvision()
        from sam2.build_sam import build_sam2_video_predictor

        self.build_model = build_sam2_video_predictor

    def load(self, job: Job) -> None:
        """Open the weights and read the video; it fills holes by code for CUDA, which is left out everywhere."""
        import torch

        self.job = job
        self.predictor = self.build_model(
            CONFIG_FILES[job.model], job.weights, device=job.device, hydra_overrides_extra=hydra_overrides(job)
        )
        self.predictor.fill_hole_area = 0
        with torch.inference_mode(), autocast(job):
            self.state = self.predictor.init_state(job.video)

    def prompt(self, prompts: list[dict[str, Any]]) -> None:
        """Say what is to be followed, on the first frame."""
        import torch

        with torch.inference_mode(), autocast(self.job):
            for one in prompts:
                said = {"box": one["box"]} if one["box"] else {"points": [one["point"]], "labels": [1]}
                self.predictor.add_new_points_or_box(self.state, frame_idx=0, obj_id=one["id"], **said)
        self.frames = self.predictor.propagate_in_video(self.state)

    def step(self) -> Seen:
        """The next frame, the first one first."""
        import torch

        with torch.inference_mode(), autocast(self.job):
            frame, _, masks = next(self.frames)
            return Seen(masks[:, 0], [plain(self._logits(number, frame)) for number in range(len(masks))])

    def _logits(self, number: int, frame: int) -> Any:
        kept = self.state["output_dict_per_obj"][number]
        found = kept["cond_frame_outputs"].get(frame) or kept["non_cond_frame_outputs"][frame]
        return found["pred_masks"][0, 0]


def hydra_overrides(job: Job) -> list[str]:
    """What is said to its configs beside the name."""
    return [] if job.image_size is None else [f"++model.image_size={job.image_size}"]


def set_feature_sizes(predictor: Any) -> Any:
    """The image predictor with the sizes of its features; it takes those of images of 1024 for granted."""
    size = predictor.model.image_size
    predictor._bb_feat_sizes = [(size // stride, size // stride) for stride in (4, 8, 16)]
    return predictor


if __name__ == "__main__":
    serve(image=ImageProgram, video=VideoProgram)
