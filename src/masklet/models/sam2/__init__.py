"""SAM 2 (Ravi et al. 2024, arXiv 2408.00714): image encoder, prompt encoder, mask decoder, memory.

The configurations need no PyTorch; the network is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
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

_HOMES = {"SAM2": "model", "build": "state_dict", "infer_config": "state_dict"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
