"""masklet itself, asked in the same way as the programs that it is compared with."""

from __future__ import annotations

from typing import Any

from serving import Job, Seen, plain, serve


class Picture:
    """A predictor, and everything."""

    def __init__(self) -> None:
        import masklet
        from masklet.image.automatic_mask_generator import EverythingOptions, segment_everything
        from masklet.image.predictor import ImagePredictor
        from masklet.load_model import load

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


class Film:
    """A session over the film."""

    def __init__(self) -> None:
        import masklet

        self.version, self.open = masklet.__version__, masklet.SAM

    def load(self, job: Job) -> None:
        """Open the weights, then the film; holes are filled as the peers fill them here, not at all."""
        model = self.open(job.weights, device=job.device, precision=job.precision, image_size=job.image_size)
        self.session = model.session(job.film, clean=0)

    def prompt(self, prompts: list[dict[str, Any]]) -> None:
        """Say what is to be followed, on the first frame."""
        for one in prompts:
            self.session.add(one["id"], frame=0, points=one["point"], box=one["box"])
        self.frames = self.session.propagate()

    def step(self) -> Seen:
        """The next frame, the first one first."""
        shown: Any = next(self.frames)
        kept: list[Any] = [one.bank[shown.frame] for one in self.session.engine.objects.values()]
        return Seen(shown.masks.data, [plain(one.logits_11HW[0, 0]) for one in kept])


def _seen(prediction: Any) -> Seen:
    masks, logits = prediction.masks, prediction.logits
    return Seen(masks.reshape(-1, *masks.shape[-2:]), logits.reshape(-1, *logits.shape[-2:]))


if __name__ == "__main__":
    serve(picture=Picture, film=Film)
