"""SAM 2 (Ravi et al. 2024, arXiv 2408.00714): image encoder, prompt encoder, mask decoder, memory."""

from __future__ import annotations

from masklet.models.sam2.config import (
    CONFIGS,
    ConvNetConfig,
    HieraConfig,
    MatchingConfig,
    MemoryConfig,
    PerceiverConfig,
    PlainViTConfig,
    RepViTConfig,
    SAM2Config,
)
from masklet.models.sam2.model import SAM2
from masklet.models.sam2.state_dict import build, infer_config

__all__ = [
    "CONFIGS",
    "SAM2",
    "ConvNetConfig",
    "HieraConfig",
    "MatchingConfig",
    "MemoryConfig",
    "PerceiverConfig",
    "PlainViTConfig",
    "RepViTConfig",
    "SAM2Config",
    "build",
    "infer_config",
]
