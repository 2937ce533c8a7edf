"""A network's image encoder as it runs fastest, whichever the family."""

from __future__ import annotations

from functools import singledispatch
from typing import Protocol

import torch
from torch import Tensor

from masklet.models.base import ImageFeatures, PromptableNetwork
from masklet.models.sam1 import SAM1
from masklet.models.sam1.inference import FastFirstEncoder
from masklet.models.sam2 import SAM2
from masklet.models.sam2.inference import FastEncoder

__all__ = ["Encoder", "fast_encoder"]


class Encoder(Protocol):
    """`encode_image` of a network whose weights no longer change."""

    def __call__(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Normalised RGB to features."""


class PlainEncoder:
    """The network's own verb, with matrix products in `dtype`."""

    def __init__(self, model: PromptableNetwork, dtype: torch.dtype | None) -> None:
        self.model, self.dtype = model, dtype

    def __call__(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Normalised RGB to features, as `encode_image`."""
        with torch.autocast(pixels_B3HW.device.type, self.dtype, enabled=self.dtype is not None):
            found = self.model.encode_image(pixels_B3HW)
        return ImageFeatures(found.embed_BCHW.float(), tuple(x.float() for x in found.fine))


@singledispatch
def fast_encoder(model: PromptableNetwork, dtype: torch.dtype | None) -> Encoder:
    """The encoder of `model` as it runs fastest; `dtype` is that of its matrix products, None for fp32."""
    return PlainEncoder(model, dtype)


@fast_encoder.register
def _(model: SAM2, dtype: torch.dtype | None) -> Encoder:
    return FastEncoder(model, dtype)


@fast_encoder.register
def _(model: SAM1, dtype: torch.dtype | None) -> Encoder:
    return FastFirstEncoder(model, dtype)
