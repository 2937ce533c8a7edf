"""Measure where a model loses on images with known masks: size, source, resolution, decoder, choice and boundary.

Each object is segmented in several ways, and each way is one column of `COLUMNS`. Prompts are those of
`masklet.evaluate.image_prompts`. Beside the usual figures there are

* bounds: the true mask on the network's own cells (`grid`), and the answer to the true mask as a prompt (`mask`);
* choices: the best of three candidates by the truth for a click and for a box, and of all true masks under the first
  click the one that fits best (`click_any`): an answer that is another annotated object is not a bad mask;
* the interior: box and click without a band of two cells along the true border (`box_inner`, `click_inner`);
* twice the resolution: box and click on a crop of half the width and height around the object (`crop_box`,
  `crop_click`), for objects that fit, beside the full view of the same objects;
* scores: what the model itself predicts for its answers (`box_score`, `click_score`, `clicks_5_score`).

Shapes: N objects, K candidates, H height, W width.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from masklet.atomic_files import write_text
from masklet.datasets import Sample
from masklet.errors import SourceError
from masklet.evaluate.image_clicks import ImageModel
from masklet.evaluate.image_prompts import find_image_samples, source_name
from masklet.evaluate.prompts_from_masks import (
    Click,
    clicks_prompt,
    deepest_error_click,
    prompt_from_mask,
    sample_evenly,
)
from masklet.masks import iou

__all__ = [
    "ObjectErrors",
    "choose_samples",
    "error_tables",
    "measure_objects",
    "read_rows",
    "reliability",
    "reliability_svg",
    "write_rows",
]

Mask = npt.NDArray[np.bool_]

SIZES = ((0.0, 0.02, "under 2 %"), (0.02, 0.1, "2 to 10 %"), (0.1, 1.01, "over 10 %"))
"""Fractions of the image: from, to (exclusive), name."""
BAND_CELLS = 2
"""Width of the band along the border, on either side, that the interior leaves out."""
NUM_CLICKS = 5
ANSWERS = ("box", "click", "click_best", "clicks_5")
BOUNDS = ("grid", "mask", "box_best", "click_any", "box_inner", "click_inner")
SCORES = {"box": "box_score", "click": "click_score", "clicks_5": "clicks_5_score"}
"""The columns of predicted IoU, by those of the true one."""
BINS = 10


@dataclass(frozen=True)
class ObjectErrors:
    """One object; every figure is an IoU with the true mask, or nan if it was not measured."""

    split: str
    source: str
    image: str
    area: float
    """Fraction of the image."""
    parts: int
    holes: int
    """Holes of at least four pixels in the answer to a box; `parts` likewise."""
    box: float
    click: float
    click_best: float
    clicks_5: float
    grid: float
    mask: float
    box_best: float
    click_any: float
    box_inner: float
    click_inner: float
    crop_box: float
    crop_click: float
    box_score: float
    click_score: float
    clicks_5_score: float
    click_ious: tuple[float, ...]
    click_scores: tuple[float, ...]
    """Of all three candidates of the first click."""
    missed: float
    """Missed pixels of the answer to a box, as a fraction of the union; the excess is 1 - box - missed."""


def choose_samples(roots: Mapping[str, Path], images: int) -> dict[str, list[Sample]]:
    """Choose at most `images` samples of each folder, as evenly as possible over the sources that all folders have.

    Raises:
        SourceError: if a folder has no images, or the folders have no source in common.
    """
    by_source: dict[str, dict[str, list[Sample]]] = {}
    for split, root in roots.items():
        sources: dict[str, list[Sample]] = {}
        for sample in find_image_samples(root):
            sources.setdefault(source_name(sample, "stills"), []).append(sample)
        by_source[split] = sources
    common = sorted(set.intersection(*(set(sources) for sources in by_source.values())))
    if not common:
        raise SourceError(f"{', '.join(map(str, roots.values()))} have no source in common; name folders that have one")
    chosen: dict[str, list[Sample]] = {}
    for split, sources in by_source.items():
        left, chosen[split] = images, []
        for number, source in enumerate(sorted(common, key=lambda name: len(sources[name]))):
            take = min(len(sources[source]), left // (len(common) - number))
            left -= take
            chosen[split] += [sources[source][i] for i in sample_evenly(len(sources[source]), take)]
    return chosen


def measure_objects(
    predictor: ImageModel, sample: Sample, split: str, max_objects: int = 6, max_crops: int = 2, cells: int = 128
) -> list[ObjectErrors]:
    """Measure at most `max_objects` objects of one image, and crops around at most `max_crops` of them.

    Masks of the network have `cells` by `cells` cells. The predictor is copied for crops.

    Raises:
        SourceError: if the image or its masks are unreadable.
    """
    [frame] = sample.read(sample.frame_indices)
    numbers = sorted(frame.masks)
    every = [frame.masks[number] for number in numbers]
    truth = [every[i] for i in sample_evenly(len(every), max_objects)]
    truth = [mask for mask in truth if mask.any()]
    if not truth:
        return []
    predictor.set_image(frame.rgb)
    boxes = predictor.predict_prompts([prompt_from_mask(mask, "box") for mask in truth], multimask_output=False)
    box_3 = predictor.predict_prompts([prompt_from_mask(mask, "box") for mask in truth], multimask_output=True)
    filled = predictor.predict_prompts([prompt_from_mask(mask, "mask") for mask in truth], multimask_output=False)
    clicks: list[list[Click]] = [[] for _ in truth]
    predicted: Sequence[Mask] = [np.zeros_like(mask) for mask in truth]
    logits, first, last = None, None, None
    for turn in range(NUM_CLICKS):
        for own, mask, true_mask in zip(clicks, predicted, truth, strict=True):
            own.append(deepest_error_click(mask, true_mask))
        answer = predictor.predict_prompts(
            [clicks_prompt(own) for own in clicks], mask_input=logits, multimask_output=turn == 0
        )
        first, last = first or answer, answer.best
        predicted, logits = list(last.masks[:, 0]), last.logits
    assert first is not None
    assert last is not None
    crops = set(sample_evenly(len(truth), max_crops))
    rows = []
    for i, mask in enumerate(truth):
        click_ious = [iou(candidate, mask) for candidate in first.masks[i]]
        chosen = int(first.scores[i].argmax())
        click_mask, box_mask = first.masks[i, chosen], boxes.masks[i, 0]
        x, y, _ = clicks[i][0]
        inner = ~_border_band(mask, cells)
        crop = _crop_ious(predictor, frame.rgb, mask) if i in crops else (np.nan, np.nan)
        holes = _count_regions(~np.pad(box_mask, 1, constant_values=False)) - 1
        small = cv2.resize(mask.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
        grid = cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        rows.append(
            ObjectErrors(
                split,
                source_name(sample, "stills"),
                sample.name,
                float(mask.mean()),
                _count_regions(box_mask),
                holes,
                iou(box_mask, mask),
                click_ious[chosen],
                max(click_ious),
                iou(last.masks[i, 0], mask),
                iou(grid, mask),
                iou(filled.masks[i, 0], mask),
                max(iou(candidate, mask) for candidate in box_3.masks[i]),
                max(iou(click_mask, one) for one in every if one[y, x]),
                _inner_iou(box_mask, mask, inner),
                _inner_iou(click_mask, mask, inner),
                *crop,
                float(boxes.scores[i, 0]),
                float(first.scores[i, chosen]),
                float(last.scores[i, 0]),
                tuple(click_ious),
                tuple(map(float, first.scores[i])),
                float((mask & ~box_mask).sum() / (mask | box_mask).sum()),
            )
        )
    return rows


def _crop_ious(predictor: ImageModel, rgb: npt.NDArray[np.uint8], mask: Mask) -> tuple[float, float]:
    """Return IoU of box and click on a crop of half the width and height; nan if the object does not fit."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) and (rows[-1] - rows[0] > 0.4 * height or columns[-1] - columns[0] > 0.4 * width):
        return np.nan, np.nan
    top = int(np.clip((rows[0] + rows[-1]) // 2 - height // 4, 0, height - height // 2))
    left = int(np.clip((columns[0] + columns[-1]) // 2 - width // 4, 0, width - width // 2))
    window = np.s_[top : top + height // 2, left : left + width // 2]
    zoomed = copy.copy(predictor)
    zoomed.set_image(np.ascontiguousarray(rgb[window]))
    part = np.ascontiguousarray(mask[window])
    box = zoomed.predict_prompts([prompt_from_mask(part, "box")], multimask_output=False)
    click = zoomed.predict_prompts([prompt_from_mask(part, "click")], multimask_output=True).best
    return iou(box.masks[0, 0], part), iou(click.masks[0, 0], part)


def _border_band(mask: Mask, cells: int) -> Mask:
    """Return the pixels within `BAND_CELLS` cells of the border of a mask, a cell being 1 / `cells` of the image."""
    radius = [max(1, round(BAND_CELLS * length / cells)) for length in mask.shape[::-1]]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius[0] + 1, 2 * radius[1] + 1))
    array = mask.astype(np.uint8)
    return np.asarray(cv2.dilate(array, kernel) != cv2.erode(array, kernel))


def _inner_iou(predicted: Mask, truth: Mask, inner: Mask) -> float:
    """Return the IoU of the pixels of `inner`; nan if the truth has none there."""
    return iou(predicted & inner, truth & inner) if (truth & inner).any() else np.nan


def _count_regions(mask: Mask, min_area: int = 4) -> int:
    stats = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)[2]
    return int((stats[1:, cv2.CC_STAT_AREA] >= min_area).sum())


def write_rows(rows: Iterable[ObjectErrors], path: Path) -> None:
    """Write rows as JSON, with null for nan, for `read_rows`."""
    plain = [{name: value if value == value else None for name, value in asdict(row).items()} for row in rows]
    write_text(path, json.dumps(plain) + "\n")


def read_rows(path: Path) -> list[ObjectErrors]:
    """Read what `write_rows` wrote."""
    rows = []
    for stored in json.loads(path.read_text(encoding="utf-8")):
        values: dict[str, Any] = {name: np.nan if value is None else value for name, value in stored.items()}
        values.update({name: tuple(value) for name, value in values.items() if isinstance(value, list)})
        rows.append(ObjectErrors(**values))
    return rows


def error_tables(rows: Sequence[ObjectErrors]) -> dict[str, list[tuple[str, ...]]]:
    """Summarize rows as tables by title; the first row of each table has its column names.

    Example:
        >>> error_tables(rows)["answers by size"][0]
        ('', 'objects', 'held-out box', ...)

    Raises:
        SourceError: if there are no rows.
    """
    if not rows:
        raise SourceError("no image has an object, so there is nothing to measure; name data with masks")
    splits = list(dict.fromkeys(row.split for row in rows))
    groups: dict[str, Callable[[ObjectErrors], bool]] = {"all": lambda row: True}
    for low, high, name in SIZES:
        groups[name] = lambda row, low=low, high=high: low <= row.area < high  # type: ignore[misc]
    sources = {source: (lambda row, s=source: row.source == s) for source in sorted({row.source for row in rows})}
    tables: dict[str, list[tuple[str, ...]]] = {}
    for title, parts in (("by size", groups), ("by source", sources)):
        table = [("", *(f"{split} {name}" for split in splits for name in ("objects", *ANSWERS)))]
        for name, belongs in parts.items():
            cells = [name]
            for split in splits:
                own = [row for row in rows if row.split == split and belongs(row)]
                cells += [str(len(own)), *(_mean(own, column) for column in ANSWERS)]
            table.append(tuple(cells))
        tables[f"answers {title}"] = table
    for split in splits:
        own = [row for row in rows if row.split == split]
        table = [("", "objects", *BOUNDS, "parts", "holes", "missed", "excess")]
        for name, belongs in groups.items():
            some = [row for row in own if belongs(row)]
            excess = np.mean([1 - row.box - row.missed for row in some]) if some else np.nan
            counts = [_mean(some, column) for column in ("parts", "holes", "missed")]
            table.append((name, str(len(some)), *(_mean(some, column) for column in BOUNDS), *counts, f"{excess:.3f}"))
        tables[f"bounds, {split}"] = table
        table = [("", "objects", "box", "crop_box", "click", "crop_click")]
        for name, belongs in groups.items():
            some = [row for row in own if belongs(row) and not np.isnan(row.crop_box)]
            table.append((name, str(len(some)), *(_mean(some, column) for column in table[0][2:])))
        tables[f"twice the resolution, {split}"] = table
        table = [("", "predicted IoU", "true IoU", "calibration error")]
        for prompt, score in SCORES.items():
            error = sum(n * abs(x - y) for n, x, y in reliability(own, prompt)) / len(own)
            table.append((prompt, _mean(own, score), _mean(own, prompt), f"{error:.3f}"))
        tables[f"predicted IoU, {split}"] = table
    return tables


def reliability(rows: Iterable[ObjectErrors], prompt: str) -> list[tuple[int, float, float]]:
    """Return count, mean predicted IoU and mean true IoU of the answers to a prompt, by tenths of the predicted IoU.

    The prompt is a key of `SCORES`; bins without answers are left out.
    """
    pairs = np.array([(getattr(row, SCORES[prompt]), getattr(row, prompt)) for row in rows]).reshape(-1, 2)
    bins = np.minimum((pairs[:, 0] * BINS).astype(int), BINS - 1)
    groups = [pairs[bins == i] for i in range(BINS) if (bins == i).any()]
    return [(len(group), float(group[:, 0].mean()), float(group[:, 1].mean())) for group in groups]


def reliability_svg(rows: Sequence[ObjectErrors]) -> str:
    """Draw the mean true IoU over the predicted IoU, a panel for each split; dots grow with their number of answers."""
    splits, colors = list(dict.fromkeys(row.split for row in rows)), ("#1f6fb4", "#d1622b", "#3a8f4d")
    side, gap = 220, 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {gap + len(splits) * (side + gap)} {side + 2 * gap}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{gap + len(splits) * (side + gap)}" height="{side + 2 * gap}" fill="#fff"/>',
    ]
    for number, split in enumerate(splits):
        left, bottom = gap + number * (side + gap), gap // 2 + side
        parts.append(
            f'<path d="M{left} {bottom}h{side}v{-side}h{-side}zl{side} {-side}" fill="none" stroke="#bbb"/>'
            f'<text x="{left}" y="{gap // 2 - 8}">{split}</text>'
            f'<text x="{left + side - 90}" y="{bottom + 28}">predicted IoU</text>'
            f'<text transform="translate({left - 24} {bottom - side + 60}) rotate(-90)">true IoU</text>'
        )
        parts += [
            f'<text x="{left + tick * side - 8:.0f}" y="{bottom + 14}">{tick}</text>'
            f'<text x="{left - 20}" y="{bottom - tick * side + 4:.0f}">{tick}</text>'
            for tick in (0, 0.5, 1)
        ]
        for row, (prompt, color) in enumerate(zip(SCORES, colors, strict=True)):
            bins = reliability([one for one in rows if one.split == split], prompt)
            total = sum(count for count, _, _ in bins)
            dots = [(left + x * side, bottom - y * side, 2 + 8 * (n / total) ** 0.5) for n, x, y in bins]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in dots)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{color}" opacity="0.6"/>' for x, y, r in dots
            ]
            parts.append(f'<text x="{left + 8}" y="{gap // 2 + 16 + 14 * row}" fill="{color}">{prompt}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _mean(rows: Iterable[ObjectErrors], column: str) -> str:
    """Return the mean of a column without nan, with three digits; a dash if there is nothing."""
    values = [value for value in (getattr(row, column) for row in rows) if not np.isnan(value)]
    return f"{np.mean(values):.3f}" if values else "-"
