"""facebookresearch/sam2 (`pip install sam2`, Apache-2.0), by its public names."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from serving import AdapterJob, MaskOutput, autocast, serve, to_numpy
from torchvision_ops import import_torchvision

CONFIG_FILES = {
    f"sam{generation}_hiera_{size}": f"configs/sam{generation}/sam{generation}_hiera_{letter}.yaml"
    for generation in ("2", "2.1")
    for size, letter in {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}.items()
}


class SAM2ImageProgram:
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

    def load(self, job: AdapterJob) -> None:
        """Load the weights."""
        self.job = job
        model = self.build_model(
            CONFIG_FILES[job.model], job.weights, device=job.device, hydra_overrides_extra=hydra_overrides(job)
        )
        self.predictor = set_feature_sizes(self.predictor_class(model))

    def encode(self, rgb: Any) -> None:
        """Encode an image."""
        import torch

        with torch.inference_mode(), autocast(self.job):
            self.predictor.set_image(rgb)

    def click(self, point: list[float]) -> MaskOutput:
        """Predict three masks for a click."""
        return self._predict(point_coords=[point], point_labels=[1], multimask_output=True)

    def box(self, box: list[float]) -> MaskOutput:
        """Predict one mask for a box."""
        return self._predict(box=box, multimask_output=False)

    def prompts(self, points: list[list[float]]) -> MaskOutput:
        """Predict one mask for each of many clicks."""
        labels = [[1]] * len(points)
        return self._predict(point_coords=[[point] for point in points], point_labels=labels, multimask_output=False)

    def everything(self, rgb: Any, options: dict[str, Any]) -> MaskOutput:
        """Generate masks from a grid of points, from the image to run-length codes."""
        generator = self.generator_class(self.predictor.model, **options, output_mode="uncompressed_rle")
        set_feature_sizes(generator.predictor)
        with autocast(self.job):
            return MaskOutput([record["segmentation"] for record in generator.generate(rgb)])

    def _predict(self, **prompt: Any) -> MaskOutput:
        import numpy as np
        import torch

        given = {name: np.array(value) if isinstance(value, list) else value for name, value in prompt.items()}
        with torch.inference_mode(), autocast(self.job):
            masks, _, logits = self.predictor.predict(**given)
        return MaskOutput(masks.reshape(-1, *masks.shape[-2:]), logits.reshape(-1, *logits.shape[-2:]))


class SAM2VideoProgram:
    """Its video predictor."""

    def __init__(self) -> None:
        self.version = version("sam2")
        import_torchvision()
        from sam2.build_sam import build_sam2_video_predictor

        self.build_model = build_sam2_video_predictor

    def load(self, job: AdapterJob) -> None:
        """Load the weights and read the video; its CUDA code that fills holes is off, as in all programs."""
        import torch

        self.job = job
        self.predictor = self.build_model(
            CONFIG_FILES[job.model], job.weights, device=job.device, hydra_overrides_extra=hydra_overrides(job)
        )
        self.predictor.fill_hole_area = 0
        with torch.inference_mode(), autocast(job):
            self.state = self.predictor.init_state(job.video_dir)

    def prompt(self, prompts: list[dict[str, Any]]) -> None:
        """Prompt the objects on the first frame."""
        import torch

        with torch.inference_mode(), autocast(self.job):
            for prompt in prompts:
                given = {"box": prompt["box"]} if prompt["box"] else {"points": [prompt["point"]], "labels": [1]}
                self.predictor.add_new_points_or_box(self.state, frame_idx=0, obj_id=prompt["id"], **given)
        self.frames = self.predictor.propagate_in_video(self.state)

    def step(self) -> MaskOutput:
        """Track the next frame, from the first on."""
        import torch

        with torch.inference_mode(), autocast(self.job):
            frame, _, masks = next(self.frames)
            return MaskOutput(masks[:, 0], [to_numpy(self._logits(number, frame)) for number in range(len(masks))])

    def _logits(self, number: int, frame: int) -> Any:
        outputs = self.state["output_dict_per_obj"][number]
        output = outputs["cond_frame_outputs"].get(frame) or outputs["non_cond_frame_outputs"][frame]
        return output["pred_masks"][0, 0]


def hydra_overrides(job: AdapterJob) -> list[str]:
    """Return overrides of its config."""
    return [] if job.image_size is None else [f"++model.image_size={job.image_size}"]


def set_feature_sizes(predictor: Any) -> Any:
    """Set the feature sizes of an image predictor, which assumes those of an input of 1024."""
    size = predictor.model.image_size
    predictor._bb_feat_sizes = [(size // stride, size // stride) for stride in (4, 8, 16)]
    return predictor


if __name__ == "__main__":
    serve(image_program=SAM2ImageProgram, video_program=SAM2VideoProgram)
