"""SAM (Kirillov et al. 2023, arXiv 2304.02643) and MobileSAM (Zhang et al. 2023, arXiv 2306.14289): images only.

config      the published sizes, one frozen value each
vit         the trunk of SAM: a vision transformer with windows and decomposed relative positions
tiny_vit    the trunk of MobileSAM: convolutions, then attention in windows with learned biases
model       `SAM1`, the verbs of an image
state_dict  the size of the network in a file, names in `transformers`, and the network built from it
"""

from __future__ import annotations

from masklet.models.sam1.config import CONFIGS, SAM1Config, TinyViTConfig, ViTConfig
from masklet.models.sam1.model import SAM1
from masklet.models.sam1.state_dict import build, infer_config

__all__ = ["CONFIGS", "SAM1", "SAM1Config", "TinyViTConfig", "ViTConfig", "build", "infer_config"]
