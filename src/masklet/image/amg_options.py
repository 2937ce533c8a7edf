"""How everything in an image is looked for: the published options with their published defaults, and presets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2
from masklet.models.types import PromptableModel

__all__ = ["PRESETS", "MaskGeneratorOptions", "OutputMode", "SortBy", "preset"]

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]
SortBy = Literal["score", "area"]
FRACTION_FIELDS = (
    "pred_iou_thresh",
    "stability_score_thresh",
    "box_nms_thresh",
    "crop_nms_thresh",
    "crop_overlap_ratio",
)
BUILTIN_IOU, BUILTIN_STABILITY, BUILTIN_AREA = 0.35, 0.2, 64
"""Thresholds and least region of the built-in model, whose scores are lower than those of the published ones and whose
masks have more specks; measured in docs/everything.md."""
SAM1_IOU = 0.88
"""Threshold of the published generator for SAM 1."""


@dataclass(frozen=True)
class MaskGeneratorOptions:
    """Names and defaults are those of the published automatic mask generator; the last two are ours.

    Example:
        >>> EverythingOptions(points_per_side=16, crop_n_layers=1)

    Raises:
        InputError: a value that has no meaning.
    """

    points_per_side: int | None = 32
    """A grid of this many points along each side is asked; None where `point_grids` says where."""
    points_per_batch: int = 64
    """Points that are answered together: memory, and nothing else, depends on it."""
    pred_iou_thresh: float = 0.8
    """Masks that the network itself thinks no better than this are dropped, 0..1."""
    stability_score_thresh: float = 0.95
    """Masks that change more than this when their threshold is moved are dropped, 0..1."""
    stability_score_offset: float = 1.0
    """By how much the threshold is moved either way, in logits."""
    mask_threshold: float = 0.0
    """Logits above it are inside."""
    box_nms_thresh: float = 0.7
    """Of masks whose boxes have a larger IoU than this, the best one stays, 0..1."""
    crop_n_layers: int = 0
    """Layers of crops that are looked at too: 2 x 2 crops in the first, 4 x 4 in the second, and so on."""
    crop_nms_thresh: float = 0.7
    """As `box_nms_thresh`, between masks of different crops; that of the smaller crop stays."""
    crop_overlap_ratio: float = 512 / 1500
    """How far crops of the first layer overlap, as a share of the shorter side."""
    crop_n_points_downscale_factor: int = 1
    """Grids become coarser by this factor with every layer."""
    point_grids: Sequence[npt.NDArray[np.floating]] | None = field(default=None, compare=False)
    """(N, 2) points of one's own for every layer, as shares of width and height; with `points_per_side=None`."""
    min_mask_region_area: int = 0
    """Holes and islands smaller than this many pixels are cleared away; 0: none."""
    output_mode: OutputMode = "binary_mask"
    """How `Everything.records` gives masks."""
    use_m2m: bool = False
    """Every mask is handed back to the network once, to be refined."""
    multimask_output: bool = True
    """Three masks a point, or one."""
    adaptive: bool = False
    """The grid is asked from coarse to fine, and only where nothing has been found yet."""
    sort_by: SortBy = "score"
    """What comes first: the best mask, or the largest."""

    def __post_init__(self) -> None:
        for name in FRACTION_FIELDS:
            _check_number(name, getattr(self, name), 0, 1)
        _check_number("stability_score_offset", self.stability_score_offset, 0, math.inf)
        _check_number("mask_threshold", self.mask_threshold, -math.inf, math.inf)
        _check_int("points_per_batch", self.points_per_batch, 1, 4096)
        _check_int("crop_n_layers", self.crop_n_layers, 0, 4)
        _check_int("crop_n_points_downscale_factor", self.crop_n_points_downscale_factor, 1, 64)
        _check_int("min_mask_region_area", self.min_mask_region_area, 0, 1 << 31)
        _check_choice("output_mode", self.output_mode, get_args(OutputMode))
        _check_choice("order", self.sort_by, get_args(SortBy))
        self._check_grid()

    def _check_grid(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise InputError(
                f"points_per_side={self.points_per_side!r} and point_grids="
                f"{'None' if self.point_grids is None else 'given'}: exactly one of them says where to ask; "
                "with point_grids write points_per_side=None"
            )
        if self.points_per_side is not None:
            _check_int("points_per_side", self.points_per_side, 1, 512)
        if self.adaptive and self.point_grids is not None:
            raise InputError("adaptive=True asks a grid from coarse to fine; with point_grids, leave it out")
        for grid in self.point_grids or ():
            points = np.asarray(grid)
            if points.ndim != 2 or points.shape[1] != 2 or not ((points >= 0) & (points <= 1)).all():
                raise InputError(
                    f"point_grids holds an array {points.shape}; each must be (N, 2) xy as shares of width and height, "
                    "0 to 1"
                )
        if self.point_grids is not None and len(self.point_grids) != self.crop_n_layers + 1:
            raise InputError(
                f"point_grids holds {len(self.point_grids)} grid(s) and crop_n_layers is {self.crop_n_layers}; give "
                f"one for the whole image and one for each layer: {self.crop_n_layers + 1}"
            )


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{name}={value!r} must be a number from {low} to {high}; leave it out for what is usual")


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name}={value!r} must be a whole number from {low} to {high}")


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name}={value!r} is unknown; choose one of {', '.join(allowed)}")


PRESETS: dict[str, MaskGeneratorOptions] = {
    "fast": MaskGeneratorOptions(points_per_side=16),
    "default": MaskGeneratorOptions(),
    "fine": MaskGeneratorOptions(crop_n_layers=1, crop_n_points_downscale_factor=2, min_mask_region_area=64),
}
"""By name, with the thresholds of the published SAM 2; `preset` gives them with those that suit a network."""


def preset(model: PromptableModel, name: str = "default") -> MaskGeneratorOptions:
    """The options of a preset (fast, default, fine) for a network: which thresholds leave neither too much nor too
    little differs with what its scores were trained on.

    Example:
        >>> preset(predictor.model, "fast").points_per_side
        16

    Raises:
        InputError: an unknown name.
    """
    if name not in PRESETS:
        raise InputError(f"no preset {name!r} of segmenting everything; choose one of {', '.join(PRESETS)}")
    options = PRESETS[name]
    if isinstance(model, SAM1):
        return replace(options, pred_iou_thresh=SAM1_IOU)
    if isinstance(model, SAM2) and model.config.prompt_maps:
        return replace(
            options,
            pred_iou_thresh=BUILTIN_IOU,
            stability_score_thresh=BUILTIN_STABILITY,
            min_mask_region_area=max(options.min_mask_region_area, BUILTIN_AREA),
        )
    return options
