"""What a tracked frame needs after its features, as it runs fastest."""

from __future__ import annotations

import torch

from masklet.models.sam2.inference.decoder import FastDecoder
from masklet.models.sam2.inference.memory import FastMemory
from masklet.models.sam2.inference.writing import FastWriter
from masklet.models.sam2.model import SAM2

__all__ = ["FastVerbs"]


class FastVerbs:
    """`condition`, `decode` without prompts, and `remember` of a model whose weights no longer change.

    One picture may be shared by all objects: then what does not depend on the object is done once.

    Example:
        >>> fast = FastVerbs(model)
        >>> masks = model.settle(fast.decode(fast.condition(features, memories)), multimask=True)
        >>> memory = fast.remember(features, masks)
    """

    def __init__(self, model: SAM2, dtype: torch.dtype | None = None) -> None:
        self.condition = FastMemory(model, dtype)
        self.decode = FastDecoder(model)
        self.remember = FastWriter(model)
