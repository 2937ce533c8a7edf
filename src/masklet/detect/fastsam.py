"""FastSAM's second step: of everything that was found, what a prompt means (Zhao et al. 2023, arXiv 2306.12156).

Coordinates are pixels of the original image. Shapes: N objects that were found, H and W of the image, T texts.
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
    """How well a mask answers a prompt: first by points on it, then by its overlap with the box, then by its score."""

    positive_hits: int
    box_iou: float
    score: float


def select_by_prompts(
    detections: Detections, prompts: Sequence[ObjectPrompt], *, multimask: bool = False
) -> list[tuple[int, int]]:
    """(number of the prompt, row of `found`) for every answer, prompts in order and each one's best answer first.

    A mask answers a prompt that has a positive point on it and no negative one, and overlaps the box where there is
    one. The best is that with most positive points, then that of the largest IoU with the box, then of the highest
    score; `multimask` gives all. A prompt that nothing answers has no row.

    Example:
        >>> meant_by_prompts(found, parse_prompts(bboxes=[10, 10, 90, 90], size=(100, 100)))
        [(0, 3)]
    """
    answers: list[list[tuple[_MatchScore, int]]] = [[] for _ in prompts]
    for row, mask in enumerate(_iter_masks(detections)):
        area = int(np.count_nonzero(mask))
        for answer, prompt in zip(answers, prompts, strict=True):
            fit = _score_match(mask, area, float(detections.scores[row]), prompt)
            if fit is not None:
                answer.append((fit, row))
    best = [sorted(answer, key=lambda one: one[0], reverse=True) for answer in answers]
    return [(number, row) for number, answer in enumerate(best) for _, row in answer[: None if multimask else 1]]


def select_by_text(detections: Detections, rgb: Rgb, texts: Sequence[str], scorer: TextScorer) -> list[tuple[int, int]]:
    """(number of the text, row of `found`): for every text the object that is most like it, cut out on white.

    Example:
        >>> meant_by_texts(found, rgb, ["a dog"], open_clip())
        [(0, 5)]
    """
    rows, images = crop_objects(detections, rgb)
    if not rows:
        return []
    scores_NT = np.asarray(scorer(images, texts))
    assert scores_NT.shape == (len(rows), len(texts)), f"likeness of {len(rows)} images, got {scores_NT.shape}"
    return [(number, rows[int(best)]) for number, best in enumerate(scores_NT.argmax(0))]


def crop_objects(detections: Detections, rgb: Rgb) -> tuple[list[int], list[Rgb]]:
    """Rows of the objects that have pixels, and each as an image of its extent, white where it is not."""
    rows, images = [], []
    for row, mask in enumerate(_iter_masks(detections)):
        lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(lines):
            part = np.s_[lines[0] : lines[-1] + 1, columns[0] : columns[-1] + 1]
            rows.append(row)
            images.append(np.where(mask[part][..., None], rgb[part], np.uint8(WHITE)))
    return rows, images


def _iter_masks(detections: Detections) -> Iterator[Mask]:
    """One at a time: all of a large image's together would take gigabytes."""
    kept = detections.stored_masks
    assert kept is not None or not len(detections), "masks are needed to choose among them"
    return (one if isinstance(one, np.ndarray) else rle.decode(one) for one in (() if kept is None else kept))


def _score_match(mask: Mask, area: int, score: float, prompt: ObjectPrompt) -> _MatchScore | None:
    """None where the mask is no answer."""
    hits = 0
    if prompt.points is not None:
        on_it = np.array([mask[int(y), int(x)] for x, y in prompt.points.xy.tolist()])
        positive = prompt.points.labels == 1
        hits = int((on_it & positive).sum())
        if (on_it & ~positive).any() or (positive.any() and not hits):
            return None
    overlap = 0.0
    if prompt.box is not None:
        overlap = _mask_box_iou(mask, area, prompt.box.xyxy)
        if not overlap:
            return None
    return _MatchScore(hits, overlap, score)


def _mask_box_iou(mask: Mask, area: int, xyxy: npt.NDArray[np.float32]) -> float:
    """IoU of the mask with the pixels whose centers lie in the box."""
    x1, y1, x2, y2 = (int(edge) for edge in np.ceil(xyxy - 0.5).clip(min=0))
    shared = int(np.count_nonzero(mask[y1:y2, x1:x2]))
    boxed = (min(y2, mask.shape[0]) - y1) * (min(x2, mask.shape[1]) - x1)
    return float(shared / max(area + boxed - shared, 1))
