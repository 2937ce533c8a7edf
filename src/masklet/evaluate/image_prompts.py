"""Pictures with known masks, asked by box and by clicks.

The protocol. From each picture at most `objects` masks are asked for, spread evenly over its list. A box is the tight
box of the mask. The first click is the pixel of the mask that lies deepest inside it, every further click the deepest
pixel of what is wrong (`masklet.evaluate.prompts_from_masks`), with the earlier logits fed back. One click is
answered by
the candidate that the model itself scores highest; `click_best` is the best of its three candidates, chosen by the
truth. IoU is measured at the size of the stored picture; a figure is the mean over objects. A picture is encoded once,
and all its objects are asked for together.

Shapes: N objects, H height, W width, K candidates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.datasets import Annotated, Entry, open_dataset
from masklet.errors import SourceError
from masklet.evaluate.prompts_from_masks import Click, corrective_click, spread, tight_box
from masklet.image import ImagePredictor
from masklet.masks import iou
from masklet.prompts import ObjectPrompt, Points

__all__ = [
    "Figures",
    "Ious",
    "StillRow",
    "StillsReport",
    "evaluate_stills",
    "report",
    "source_of",
    "still_ious",
    "stills_under",
]

Masks = npt.NDArray[np.bool_]
Ious = npt.NDArray[np.float64]
"""(N, 5): a row an object, columns as `Figures` has them behind `objects`."""

LAST_CLICK = 5


@dataclass(frozen=True)
class Figures:
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
class StillRow:
    """One picture as a row of plain values: IoUs of each object, as `Ious` has them."""

    picture: str
    source: str
    ious: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, picture: str, source: str, iou_N5: Ious) -> StillRow:
        """Of what `evaluate_stills` yielded."""
        return cls(picture, source, tuple(map(tuple, iou_N5.tolist())))

    @property
    def pair(self) -> tuple[str, Ious]:
        """As `report` takes it."""
        return self.source, np.array(self.ious).reshape(-1, 5)


@dataclass(frozen=True)
class StillsReport:
    """Figures over all objects, and by source."""

    total: Figures
    by_source: dict[str, Figures]
    mean_of_sources: Figures
    """Every source counts the same, however many objects it has."""


def stills_under(root: Path) -> list[Entry]:
    """Every `SOURCE/images/ID.jpg` with its `SOURCE/masks/ID.json` (a list of COCO RLE), in the order of their names.

    Raises:
        SourceError: there is none.
    """
    entries = open_dataset(root, kind="stills").entries
    return sorted(entries, key=_place)  # plain order, where data sets count: every tenth picture stays the same one


def _place(still: Entry) -> tuple[str, ...]:
    return tuple(f"{still.name}.jpg".split("/"))


def evaluate_stills(
    predictor: ImagePredictor, stills: Sequence[Entry], objects: int = 10
) -> Iterator[tuple[str, Ious]]:
    """Yield the source and the IoUs (N, 5) of each picture's objects; N is 0 for a picture without any.

    Example:
        >>> rows = list(evaluate_stills(SAM().predictor, stills_under(Path("heldout"))))
        >>> report(rows).total.box

    Raises:
        SourceError: a picture or its masks cannot be read.
    """
    for still in stills:
        [picture] = still.read(still.frames)
        yield source_of(still, "stills"), still_ious(predictor, picture, objects)


def source_of(still: Entry, alone: str) -> str:
    """The source that a still of our own layout is counted with; `alone` where the data set is no more than one."""
    source, inside, _ = still.name.partition("/")
    return source if inside else alone


def report(rows: Sequence[tuple[str, Ious]]) -> StillsReport:
    """Means of what `evaluate_stills` yielded.

    Raises:
        SourceError: no picture had an object.
    """
    rows = [(source, iou_N5) for source, iou_N5 in rows if len(iou_N5)]
    if not rows:
        raise SourceError("no picture has an object, so there is nothing to measure; name data with masks")
    sources = sorted({source for source, _ in rows})
    by_source = {s: _figures(np.concatenate([iou_N5 for name, iou_N5 in rows if name == s])) for s in sources}
    total = _figures(np.concatenate([iou_N5 for _, iou_N5 in rows]))
    columns = [f.name for f in fields(Figures) if f.name != "objects"]
    means = {c: float(np.mean([getattr(f, c) for f in by_source.values()])) for c in columns}
    return StillsReport(total, by_source, Figures(total.objects, **means))


def _figures(iou_N5: Ious) -> Figures:
    return Figures(len(iou_N5), *(float(v) for v in iou_N5.mean(0)))


def still_ious(
    predictor: ImagePredictor,
    picture: Annotated,
    objects: int = 10,
    prompts: Collection[str] = ("box", "click"),
) -> Ious:
    """IoUs (N, 5) of at most `objects` objects of one picture; nan where `prompts` does not name the way of asking.

    Example:
        >>> [picture] = entry.read(entry.frames)
        >>> still_ious(model.predictor, picture, prompts=["box"])[:, 0]
        array([0.93, 0.88])
    """
    numbers = sorted(picture.masks)
    masks = [picture.masks[numbers[i]] for i in spread(len(numbers), objects)]
    masks = [mask for mask in masks if mask.any()]
    iou_N5 = np.full((len(masks), 5), np.nan)
    if not masks or not set(prompts) & {"box", "click"}:
        return iou_N5
    predictor.set_image(picture.rgb)
    if "box" in prompts:
        boxes = [ObjectPrompt(box=tight_box(mask)) for mask in masks]
        iou_N5[:, 0] = _iou(predictor.ask(boxes, multimask=False).masks[:, 0], masks)
    if "click" in prompts:
        curve, iou_N5[:, 2] = _click_through(predictor, masks)
        iou_N5[:, 1], iou_N5[:, 3], iou_N5[:, 4] = curve[0], curve[2], curve[4]
    return iou_N5


def _click_through(predictor: ImagePredictor, truth: list[Masks]) -> tuple[list[Ious], Ious]:
    """The IoU after each click, and the best of three after the first."""
    shown = [np.zeros_like(mask) for mask in truth]
    clicks: list[list[Click]] = [[] for _ in truth]
    logits, curve, best = None, [], np.zeros(len(truth))
    for turn in range(LAST_CLICK):
        for own, found, mask in zip(clicks, shown, truth, strict=True):
            own.append(corrective_click(found, mask))
        answer = predictor.ask([_said(own) for own in clicks], logits=logits, multimask=turn == 0)
        if turn == 0:
            best = np.stack([_iou(answer.masks[:, k], truth) for k in range(answer.masks.shape[1])]).max(0)
        shown, logits = list(answer.best.masks[:, 0]), answer.best.logits
        curve.append(_iou(shown, truth))
    return curve, best


def _said(clicks: list[Click]) -> ObjectPrompt:
    xy = np.array([(click.x, click.y) for click in clicks], np.float32)
    return ObjectPrompt(points=Points(xy, np.array([click.label for click in clicks], np.int32)))


def _iou(predicted: Iterable[Masks], truth: Iterable[Masks]) -> Ious:
    return np.array([iou(found, mask) for found, mask in zip(predicted, truth, strict=True)])
