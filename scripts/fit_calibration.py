"""Fit the map from predicted to expected IoU, and write it into the weights file of the built-in model.

The model segments objects of training images by a box, by one click and by corrections of it. Two maps are fitted to
the pairs of predicted and true IoU by least squares: one for the single mask, one for the three candidates of a click.
Each is linear between knots and strictly ascending, so that the order of candidates stays. Half of the images (every
second one) fit, the other half confirms: a map that lowers their calibration error by less than `MIN_GAIN` is left out,
and without any map the file keeps none. What is written is fitted to all images:

    python scripts/fit_calibration.py stills src/masklet/builtin/masklet-builtin.safetensors

where `stills` has the training images, SOURCE/images and SOURCE/masks. Run it again after the decoder has been trained.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save

from masklet.atomic_files import atomic_path
from masklet.datasets import Sample
from masklet.evaluate.image_clicks import ImageModel
from masklet.evaluate.image_prompts import find_image_samples, source_name
from masklet.evaluate.prompts_from_masks import (
    Click,
    clicks_prompt,
    deepest_error_click,
    prompt_from_mask,
    sample_evenly,
)
from masklet.image import ImagePredictor
from masklet.load_model import load
from masklet.masks import iou
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.state_dict import IOU_CALIBRATION

Pairs = npt.NDArray[np.float64]
"""(N, 2): predicted and true IoU."""

NUM_KNOTS = 7
"""Two of them at 0 and 1, the others at quantiles of the predicted IoU."""
MIN_SLOPE = 0.02
"""Of every part of the map: above 0, so that the order of candidates stays."""
MIN_GAIN = 0.01
"""By which a map must lower the calibration error of images that it was not fitted to."""
NUM_CLICKS = 5
NUM_BINS = 10
"""Bins of predicted IoU in the expected calibration error."""


def measure_pairs(predictor: ImageModel, sample: Sample, max_objects: int) -> tuple[Pairs, Pairs]:
    """Return the pairs of the single mask (boxes and corrections) and of the three candidates of a click."""
    [frame] = sample.read(sample.frame_indices)
    numbers = sorted(frame.masks)
    truth = [frame.masks[numbers[i]] for i in sample_evenly(len(numbers), max_objects)]
    truth = [mask for mask in truth if mask.any()]
    single: list[tuple[float, float]] = []
    candidates: list[tuple[float, float]] = []
    if truth:
        predictor.set_image(frame.rgb)
        boxes = predictor.predict_prompts([prompt_from_mask(mask, "box") for mask in truth], multimask_output=False)
        single += [(float(s), iou(m, t)) for s, m, t in zip(boxes.scores[:, 0], boxes.masks[:, 0], truth, strict=True)]
        clicks: list[list[Click]] = [[] for _ in truth]
        predicted, logits = [np.zeros_like(mask) for mask in truth], None
        for turn in range(NUM_CLICKS):
            for own, mask, true_mask in zip(clicks, predicted, truth, strict=True):
                own.append(deepest_error_click(mask, true_mask))
            prompts = [clicks_prompt(own) for own in clicks]
            answer = predictor.predict_prompts(prompts, mask_input=logits, multimask_output=turn == 0)
            target = candidates if turn == 0 else single
            for k in range(answer.scores.shape[1]):
                pairs = zip(answer.scores[:, k], answer.masks[:, k], truth, strict=True)
                target += [(float(score), iou(mask, true_mask)) for score, mask, true_mask in pairs]
            predicted, logits = list(answer.best.masks[:, 0]), answer.best.logits
    return np.array(single).reshape(-1, 2), np.array(candidates).reshape(-1, 2)


def fit_map(pairs: Pairs) -> npt.NDArray[np.float32]:
    """Return the knots (2, NUM_KNOTS) of the map that fits pairs: predicted values from 0 to 1, and expected ones.

    Example:
        >>> score = np.linspace(0.01, 0.99, 500)
        >>> knots, values = fit_map(np.stack([score, score**2], axis=1))
        >>> abs(np.interp(0.5, knots, values) - 0.25) < 0.02
        True
    """
    quantiles = np.quantile(pairs[:, 0], np.linspace(0, 1, NUM_KNOTS)[1:-1])
    floor = np.arange(1, NUM_KNOTS - 1) * 1e-3
    inner = np.maximum.accumulate(np.clip(quantiles, floor, 1 - floor[::-1]) - floor) + floor  # distinct, if all agree
    knots = np.array([0.0, *inner, 1.0])
    width = np.diff(knots)
    # expected IoU = base + sum of slope * how much of each part lies below the score
    parts = np.column_stack([np.ones(len(pairs)), np.clip(pairs[:, :1] - knots[:-1], 0, width)])
    gram, moment = parts.T @ parts + 1e-6 * np.eye(NUM_KNOTS), parts.T @ pairs[:, 1]
    lower = np.array([0.0, *np.full(NUM_KNOTS - 1, MIN_SLOPE)])
    solution = np.maximum(lower, np.array([0.0, *np.ones(NUM_KNOTS - 1)]))
    for _ in range(5000):  # coordinate descent: the least squares above the lower bounds
        for i in range(NUM_KNOTS):
            solution[i] = max(lower[i], solution[i] + (moment[i] - gram[i] @ solution) / gram[i, i])
    values = solution[0] + np.concatenate([[0.0], np.cumsum(solution[1:] * width)])
    if values[-1] > 1:  # scaled above the last knot that is not too high, rather than cut: the order stays
        values = np.minimum(values, 1 - MIN_SLOPE * (1 - knots))
    return np.stack([knots, values]).astype(np.float32)


def calibration_error(pairs: Pairs) -> float:
    """Return the expected calibration error: the mean over bins of |mean predicted - mean true IoU|, by their size."""
    bins = np.minimum((pairs[:, 0] * NUM_BINS).astype(int), NUM_BINS - 1)
    groups = [pairs[bins == i] for i in range(NUM_BINS) if (bins == i).any()]
    return float(sum(len(group) * abs(group[:, 0].mean() - group[:, 1].mean()) for group in groups) / len(pairs))


def choose_evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Choose about `count` samples, the same number of every source as far as it has so many."""
    sources: dict[str, list[Sample]] = {}
    for sample in samples:
        sources.setdefault(source_name(sample, "stills"), []).append(sample)
    chosen: list[Sample] = []
    for number, own in enumerate(sorted(sources.values(), key=len)):
        take = min(len(own), (count - len(chosen)) // (len(sources) - number))
        chosen += [own[i] for i in sample_evenly(len(own), take)]
    return chosen


def main() -> None:
    """Read the arguments, measure, fit, report, and rewrite the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with SOURCE/images and SOURCE/masks of training images")
    parser.add_argument("model", type=Path, help=".safetensors file of the built-in model, rewritten in place")
    parser.add_argument("--images", type=int, default=240, help="number of images, spread evenly over sources")
    parser.add_argument("--objects", type=int, default=6, help="objects of an image, at most")
    parser.add_argument("--dry-run", action="store_true", help="only report")
    arguments = parser.parse_args()
    network = load(arguments.model).require_sam2("be calibrated")
    network.sam_mask_decoder.iou_calibration = None
    predictor = ImagePredictor(network)
    samples = choose_evenly(find_image_samples(arguments.data), arguments.images)
    measured = [measure_pairs(predictor, sample, arguments.objects) for sample in samples]
    maps, gains = [], []
    for kind, name in enumerate(("single mask", "candidates")):
        fitted, confirmed = (np.concatenate([pairs[kind] for pairs in measured[i::2]]) for i in (0, 1))
        mapped = np.column_stack([np.interp(confirmed[:, 0], *fit_map(fitted)), confirmed[:, 1]])
        before, after = calibration_error(confirmed), calibration_error(mapped)
        gains.append(before - after >= MIN_GAIN)
        maps.append(fit_map(np.concatenate([fitted, confirmed])) if gains[-1] else np.linspace([0, 0], 1, NUM_KNOTS).T)
        print(f"{name}: {len(confirmed)} masks of the other half, calibration error {before:.3f}, mapped {after:.3f}")
        print("  predicted", *(f"{value:.3f}" for value in maps[-1][0]))
        print("  expected ", *(f"{value:.3f}" for value in maps[-1][1]))
    if not any(gains):
        print("no map helps: the file gets none")
    if arguments.dry_run:
        return
    with safe_open(arguments.model, framework="pt") as file:
        header = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors.pop(IOU_CALIBRATION, None)
    if any(gains):
        tensors[IOU_CALIBRATION] = torch.from_numpy(np.stack(maps)).float()
    header["config"] = json.dumps(asdict(replace(CONFIGS["builtin"], iou_knots=NUM_KNOTS if any(gains) else 0)))
    with atomic_path(arguments.model) as temporary:
        temporary.write_bytes(save(tensors, metadata=header))


if __name__ == "__main__":
    main()
