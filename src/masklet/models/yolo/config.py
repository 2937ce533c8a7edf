"""Frozen configurations, one value per network, and the table of published sizes.

A size is a value of `YOLOConfig`, derived from the published factors of depth and width. Which one a file holds is
read from its tensors (`masklet.models.yolo.state_dict.infer_config`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONFIGS", "SCALES", "ScaleFactors", "YOLOConfig", "config_for_scale"]

WIDTHS = (64, 128, 256, 512, 1024)
"""Unscaled channels at strides 2, 4, 8, 16, 32."""
DEPTHS = (3, 6, 6, 3)
"""Unscaled numbers of bottlenecks at strides 4, 8, 16, 32; the neck has as many as the first."""


@dataclass(frozen=True)
class ScaleFactors:
    """Published factors of depth and width, and the limit on unscaled channels."""

    depth: float
    width: float
    max_channels: int


SCALES: dict[str, ScaleFactors] = {
    "n": ScaleFactors(1 / 3, 0.25, 1024),
    "s": ScaleFactors(1 / 3, 0.5, 1024),
    "m": ScaleFactors(2 / 3, 0.75, 768),
    "l": ScaleFactors(1.0, 1.0, 512),
    "x": ScaleFactors(1.0, 1.25, 512),
}


@dataclass(frozen=True)
class YOLOConfig:
    """A complete network. `YOLOv8(CONFIGS["yolov8n-seg"])` builds one."""

    channels: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256)
    """At strides 2, 4, 8, 16, 32."""
    depths: tuple[int, int, int, int] = (1, 2, 2, 1)
    """Bottlenecks at strides 4, 8, 16, 32."""
    neck_depth: int = 1
    classes: int = 80
    box_channels: int = 64
    """Width of the box branch."""
    class_channels: int = 80
    """Width of the class branch."""
    mask_channels: int | None = None
    """Width of the branch of mask coefficients; None: boxes only."""
    prototypes: int = 32
    prototype_channels: int = 64
    bins: int = 16
    """Each side of a box is a distribution over this many distances, in strides."""


def config_for_scale(scale: ScaleFactors, *, classes: int = 80, masks: bool = False) -> YOLOConfig:
    """Return the network of a published scale.

    Example:
        >>> config_for_scale(SCALES["n"]).channels
        (16, 32, 64, 128, 256)
    """
    c2, c4, c8, c16, c32 = (int(min(width, scale.max_channels) * scale.width) for width in WIDTHS)
    d4, d8, d16, d32 = (max(round(depth * scale.depth), 1) for depth in DEPTHS)
    return YOLOConfig(
        channels=(c2, c4, c8, c16, c32),
        depths=(d4, d8, d16, d32),
        neck_depth=d4,
        classes=classes,
        box_channels=max(64, c8 // 4),
        class_channels=max(c8, min(classes, 100)),
        mask_channels=max(32, c8 // 4) if masks else None,
        prototype_channels=c8 if masks else 64,
    )


CONFIGS: dict[str, YOLOConfig] = {
    **{f"yolov8{name}": config_for_scale(scale) for name, scale in SCALES.items()},
    **{f"yolov8{name}-seg": config_for_scale(scale, masks=True) for name, scale in SCALES.items()},
    **{f"FastSAM-{name}": config_for_scale(SCALES[name], classes=1, masks=True) for name in ("s", "x")},
}
"""By canonical name."""
