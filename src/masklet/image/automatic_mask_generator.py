"""Everything in a picture: a grid of points is asked, and of all answers those stay that are good and distinct.

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
from masklet.image.amg_candidates import Asker, Candidates, Explained, joined
from masklet.image.amg_grid import Crop, coarse_to_fine, crops_of, layer_grids
from masklet.image.amg_options import PRESETS, EverythingOptions, preset
from masklet.image.amg_result import Everything, MaskRecord
from masklet.image.mask_upsampling import Enlarger, Measured
from masklet.image.predictor import ImagePredictor
from masklet.masks import ops as tight
from masklet.masks import rle
from masklet.masks.morphology import fill_holes, remove_islands
from masklet.masks.ops import distinct
from masklet.masks.rle import Rle

__all__ = [
    "PRESETS",
    "Everything",
    "EverythingOptions",
    "MaskRecord",
    "preset",
    "segment_everything",
    "segment_everything_set",
]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


def segment_everything(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], options: EverythingOptions | None = None
) -> Everything:
    """Find everything in RGB (H, W, 3) uint8; the predictor then holds this picture.

    `options` None: the default preset for its network. Nothing found is an `Everything` of length nought.

    Example:
        >>> found = segment_everything(predictor, rgb, EverythingOptions(points_per_side=16))
        >>> found.xyxy[0], found.predicted_ious[0]

    Raises:
        InputError: another shape or type.
    """
    predictor.set_image(rgb)
    return segment_everything_set(predictor, rgb, options)


def segment_everything_set(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], options: EverythingOptions | None = None
) -> Everything:
    """As `segment_everything`, for a predictor that holds this picture already."""
    options = options or preset(predictor.model)
    size = (int(rgb.shape[0]), int(rgb.shape[1]))
    grids = _grids(options)
    crops = crops_of(size, options.crop_n_layers, options.crop_overlap_ratio)
    with torch.inference_mode():
        parts = [_in_crop(_looking_at(predictor, rgb, crop), crop, grids[crop.layer], options) for crop in crops]
    found = _ordered(_cleared(_merged(parts, options), options), size, options)
    if not len(found):
        _warn_of_thresholds(predictor, options)
    return found


def _warn_of_thresholds(predictor: ImagePredictor, options: EverythingOptions) -> None:
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
class _Found:
    """Masks of one crop, or of all; boxes of first and last pixels, in the whole picture."""

    pieces: list[Bools]
    """Each mask in its box."""
    asked: int
    """Points that were asked for them."""
    boxes_N4: Floats
    iou_N: Floats
    stability_N: Floats
    points_N2: Floats
    crops_N4: Floats

    @property
    def columns(self) -> tuple[Floats, ...]:
        return self.boxes_N4, self.iou_N, self.stability_N, self.points_N2, self.crops_N4

    def take(self, keep: npt.NDArray[np.intp]) -> _Found:
        return _Found([self.pieces[i] for i in keep], self.asked, *(column[keep] for column in self.columns))


def _grids(options: EverythingOptions) -> list[npt.NDArray[np.float64]]:
    if options.point_grids is not None:
        return [np.asarray(grid, np.float64) for grid in options.point_grids]
    assert options.points_per_side is not None
    return layer_grids(options.points_per_side, options.crop_n_layers, options.crop_n_points_downscale_factor)


def _looking_at(predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], crop: Crop) -> ImagePredictor:
    """A predictor that holds the crop; the given one goes on holding the whole picture."""
    if crop.layer == 0:
        return predictor
    other = copy.copy(predictor)
    other.set_image(np.ascontiguousarray(crop.of(rgb)))
    return other


def _in_crop(
    predictor: ImagePredictor, crop: Crop, grid: npt.NDArray[np.float64], options: EverythingOptions
) -> _Found:
    """Distinct masks of one crop."""
    height, width = crop.shape
    points = (grid * np.array([width, height])).astype(np.float32)
    asker = Asker(predictor, options)
    enlarger = Enlarger(asker.fit, options.mask_threshold, options.stability_score_offset)
    asked, kept = 0, []
    for batch, explained in _batches(points, asker, options):
        kept.append(_kept(asker.ask(batch), enlarger, crop, options))
        explained.add(kept[-1][0].logits_NHW)
        asked += len(batch)
    return _distinct([part for part, _ in kept], [measured for _, measured in kept], enlarger, crop, options, asked)


def _batches(points: Floats, asker: Asker, options: EverythingOptions) -> Iterator[tuple[Floats, Explained]]:
    """Points to ask together, and where to say what was found; adaptively: none where something was found before."""
    explained = Explained(asker.fit, options.mask_threshold)
    rounds = coarse_to_fine(len(points)) if options.adaptive else [np.arange(len(points))]
    for indices in rounds:
        for batch in asker.batches(points[indices]):
            some = batch[explained.open(batch)] if options.adaptive else batch
            if len(some):
                yield some, explained


def _distinct(
    parts: list[Candidates],
    measured: list[Measured],
    enlarger: Enlarger,
    crop: Crop,
    options: EverythingOptions,
    asked: int,
) -> _Found:
    """The best of those whose boxes are the same, as masks in the whole picture."""
    candidates = joined(parts)
    boxes = np.concatenate([part.boxes_N4 for part in measured])
    stability = np.concatenate([part.stability_N for part in measured])
    best = distinct(boxes, candidates.iou_N, options.box_nms_thresh)
    shift = np.array(crop.origin * 2, np.float32)
    return _Found(
        [enlarger.piece(candidates.logits_NHW[i], boxes[i]) for i in best],
        asked,
        boxes[best] + shift,
        candidates.iou_N[best],
        stability[best],
        candidates.points_N2[best] + shift[:2],
        np.tile(np.array(crop.xyxy, np.float32), (len(best), 1)),
    )


def _kept(
    candidates: Candidates, enlarger: Enlarger, crop: Crop, options: EverythingOptions
) -> tuple[Candidates, Measured]:
    """Candidates that are stable and not cut by the crop's edge."""
    measured = enlarger.measured(candidates.logits_NHW)
    keep = np.ones(len(candidates), bool)
    if options.stability_score_thresh > 0:
        keep = measured.stability_N >= options.stability_score_thresh
    keep &= ~crop.cuts(measured.boxes_N4 + np.array(crop.origin * 2, np.float32))
    return candidates.take(keep), Measured(measured.stability_N[keep], measured.boxes_N4[keep])


def _merged(parts: list[_Found], options: EverythingOptions) -> _Found:
    """Distinct masks of all crops; those of smaller crops are preferred."""
    if len(parts) == 1:
        return parts[0]
    columns = (np.concatenate(column) for column in zip(*(part.columns for part in parts), strict=True))
    every = _Found([piece for p in parts for piece in p.pieces], sum(part.asked for part in parts), *columns)
    sides = every.crops_N4[:, 2:] - every.crops_N4[:, :2]
    return every.take(distinct(every.boxes_N4, 1 / sides.prod(axis=1), options.crop_nms_thresh))


def _cleared(found: _Found, options: EverythingOptions) -> _Found:
    """Without small holes and islands; where masks have become the same, the untouched one stays."""
    least = options.min_mask_region_area
    if least <= 0 or not found.pieces:
        return found
    pieces, boxes, untouched = list(found.pieces), found.boxes_N4.copy(), np.ones(len(found.pieces))
    for i, piece in enumerate(found.pieces):
        padded = np.pad(piece, 1)  # background beyond the box is no hole
        clear = remove_islands(fill_holes(padded, least - 1), least - 1)[1:-1, 1:-1]
        if not np.array_equal(clear, piece):
            box = tight.from_masks(clear[None])[0]
            boxes[i] = np.tile(boxes[i, :2], 2) + box - np.array([0, 0, 1, 1])
            left, top, right, bottom = box.astype(int).tolist()
            pieces[i], untouched[i] = clear[top:bottom, left:right], 0
    threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
    return replace(found, pieces=pieces, boxes_N4=boxes).take(distinct(boxes, untouched, threshold))


def _ordered(found: _Found, size: tuple[int, int], options: EverythingOptions) -> Everything:
    areas = np.array([np.count_nonzero(piece) for piece in found.pieces], np.int64)
    order = np.argsort(-(areas if options.order == "area" else found.iou_N), kind="stable")
    found, areas = found.take(order), areas[order]
    covered = np.zeros(size, bool)
    codes: list[Rle] = []
    for piece, (left, top, right, bottom) in zip(found.pieces, found.boxes_N4.astype(int).tolist(), strict=True):
        covered[top : bottom + 1, left : right + 1] |= piece
        codes.append(rle.encode_at(piece, (left, top), size))
    return Everything(
        size=size,
        rles=tuple(codes),
        xyxy=found.boxes_N4 + np.array([0, 0, 1, 1], np.float32) * (areas > 0)[:, None],
        areas=areas,
        predicted_ious=found.iou_N,
        stability_scores=found.stability_N,
        points=found.points_N2,
        crop_boxes=found.crops_N4,
        coverage=float(np.count_nonzero(covered) / covered.size),
        asked=found.asked,
        options=options,
    )
