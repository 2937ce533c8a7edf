"""From what the network found to `Results`, with the time each stage took."""

from __future__ import annotations

import time

import numpy as np

from masklet.image import Prediction
from masklet.media import Picture
from masklet.results import Masks, Results

__all__ = ["NAMES", "Clock", "results_of"]

NAMES = {0: "object"}


class Clock:
    """Milliseconds between ticks, by name."""

    def __init__(self) -> None:
        self.speed = {"preprocess": 0.0, "encode": 0.0, "decode": 0.0, "postprocess": 0.0}
        self._last = time.perf_counter()

    def tick(self, name: str) -> None:
        """The time since the last tick belongs to `name`."""
        now = time.perf_counter()
        self.speed[name] += 1e3 * (now - self._last)
        self._last = now


def results_of(picture: Picture, prediction: Prediction, clock: Clock) -> Results:
    """One row a mask: objects in the order of their prompts, candidates from the best to the worst."""
    objects, candidates = prediction.scores.shape
    order = np.argsort(-prediction.scores, axis=1, kind="stable")
    rows = np.repeat(np.arange(objects, dtype=np.int32), candidates)
    chosen = (rows, order.ravel())
    masks = np.ascontiguousarray(prediction.masks[chosen])
    clock.tick("postprocess")
    return Results(
        picture.rgb,
        picture.path,
        Masks(masks),
        prediction.scores[chosen],
        prompt_ids=rows,
        classes=np.zeros(len(rows), np.int32),
        names=NAMES,
        speed=clock.speed,
        logits=prediction.logits[chosen],
    )
