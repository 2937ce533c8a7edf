"""`SAM`: one object per model, called with images or videos and prompts.

model        `SAM`, the facade: images, videos, training, validation
arguments    keywords and options of its methods, and their checks
prediction   images: from prompts, or none, to `Results`
video        videos: networks, sessions and the detector of tracking without prompts
finetuning   training of a loaded model
model_info   `ModelInfo`
choose_precision, bf16_trial   what precision="auto" becomes on this machine
"""

from __future__ import annotations

from masklet.sam.model import SAM
from masklet.sam.model_info import ModelInfo

__all__ = ["SAM", "ModelInfo"]
