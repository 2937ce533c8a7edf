"""masklet itself, asked in the same way as the programs that it is compared with."""

from __future__ import annotations

from typing import Any

from serving import Job, Seen, serve


class Picture:
    """A predictor, and everything."""

    def __init__(self) -> None:
        import masklet
        from masklet.image.everything import EverythingOptions, segment_everything
        from masklet.image.predictor import ImagePredictor
        from masklet.loading import load

        self.version = masklet.__version__
        self.open, self.make_predictor = load, ImagePredictor
        self.make_options, self.segment = EverythingOptions, segment_everything

    def load(self, job: Job) -> None:
        """Open the weights."""
        network = self.open(job.weights).network
        if job.image_size is not None:
            network.look_at(job.image_size)
        self.predictor = self.make_predictor(network, job.device, job.precision)

    def encode(self, rgb: Any) -> None:
        """Take a picture."""
        self.predictor.set_image(rgb)

    def click(self, point: list[float]) -> Seen:
        """Three candidates for one positive click."""
        return _seen(self.predictor.predict(points=point, labels=[1], multimask=True))

    def box(self, box: list[float]) -> Seen:
        """One mask for one box."""
        return _seen(self.predictor.predict(boxes=box, multimask=False))

    def prompts(self, points: list[list[float]]) -> Seen:
        """One mask for each of many clicks."""
        return _seen(self.predictor.predict(points=points, multimask=False))

    def everything(self, rgb: Any, options: dict[str, Any]) -> Seen:
        """A grid of points, from the picture to coded masks."""
        wanted = self.make_options(**options, output_mode="uncompressed_rle")
        return Seen([record["segmentation"] for record in self.segment(self.predictor, rgb, wanted).records()])


def _seen(prediction: Any) -> Seen:
    masks, logits = prediction.masks, prediction.logits
    return Seen(masks.reshape(-1, *masks.shape[-2:]), logits.reshape(-1, *logits.shape[-2:]))


if __name__ == "__main__":
    serve(picture=Picture)
