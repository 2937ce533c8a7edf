"""Options of the automatic mask generator: the published ones with their published defaults, and presets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.models.types import PromptableModel

__all__ = ["PRESETS", "MaskGeneratorOptions", "OutputMode", "SortBy", "preset"]

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]
SortBy = Literal["score", "area"]
FRACTION_FIELDS = (
    "pred_iou_thresh",
    "stability_score_thresh",
    "box_nms_thresh",
    "mask_nms_thresh",
    "merge_thresh",
    "crop_nms_thresh",
    "crop_overlap_ratio",
)
BUILTIN_IOU, BUILTIN_STABILITY, BUILTIN_MASK_NMS, BUILTIN_MERGE, BUILTIN_AREA, BUILTIN_REFINE = (
    0.25,
    0.05,
    0.75,
    0.7,
    64,
    60,
)
"""Values of the built-in model, whose scores are lower than those of published models and whose masks vary more from
point to point; measured in docs/mask_generation_performance.md."""
BUILTIN_POINTS = 2
"""Points that must agree on one of its masks: a mask that a single point gives is mostly a scrap."""
SAM1_IOU = 0.88
"""Threshold of the published generator for SAM 1."""


@dataclass(frozen=True)
class MaskGeneratorOptions:
    """Options of the published automatic mask generator, with its names and defaults; the last seven are new.

    Example:
        >>> MaskGeneratorOptions(points_per_side=16, crop_n_layers=1)

    Raises:
        InputError: if a value is invalid.
    """

    points_per_side: int | None = 32
    """Points along each side of the grid; None with `point_grids`."""
    points_per_batch: int = 64
    """Points that are decoded together; only memory depends on it."""
    pred_iou_thresh: float = 0.8
    """Predicted IoU up to which masks are dropped, 0..1."""
    stability_score_thresh: float = 0.95
    """Stability score below which masks are dropped, 0..1."""
    stability_score_offset: float = 1.0
    """Offset of the two thresholds of the stability score, in logits."""
    mask_threshold: float = 0.0
    """Logits above it are inside."""
    box_nms_thresh: float = 0.7
    """Box IoU above which only the best of two masks stays, 0..1."""
    crop_n_layers: int = 0
    """Layers of crops in addition to the full image: 2 x 2 crops in the first, 4 x 4 in the second, and so on."""
    crop_nms_thresh: float = 0.7
    """As `box_nms_thresh`, between masks of different crops; that of the smaller crop stays."""
    crop_overlap_ratio: float = 512 / 1500
    """Overlap of crops in the first layer, as a fraction of the shorter side."""
    crop_n_points_downscale_factor: int = 1
    """Grids become coarser by this factor with every layer."""
    point_grids: Sequence[npt.NDArray[np.floating]] | None = field(default=None, compare=False)
    """Custom points (N, 2) for every layer, as fractions of width and height; needs `points_per_side=None`."""
    min_mask_region_area: int = 0
    """Pixels below which holes are filled and islands removed; 0: never."""
    output_mode: OutputMode = "binary_mask"
    """Encoding of masks in `GeneratedMasks.to_annotations`."""
    use_m2m: bool = False
    """Refine every mask once by the network."""
    multimask_output: bool = True
    """Three masks per point, or one."""
    adaptive: bool = False
    """Prompt from coarse to fine, and only points that no mask covers yet."""
    sort_by: SortBy = "score"
    """Order of the masks: best first, or largest first."""
    mask_nms_thresh: float = 1.0
    """Mask IoU above which only the best of two masks stays, 0..1; measured at low resolution."""
    refine: int = 0
    """Number of masks, best first, that are also prompted by their box; the answers compete with all masks."""
    merge_thresh: float = 1.0
    """Mask IoU above which the masks of several points are averaged, 0..1; their agreement then counts in the score.
    1: never."""
    min_points: int = 1
    """Points of the grid that must agree on a mask; above 1 needs `merge_thresh` below 1."""
    max_masks: int | None = None
    """Masks that are kept at most, best first; None: all."""

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            **dict.fromkeys(FRACTION_FIELDS, (0, 1)),
            "stability_score_offset": (0, math.inf),
            "mask_threshold": (-math.inf, math.inf),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise InputError(f"{name}={value!r} must be a number from {low} to {high}; remove it for the default")
        _check_int("points_per_batch", self.points_per_batch, 1, 4096)
        _check_int("crop_n_layers", self.crop_n_layers, 0, 4)
        _check_int("crop_n_points_downscale_factor", self.crop_n_points_downscale_factor, 1, 64)
        _check_int("min_mask_region_area", self.min_mask_region_area, 0, 1 << 31)
        _check_int("refine", self.refine, 0, 1 << 20)
        _check_int("min_points", self.min_points, 1, 1 << 20)
        if self.min_points > 1 and self.merge_thresh == 1:
            raise InputError(
                f"min_points={self.min_points} needs masks of several points, and merge_thresh=1 merges none: lower "
                "merge_thresh, or remove min_points"
            )
        if self.max_masks is not None:
            _check_int("max_masks", self.max_masks, 1, 1 << 31)
        for name, choices in (("output_mode", get_args(OutputMode)), ("sort_by", get_args(SortBy))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")
        if (self.points_per_side is None) == (self.point_grids is None):
            grids = "None" if self.point_grids is None else "given"
            raise InputError(
                f"points_per_side={self.points_per_side!r} and point_grids={grids}: exactly one of them is needed; "
                "with point_grids write points_per_side=None"
            )
        if self.points_per_side is not None:
            _check_int("points_per_side", self.points_per_side, 1, 512)
        if self.adaptive and self.point_grids is not None:
            raise InputError(
                "adaptive=True needs a regular grid, which it prompts from coarse to fine; with point_grids, remove it"
            )
        for grid in self.point_grids or ():
            points = np.asarray(grid)
            if points.ndim != 2 or points.shape[1] != 2 or not ((points >= 0) & (points <= 1)).all():
                raise InputError(
                    f"point_grids holds an array {points.shape}; each must be (N, 2) xy as fractions of width and "
                    "height, 0 to 1"
                )
        if self.point_grids is not None and len(self.point_grids) != self.crop_n_layers + 1:
            raise InputError(
                f"point_grids holds {len(self.point_grids)} grid(s) and crop_n_layers is {self.crop_n_layers}; give "
                f"one for the full image and one for each layer: {self.crop_n_layers + 1}"
            )


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name}={value!r} must be a whole number from {low} to {high}")


PRESETS: dict[str, MaskGeneratorOptions] = {
    "fast": MaskGeneratorOptions(points_per_side=16),
    "default": MaskGeneratorOptions(),
    "fine": MaskGeneratorOptions(crop_n_layers=1, crop_n_points_downscale_factor=2, min_mask_region_area=64),
}
"""By name, with the thresholds of the published SAM 2; `preset` adapts them to a network."""


def preset(model: PromptableModel, name: str = "default") -> MaskGeneratorOptions:
    """Return the options of a preset (fast, default, fine) with thresholds that suit the scores of a network.

    Example:
        >>> preset(predictor.model, "fast").points_per_side
        16

    Raises:
        InputError: if the name is unknown.
    """
    if name not in PRESETS:
        raise InputError(f"preset {name!r} of the mask generator is unknown; choose one of {', '.join(PRESETS)}")
    options = PRESETS[name]
    if model.score_family == "sam1":
        return replace(options, pred_iou_thresh=SAM1_IOU)
    if model.score_family == "builtin":
        return replace(
            options,
            pred_iou_thresh=BUILTIN_IOU,
            stability_score_thresh=BUILTIN_STABILITY,
            box_nms_thresh=1.0,
            mask_nms_thresh=BUILTIN_MASK_NMS,
            merge_thresh=BUILTIN_MERGE,
            min_mask_region_area=max(options.min_mask_region_area, BUILTIN_AREA),
            refine=BUILTIN_REFINE,
            min_points=BUILTIN_POINTS,
        )
    return options
