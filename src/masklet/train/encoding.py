"""How a run encodes pictures: with gradients where the encoder learns, else fast, and each view once where asked.

Shapes: B clips, T frames, S side.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from masklet.errors import InputError
from masklet.models.base import ImageFeatures
from masklet.models.sam2 import SAM2
from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
from masklet.models.sam2.inference import FastEncoder
from masklet.train.config import TrainConfig
from masklet.train.data import ClipBatch
from masklet.train.embeddings import EmbeddingCache, fingerprint, key_of

__all__ = ["Encode", "encoder_of", "normalised"]

Encode = Callable[[ClipBatch], ImageFeatures]
CACHE_BYTES = 20 << 30
"""Of embeddings on disk, at most."""


def encoder_of(model: SAM2, config: TrainConfig, cache: Path | None = None) -> Encode:
    """From a batch to the features of all its frames, clip after clip.

    Raises:
        InputError: embeddings are to be kept of an encoder that learns.
    """
    decoder = model.sam_mask_decoder
    parts = (model.image_encoder, decoder.conv_s0, decoder.conv_s1)
    if any(parameter.requires_grad for part in parts for parameter in part.parameters()):
        if cache is not None:
            raise InputError(
                f"views={config.views} keeps embeddings, but the encoder learns and they would be out of date; freeze "
                "it (--freeze encoder; in a recipe, rates with image_encoder and sam_mask_decoder.conv_s at 0), or set "
                "views to 0"
            )
        return lambda batch: model.encode_image(normalised(batch.frames_of_all))
    fast = FastEncoder(model, torch.bfloat16 if config.precision == "bf16" else None)

    @torch.no_grad()
    def plain(pixels_B3SS: Tensor) -> ImageFeatures:
        return fast(normalised(pixels_B3SS))

    if cache is None:
        return lambda batch: plain(batch.frames_of_all)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    return _Kept(plain, EmbeddingCache(cache, CACHE_BYTES), fingerprint(model, dtype=dtype))


class _Kept:
    """Encodes what is not on disk yet."""

    def __init__(self, encode: Callable[[Tensor], ImageFeatures], cache: EmbeddingCache, mark: str) -> None:
        self.encode, self.cache, self.mark = encode, cache, mark

    def __call__(self, batch: ClipBatch) -> ImageFeatures:
        if not batch.keys:
            return self.encode(batch.frames_of_all)
        found = [self._one(pixels_3SS, name) for pixels_3SS, name in zip(batch.frames_of_all, batch.keys, strict=True)]
        return ImageFeatures(
            torch.cat([features.embed_BCHW for features in found]),
            (torch.cat([features.fine[0] for features in found]), torch.cat([features.fine[1] for features in found])),
        )

    def _one(self, pixels_3SS: Tensor, name: str) -> ImageFeatures:
        kept = self.cache.of(key_of(self.mark, name, 0, ""), lambda: self.encode(pixels_3SS[None]))
        device = pixels_3SS.device
        return ImageFeatures(
            kept.embed_BCHW.float().to(device), (kept.fine[0].float().to(device), kept.fine[1].float().to(device))
        )


def normalised(pixels_B3SS: Tensor) -> Tensor:
    """uint8 RGB to what the networks see."""
    mean = 255 * torch.tensor(PIXEL_MEAN, device=pixels_B3SS.device).view(1, 3, 1, 1)
    deviation = 255 * torch.tensor(PIXEL_STD, device=pixels_B3SS.device).view(1, 3, 1, 1)
    return ((pixels_B3SS.float() - mean) / deviation).contiguous(memory_format=torch.channels_last)
