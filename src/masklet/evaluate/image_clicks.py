"""Count the clicks that an object needs: interactive segmentation of images, NoC and the curve of IoU by clicks.

The protocol is that of Sofiiuk et al. (2022) and of those before, which published figures follow. An object of known
mask gets up to 20 clicks. A click is on the pixel deepest inside the error of the last prediction (empty, at first);
missed and excess regions are separate, and depth is the Euclidean distance to the next pixel that is right or outside
the image. It is positive on a missed region and negative on an excess one, which wins a tie; no pixel is clicked twice.
Every prediction has all clicks so far, and the logits of the prediction before it. The first click is answered by the
candidate that the model scores highest of its three, every later one by its single output. IoU is that of masks at the
size of the image; pixels that are not evaluated are neither clicked nor counted.

* **NoC@85**, NoC@90: the number of the first click after which the IoU is at least 0.85 (0.90), mean over objects; an
  object that does not reach it within 20 clicks counts as 20. **NoF**: how many do not reach it. (The count that
  Sofiiuk et al. call ">=20" includes those that reach it with the 20th click.)
* The **curve** is the mean IoU over objects after 1, 2, ... 20 clicks. An object with no error left keeps its IoU.
* **AUC** is the area under the curve from 1 to 20 clicks, by trapezoids, divided by 19: 1 if every object is perfect
  after one click.

Figures are comparable with published ones of the same data set; objects are counted, not images.

Shapes: N objects, C clicks, H height, W width.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.evaluate.image_click_datasets import AnnotatedImage, ClickImage
from masklet.evaluate.prompts_from_masks import Click, clicks_prompt, next_correction_click, sample_evenly
from masklet.image import Prediction
from masklet.masks import iou
from masklet.prompts import ObjectPrompt

__all__ = [
    "MAX_CLICKS",
    "ClickResult",
    "ClicksReport",
    "ImageModel",
    "area_under_curve",
    "click_report",
    "evaluate_clicks",
    "number_of_clicks",
]

Mask = npt.NDArray[np.bool_]
Logits = npt.NDArray[np.float32]
MAX_CLICKS = 20
"""Clicks on an object, at most."""
IOU_TARGETS = (0.85, 0.90)
BATCH_SIZE = 16
"""Objects predicted at once."""


class ImageModel(Protocol):
    """A model that segments images: `SAM().predictor`, or anything that predicts masks of the image it was given."""

    def set_image(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Set the image (H, W, 3)."""

    def predict_prompts(
        self, prompts: Sequence[ObjectPrompt], *, mask_input: Logits | None = None, multimask_output: bool | None = None
    ) -> Prediction:
        """Predict masks of the objects."""


@dataclass(frozen=True)
class ClickResult:
    """One object: its image, its number there, and its IoU after each of `MAX_CLICKS` clicks."""

    image: str
    id: int
    iou_curve: tuple[float, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class ClicksReport:
    """Figures over all objects; keys of `noc` and `nof` are IoU targets in percent.

    Example:
        >>> print(click_report(results).noc["90"])
        3.25
    """

    images: int
    objects: int
    noc: dict[str, float]
    """Mean clicks to the target; one that is not reached counts as 20."""
    nof: dict[str, int]
    """Objects that do not reach it."""
    iou_curve: tuple[float, ...]
    """Mean IoU after 1, 2, ... 20 clicks."""
    auc: float
    seconds: float
    rows: tuple[ClickResult, ...] = ()

    def to_json(self) -> str:
        """Return all figures as JSON, with the curve of every object."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


class _ClickedObject:
    """An object that gets clicks: its truth, clicks, current prediction and IoUs so far."""

    def __init__(self, truth: Mask, valid_mask: Mask | None) -> None:
        self.valid_mask = np.True_ if valid_mask is None else valid_mask
        self.truth = truth & self.valid_mask
        self.predicted = np.zeros_like(truth)
        self.logits: Logits | None = None
        self.clicks: list[Click] = []
        self.iou_curve: list[float] = []


def evaluate_clicks(
    predictor: ImageModel,
    image: ClickImage,
    max_objects: int | None = None,
    on_progress: Callable[[], None] | None = None,
) -> Iterator[ClickResult]:
    """Click on the objects of an image, `max_objects` at most, spread evenly, and yield the result of each.

    `on_progress` is called after the image.

    Example:
        >>> predictor = SAM().predictor
        >>> results = [one for image in click_images("GrabCut") for one in evaluate_clicks(predictor, image)]
        >>> click_report(results).noc
        {'85': 2.1, '90': 3.2}

    Raises:
        SourceError: if the image or its masks are unreadable.
    """
    annotated = image.read()
    numbers = sorted(number for number in annotated.masks if annotated.masks[number].any())
    if max_objects is not None:
        numbers = [numbers[i] for i in sample_evenly(len(numbers), max_objects)]
    started = time.perf_counter()
    if numbers:
        predictor.set_image(annotated.rgb)
    for start in range(0, len(numbers), BATCH_SIZE):
        batch = numbers[start : start + BATCH_SIZE]
        curves = _click_curves(predictor, annotated, batch)
        seconds = (time.perf_counter() - started) / len(batch)
        yield from (ClickResult(image.name, n, curve, seconds) for n, curve in zip(batch, curves, strict=True))
        started = time.perf_counter()
    if on_progress is not None:
        on_progress()


def _click_curves(predictor: ImageModel, image: AnnotatedImage, object_ids: Sequence[int]) -> list[tuple[float, ...]]:
    """Return the IoUs after each click on some objects of the image that was set."""
    objects = [_ClickedObject(np.asarray(image.masks[number], bool), image.valid_mask) for number in object_ids]
    active = objects
    for turn in range(MAX_CLICKS):
        wrong = []
        for one in active:
            click = next_correction_click(one.predicted, one.truth, one.clicks)
            if click is not None:
                one.clicks.append(click)
                wrong.append(one)
        active = wrong
        if not active:
            break
        mask_input = np.stack([one.logits for one in active if one.logits is not None]) if turn else None
        best = predictor.predict_prompts(
            [clicks_prompt(one.clicks) for one in active], mask_input=mask_input, multimask_output=turn == 0
        ).best
        for one, mask, logits in zip(active, best.masks[:, 0], best.logits, strict=True):
            one.predicted, one.logits = mask & one.valid_mask, logits
            one.iou_curve.append(iou(one.predicted, one.truth))
    curves = [one.iou_curve or [1.0] for one in objects]
    return [tuple(curve + curve[-1:] * (MAX_CLICKS - len(curve))) for curve in curves]


def click_report(results: Sequence[ClickResult]) -> ClicksReport:
    """Average the results of `evaluate_clicks`.

    Raises:
        SourceError: if there is no object.
    """
    if not results:
        raise SourceError("no image has an object, so there is nothing to click on; name data with masks")
    curves = np.array([one.iou_curve for one in results])
    mean_curve = curves.mean(0)
    targets = {f"{target * 100:.0f}": target for target in IOU_TARGETS}
    noc = {key: np.mean([number_of_clicks(curve, target) for curve in curves]) for key, target in targets.items()}
    return ClicksReport(
        images=len({one.image for one in results}),
        objects=len(results),
        noc={key: float(mean) for key, mean in noc.items()},
        nof={key: int((curves < target).all(1).sum()) for key, target in targets.items()},
        iou_curve=tuple(map(float, mean_curve)),
        auc=area_under_curve(mean_curve),
        seconds=sum(one.seconds for one in results),
        rows=tuple(results),
    )


def number_of_clicks(curve: Sequence[float] | npt.NDArray[np.float64], target: float) -> int:
    """Return the number of the first click after which the IoU is at least `target`; `MAX_CLICKS` if none is.

    Example:
        >>> number_of_clicks([0.5, 0.86, 0.84], 0.85)
        2
    """
    reached = np.asarray(curve) >= target
    return int(reached.argmax()) + 1 if reached.any() else MAX_CLICKS


def area_under_curve(curve: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Return the area under a curve from its first click to its last, by trapezoids, over its length; 0 to 1.

    Example:
        >>> area_under_curve([0.0, 1.0, 1.0])
        0.75
    """
    values = np.asarray(curve, float)
    return float((values[1:] + values[:-1]).sum() / 2 / (len(values) - 1)) if len(values) > 1 else float(values[0])
