"""Networks of SAM's family that take milliseconds; their images have 64 pixels a side."""

from __future__ import annotations

import torch

from masklet.models.sam1 import SAM1, SAM1Config, TinyViTConfig, ViTConfig

TRUNKS = {
    "sam_vit_b": ViTConfig(width=24, depth=3, heads=2, global_blocks=(1,), window=3),
    "mobile_sam": TinyViTConfig(
        channels=(8, 16, 24, 32), depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), windows=(7, 3, 3, 3), expansion=2, classes=4
    ),
}


def small_sam1(name: str, seed: int = 0, width: int = 32) -> SAM1:
    """One with random weights everywhere, those that start at zero too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SAM1(SAM1Config(TRUNKS[name], image_size=64, width=width, heads=2, hidden=48)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.3)
            for buffer_name, buffer in model.named_buffers():
                if buffer_name.endswith(("running_mean", "running_var")):
                    buffer.add_(torch.rand_like(buffer) * 0.2)
    return model.requires_grad_(False)
