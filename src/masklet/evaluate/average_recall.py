"""Measure the average recall of automatic mask generation: how many of an image's objects the generated masks cover.

The protocol is that of class-agnostic proposals, COCO's AR with one class for all (`useCats=0`, `iouType="segm"`), by
which SAM's paper and those before it measure masks without prompts:

* Masks are generated for each image that has an object. The proposals are ranked by the IoU that the network predicts
  for them, highest first, equal ones in the order in which they come; the first 1000 count.
* At each of ten IoU thresholds, 0.5, 0.55, ... 0.95, the proposals are matched to objects one after the other: each to
  that of the free objects with which it has the largest IoU, if this reaches the threshold; of several the last of the
  list. IoU is that of masks at the size of the image.
* **AR@k**: the fraction of the objects of all images that the first k proposals of their image matched, mean over the
  ten thresholds, for k of 1, 10, 100 and 1000. Objects have the same weight, whichever image they are in.
* **AR@k of small, medium and large** objects: those of an area up to 32^2 pixels, from there to 96^2, and more. Then
  only they are matched, so that no other object takes a proposal from them. An object of exactly 32^2 (96^2) counts on
  both sides, as in COCO. Areas are pixels of the mask; COCO's files have separate areas, which differ a little.
* The **best IoU** of an object is the largest that any of the 1000 has with it, matched or not; the mean is over
  objects.
* **Masks per image**: all that were generated, before the limit of 1000, mean over the images with an object.
* **Precision@k**: the fraction of the first k proposals of each image that have an IoU of 0.5 or more with an object,
  over the proposals of all images. Several proposals of one object all count. It says something only of data whose
  every object and part is annotated: anywhere else a correct mask of something unannotated counts as wrong.

COCO's AR@1000 of a model that generates fewer masks is that of the masks it has. COCO crowds and empty masks are not
objects; pixels that are not evaluated (GrabCut's borders) count neither for an object nor for a proposal. Masks of
parts of objects, which are not annotated, do not count against the recall of a model. Figures depend on the options as
much as on the model (points, thresholds), so the report has them.

Shapes: N proposals, G objects, T thresholds, H height, W width.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.evaluate.image_click_datasets import ClickImage
from masklet.evaluate.prompts_from_masks import sample_evenly
from masklet.masks import rle
from masklet.masks.rle import Rle

__all__ = [
    "PROTOCOL",
    "ImageRecall",
    "ObjectRecall",
    "Proposals",
    "RecallReport",
    "evaluate_recall",
    "match_objects",
    "measure_proposals",
    "recall_report",
]

Mask = npt.NDArray[np.bool_]
IouMatrix = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
Option = int | float | str | bool | None
PROTOCOL = "AR of class-agnostic masks, as COCOeval (segm, useCats 0), IoU 0.50:0.05:0.95"
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
PROPOSAL_LIMITS = (1, 10, 100, 1000)
AREA_RANGES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1 << 60)}
"""Smallest and largest area, both included."""


class Proposals(Protocol):
    """The masks generated for an image, and their quality as predicted by the network; `GeneratedMasks`, for one."""

    @property
    def rles(self) -> Sequence[Rle]:
        """N masks of the size of the image."""

    @property
    def predicted_ious(self) -> npt.NDArray[np.floating]:
        """(N,)."""


@dataclass(frozen=True)
class ObjectRecall:
    """One object: its image, its number there, its area, and how proposals match it.

    `matched_ranks` has, for "all" and the sizes of the object, the rank (1: the first) of the proposal that matched it
    at each of the ten thresholds; None: none did.
    """

    image: str
    id: int
    area: int
    best_iou: float
    matched_ranks: Mapping[str, tuple[int | None, ...]]


@dataclass(frozen=True)
class ImageRecall:
    """An image: the number of masks generated for it, its objects, and the seconds that generating took.

    `correct_ranks` has the ranks (1: the first) of the proposals with an IoU of 0.5 or more with an object; None in
    results that were written before precision was measured.
    """

    image: str
    num_masks: int
    objects: tuple[ObjectRecall, ...]
    seconds: float = 0.0
    correct_ranks: tuple[int, ...] | None = None


@dataclass(frozen=True)
class RecallReport:
    """Figures over all objects; None for a size without objects.

    Example:
        >>> report = recall_report(results)
        >>> report.recall["1000"], report.recall_by_size["small"]["1000"]
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
    mean_best_iou: float
    mean_masks: float
    """Masks per image."""
    precision: dict[str, float | None]
    """By the number of proposals, as `recall`; None if nothing was proposed, or an image has no ranks."""
    seconds: float
    results: tuple[ImageRecall, ...] = field(default=(), repr=False)

    def to_json(self) -> str:
        """Return all figures as JSON, with those of every object under "rows"."""
        figures = asdict(self)
        rows = figures.pop("results")
        return json.dumps({**figures, "rows": rows}, indent=2, allow_nan=False)


def evaluate_recall(
    generate: Callable[[npt.NDArray[np.uint8]], Proposals],
    image: ClickImage,
    max_objects: int | None = None,
    on_progress: Callable[[], None] | None = None,
) -> tuple[ImageRecall, ...]:
    """Generate the masks of an image and match them to its objects, `max_objects` at most, spread evenly.

    Returns one result; none if the image has no object. `on_progress` is called after the image.

    Example:
        >>> generate = partial(generate_masks, SAM().predictor)
        >>> results = [one for image in click_images("photos") for one in evaluate_recall(generate, image)]
        >>> recall_report(results).recall["1000"]
        0.41

    Raises:
        SourceError: if the image or its masks are unreadable.
    """
    annotated = image.read()
    valid_mask = annotated.valid_mask
    masks = {number: np.asarray(annotated.masks[number], bool) for number in sorted(annotated.masks)}
    numbers = [n for n, mask in masks.items() if (mask if valid_mask is None else mask & valid_mask).any()]
    if max_objects is not None:
        numbers = [numbers[i] for i in sample_evenly(len(numbers), max_objects)]
    results: tuple[ImageRecall, ...] = ()
    if numbers:
        started = time.perf_counter()
        proposals = generate(annotated.rgb)
        seconds = time.perf_counter() - started
        results = (measure_proposals(image.name, proposals, {n: masks[n] for n in numbers}, valid_mask, seconds),)
    if on_progress is not None:
        on_progress()
    return results


def match_objects(
    image_name: str, proposals: Proposals, truth: Mapping[int, Mask], valid_mask: Mask | None = None
) -> tuple[ObjectRecall, ...]:
    """Match proposals to the objects of an image, masks (H, W) by number; `valid_mask` None: evaluated everywhere.

    Example:
        >>> [one.best_iou for one in match_objects("dog", generate_masks(predictor, rgb), {1: mask})]
        [0.87]
    """
    return measure_proposals(image_name, proposals, truth, valid_mask).objects


def measure_proposals(
    image_name: str,
    proposals: Proposals,
    truth: Mapping[int, Mask],
    valid_mask: Mask | None = None,
    seconds: float = 0.0,
) -> ImageRecall:
    """Match proposals as `match_objects` does, and find those that are on an object; `seconds` is recorded.

    Example:
        >>> measure_proposals("dog", generate_masks(predictor, rgb), {1: mask}).correct_ranks
        (1, 4)
    """
    order = np.argsort(-np.asarray(proposals.predicted_ious), kind="stable")[: PROPOSAL_LIMITS[-1]]
    masks = [mask if valid_mask is None else mask & valid_mask for mask in truth.values()]
    ious = _iou_matrix([proposals.rles[i] for i in order], masks, valid_mask)
    areas = np.array([np.count_nonzero(mask) for mask in masks], np.int64)
    groups = {"all": np.ones(len(masks), bool)}
    groups |= {name: (areas >= least) & (areas <= most) for name, (least, most) in AREA_RANGES.items()}
    ranks = {name: _match_ranks(ious, members) for name, members in groups.items()}
    best = ious.max(axis=0, initial=0.0)
    correct = np.flatnonzero((ious >= IOU_THRESHOLDS[0]).any(axis=1)) + 1
    objects = []
    for g, number in enumerate(truth):
        matched = {n: tuple(int(r) or None for r in ranks[n][:, g]) for n, members in groups.items() if members[g]}
        objects.append(ObjectRecall(image_name, number, int(areas[g]), float(best[g]), matched))
    return ImageRecall(image_name, len(proposals.rles), tuple(objects), seconds, tuple(correct.tolist()))


def recall_report(
    results: Sequence[ImageRecall], model: str = "", options: Mapping[str, Option] | None = None
) -> RecallReport:
    """Average the results of `evaluate_recall`; the report records `model` and `options`.

    Raises:
        SourceError: if there is no object.
    """
    objects = [one for result in results for one in result.objects]
    if not objects:
        raise SourceError("no image has an object, so there is nothing to measure; name data with masks")

    def recall(size: str, limit: int) -> float | None:
        ranks = [one.matched_ranks[size] for one in objects if size in one.matched_ranks]
        matched = [[rank is not None and rank <= limit for rank in own_ranks] for own_ranks in ranks]
        return float(np.mean(matched)) if matched else None

    precision: dict[str, float | None] = {}
    ranks = [one.correct_ranks for one in results if one.correct_ranks is not None]
    for limit in PROPOSAL_LIMITS:
        proposed = sum(min(one.num_masks, limit) for one in results)
        correct = sum(rank <= limit for own_ranks in ranks for rank in own_ranks)
        precision[str(limit)] = correct / proposed if proposed and len(ranks) == len(results) else None

    return RecallReport(
        protocol=PROTOCOL,
        model=model,
        options=dict(options or {}),
        images=len(results),
        objects=len(objects),
        recall={str(limit): recall("all", limit) or 0.0 for limit in PROPOSAL_LIMITS},
        recall_by_size={size: {str(limit): recall(size, limit) for limit in PROPOSAL_LIMITS} for size in AREA_RANGES},
        objects_by_size={size: sum(size in one.matched_ranks for one in objects) for size in AREA_RANGES},
        mean_best_iou=float(np.mean([one.best_iou for one in objects])),
        mean_masks=float(np.mean([one.num_masks for one in results])),
        precision=precision,
        seconds=sum(one.seconds for one in results),
        results=tuple(results),
    )


def _iou_matrix(rles: Sequence[Rle], masks: Sequence[Mask], valid_mask: Mask | None) -> IouMatrix:
    """Return (N, G): the IoU of every RLE with every mask, where it is evaluated; two empty ones have 0, as in COCO.

    The pixels of a mask are accumulated down its columns once; the overlap with a run of an RLE is then a difference.
    """
    edges = [np.cumsum([0, *rle.run_lengths(code)]) for code in rles]
    counts = np.array([(len(own) - 1) // 2 for own in edges], np.int64)
    none = np.zeros(0, np.int64)
    starts = np.concatenate([none, *(own[1::2][:n] for own, n in zip(edges, counts, strict=True))])
    ends = np.concatenate([none, *(own[2::2][:n] for own, n in zip(edges, counts, strict=True))])
    owners = np.repeat(np.arange(len(rles)), counts)

    def overlap(mask: Mask) -> IouMatrix:
        sums = np.concatenate([[0], np.cumsum(mask.T.ravel())])
        return np.bincount(owners, sums[ends] - sums[starts], minlength=len(rles)).astype(np.float64)

    ious = np.zeros((len(rles), len(masks)))
    if masks and rles:
        area = overlap(np.ones_like(masks[0]) if valid_mask is None else valid_mask)
        for g, mask in enumerate(masks):
            intersection = overlap(mask)
            ious[:, g] = intersection / np.maximum(area + np.count_nonzero(mask) - intersection, 1)
    return ious


def _match_ranks(ious: IouMatrix, candidates: Mask) -> IndexArray:
    """Return (T, G): the rank of the proposal that matches each of the `candidates` at each threshold; 0: none."""
    ranks = np.zeros((len(IOU_THRESHOLDS), ious.shape[1]), np.int64)
    for t, threshold in enumerate(IOU_THRESHOLDS):
        free = candidates.copy()
        for n in np.flatnonzero((ious >= threshold).any(axis=1)):
            free_ious = np.where(free, ious[n], -1.0)
            best = len(free_ious) - 1 - int(free_ious[::-1].argmax())  # the last of equal ones
            if free_ious[best] >= threshold:
                free[best], ranks[t, best] = False, n + 1
    return ranks
