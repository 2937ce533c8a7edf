"""Everything in an image: a grid of points is asked, and of all answers those stay that are good and distinct.

The published automatic mask generator (Kirillov et al. 2023, section 4 and appendix B), with its options and defaults.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from masklet.errors import MaskletWarning
from masklet.image.amg_candidates import Candidates, CandidateSampler, CoveredRegion, concat_candidates
from masklet.image.amg_grid import Crop, coarse_to_fine, generate_crop_boxes, layer_grids
from masklet.image.amg_options import PRESETS, MaskGeneratorOptions, preset
from masklet.image.amg_result import GeneratedMasks, MaskAnnotation
from masklet.image.mask_upsampling import MaskStats, MaskUpsampler
from masklet.image.predictor import ImagePredictor
from masklet.masks import ops as tight
from masklet.masks import rle
from masklet.masks.morphology import fill_holes, remove_islands
from masklet.masks.ops import nms
from masklet.masks.rle import Rle

__all__ = [
    "PRESETS",
    "GeneratedMasks",
    "MaskAnnotation",
    "MaskGeneratorOptions",
    "generate_masks",
    "generate_masks_for_set_image",
    "preset",
]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


def generate_masks(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], options: MaskGeneratorOptions | None = None
) -> GeneratedMasks:
    """Find everything in RGB (H, W, 3) uint8; the predictor then holds this image.

    `options` None: the default preset for its network. Nothing found is an `Everything` of length zero.

    Example:
        >>> found = segment_everything(predictor, rgb, EverythingOptions(points_per_side=16))
        >>> found.xyxy[0], found.predicted_ious[0]

    Raises:
        InputError: another shape or type.
    """
    predictor.set_image(rgb)
    return generate_masks_for_set_image(predictor, rgb, options)


def generate_masks_for_set_image(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], options: MaskGeneratorOptions | None = None
) -> GeneratedMasks:
    """As `segment_everything`, for a predictor that holds this image already."""
    options = options or preset(predictor.model)
    size = (int(rgb.shape[0]), int(rgb.shape[1]))
    grids = _grids(options)
    crops = generate_crop_boxes(size, options.crop_n_layers, options.crop_overlap_ratio)
    with torch.inference_mode():
        parts = [
            _process_crop(_predictor_for_crop(predictor, rgb, crop), crop, grids[crop.layer], options) for crop in crops
        ]
    found = _to_generated_masks(_postprocess_small_regions(_merge_crops(parts, options), options), size, options)
    if not len(found):
        _warn_of_thresholds(predictor, options)
    return found


def _warn_of_thresholds(predictor: ImagePredictor, options: MaskGeneratorOptions) -> None:
    """Nothing was found with thresholds that this network's scores hardly ever reach."""
    usual = preset(predictor.model)
    if usual.pred_iou_thresh < options.pred_iou_thresh or usual.stability_score_thresh < options.stability_score_thresh:
        warnings.warn(
            f"nothing was found with pred_iou_thresh={options.pred_iou_thresh} and stability_score_thresh="
            f"{options.stability_score_thresh}; scores of this model are lower, and its presets have "
            f"{usual.pred_iou_thresh} and {usual.stability_score_thresh}: start from preset(network, 'default')",
            MaskletWarning,
            stacklevel=3,
        )


@dataclass(frozen=True)
class _MaskBatch:
    """Masks of one crop, or of all; boxes of first and last pixels, in the whole image."""

    cropped_masks: list[Bools]
    """Each mask in its box."""
    points_prompted: int
    """Points that were asked for them."""
    boxes_N4: Floats
    iou_N: Floats
    stability_N: Floats
    points_N2: Floats
    crops_N4: Floats

    @property
    def columns(self) -> tuple[Floats, ...]:
        return self.boxes_N4, self.iou_N, self.stability_N, self.points_N2, self.crops_N4

    def select(self, keep: npt.NDArray[np.intp]) -> _MaskBatch:
        return _MaskBatch(
            [self.cropped_masks[i] for i in keep], self.points_prompted, *(column[keep] for column in self.columns)
        )


def _grids(options: MaskGeneratorOptions) -> list[npt.NDArray[np.float64]]:
    if options.point_grids is not None:
        return [np.asarray(grid, np.float64) for grid in options.point_grids]
    assert options.points_per_side is not None
    return layer_grids(options.points_per_side, options.crop_n_layers, options.crop_n_points_downscale_factor)


def _predictor_for_crop(predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], crop: Crop) -> ImagePredictor:
    """A predictor that holds the crop; the given one goes on holding the whole image."""
    if crop.layer == 0:
        return predictor
    other = copy.copy(predictor)
    other.set_image(np.ascontiguousarray(crop.crop_image(rgb)))
    return other


def _process_crop(
    predictor: ImagePredictor, crop: Crop, grid: npt.NDArray[np.float64], options: MaskGeneratorOptions
) -> _MaskBatch:
    """Distinct masks of one crop."""
    height, width = crop.shape
    points = (grid * np.array([width, height])).astype(np.float32)
    asker = CandidateSampler(predictor, options)
    enlarger = MaskUpsampler(asker.transform, options.mask_threshold, options.stability_score_offset)
    asked, kept = 0, []
    for batch, explained in _sample_batches(points, asker, options):
        kept.append(_filter_candidates(asker.sample(batch), enlarger, crop, options))
        explained.add(kept[-1][0].logits_NHW)
        asked += len(batch)
    return _suppress_duplicates(
        [part for part, _ in kept], [measured for _, measured in kept], enlarger, crop, options, asked
    )


def _sample_batches(
    points: Floats, sampler: CandidateSampler, options: MaskGeneratorOptions
) -> Iterator[tuple[Floats, CoveredRegion]]:
    """Points to ask together, and where to say what was found; adaptively: none where something was found before."""
    explained = CoveredRegion(sampler.transform, options.mask_threshold)
    rounds = coarse_to_fine(len(points)) if options.adaptive else [np.arange(len(points))]
    for indices in rounds:
        for batch in sampler.batches(points[indices]):
            some = batch[explained.uncovered(batch)] if options.adaptive else batch
            if len(some):
                yield some, explained


def _suppress_duplicates(
    parts: list[Candidates],
    stats: list[MaskStats],
    upsampler: MaskUpsampler,
    crop: Crop,
    options: MaskGeneratorOptions,
    points_prompted: int,
) -> _MaskBatch:
    """The best of those whose boxes are the same, as masks in the whole image."""
    candidates = concat_candidates(parts)
    boxes = np.concatenate([part.boxes_N4 for part in stats])
    stability = np.concatenate([part.stability_N for part in stats])
    best = nms(boxes, candidates.iou_N, options.box_nms_thresh)
    shift = np.array(crop.origin * 2, np.float32)
    return _MaskBatch(
        [upsampler.crop_mask(candidates.logits_NHW[i], boxes[i]) for i in best],
        points_prompted,
        boxes[best] + shift,
        candidates.iou_N[best],
        stability[best],
        candidates.points_N2[best] + shift[:2],
        np.tile(np.array(crop.xyxy, np.float32), (len(best), 1)),
    )


def _filter_candidates(
    candidates: Candidates, upsampler: MaskUpsampler, crop: Crop, options: MaskGeneratorOptions
) -> tuple[Candidates, MaskStats]:
    """Candidates that are stable and not cut by the crop's edge."""
    measured = upsampler.measure(candidates.logits_NHW)
    keep = np.ones(len(candidates), bool)
    if options.stability_score_thresh > 0:
        keep = measured.stability_N >= options.stability_score_thresh
    keep &= ~crop.touches_crop_edge(measured.boxes_N4 + np.array(crop.origin * 2, np.float32))
    return candidates.select(keep), MaskStats(measured.stability_N[keep], measured.boxes_N4[keep])


def _merge_crops(parts: list[_MaskBatch], options: MaskGeneratorOptions) -> _MaskBatch:
    """Distinct masks of all crops; those of smaller crops are preferred."""
    if len(parts) == 1:
        return parts[0]
    columns = (np.concatenate(column) for column in zip(*(part.columns for part in parts), strict=True))
    every = _MaskBatch(
        [piece for p in parts for piece in p.cropped_masks], sum(part.points_prompted for part in parts), *columns
    )
    sides = every.crops_N4[:, 2:] - every.crops_N4[:, :2]
    return every.select(nms(every.boxes_N4, 1 / sides.prod(axis=1), options.crop_nms_thresh))


def _postprocess_small_regions(batch: _MaskBatch, options: MaskGeneratorOptions) -> _MaskBatch:
    """Without small holes and islands; where masks have become the same, the untouched one stays."""
    least = options.min_mask_region_area
    if least <= 0 or not batch.cropped_masks:
        return batch
    pieces, boxes, untouched = list(batch.cropped_masks), batch.boxes_N4.copy(), np.ones(len(batch.cropped_masks))
    for i, piece in enumerate(batch.cropped_masks):
        padded = np.pad(piece, 1)  # background beyond the box is no hole
        clear = remove_islands(fill_holes(padded, least - 1), least - 1)[1:-1, 1:-1]
        if not np.array_equal(clear, piece):
            box = tight.masks_to_boxes(clear[None])[0]
            boxes[i] = np.tile(boxes[i, :2], 2) + box - np.array([0, 0, 1, 1])
            left, top, right, bottom = box.astype(int).tolist()
            pieces[i], untouched[i] = clear[top:bottom, left:right], 0
    threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
    return replace(batch, cropped_masks=pieces, boxes_N4=boxes).select(nms(boxes, untouched, threshold))


def _to_generated_masks(batch: _MaskBatch, size: tuple[int, int], options: MaskGeneratorOptions) -> GeneratedMasks:
    areas = np.array([np.count_nonzero(piece) for piece in batch.cropped_masks], np.int64)
    order = np.argsort(-(areas if options.sort_by == "area" else batch.iou_N), kind="stable")
    batch, areas = batch.select(order), areas[order]
    covered = np.zeros(size, bool)
    codes: list[Rle] = []
    for piece, (left, top, right, bottom) in zip(batch.cropped_masks, batch.boxes_N4.astype(int).tolist(), strict=True):
        covered[top : bottom + 1, left : right + 1] |= piece
        codes.append(rle.encode_crop(piece, (left, top), size))
    return GeneratedMasks(
        size=size,
        rles=tuple(codes),
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
