"""The seam of `encode_image`: one encoder for each family, chosen by the type of the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from masklet.models.fast_cpu.sam1_encoder import FastSAM1Encoder
from masklet.models.fast_cpu.sam2 import FastSAM2Encoder
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2
from masklet.models.types import ImageFeatures, PromptableModel

__all__ = ["EagerEncoder", "Encoder", "fast_encoder"]


Encoder = Callable[[Tensor], ImageFeatures]
"""`encode_image` of a network with frozen weights: normalized RGB (B, 3, H, W) becomes features."""


@dataclass(frozen=True, eq=False)
class EagerEncoder:
    """The network's own `encode_image`, with matrix products in `dtype` (None: fp32)."""

    model: PromptableModel
    dtype: torch.dtype | None

    def __call__(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Encode normalized RGB; features are fp32."""
        with torch.autocast(pixels_B3HW.device.type, self.dtype, enabled=self.dtype is not None):
            features = self.model.encode_image(pixels_B3HW)
        high_res_features = tuple(x.float() for x in features.high_res_features)
        return ImageFeatures(features.embed_BCHW.float(), high_res_features, features.stride8_BCHW)


def fast_encoder(model: PromptableModel, dtype: torch.dtype | None) -> Encoder:
    """Return the fastest encoder of `model`, with matrix products in `dtype` (None: fp32)."""
    if isinstance(model, SAM2):
        return FastSAM2Encoder(model, dtype)
    return FastSAM1Encoder(model, dtype) if isinstance(model, SAM1) else EagerEncoder(model, dtype)
