"""FastSAM's second step: select detections by prompts or texts (Zhao et al. 2023, arXiv 2306.12156).

Coordinates are pixels of the original image. Shapes: N detections, H and W of the image, T texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from masklet.detect.clip import TextScorer
from masklet.detect.detector import Detections, Rgb
from masklet.masks import rle
from masklet.prompts import ObjectPrompt

__all__ = ["crop_objects", "select_by_prompts", "select_by_text"]

Mask = npt.NDArray[np.bool_]
WHITE = 255


@dataclass(frozen=True, order=True)
class _MatchScore:
    """How well a mask matches a prompt: by positive points on it, then by IoU with the box, then by score."""

    positive_hits: int
    box_iou: float
    score: float


def select_by_prompts(
    detections: Detections, prompts: Sequence[ObjectPrompt], *, multimask: bool = False
) -> list[tuple[int, int]]:
    """Select detections by prompts: (index of the prompt, row of the detection), prompts in order, best match first.

    A mask matches a prompt if a positive point is on it and no negative one, and it overlaps the box, if there is one.
    The best has the most positive points, then the largest IoU with the box, then the highest score; `multimask`
    returns all. A prompt without a match has no row.

    Example:
        >>> prompts = parse_prompts(bboxes=[10, 10, 90, 90], size=(100, 100))  # doctest: +SKIP
        >>> select_by_prompts(detections, prompts)  # doctest: +SKIP
        [(0, 3)]
    """
    matches: list[list[tuple[_MatchScore, int]]] = [[] for _ in prompts]
    for row, mask in enumerate(_iter_masks(detections)):
        area = int(np.count_nonzero(mask))
        for own_matches, prompt in zip(matches, prompts, strict=True):
            match = _score_match(mask, area, float(detections.scores[row]), prompt)
            if match is not None:
                own_matches.append((match, row))
    ranked = [sorted(own, key=lambda match: match[0], reverse=True) for own in matches]
    return [(index, row) for index, own in enumerate(ranked) for _, row in own[: None if multimask else 1]]


def select_by_text(detections: Detections, rgb: Rgb, texts: Sequence[str], scorer: TextScorer) -> list[tuple[int, int]]:
    """Select for each text the detection that matches it best, cropped on white: (index of the text, row).

    Example:
        >>> select_by_text(detections, rgb, ["a dog"], load_clip())  # doctest: +SKIP
        [(0, 5)]
    """
    rows, images = crop_objects(detections, rgb)
    if not rows:
        return []
    scores_NT = np.asarray(scorer(images, texts))
    assert scores_NT.shape == (len(rows), len(texts)), f"scores of {len(rows)} images, got {scores_NT.shape}"
    return [(index, rows[int(best)]) for index, best in enumerate(scores_NT.argmax(0))]


def crop_objects(detections: Detections, rgb: Rgb) -> tuple[list[int], list[Rgb]]:
    """Crop each detection with a mask that is not empty: return their rows, and the crops, white outside the mask."""
    rows, images = [], []
    for row, mask in enumerate(_iter_masks(detections)):
        lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(lines):
            part = np.s_[lines[0] : lines[-1] + 1, columns[0] : columns[-1] + 1]
            rows.append(row)
            images.append(np.where(mask[part][..., None], rgb[part], np.uint8(WHITE)))
    return rows, images


def _iter_masks(detections: Detections) -> Iterator[Mask]:
    """Yield masks one at a time: all masks of a large image would take gigabytes."""
    stored = detections.stored_masks
    assert stored is not None or not len(detections), "detections without masks cannot be selected by prompts"
    return (mask if isinstance(mask, np.ndarray) else rle.decode(mask) for mask in (() if stored is None else stored))


def _score_match(mask: Mask, area: int, score: float, prompt: ObjectPrompt) -> _MatchScore | None:
    """Score a mask; None if it does not match."""
    hits = 0
    if prompt.points is not None:
        inside = np.array([mask[int(y), int(x)] for x, y in prompt.points.xy.tolist()])
        positive = prompt.points.labels == 1
        hits = int((inside & positive).sum())
        if (inside & ~positive).any() or (positive.any() and not hits):
            return None
    box_iou = 0.0
    if prompt.box is not None:  # IoU with the pixels whose centers lie in the box
        x1, y1, x2, y2 = (int(edge) for edge in np.ceil(prompt.box.xyxy - 0.5).clip(min=0))
        intersection = int(np.count_nonzero(mask[y1:y2, x1:x2]))
        box_area = (min(y2, mask.shape[0]) - y1) * (min(x2, mask.shape[1]) - x1)
        box_iou = float(intersection / max(area + box_area - intersection, 1))
        if not box_iou:
            return None
    return _MatchScore(hits, box_iou, score)
