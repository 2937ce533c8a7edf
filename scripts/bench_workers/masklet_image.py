"""masklet as a worker of the benchmark."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from worker import Answer, Job, serve

from masklet.image import ImagePredictor, Prediction
from masklet.loading import load


def _answer(prediction: Prediction) -> Answer:
    return Answer(prediction.masks[0], prediction.scores[0], prediction.logits[0])


class Masklet:
    def __init__(self) -> None:
        try:
            self.version = version("masklet")
        except PackageNotFoundError:
            self.version = "not installed"

    def load(self, job: Job) -> None:
        self.predictor = ImagePredictor(load(job.weights).network, precision=job.precision)

    def set_image(self, rgb: object) -> None:
        self.predictor.set_image(rgb)

    def click(self, point: list[float]) -> Answer:
        return _answer(self.predictor.predict(points=point, labels=[1], multimask=True))

    def box(self, box: list[float]) -> Answer:
        return _answer(self.predictor.predict(boxes=box, multimask=False))


if __name__ == "__main__":
    serve(Masklet)
