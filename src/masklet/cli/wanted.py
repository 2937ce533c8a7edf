"""What `masklet auto` was told about everything: a preset, and what is otherwise."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from masklet.errors import InputError

if TYPE_CHECKING:
    from masklet.image.everything import EverythingOptions
    from masklet.models.base import PromptableNetwork

__all__ = ["PRESET_NAMES", "Wanted"]

PRESET_NAMES = ("fast", "default", "fine")
"""As `masklet.image.everything.PRESETS`, which takes a second to import."""


@dataclass(frozen=True)
class Wanted:
    """Names are those of `EverythingOptions`; None: as the preset has it.

    Example:
        >>> Wanted("fast", points_per_side=8).options(network).points_per_side
        8

    Raises:
        InputError: an unknown preset.
    """

    preset: str = "default"
    points_per_side: int | None = None
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    box_nms_thresh: float | None = None
    crop_n_layers: int | None = None
    min_mask_region_area: int | None = None
    use_m2m: bool | None = None
    adaptive: bool | None = None
    order: str | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESET_NAMES:
            raise InputError(f"--preset {self.preset!r} is unknown; choose one of {', '.join(PRESET_NAMES)}")

    def options(self, network: PromptableNetwork) -> EverythingOptions:
        """For a network, whose thresholds the presets know.

        Raises:
            InputError: a value that has no meaning.
        """
        from masklet.image.everything import preset

        names = [field.name for field in fields(self) if field.name != "preset"]
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(preset(network, self.preset), **changes)
