"""masklet as a worker of the video benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from video_worker import Job, Prompt, Seen, serve

from masklet import SAM
from masklet.results import Results


class Masklet:
    def __init__(self) -> None:
        try:
            self.version = version("masklet")
        except PackageNotFoundError:
            self.version = "not installed"
        self.frames: Iterator[Results] | None = None

    def load(self, job: Job) -> None:
        model = SAM(job.weights, device="cpu", precision=job.precision)
        model.predictor.model.image_size = job.image_size
        # As many holes are filled as the peer fills here: none.
        self.session = model.session(job.film, clean=0)

    def prompt(self, prompt: Prompt) -> None:
        self.session.add(prompt.id, frame=0, points=prompt.point, box=prompt.box)

    def step(self) -> Seen:
        if self.frames is None:
            self.frames = self.session.propagate()
        shown = next(self.frames)
        objects = self.session.engine.objects.values()
        logits = [one.bank[shown.frame].logits_11HW[0, 0].float().numpy() for one in objects]
        return Seen(shown.masks.data, np.stack(logits))


if __name__ == "__main__":
    serve(Masklet)
