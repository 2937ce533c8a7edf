"""masklet itself, asked in the same way as the programs that it is compared with."""

from __future__ import annotations

from typing import Any

from serving import Job, Seen, plain, serve


class ImageProgram:
    """A predictor, and everything."""

    def __init__(self) -> None:
        import masklet
        from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks
        from masklet.image.predictor import ImagePredictor
        from masklet.load_model import load

        self.version = masklet.__version__
        self.load_model, self.predictor_class = load, ImagePredictor
        self.options_class, self.generate_masks = MaskGeneratorOptions, generate_masks

    def load(self, job: Job) -> None:
        """Open the weights."""
        network = self.load_model(job.weights).network
        if job.image_size is not None:
            network.set_image_size(job.image_size)
        self.predictor = self.predictor_class(network, job.device, job.precision)

    def encode(self, rgb: Any) -> None:
        """Take an image."""
        self.predictor.set_image(rgb)

    def click(self, point: list[float]) -> Seen:
        """Three candidates for one positive click."""
        return _to_masks(self.predictor.predict(point_coords=point, point_labels=[1], multimask_output=True))

    def box(self, box: list[float]) -> Seen:
        """One mask for one box."""
        return _to_masks(self.predictor.predict(box=box, multimask_output=False))

    def prompts(self, points: list[list[float]]) -> Seen:
        """One mask for each of many clicks."""
        return _to_masks(self.predictor.predict(point_coords=points, multimask_output=False))

    def everything(self, rgb: Any, options: dict[str, Any]) -> Seen:
        """A grid of points, from the image to coded masks."""
        wanted = self.options_class(**options, output_mode="uncompressed_rle")
        return Seen(
            [record["segmentation"] for record in self.generate_masks(self.predictor, rgb, wanted).to_annotations()]
        )


class VideoProgram:
    """A session over the video."""

    def __init__(self) -> None:
        import masklet

        self.version, self.model_class = masklet.__version__, masklet.SAM

    def load(self, job: Job) -> None:
        """Open the weights, then the video; holes are filled as the peers fill them here, not at all."""
        model = self.model_class(job.weights, device=job.device, precision=job.precision, image_size=job.image_size)
        self.session = model.session(job.video, fill_hole_area=0)

    def prompt(self, prompts: list[dict[str, Any]]) -> None:
        """Say what is to be followed, on the first frame."""
        for one in prompts:
            self.session.add_prompt(one["id"], frame_idx=0, points=one["point"], box=one["box"])
        self.frames = self.session.propagate()

    def step(self) -> Seen:
        """The next frame, the first one first."""
        shown: Any = next(self.frames)
        kept: list[Any] = [one.bank[shown.frame] for one in self.session.tracker.objects.values()]
        return Seen(shown.masks.data, [plain(one.logits_11HW[0, 0]) for one in kept])


def _to_masks(prediction: Any) -> Seen:
    masks, logits = prediction.masks, prediction.logits
    return Seen(masks.reshape(-1, *masks.shape[-2:]), logits.reshape(-1, *logits.shape[-2:]))


if __name__ == "__main__":
    serve(image=ImageProgram, video=VideoProgram)
