"""Pictures with known masks, asked by box and by clicks.

The protocol. From each picture at most `objects` masks are asked for, spread evenly over its list. A box is the tight
box of the mask. The first click is the pixel of the mask that lies deepest inside it, every further click the deepest
pixel of what is wrong (`masklet.clicks.centre_click`), with the earlier logits fed back. One click is answered by
the candidate that the model itself scores highest; `click_best` is the best of its three candidates, chosen by the
truth. IoU is measured at the size of the stored picture; a figure is the mean over objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from masklet.clicks import centre_click
from masklet.errors import SourceError
from masklet.image import ImagePredictor, Prediction
from masklet.masks import boxes, rle
from masklet.prompts import Box, ObjectPrompt, Points

__all__ = ["Figures", "StillsReport", "evaluate_stills", "report", "stills_under"]

Masks = npt.NDArray[np.bool_]
LAST_CLICK = 5


@dataclass(frozen=True)
class Figures:
    """Mean IoU over objects, 0 to 1."""

    objects: int
    box: float
    click: float
    """One click, the candidate that the model prefers."""
    click_best: float
    """One click, the best of three candidates."""
    clicks_3: float
    clicks_5: float


@dataclass(frozen=True)
class StillsReport:
    """Figures over all objects, and by source."""

    total: Figures
    by_source: dict[str, Figures]
    mean_of_sources: Figures
    """Every source counts the same, however many objects it has."""


@dataclass(frozen=True)
class Still:
    """One picture of a source."""

    source: str
    picture: Path
    masks: Path


def stills_under(root: Path) -> list[Still]:
    """Every `SOURCE/images/ID.jpg` with its `SOURCE/masks/ID.json` (a list of COCO RLE), in order.

    Raises:
        SourceError: there is none.
    """
    found = [
        Still(path.parent.parent.name, path, path.parent.parent / "masks" / f"{path.stem}.json")
        for path in sorted(root.glob("*/images/*.jpg"))
    ]
    found = [still for still in found if still.masks.exists()]
    if not found:
        raise SourceError(
            f"{root} holds no stills; allowed is a folder of sources, each with images/ID.jpg and masks/ID.json "
            "(a list of COCO RLE); unpack the archive there, or name another folder"
        )
    return found


def evaluate_stills(
    predictor: ImagePredictor, stills: Sequence[Still], objects: int = 10
) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Yield the source and the IoUs (N, 5) of each picture's objects, in the order of `Figures` behind `objects`.

    Example:
        >>> rows = list(evaluate_stills(SAM().predictor, stills_under(Path("heldout"))))
        >>> report(rows).total.box
    """
    for still in stills:
        rgb = _read(still.picture)
        codes = json.loads(still.masks.read_text())
        chosen = np.unique(np.linspace(0, len(codes) - 1, min(objects, len(codes))).round().astype(int))
        truth = np.stack([rle.decode(codes[i]) for i in chosen])
        predictor.set_image(rgb)
        yield still.source, _ask_all(predictor, truth)


def report(rows: Sequence[tuple[str, npt.NDArray[np.float64]]]) -> StillsReport:
    """Means of what `evaluate_stills` yielded."""
    sources = sorted({source for source, _ in rows})
    by_source = {s: _figures(np.concatenate([iou for name, iou in rows if name == s])) for s in sources}
    total = _figures(np.concatenate([iou for _, iou in rows]))
    columns = [f.name for f in fields(Figures) if f.name != "objects"]
    means = {c: float(np.mean([getattr(f, c) for f in by_source.values()])) for c in columns}
    return StillsReport(total, by_source, Figures(total.objects, **means))


def _figures(iou_N5: npt.NDArray[np.float64]) -> Figures:
    return Figures(len(iou_N5), *(float(v) for v in iou_N5.mean(0)))


def _read(path: Path) -> npt.NDArray[np.uint8]:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SourceError(f"{path} cannot be read as a picture; mend it, or remove it and its mask file")
    return np.ascontiguousarray(bgr[..., ::-1], np.uint8)


def _ask_all(predictor: ImagePredictor, truth_NHW: Masks) -> npt.NDArray[np.float64]:
    tight = boxes.from_masks(truth_NHW)
    by_box = predictor.ask([ObjectPrompt(box=Box(*map(float, b))) for b in tight], multimask=False)
    curve, best = _click_through(predictor, truth_NHW)
    return np.stack([_iou(by_box.masks[:, 0], truth_NHW), curve[0], best, curve[2], curve[4]], axis=1)


def _click_through(
    predictor: ImagePredictor, truth_NHW: Masks
) -> tuple[list[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """The IoU after each click, and the best of three after the first."""
    shown = np.zeros_like(truth_NHW)
    points = np.zeros((len(truth_NHW), 0, 2), np.float32)
    labels = np.zeros((len(truth_NHW), 0), np.int32)
    logits, curve, best = None, [], np.zeros(len(truth_NHW))
    for turn in range(LAST_CLICK):
        xy, on = centre_click(torch.from_numpy(shown), torch.from_numpy(truth_NHW))
        points = np.concatenate([points, xy.numpy()[:, None]], axis=1)
        labels = np.concatenate([labels, on.numpy().astype(np.int32)[:, None]], axis=1)
        asked = [ObjectPrompt(points=Points(p, lab)) for p, lab in zip(points, labels, strict=True)]
        answer = predictor.ask(asked, logits=logits, multimask=turn == 0)
        if turn == 0:
            best = np.stack([_iou(answer.masks[:, k], truth_NHW) for k in range(3)]).max(0)
        shown, logits = _kept(answer)
        curve.append(_iou(shown, truth_NHW))
    return curve, best


def _kept(answer: Prediction) -> tuple[Masks, npt.NDArray[np.float32]]:
    best = answer.best
    return best.masks[:, 0], best.logits


def _iou(predicted_NHW: Masks, truth_NHW: Masks) -> npt.NDArray[np.float64]:
    both = (predicted_NHW & truth_NHW).sum((1, 2))
    either = (predicted_NHW | truth_NHW).sum((1, 2))
    return np.asarray(both / np.maximum(either, 1), np.float64)
