"""Average recall of segment everything: how many of the objects that are there are among the masks that it finds.

The protocol is that of class-agnostic proposals, COCO's AR with one class for all (`useCats=0`, `iouType="segm"`), by
which SAM's paper and those before it measure masks that nobody asked for:

* Everything is looked for in each image that has an object. The proposals are ranked by the IoU that the network
  predicts for them, the better first, equal ones in the order in which they come; the first 1000 count.
* At each of ten IoUs, 0.5, 0.55, ... 0.95, the proposals take objects one after the other: each takes that of those
  still free with which it has the largest IoU, where this reaches the asked one; of several the last of the list.
  IoU is that of masks at the size of the image.
* **AR@k**: the share of the objects of all images that the first k proposals of their image took, mean over the
  ten IoUs, for k of 1, 10, 100 and 1000. Objects count the same, wherever they are.
* **AR@k of small, medium and large** objects: those of an area up to 32^2 pixels, from there to 96^2, and more. Only
  they are taken then, so that no other object takes a proposal from them. An object of just 32^2 (96^2) counts on
  both sides, as with COCO. Areas are pixels of the mask; COCO's files say areas of their own, which differ a little.
* The **best IoU** of an object is the largest that any of the 1000 has with it, taken or not; the mean is over objects.
* **Masks an image**: all that were found, before the limit of 1000, mean over the images with an object.

COCO's AR@1000 of a model that finds fewer masks is that of the masks there are. Crowds and empty masks are no objects;
places that nobody judges (GrabCut's borders) count neither for an object nor for a proposal. Masks that are parts of
objects, and not annotated, are not held against a model: recall, and no precision, is what is measured. Figures hang on
the options as much as on the model (points asked, thresholds), which is why they are in the report.

Shapes: N proposals, G objects, T thresholds, H height, W width.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.evaluate.image_click_datasets import AnnotatedImage, ClickImage
from masklet.evaluate.prompts_from_masks import sample_evenly
from masklet.image import ImagePredictor
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks
from masklet.masks import rle
from masklet.masks.rle import Rle

__all__ = [
    "PROTOCOL",
    "ImageRecall",
    "ObjectRecall",
    "Proposals",
    "RecallReport",
    "evaluate_recall",
    "mask_generator",
    "match_objects",
    "recall_report",
]

Mask = npt.NDArray[np.bool_]
IouMatrix = npt.NDArray[np.float64]
RankArray = npt.NDArray[np.int64]
Option = int | float | str | bool | None
PROTOCOL = "AR of class-agnostic masks, as COCOeval (segm, useCats 0), IoU 0.50:0.05:0.95"
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
PROPOSAL_LIMITS = (1, 10, 100, 1000)
AREA_RANGES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1 << 60)}
"""Least and largest area, both included."""


class Proposals(Protocol):
    """Masks that were found in an image, and how good the network thinks that they are: `Everything`, for one."""

    @property
    def rles(self) -> Sequence[Rle]:
        """N masks of the size of the image."""

    @property
    def predicted_ious(self) -> npt.NDArray[np.floating]:
        """(N,)."""


@dataclass(frozen=True)
class ObjectRecall:
    """One object: the image it is in, its number there, its area, and what of it was found.

    `taken` has, for "all" and the sizes that it is of, the rank (1: the first) of the proposal that took it at each of
    the ten IoUs; None: none did.
    """

    image: str
    id: int
    area: int
    best_iou: float
    matched_ranks: Mapping[str, tuple[int | None, ...]]


@dataclass(frozen=True)
class ImageRecall:
    """An image: how many masks were found in it, its objects, and the time that finding took."""

    image: str
    num_masks: int
    objects: tuple[ObjectRecall, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class RecallReport:
    """Figures over all objects; None where there is none of a size.

    Example:
        >>> found = recall_report(rows)
        >>> found.recall["1000"], found.by_size["small"]["1000"]
        (0.41, 0.12)
    """

    protocol: str
    model: str
    options: Mapping[str, Option]
    images: int
    objects: int
    recall: dict[str, float]
    """AR by the number of proposals: "1", "10", "100", "1000"."""
    recall_by_size: dict[str, dict[str, float | None]]
    """The same of small, medium and large objects."""
    objects_by_size: dict[str, int]
    """How many objects these are."""
    mean_best_iou: float
    mean_masks: float
    """Found in an image, mean."""
    seconds: float
    results: tuple[ImageRecall, ...] = field(default=(), repr=False)

    def to_json(self) -> str:
        """All figures as JSON, those of every object too."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def mask_generator(
    predictor: ImagePredictor, options: MaskGeneratorOptions | None = None
) -> Callable[[npt.NDArray[np.uint8]], Proposals]:
    """A finder that segments everything; `options` None: the default preset for its network.

    Example:
        >>> find = everything_by(SAM().predictor, EverythingOptions(points_per_side=16))
    """
    return lambda rgb: generate_masks(predictor, rgb, options)


def evaluate_recall(
    generate: Callable[[npt.NDArray[np.uint8]], Proposals],
    images: Iterable[ClickImage],
    max_objects: int | None = None,
    on_progress: Callable[[], None] | None = None,
) -> Iterator[ImageRecall]:
    """Look for everything in each image that has an object, and yield what was found of its objects.

    `objects` of each count at most, spread evenly. `step` is called after every image.

    Example:
        >>> rows = list(evaluate_recall(everything_by(SAM().predictor), click_images("photos")))
        >>> recall_report(rows).recall["1000"]
        0.41

    Raises:
        SourceError: an image or its masks cannot be read.
    """
    for image in images:
        shown = image.read()
        truth = _object_masks(shown, max_objects)
        if truth:
            started = time.perf_counter()
            found = generate(shown.rgb)
            seconds = time.perf_counter() - started
            rows = match_objects(image.name, found, truth, shown.valid_mask)
            yield ImageRecall(image.name, len(found.rles), rows, seconds)
        if on_progress is not None:
            on_progress()


def match_objects(
    image_name: str, proposals: Proposals, truth: Mapping[int, Mask], valid_mask: Mask | None = None
) -> tuple[ObjectRecall, ...]:
    """What proposals have of the objects of an image, masks (H, W) by number; `judged` None: everywhere.

    Example:
        >>> [row.best_iou for row in found_objects("dog", segment_everything(predictor, rgb), {1: mask})]
        [0.87]
    """
    order = np.argsort(-np.asarray(proposals.predicted_ious), kind="stable")[: PROPOSAL_LIMITS[-1]]
    masks = [mask if valid_mask is None else mask & valid_mask for mask in truth.values()]
    ious = _iou_matrix([proposals.rles[i] for i in order], masks, valid_mask)
    areas = np.array([np.count_nonzero(mask) for mask in masks], np.int64)
    groups = {"all": np.ones(len(masks), bool)}
    groups |= {name: (areas >= least) & (areas <= most) for name, (least, most) in AREA_RANGES.items()}
    ranks = {name: _match_ranks(ious, some) for name, some in groups.items()}
    best = ious.max(axis=0, initial=0.0)
    return tuple(
        ObjectRecall(
            image_name,
            number,
            int(areas[g]),
            float(best[g]),
            {name: tuple(int(r) or None for r in ranks[name][:, g]) for name, some in groups.items() if some[g]},
        )
        for g, number in enumerate(truth)
    )


def recall_report(
    results: Sequence[ImageRecall], model: str = "", options: Mapping[str, Option] | None = None
) -> RecallReport:
    """Means of what `evaluate_recall` yielded; `model` and `options` are kept with them.

    Raises:
        SourceError: no object.
    """
    objects = [one for row in results for one in row.objects]
    if not objects:
        raise SourceError("no image has an object, so there is nothing to be found; name data with masks")
    return RecallReport(
        protocol=PROTOCOL,
        model=model,
        options=dict(options or {}),
        images=len(results),
        objects=len(objects),
        recall={str(limit): float(_average_recall(objects, "all", limit) or 0.0) for limit in PROPOSAL_LIMITS},
        recall_by_size={
            size: {str(limit): _average_recall(objects, size, limit) for limit in PROPOSAL_LIMITS}
            for size in AREA_RANGES
        },
        objects_by_size={size: sum(size in one.matched_ranks for one in objects) for size in AREA_RANGES},
        mean_best_iou=float(np.mean([one.best_iou for one in objects])),
        mean_masks=float(np.mean([row.num_masks for row in results])),
        seconds=sum(row.seconds for row in results),
        results=tuple(results),
    )


def _average_recall(objects: Iterable[ObjectRecall], size: str, limit: int) -> float | None:
    taken = [
        [rank is not None and rank <= limit for rank in one.matched_ranks[size]]
        for one in objects
        if size in one.matched_ranks
    ]
    return float(np.mean(taken)) if taken else None


def _object_masks(image: AnnotatedImage, max_objects: int | None) -> dict[int, Mask]:
    """Masks that are not empty where they are judged, `objects` at most."""
    masks = {number: np.asarray(image.masks[number], bool) for number in sorted(image.masks)}
    seen = [n for n, mask in masks.items() if (mask if image.valid_mask is None else mask & image.valid_mask).any()]
    kept = seen if max_objects is None or not seen else [seen[i] for i in sample_evenly(len(seen), max_objects)]
    return {number: masks[number] for number in kept}


def _iou_matrix(rles: Sequence[Rle], masks: Sequence[Mask], valid_mask: Mask | None) -> IouMatrix:
    """(N, G): IoU of every code with every mask, where it is judged; two that are empty have 0, as with COCO.

    A mask's pixels are summed up down its columns once; what a run of a code has of it is then a difference.
    """
    runs = [np.cumsum([0, *rle.run_lengths(code)]) for code in rles]
    counts = np.array([(len(own) - 1) // 2 for own in runs], np.int64)
    starts, ends = (_concatenate([own[k::2][:n] for own, n in zip(runs, counts, strict=True)]) for k in (1, 2))
    owners = np.repeat(np.arange(len(rles)), counts)

    def inside(mask: Mask) -> IouMatrix:
        sums = np.concatenate([[0], np.cumsum(mask.T.ravel())])
        return np.bincount(owners, sums[ends] - sums[starts], minlength=len(rles)).astype(np.float64)

    table = np.zeros((len(rles), len(masks)))
    if masks and rles:
        area = inside(np.ones_like(masks[0]) if valid_mask is None else valid_mask)
        for g, mask in enumerate(masks):
            shared = inside(mask)
            table[:, g] = shared / np.maximum(area + np.count_nonzero(mask) - shared, 1)
    return table


def _concatenate(parts: Sequence[npt.NDArray[np.int64]]) -> RankArray:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _match_ranks(ious: IouMatrix, candidates: Mask) -> RankArray:
    """(T, G): the rank of the proposal that takes each object of `some` at each IoU; 0: none."""
    ranks = np.zeros((len(IOU_THRESHOLDS), ious.shape[1]), np.int64)
    for t, least in enumerate(IOU_THRESHOLDS):
        free = candidates.copy()
        for n in np.flatnonzero((ious >= least).any(axis=1)):
            open_ious = np.where(free, ious[n], -1.0)
            best = len(open_ious) - 1 - int(open_ious[::-1].argmax())  # the last of equal ones
            if open_ious[best] >= least:
                free[best], ranks[t, best] = False, n + 1
    return ranks
