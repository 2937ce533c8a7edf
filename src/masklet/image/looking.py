"""What all prompts about one picture share, by the family of the network."""

from __future__ import annotations

import torch

from masklet.models.base import ImageFeatures, PromptableNetwork
from masklet.models.heads.sharing import SharedDecoder, SharedPicture
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2

__all__ = ["look"]


def look(model: PromptableNetwork, features: ImageFeatures, device: torch.device) -> SharedPicture | None:
    """One picture, ready for prompts that share their work; None on devices that rather do everything at once.

    Example:
        >>> look(model, predictor.features, predictor.device).ask(prompts).iou_BK.shape
        torch.Size([1, 4])
    """
    if device.type != "cpu":
        return None
    if isinstance(model, SAM2):
        return SharedDecoder(model.sam_prompt_encoder, model.sam_mask_decoder).look(features)
    return SharedDecoder(model.prompt_encoder, model.mask_decoder).look(features) if isinstance(model, SAM1) else None
