"""masklet itself, with the same requests as the programs that it is compared with."""

from __future__ import annotations

from typing import Any

from serving import AdapterJob, MaskOutput, serve, to_numpy


class MaskletImageProgram:
    """Its image predictor and its mask generator."""

    def __init__(self) -> None:
        import masklet
        from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks
        from masklet.image.predictor import ImagePredictor
        from masklet.load_model import load

        self.version = masklet.__version__
        self.load_model, self.predictor_class = load, ImagePredictor
        self.options_class, self.generate_masks = MaskGeneratorOptions, generate_masks

    def load(self, job: AdapterJob) -> None:
        """Load the weights."""
        network = self.load_model(job.weights).network
        if job.image_size is not None:
            network.set_image_size(job.image_size)
        self.predictor = self.predictor_class(network, job.device, job.precision)

    def encode(self, rgb: Any) -> None:
        """Encode an image."""
        self.predictor.set_image(rgb)

    def click(self, point: list[float]) -> MaskOutput:
        """Predict three masks for a click."""
        return _to_masks(self.predictor.predict(point_coords=point, point_labels=[1], multimask_output=True))

    def box(self, box: list[float]) -> MaskOutput:
        """Predict one mask for a box."""
        return _to_masks(self.predictor.predict(box=box, multimask_output=False))

    def prompts(self, points: list[list[float]]) -> MaskOutput:
        """Predict one mask for each of many clicks."""
        return _to_masks(self.predictor.predict(point_coords=points, multimask_output=False))

    def everything(self, rgb: Any, options: dict[str, Any]) -> MaskOutput:
        """Generate masks from a grid of points, from the image to run-length codes."""
        generator_options = self.options_class(**options, output_mode="uncompressed_rle")
        masks = self.generate_masks(self.predictor, rgb, generator_options)
        return MaskOutput([annotation["segmentation"] for annotation in masks.to_annotations()])


class MaskletVideoProgram:
    """Its video session."""

    def __init__(self) -> None:
        import masklet

        self.version, self.model_class = masklet.__version__, masklet.SAM

    def load(self, job: AdapterJob) -> None:
        """Load the weights, then the video; no program fills holes here."""
        model = self.model_class(job.weights, device=job.device, precision=job.precision, image_size=job.image_size)
        self.session = model.session(job.video_dir, fill_hole_area=0, non_overlapping=False)

    def prompt(self, prompts: list[dict[str, Any]]) -> None:
        """Prompt the objects on the first frame."""
        for prompt in prompts:
            self.session.add_prompt(prompt["id"], frame_idx=0, points=prompt["point"], box=prompt["box"])
        self.frames = self.session.propagate()

    def step(self) -> MaskOutput:
        """Track the next frame, from the first on."""
        result: Any = next(self.frames)
        states: list[Any] = [tracked.bank[result.frame_idx] for tracked in self.session.tracker.objects.values()]
        return MaskOutput(result.masks.data, [to_numpy(state.logits_11HW[0, 0]) for state in states])


def _to_masks(prediction: Any) -> MaskOutput:
    masks, logits = prediction.masks, prediction.logits
    return MaskOutput(masks.reshape(-1, *masks.shape[-2:]), logits.reshape(-1, *logits.shape[-2:]))


if __name__ == "__main__":
    serve(image_program=MaskletImageProgram, video_program=MaskletVideoProgram)
