"""Segment everything in an image: prompt it with a grid of points and keep the good and distinct masks.

This is the published automatic mask generator (Kirillov et al. 2023, section 4 and appendix B), with its options and
defaults.
Shapes: N masks, H and W of the image; a mask is stored as its crop.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from masklet.cpu_threads import adaptive_threads
from masklet.errors import MaskletWarning
from masklet.image.amg_candidates import (
    Candidates,
    CandidateSampler,
    CoveredRegion,
    concat_candidates,
    merge_candidates,
)
from masklet.image.amg_grid import Crop, coarse_to_fine, generate_crop_boxes, layer_grids
from masklet.image.amg_options import PRESETS, MaskGeneratorOptions, preset
from masklet.image.amg_result import GeneratedMasks, MaskAnnotation
from masklet.image.mask_upsampling import MaskUpsampler
from masklet.image.predictor import ImagePredictor
from masklet.masks import rle
from masklet.masks.morphology import clean_edges, fill_holes, remove_islands
from masklet.masks.ops import mask_nms, masks_to_boxes, nms
from masklet.masks.rle import Rle
from masklet.runtime import standard_torch
from masklet.tensors import torch

__all__ = [
    "PRESETS",
    "GeneratedMasks",
    "MaskAnnotation",
    "MaskGeneratorOptions",
    "generate_masks",
    "generate_masks_for_set_image",
    "preset",
]

REFINED_NMS = 0.85
"""Mask IoU above which only the best of two masks is refined."""
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


def generate_masks(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], options: MaskGeneratorOptions | None = None
) -> GeneratedMasks:
    """Segment everything in an RGB image (H, W, 3) uint8, which is then the predictor's image.

    `options` None is the default preset of the network. The result may have length zero.

    Example:
        >>> generated = generate_masks(predictor, rgb, MaskGeneratorOptions(points_per_side=16))
        >>> generated.xyxy[0], generated.predicted_ious[0]

    Raises:
        InputError: if shape or type of the image is different.
    """
    predictor.set_image(rgb)
    return generate_masks_for_set_image(predictor, rgb, options)


@standard_torch()
@adaptive_threads()
def generate_masks_for_set_image(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], options: MaskGeneratorOptions | None = None
) -> GeneratedMasks:
    """Segment everything as `generate_masks` does, in the image `rgb` that the predictor has already."""
    options, usual = options or preset(predictor.model), preset(predictor.model)
    size = (int(rgb.shape[0]), int(rgb.shape[1]))
    if options.points_per_side is None:
        grids = [np.asarray(grid, np.float64) for grid in options.point_grids or ()]
    else:
        downscale = options.crop_n_points_downscale_factor
        grids = layer_grids(options.points_per_side, options.crop_n_layers, downscale)

    parts = []
    with torch.inference_mode():
        for crop in generate_crop_boxes(size, options.crop_n_layers, options.crop_overlap_ratio):
            crop_predictor = predictor
            if crop.layer > 0:  # the given predictor keeps the full image
                crop_predictor = copy.copy(predictor)
                left, top, right, bottom = crop.xyxy
                crop_predictor.set_image(np.ascontiguousarray(rgb[top:bottom, left:right]))
            parts.append(_process_crop(crop_predictor, crop, grids[crop.layer], options))

    batch = parts[0]
    if len(parts) > 1:
        columns = (np.concatenate(column) for column in zip(*(part.columns for part in parts), strict=True))
        masks = [mask for part in parts for mask in part.cropped_masks]
        batch = _MaskBatch(masks, sum(part.points_prompted for part in parts), *columns)
        sides = batch.crops_N4[:, 2:] - batch.crops_N4[:, :2]
        batch = batch.select(
            nms(
                batch.boxes_N4,
                1 / sides.prod(axis=1),
                options.crop_nms_thresh,
                thin_mask=batch.cropped_masks.__getitem__,
            )
        )  # small crops first
    batch = _remove_small_regions(batch, options)
    if options.max_masks is not None:
        batch = batch.select(np.argsort(-batch.iou_N, kind="stable")[: options.max_masks])
    if len(batch.cropped_masks) > 1 and (rgb == rgb[:1, :1]).all():  # nothing divides one color: its largest mask stays
        areas = [np.count_nonzero(mask) for mask in batch.cropped_masks]
        batch = batch.select(np.array([np.argmax(areas)]))
    generated = _to_generated_masks(batch, size, options)

    if not len(generated) and (
        usual.pred_iou_thresh < options.pred_iou_thresh or usual.stability_score_thresh < options.stability_score_thresh
    ):
        warnings.warn(
            f"nothing was found with pred_iou_thresh={options.pred_iou_thresh} and stability_score_thresh="
            f"{options.stability_score_thresh}; scores of this model are lower, and its presets have "
            f"{usual.pred_iou_thresh} and {usual.stability_score_thresh}: start from preset(network, 'default')",
            MaskletWarning,
            stacklevel=2,
        )
    return generated


@dataclass(frozen=True)
class _MaskBatch:
    """Masks of one crop, or of all crops, in pixels of the full image; boxes are xyxy, both ends inclusive."""

    cropped_masks: list[Bools]
    """Each mask, cropped to its box."""
    points_prompted: int
    boxes_N4: Floats
    iou_N: Floats
    stability_N: Floats
    points_N2: Floats
    crops_N4: Floats

    @property
    def columns(self) -> tuple[Floats, ...]:
        return self.boxes_N4, self.iou_N, self.stability_N, self.points_N2, self.crops_N4

    def select(self, keep: npt.NDArray[np.intp]) -> _MaskBatch:
        masks = [self.cropped_masks[i] for i in keep]
        return _MaskBatch(masks, self.points_prompted, *(column[keep] for column in self.columns))


def _process_crop(
    predictor: ImagePredictor, crop: Crop, grid: npt.NDArray[np.float64], options: MaskGeneratorOptions
) -> _MaskBatch:
    """Prompt one crop with a grid of points; keep candidates that are stable, inside the crop and distinct."""
    height, width = crop.shape
    points = (grid * np.array([width, height])).astype(np.float32)
    sampler = CandidateSampler(predictor, options)
    upsampler = MaskUpsampler(sampler.transform, options.mask_threshold, options.stability_score_offset)
    covered = CoveredRegion(sampler.transform, options.mask_threshold)
    shift = np.array(crop.xyxy[:2] * 2, np.float32)

    points_prompted, candidates, boxes, stability = 0, [], [], []
    for indices in coarse_to_fine(len(points)) if options.adaptive else [np.arange(len(points))]:
        for start in range(0, len(indices), sampler.batch_size):
            batch = points[indices[start : start + sampler.batch_size]]
            batch = batch[covered.uncovered(batch)] if options.adaptive else batch
            if not len(batch):
                continue
            sampled = sampler.sample(batch)
            stats = upsampler.measure(sampled.logits_NHW)
            keep = np.ones(len(sampled), bool)
            if options.stability_score_thresh > 0:
                keep = stats.stability_N >= options.stability_score_thresh
            keep &= ~crop.touches_crop_edge(stats.boxes_N4 + shift)
            candidates.append(sampled.select(keep))
            boxes.append(stats.boxes_N4[keep])
            stability.append(stats.stability_N[keep])
            covered.add(candidates[-1].logits_NHW)
            points_prompted += len(batch)

    def measure(found: Candidates) -> tuple[Candidates, Floats, Floats]:
        stats = upsampler.measure(found.logits_NHW)
        keep = (stats.stability_N >= options.stability_score_thresh) & ~crop.touches_crop_edge(stats.boxes_N4 + shift)
        return found.select(keep), stats.boxes_N4[keep], stats.stability_N[keep]

    stable, boxes_N4, stability_N = concat_candidates(candidates), np.concatenate(boxes), np.concatenate(stability)
    if options.merge_thresh < 1 and len(stable):
        stable, boxes_N4, stability_N = measure(merge_candidates(stable, points, sampler.transform, options))
    if options.refine and len(stable):
        bits_NHW = (stable.logits_NHW > options.mask_threshold).cpu().numpy()
        chosen = mask_nms(bits_NHW, stable.iou_N, REFINED_NMS, options.refine)
        answers = sampler.refine(stable.select(chosen), boxes_N4[chosen])
        answers, answer_boxes_N4, answer_stability_N = measure(answers)
        stable = concat_candidates([stable, answers])
        boxes_N4 = np.concatenate([boxes_N4, answer_boxes_N4])
        stability_N = np.concatenate([stability_N, answer_stability_N])

    if options.mask_nms_thresh < 1 and len(stable):
        bits_NHW = (stable.logits_NHW > options.mask_threshold).cpu().numpy()
        kept = mask_nms(bits_NHW, stable.iou_N, options.mask_nms_thresh)
        stable, boxes_N4, stability_N = stable.select(kept), boxes_N4[kept], stability_N[kept]

    def crop_mask(i: int) -> Bools:
        return upsampler.crop_mask(stable.logits_NHW[i], boxes_N4[i])

    best = nms(boxes_N4, stable.iou_N, options.box_nms_thresh, thin_mask=crop_mask)
    masks, boxes_N4 = [crop_mask(i) for i in best], boxes_N4[best]
    if predictor.model.edge_radius is not None:  # as for prompted objects of this model
        for row, i in enumerate(best):
            left, top, right, bottom = boxes_N4[row].astype(int).tolist()
            full_HW = np.zeros((height, width), bool)
            full_HW[top : bottom + 1, left : right + 1] = masks[row]
            predictor.refine_edges(full_HW[None, None], stable.logits_NHW[i][None, None] - options.mask_threshold)
            left, top, right, bottom = masks_to_boxes(full_HW[None])[0].astype(int).tolist()
            cleaned = clean_edges(full_HW[top:bottom, left:right])
            inner = masks_to_boxes(cleaned[None])[0].astype(int)
            masks[row] = cleaned[inner[1] : inner[3], inner[0] : inner[2]]
            boxes_N4[row] = inner + np.array([left, top, left - 1, top - 1])
    return _MaskBatch(
        masks,
        points_prompted,
        boxes_N4 + shift,
        stable.iou_N[best],
        stability_N[best],
        stable.points_N2[best] + shift[:2],
        np.tile(np.array(crop.xyxy, np.float32), (len(best), 1)),
    )


def _remove_small_regions(batch: _MaskBatch, options: MaskGeneratorOptions) -> _MaskBatch:
    """Fill small holes and remove small islands; of masks that became the same, keep the unchanged one."""
    min_area = options.min_mask_region_area
    if min_area <= 0 or not batch.cropped_masks:
        return batch
    masks, boxes, unchanged = list(batch.cropped_masks), batch.boxes_N4.copy(), np.ones(len(batch.cropped_masks))
    for i, mask in enumerate(batch.cropped_masks):
        padded = np.pad(mask, 1)  # background beyond the box is no hole
        cleaned = remove_islands(fill_holes(padded, min_area - 1), min_area - 1)[1:-1, 1:-1]
        if not np.array_equal(cleaned, mask):
            box = masks_to_boxes(cleaned[None])[0]
            boxes[i] = np.tile(boxes[i, :2], 2) + box - np.array([0, 0, 1, 1])
            left, top, right, bottom = box.astype(int).tolist()
            masks[i], unchanged[i] = cleaned[top:bottom, left:right], 0
    threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
    return replace(batch, cropped_masks=masks, boxes_N4=boxes).select(
        nms(boxes, unchanged, threshold, thin_mask=masks.__getitem__)
    )


def _to_generated_masks(batch: _MaskBatch, size: tuple[int, int], options: MaskGeneratorOptions) -> GeneratedMasks:
    """Sort the masks and encode them."""
    areas = np.array([np.count_nonzero(mask) for mask in batch.cropped_masks], np.int64)
    order = np.argsort(-(areas if options.sort_by == "area" else batch.iou_N), kind="stable")
    batch, areas = batch.select(order), areas[order]
    covered = np.zeros(size, bool)
    rles: list[Rle] = []
    for mask, (left, top, right, bottom) in zip(batch.cropped_masks, batch.boxes_N4.astype(int).tolist(), strict=True):
        covered[top : bottom + 1, left : right + 1] |= mask
        rles.append(rle.encode_crop(mask, (left, top), size))
    return GeneratedMasks(
        size=size,
        rles=tuple(rles),
        xyxy=batch.boxes_N4 + np.array([0, 0, 1, 1], np.float32) * (areas > 0)[:, None],
        areas=areas,
        predicted_ious=batch.iou_N,
        stability_scores=batch.stability_N,
        points=batch.points_N2,
        crop_boxes=batch.crops_N4,
        coverage=float(np.count_nonzero(covered) / covered.size),
        points_prompted=batch.points_prompted,
        options=options,
    )
