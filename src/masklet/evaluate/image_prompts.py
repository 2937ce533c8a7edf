"""Evaluate a model on images with known masks, prompted by box and by clicks.

From each image at most `max_objects` masks are evaluated, spread evenly over its list. A box is the tight box of the
mask. The first click is the pixel deepest inside the mask, every further click the deepest pixel of the error
(`masklet.evaluate.prompts_from_masks`), with the previous logits as input. One click is answered by the candidate that
the model itself scores highest; `click_best` is the best of its three candidates, chosen by the truth. IoU is measured
at the size of the stored image; a figure is the mean over objects. An image is encoded once, and all its objects are
predicted together.

Shapes: N objects, H height, W width, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.datasets import AnnotatedFrame, Sample, open_dataset
from masklet.errors import SourceError
from masklet.evaluate.image_clicks import ImageModel
from masklet.evaluate.prompts_from_masks import (
    Click,
    clicks_prompt,
    deepest_error_click,
    prompt_from_mask,
    sample_evenly,
)
from masklet.masks import iou

__all__ = [
    "ImageMetrics",
    "ImageReport",
    "ImageResult",
    "IouArray",
    "evaluate_image",
    "find_image_samples",
    "image_ious",
    "image_report",
    "source_name",
]

Masks = npt.NDArray[np.bool_]
IouArray = npt.NDArray[np.float64]
"""(N, 5): a row for each object, with the columns of `ImageMetrics` after `objects`."""

NUM_CLICKS = 5


@dataclass(frozen=True)
class ImageMetrics:
    """Mean IoU over objects, 0 to 1; nan for prompts that were not evaluated."""

    objects: int
    box: float
    click: float
    """One click, the candidate that the model scores highest."""
    click_best: float
    """One click, the best of three candidates."""
    clicks_3: float
    clicks_5: float


@dataclass(frozen=True)
class ImageResult:
    """The IoUs of each object of one image, with the columns of `IouArray`."""

    image: str
    source: str
    ious: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ImageReport:
    """Metrics over all objects, and by source."""

    total: ImageMetrics
    per_source: dict[str, ImageMetrics]
    mean_over_sources: ImageMetrics
    """Every source has the same weight, however many objects it has."""


def find_image_samples(root: Path) -> list[Sample]:
    """Find every `SOURCE/images/ID.jpg` with its `SOURCE/masks/ID.json` (a list of COCO RLE), sorted by name.

    Raises:
        SourceError: if there is none.
    """
    samples = open_dataset(root, data_format="native").samples
    # plain order, not that of numbers in names: every tenth image stays the same one
    return sorted(samples, key=lambda sample: tuple(f"{sample.name}.jpg".split("/")))


def evaluate_image(
    predictor: ImageModel, sample: Sample, max_objects: int = 10, on_progress: Callable[[], None] | None = None
) -> ImageResult:
    """Measure the objects of one image; `on_progress` is called after it.

    Example:
        >>> predictor = SAM().predictor
        >>> results = [evaluate_image(predictor, sample) for sample in find_image_samples(Path("heldout"))]
        >>> image_report(results).total.box

    Raises:
        SourceError: if the image or its masks are unreadable.
    """
    [frame] = sample.read(sample.frame_indices)
    ious = image_ious(predictor, frame, max_objects)
    if on_progress is not None:
        on_progress()
    return ImageResult(sample.name, source_name(sample, "stills"), tuple(map(tuple, ious.tolist())))


def source_name(sample: Sample, default: str) -> str:
    """Return the source of an image of the native format; `default` if the data set is a single source."""
    source, separator, _ = sample.name.partition("/")
    return source if separator else default


def image_report(results: Sequence[ImageResult]) -> ImageReport:
    """Average the results of `evaluate_image`.

    Raises:
        SourceError: if no image has an object.
    """
    results = [one for one in results if one.ious]
    if not results:
        raise SourceError("no image has an object, so there is nothing to measure; name data with masks")
    sources = sorted({one.source for one in results})
    per_source = {source: _mean_metrics([one for one in results if one.source == source]) for source in sources}
    total = _mean_metrics(results)
    columns = [f.name for f in fields(ImageMetrics) if f.name != "objects"]
    means = {name: float(np.mean([getattr(metrics, name) for metrics in per_source.values()])) for name in columns}
    return ImageReport(total, per_source, ImageMetrics(total.objects, **means))


def _mean_metrics(results: Sequence[ImageResult]) -> ImageMetrics:
    iou_N5 = np.array([row for one in results for row in one.ious])
    return ImageMetrics(len(iou_N5), *map(float, iou_N5.mean(0)))


def image_ious(
    predictor: ImageModel, frame: AnnotatedFrame, max_objects: int = 10, prompts: Collection[str] = ("box", "click")
) -> IouArray:
    """Return the IoUs (N, 5) of at most `max_objects` objects of one image; nan for prompts that are not given.

    Example:
        >>> [frame] = sample.read(sample.frame_indices)
        >>> image_ious(model.predictor, frame, prompts=["box"])[:, 0]
        array([0.93, 0.88])
    """
    numbers = sorted(frame.masks)
    masks = [frame.masks[numbers[i]] for i in sample_evenly(len(numbers), max_objects)]
    masks = [mask for mask in masks if mask.any()]
    iou_N5 = np.full((len(masks), 5), np.nan)
    if not masks or not set(prompts) & {"box", "click"}:
        return iou_N5
    predictor.set_image(frame.rgb)
    if "box" in prompts:
        boxes = [prompt_from_mask(mask, "box") for mask in masks]
        iou_N5[:, 0] = _mask_ious(predictor.predict_prompts(boxes, multimask_output=False).masks[:, 0], masks)
    if "click" in prompts:
        curve, iou_N5[:, 2] = _simulate_clicks(predictor, masks)
        iou_N5[:, 1], iou_N5[:, 3], iou_N5[:, 4] = curve[0], curve[2], curve[4]
    return iou_N5


def _simulate_clicks(predictor: ImageModel, truth: Sequence[Masks]) -> tuple[list[IouArray], IouArray]:
    """Return the IoUs after each click, and the best of three candidates after the first."""
    predicted: Sequence[Masks] = [np.zeros_like(mask) for mask in truth]
    clicks: list[list[Click]] = [[] for _ in truth]
    logits, curve, best = None, [], np.zeros(len(truth))
    for turn in range(NUM_CLICKS):
        for own_clicks, mask, true_mask in zip(clicks, predicted, truth, strict=True):
            own_clicks.append(deepest_error_click(mask, true_mask))
        prediction = predictor.predict_prompts(
            [clicks_prompt(own_clicks) for own_clicks in clicks], mask_input=logits, multimask_output=turn == 0
        )
        if turn == 0:
            masks_NKHW = prediction.masks
            best = np.stack([_mask_ious(masks_NKHW[:, k], truth) for k in range(masks_NKHW.shape[1])]).max(0)
        predicted, logits = list(prediction.best.masks[:, 0]), prediction.best.logits
        curve.append(_mask_ious(predicted, truth))
    return curve, best


def _mask_ious(predicted: Iterable[Masks], truth: Iterable[Masks]) -> IouArray:
    return np.array([iou(mask, true_mask) for mask, true_mask in zip(predicted, truth, strict=True)])
