"""`SAM`: the face that people know. One object for a model, called with an image and what to look for in it.

face     `SAM` itself: images, videos, training, validation
answers  from what the network found to `Results`, with the time each stage took
said     what a caller said about device, size, options and ids, checked
info     `ModelInfo`
"""

from __future__ import annotations

from masklet.sam.model import SAM
from masklet.sam.model_info import ModelInfo

__all__ = ["SAM", "ModelInfo"]
