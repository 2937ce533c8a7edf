"""How many clicks an object needs: interactive segmentation of images, NoC and the curve of IoU by clicks.

The protocol is the one of Sofiiuk et al. (2022) and of those before, which published figures share. An object of
known mask is clicked on up to 20 times. A click is on the pixel that lies deepest inside what is wrong with the answer
before it (nothing, at first), missed and excess parts looked at separately: Euclidean distance to the next pixel that
is right or beyond the border. It is positive on a missed part and negative on an excess one, which is taken where both
are as deep; no pixel is clicked twice. Every answer has all clicks so far, and the logits of the answer before it. The
first click is answered by the candidate that the model scores highest of its three, every later one by its single
answer. IoU is that of masks at the size of the image; places that nobody judges are neither clicked nor counted.

* **NoC@85**, NoC@90: the number of the first click after which the IoU is at least 0.85 (0.90), mean over objects; an
  object that does not get there within 20 clicks counts as 20. **NoF**: how many do not get there. (The count that
  Sofiiuk et al. call ">=20" holds those that get there with the very 20th click, too.)
* The **curve** is the mean IoU over objects after 1, 2, ... 20 clicks. An object with nothing left to click on keeps
  its IoU.
* **AUC** is the area under the curve from 1 to 20 clicks, by trapezoids, divided by 19: 1 where every object is
  perfect after one click.

Figures of one set are comparable with published ones where the set is the same; objects are counted, not images.

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
from masklet.evaluate.prompts_from_masks import Click, next_correction_click, sample_evenly
from masklet.image import Prediction
from masklet.masks import iou
from masklet.prompts import ObjectPrompt, Points

__all__ = [
    "MAX_CLICKS",
    "ClickResult",
    "ClicksReport",
    "area_under_curve",
    "click_report",
    "evaluate_clicks",
    "number_of_clicks",
]

Mask = npt.NDArray[np.bool_]
Logits = npt.NDArray[np.float32]
MAX_CLICKS = 20
"""Clicks that an object has at most."""
IOU_TARGETS = (0.85, 0.90)
BATCH_SIZE = 16
"""Objects whose answers are held at once."""


class ImageModel(Protocol):
    """What is clicked on: `SAM().predictor`, or anything that answers about the image it was given."""

    def set_image(self, rgb: npt.NDArray[np.uint8]) -> None:
        """The image that is asked about."""

    def predict_prompts(
        self, prompts: Sequence[ObjectPrompt], *, mask_input: Logits | None = None, multimask_output: bool | None = None
    ) -> Prediction:
        """Masks for the objects."""


@dataclass(frozen=True)
class ClickResult:
    """One object: the image it is in, its number there, and its IoU after each of `CLICKS` clicks."""

    image: str
    id: int
    iou_curve: tuple[float, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class ClicksReport:
    """Figures over all objects; keys of `noc` and `nof` are targets in hundredths.

    Example:
        >>> print(click_report(rows).noc["90"])
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
        """All figures as JSON, the curve of every object too."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def evaluate_clicks(
    predictor: ImageModel,
    images: Sequence[ClickImage],
    max_objects: int | None = None,
    on_progress: Callable[[], None] | None = None,
) -> Iterator[ClickResult]:
    """Click on the objects of each image, `objects` of each at most, spread evenly, and yield what each had.

    An image is encoded once. `step` is called after every image.

    Example:
        >>> rows = list(evaluate_clicks(SAM().predictor, click_images("GrabCut")))
        >>> click_report(rows).noc
        {'85': 2.1, '90': 3.2}

    Raises:
        SourceError: an image or its masks cannot be read.
    """
    for image in images:
        shown = image.read()
        numbers = sorted(number for number in shown.masks if shown.masks[number].any())
        kept = (
            numbers
            if max_objects is None
            else [numbers[i] for i in sample_evenly(len(numbers), max_objects)]
            if numbers
            else []
        )
        started = time.perf_counter()
        if kept:
            predictor.set_image(shown.rgb)
        for start in range(0, len(kept), BATCH_SIZE):
            some = kept[start : start + BATCH_SIZE]
            curves = _click_curves(predictor, shown, some)
            seconds = (time.perf_counter() - started) / len(some)
            yield from (ClickResult(image.name, n, curve, seconds) for n, curve in zip(some, curves, strict=True))
            started = time.perf_counter()
        if on_progress is not None:
            on_progress()


def click_report(rows: Sequence[ClickResult]) -> ClicksReport:
    """Means of what `evaluate_clicks` yielded.

    Raises:
        SourceError: no object.
    """
    if not rows:
        raise SourceError("no image has an object, so there is nothing to click on; name data with masks")
    curves = np.array([row.iou_curve for row in rows])
    curve = curves.mean(0)
    return ClicksReport(
        images=len({row.image for row in rows}),
        objects=len(rows),
        noc={
            _target_key(target): float(np.mean([number_of_clicks(own, target) for own in curves]))
            for target in IOU_TARGETS
        },
        nof={_target_key(target): int((curves < target).all(1).sum()) for target in IOU_TARGETS},
        iou_curve=tuple(map(float, curve)),
        auc=area_under_curve(curve),
        seconds=sum(row.seconds for row in rows),
        rows=tuple(rows),
    )


def number_of_clicks(curve: Sequence[float] | npt.NDArray[np.float64], target: float) -> int:
    """The number of the first click after which the IoU is at least `target`; `CLICKS` where there is none.

    Example:
        >>> noc([0.5, 0.86, 0.84], 0.85)
        2
    """
    reached = np.asarray(curve) >= target
    return int(reached.argmax()) + 1 if reached.any() else MAX_CLICKS


def area_under_curve(curve: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """The area under a curve from its first click to its last, by trapezoids, over its length; 0 to 1.

    Example:
        >>> area([0.0, 1.0, 1.0])
        0.75
    """
    values = np.asarray(curve, float)
    return float((values[1:] + values[:-1]).sum() / 2 / (len(values) - 1)) if len(values) > 1 else float(values[0])


def _target_key(target: float) -> str:
    return f"{target * 100:.0f}"


class _ClickSession:
    """An object that is clicked on: its truth, clicks, present answer and IoUs so far."""

    def __init__(self, truth: Mask, valid_mask: Mask | None) -> None:
        self.valid_mask = valid_mask
        self.truth = self._apply_valid_mask(truth)
        self.predicted_mask = np.zeros_like(truth)
        self.logits: Logits | None = None
        self.clicks: list[Click] = []
        self.iou_curve: list[float] = []

    def add_click(self) -> bool:
        """One more click; False, and no change for good, where there is nothing to click on."""
        click = next_correction_click(self.predicted_mask, self.truth, self.clicks)
        if click is None:
            return False
        self.clicks.append(click)
        return True

    @property
    def prompt(self) -> ObjectPrompt:
        xy = np.array([(click.x, click.y) for click in self.clicks], np.float32)
        return ObjectPrompt(points=Points(xy, np.array([click.label for click in self.clicks], np.int32)))

    def update(self, mask: Mask, logits: Logits) -> None:
        """The answer to the last click."""
        self.predicted_mask, self.logits = self._apply_valid_mask(mask), logits
        self.iou_curve.append(iou(self.predicted_mask, self.truth))

    def _apply_valid_mask(self, mask: Mask) -> Mask:
        return mask if self.valid_mask is None else mask & self.valid_mask


def _click_curves(predictor: ImageModel, image: AnnotatedImage, object_ids: Sequence[int]) -> list[tuple[float, ...]]:
    """IoUs after each click, for some objects of the image that was set."""
    every = [_ClickSession(np.asarray(image.masks[number], bool), image.valid_mask) for number in object_ids]
    left = every
    for turn in range(MAX_CLICKS):
        left = [one for one in left if one.add_click()]
        if not left:
            break
        _predict_next(predictor, left, first_click=turn == 0)
    return [
        tuple(one.iou_curve + [one.iou_curve[-1] if one.iou_curve else 1.0] * (MAX_CLICKS - len(one.iou_curve)))
        for one in every
    ]


def _predict_next(predictor: ImageModel, sessions: Sequence[_ClickSession], *, first_click: bool) -> None:
    earlier = None if first_click else np.stack([one.logits for one in sessions if one.logits is not None])
    answer = predictor.predict_prompts(
        [one.prompt for one in sessions], mask_input=earlier, multimask_output=first_click
    ).best
    for one, mask, logits in zip(sessions, answer.masks[:, 0], answer.logits, strict=True):
        one.update(mask, logits)
