"""Frozen configurations, one value per network, and the table of published sizes.

A size is a value of `SAM2Config`, never a subclass. Which one a file holds is read from its tensors
(`masklet.models.sam2.state_dict.infer_config`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from masklet.models.types import PIXEL_MEAN, PIXEL_STD

__all__ = [
    "CONFIGS",
    "PIXEL_MEAN",
    "PIXEL_STD",
    "ConvNetConfig",
    "HieraConfig",
    "MatchingConfig",
    "MemoryConfig",
    "PerceiverConfig",
    "PlainViTConfig",
    "RepViTConfig",
    "SAM2Config",
]


@dataclass(frozen=True)
class HieraConfig:
    """The hierarchical vision transformer of the published models (Ryali et al. 2023, Bolya et al. 2023)."""

    width: int = 96
    heads: int = 1
    depths: tuple[int, int, int, int] = (1, 2, 7, 2)
    global_blocks: tuple[int, ...] = (5, 7, 9)
    """Blocks that attend to the full map; the others attend within windows."""
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: tuple[int, int] = (7, 7)
    """Height and width of the position map that is interpolated to the image."""

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels at strides 4, 8, 16, 32."""
        return (self.width, self.width * 2, self.width * 4, self.width * 8)


@dataclass(frozen=True)
class ConvNetConfig:
    """The convolutional trunk of the built-in model: bottleneck blocks, then attention at stride 32."""

    stem: int = 64
    inner: tuple[int, int, int, int] = (32, 64, 128, 256)
    channels: tuple[int, int, int, int] = (128, 256, 512, 1024)
    """At strides 4, 8, 16, 32."""
    depths: tuple[int, int, int, int] = (3, 4, 6, 1)
    context_width: int = 256
    context_heads: int = 4
    context_blocks: int = 2


@dataclass(frozen=True)
class RepViTConfig:
    """The convolutional trunk of EdgeTAM (RepViT-M1, Wang et al. 2024, arXiv 2307.09283)."""

    channels: tuple[int, int, int, int] = (48, 96, 192, 384)
    """At strides 4, 8, 16, 32."""
    depths: tuple[int, int, int, int] = (2, 2, 14, 2)


@dataclass(frozen=True)
class PlainViTConfig:
    """The vision transformer of EfficientTAM: one map, at stride 16."""

    width: int = 192
    heads: int = 3
    depth: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    """Blocks that attend to the full map; the others attend within windows."""
    window: int = 14
    position_side: int = 14
    """Side of the position map that is interpolated to the image."""

    @property
    def channels(self) -> tuple[int]:
        """Channels at stride 16."""
        return (self.width,)


@dataclass(frozen=True)
class PerceiverConfig:
    """What compresses a memory to few tokens (EdgeTAM, Zhou et al. 2025, arXiv 2501.07256)."""

    global_latents: int = 256
    """Tokens that attend to the entire memory, and have no position."""
    grid_side: int = 16
    """Rows and columns of the tokens that attend to one window each."""
    layers: int = 2


@dataclass(frozen=True)
class MemoryConfig:
    """Memory encoder and memory attention."""

    channels: int = 64
    layers: int = 4
    hidden: int = 2048
    slots: int = 7
    """Learned temporal positions: the prompted frame and the six most recent ones."""
    fuser_blocks: int = 2
    temporal_pointers: bool = True
    """SAM 2.1: object pointers encode their distance in time."""
    absent_embedding: bool = True
    """SAM 2.1: a memory encodes that its object was not visible."""
    perceiver: PerceiverConfig | None = None
    """EdgeTAM: memories are compressed before they are stored; None: they are maps."""
    key_pooling: Literal["logits", "keys"] | None = None
    """EfficientTAM `_1` and `_2`: two memories or more are averaged two by two, and 2 ln 2 is added to the logits of
    these keys, or to each of their channels; None: not pooled."""


@dataclass(frozen=True)
class MatchingConfig:
    """Labels of earlier frames copied along features of the trunk at stride 8, as a mask prompt for the decoder."""

    channels: int = 64
    """Channels that the features are projected to."""
    radius: int = 12
    """Cells up to which an object may move from one of the earlier frames to this one, along either axis."""
    reach: int = 6
    """Cells around its labels in the last two frames in which an object is searched for."""
    neighbors: int = 10
    """Cells of the earlier frames whose labels are averaged."""
    temperature: float = 0.07
    """Divides similarities before the softmax that weights the neighbors."""
    recent: int = 5
    """Number of frames before this one that are matched, besides prompted frames."""
    prompted: int = 3
    """At most this many prompted frames are matched: the first, and the nearest ones."""
    min_label: float = 0.05
    """The object is searched for around cells with a label above this one."""
    logit_scale: float = 20.0
    """A label p becomes the logit (p - 0.5) * logit_scale of the mask prompt."""
    memory_weight: float = 0.0
    """Weight of the answer without a prompt, from memory alone, in the logits of the mask. Whether there is an object,
    that answer and the one from the prior decide together in any case."""
    recall_stride: int = 2
    """Rows and columns of cells that are one cell where an absent object is first searched for, in the entire frame."""
    recall_neighbors: int = 5
    """Cells of the prompted frames whose labels are averaged there."""


@dataclass(frozen=True)
class SAM2Config:
    """A complete network. `SAM2(CONFIGS["sam2.1_hiera_tiny"])` builds one."""

    trunk: HieraConfig | ConvNetConfig | RepViTConfig | PlainViTConfig
    image_size: int = 1024
    """Side of the square that video frames are resized to, and images too unless `still_image_size` is given."""
    video_pixels: int | None = None
    """Frames keep their shape at about this many pixels, sides multiples of 32; None: a square of `image_size`."""
    still_image_size: int | None = None
    """Side of the square for single images, which have more time than frames of a video; None: as `image_size`."""
    width: int = 256
    heads: int = 8
    hidden: int = 2048
    """Hidden width of the MLPs in the two-way transformer."""
    stability_threshold: float = 0.98
    """Stability below which the best of three masks replaces the single mask; 0: never."""
    iou_knots: int = 0
    """Knots of the map from predicted to expected IoU (`MaskDecoder.iou_calibration`); 0: none, as published."""
    prompt_maps: bool = False
    """Prompts are also rendered as maps (the built-in model)."""
    memory: MemoryConfig | None = MemoryConfig()
    """None: images only."""
    matching: MatchingConfig | None = None
    """None: an object is found by memory alone, as published."""
    edge_radius: int | None = None
    """Masks follow the edges of their image within this many cells of stride 2; None: as the decoder drew them."""


_TINY = HieraConfig()
_SMALL = replace(_TINY, depths=(1, 2, 11, 2), global_blocks=(7, 10, 13))
_BASE_PLUS = HieraConfig(112, 2, (2, 3, 16, 3), (12, 16, 20), (8, 4, 14, 7), (14, 14))
_LARGE = HieraConfig(144, 2, (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8), (7, 7))
_TRUNKS = {"tiny": _TINY, "small": _SMALL, "base_plus": _BASE_PLUS, "large": _LARGE}
_MEMORY_2_0 = MemoryConfig(temporal_pointers=False, absent_embedding=False)
_EFFICIENTTAM = {"s": PlainViTConfig(384, 6), "ti": PlainViTConfig()}
_EFFICIENTTAM_VARIANTS = {
    "": SAM2Config(PlainViTConfig(), memory=_MEMORY_2_0),
    "_1": SAM2Config(PlainViTConfig(), memory=replace(_MEMORY_2_0, key_pooling="logits")),
    "_2": SAM2Config(PlainViTConfig(), memory=replace(_MEMORY_2_0, key_pooling="keys")),
    "_512x512": SAM2Config(PlainViTConfig(), image_size=512, memory=_MEMORY_2_0),
}

CONFIGS: dict[str, SAM2Config] = {
    **{f"sam2_hiera_{name}": SAM2Config(trunk, memory=_MEMORY_2_0) for name, trunk in _TRUNKS.items()},
    **{f"sam2.1_hiera_{name}": SAM2Config(trunk) for name, trunk in _TRUNKS.items()},
    "edgetam": SAM2Config(RepViTConfig(), memory=replace(_MEMORY_2_0, layers=2, perceiver=PerceiverConfig())),
    **{
        f"efficienttam_{size}{suffix}": replace(variant, trunk=trunk)
        for size, trunk in _EFFICIENTTAM.items()
        for suffix, variant in _EFFICIENTTAM_VARIANTS.items()
    },
    "builtin": SAM2Config(
        ConvNetConfig(),
        image_size=288,
        video_pixels=448 * 256,
        still_image_size=512,
        width=128,
        heads=4,
        hidden=512,
        stability_threshold=0.0,
        prompt_maps=True,
        memory=MemoryConfig(layers=2, hidden=256),
        matching=MatchingConfig(),
        edge_radius=3,
    ),
}
"""By canonical name."""
