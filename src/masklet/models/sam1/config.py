"""Frozen configurations, one value per network, and the table of published sizes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONFIGS", "PATCH_SIZE", "SAM1Config", "TinyViTConfig", "ViTConfig"]

PATCH_SIZE = 16
"""Pixels of the input per cell of the map, in both trunks."""


@dataclass(frozen=True)
class ViTConfig:
    """The plain vision transformer of SAM (Li et al. 2022, arXiv 2203.16527)."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    """Blocks that attend to the full map; the others attend within windows."""
    window: int = 14


@dataclass(frozen=True)
class TinyViTConfig:
    """The trunk of MobileSAM: TinyViT-5M (Wu et al. 2022, arXiv 2207.10666) with its last stage at stride 16."""

    channels: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    """Of the last three stages; the first is convolutional and ignores its entry."""
    windows: tuple[int, int, int, int] = (7, 7, 14, 7)
    expansion: int = 4
    classes: int = 1000
    """Of the classifier in the published file, which is not used here."""


@dataclass(frozen=True)
class SAM1Config:
    """A complete network. `SAM1(CONFIGS["mobile_sam"])` builds one."""

    trunk: ViTConfig | TinyViTConfig = ViTConfig()
    image_size: int = 1024
    """Pixels along the longer side of an image."""
    width: int = 256
    heads: int = 8
    hidden: int = 2048
    """Hidden width of the MLPs in the two-way transformer."""


CONFIGS: dict[str, SAM1Config] = {
    "sam_vit_b": SAM1Config(),
    "sam_vit_l": SAM1Config(ViTConfig(1024, 24, 16, (5, 11, 17, 23))),
    "sam_vit_h": SAM1Config(ViTConfig(1280, 32, 16, (7, 15, 23, 31))),
    "mobile_sam": SAM1Config(TinyViTConfig()),
}
"""By canonical name."""
