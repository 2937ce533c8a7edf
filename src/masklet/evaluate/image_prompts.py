"""Images with known masks, asked by box and by clicks.

The protocol. From each image at most `objects` masks are asked for, spread evenly over its list. A box is the tight
box of the mask. The first click is the pixel of the mask that lies deepest inside it, every further click the deepest
pixel of what is wrong (`masklet.evaluate.prompts_from_masks`), with the earlier logits fed back. One click is
answered by
the candidate that the model itself scores highest; `click_best` is the best of its three candidates, chosen by the
truth. IoU is measured at the size of the stored image; a figure is the mean over objects. An image is encoded once,
and all its objects are asked for together.

Shapes: N objects, H height, W width, K candidates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.datasets import AnnotatedFrame, Sample, open_dataset
from masklet.errors import SourceError
from masklet.evaluate.prompts_from_masks import Click, deepest_error_click, sample_evenly, tight_box
from masklet.image import ImagePredictor
from masklet.masks import iou
from masklet.prompts import ObjectPrompt, Points

__all__ = [
    "ImageMetrics",
    "ImageReport",
    "ImageResult",
    "IouArray",
    "evaluate_images",
    "find_image_samples",
    "image_ious",
    "image_report",
    "source_name",
]

Masks = npt.NDArray[np.bool_]
IouArray = npt.NDArray[np.float64]
"""(N, 5): a row an object, columns as `Figures` has them behind `objects`."""

NUM_CLICKS = 5


@dataclass(frozen=True)
class ImageMetrics:
    """Mean IoU over objects, 0 to 1; nan where it was not asked for."""

    objects: int
    box: float
    click: float
    """One click, the candidate that the model prefers."""
    click_best: float
    """One click, the best of three candidates."""
    clicks_3: float
    clicks_5: float


@dataclass(frozen=True)
class ImageResult:
    """One image as a row of plain values: IoUs of each object, as `Ious` has them."""

    image: str
    source: str
    ious: tuple[tuple[float, ...], ...]

    @classmethod
    def from_ious(cls, image: str, source: str, iou_N5: IouArray) -> ImageResult:
        """Of what `evaluate_stills` yielded."""
        return cls(image, source, tuple(map(tuple, iou_N5.tolist())))

    @property
    def source_and_ious(self) -> tuple[str, IouArray]:
        """As `report` takes it."""
        return self.source, np.array(self.ious).reshape(-1, 5)


@dataclass(frozen=True)
class ImageReport:
    """Figures over all objects, and by source."""

    total: ImageMetrics
    per_source: dict[str, ImageMetrics]
    mean_over_sources: ImageMetrics
    """Every source counts the same, however many objects it has."""


def find_image_samples(root: Path) -> list[Sample]:
    """Every `SOURCE/images/ID.jpg` with its `SOURCE/masks/ID.json` (a list of COCO RLE), in the order of their names.

    Raises:
        SourceError: there is none.
    """
    entries = open_dataset(root, data_format="stills").samples
    return sorted(entries, key=_sort_key)  # plain order, where data sets count: every tenth image stays the same one


def _sort_key(sample: Sample) -> tuple[str, ...]:
    return tuple(f"{sample.name}.jpg".split("/"))


def evaluate_images(
    predictor: ImagePredictor, samples: Sequence[Sample], max_objects: int = 10
) -> Iterator[tuple[str, IouArray]]:
    """Yield the source and the IoUs (N, 5) of each image's objects; N is 0 for an image without any.

    Example:
        >>> rows = list(evaluate_stills(SAM().predictor, stills_under(Path("heldout"))))
        >>> report(rows).total.box

    Raises:
        SourceError: an image or its masks cannot be read.
    """
    for still in samples:
        [image] = still.read(still.frame_indices)
        yield source_name(still, "stills"), image_ious(predictor, image, max_objects)


def source_name(sample: Sample, default: str) -> str:
    """The source that a still of our own layout is counted with; `alone` where the data set is no more than one."""
    source, inside, _ = sample.name.partition("/")
    return source if inside else default


def image_report(results: Sequence[tuple[str, IouArray]]) -> ImageReport:
    """Means of what `evaluate_stills` yielded.

    Raises:
        SourceError: no image had an object.
    """
    results = [(source, iou_N5) for source, iou_N5 in results if len(iou_N5)]
    if not results:
        raise SourceError("no image has an object, so there is nothing to measure; name data with masks")
    sources = sorted({source for source, _ in results})
    by_source = {s: _mean_metrics(np.concatenate([iou_N5 for name, iou_N5 in results if name == s])) for s in sources}
    total = _mean_metrics(np.concatenate([iou_N5 for _, iou_N5 in results]))
    columns = [f.name for f in fields(ImageMetrics) if f.name != "objects"]
    means = {c: float(np.mean([getattr(f, c) for f in by_source.values()])) for c in columns}
    return ImageReport(total, by_source, ImageMetrics(total.objects, **means))


def _mean_metrics(iou_N5: IouArray) -> ImageMetrics:
    return ImageMetrics(len(iou_N5), *(float(v) for v in iou_N5.mean(0)))


def image_ious(
    predictor: ImagePredictor,
    frame: AnnotatedFrame,
    max_objects: int = 10,
    prompts: Collection[str] = ("box", "click"),
) -> IouArray:
    """IoUs (N, 5) of at most `objects` objects of one image; nan where `prompts` does not name the way of asking.

    Example:
        >>> [image] = entry.read(entry.frames)
        >>> still_ious(model.predictor, image, prompts=["box"])[:, 0]
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
        boxes = [ObjectPrompt(box=tight_box(mask)) for mask in masks]
        iou_N5[:, 0] = _mask_ious(predictor.predict_prompts(boxes, multimask_output=False).masks[:, 0], masks)
    if "click" in prompts:
        curve, iou_N5[:, 2] = _simulate_clicks(predictor, masks)
        iou_N5[:, 1], iou_N5[:, 3], iou_N5[:, 4] = curve[0], curve[2], curve[4]
    return iou_N5


def _simulate_clicks(predictor: ImagePredictor, truth: list[Masks]) -> tuple[list[IouArray], IouArray]:
    """The IoU after each click, and the best of three after the first."""
    shown = [np.zeros_like(mask) for mask in truth]
    clicks: list[list[Click]] = [[] for _ in truth]
    logits, curve, best = None, [], np.zeros(len(truth))
    for turn in range(NUM_CLICKS):
        for own, found, mask in zip(clicks, shown, truth, strict=True):
            own.append(deepest_error_click(found, mask))
        answer = predictor.predict_prompts(
            [_click_prompt(own) for own in clicks], mask_input=logits, multimask_output=turn == 0
        )
        if turn == 0:
            best = np.stack([_mask_ious(answer.masks[:, k], truth) for k in range(answer.masks.shape[1])]).max(0)
        shown, logits = list(answer.best.masks[:, 0]), answer.best.logits
        curve.append(_mask_ious(shown, truth))
    return curve, best


def _click_prompt(clicks: list[Click]) -> ObjectPrompt:
    xy = np.array([(click.x, click.y) for click in clicks], np.float32)
    return ObjectPrompt(points=Points(xy, np.array([click.label for click in clicks], np.int32)))


def _mask_ious(predicted: Iterable[Masks], truth: Iterable[Masks]) -> IouArray:
    return np.array([iou(found, mask) for found, mask in zip(predicted, truth, strict=True)])
