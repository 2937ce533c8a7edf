"""Networks of the family that take milliseconds, for tests of what does not depend on size."""

from __future__ import annotations

from dataclasses import replace

import torch

from masklet.models.sam2 import (
    CONFIGS,
    SAM2,
    ConvNetConfig,
    HieraConfig,
    MemoryConfig,
    PerceiverConfig,
    PlainViTConfig,
    RepViTConfig,
    SAM2Config,
)
from masklet.models.types import MemoryContext, SelectedMasks, empty_prompt
from masklet.train.initialization import init_weights

HIERA = HieraConfig(width=16, depths=(1, 1, 2, 1), global_blocks=(3,), windows=(4, 4, 2, 2), background=(3, 3))
CONVNET = ConvNetConfig(
    stem=8, inner=(4, 4, 8, 8), channels=(8, 16, 16, 32), depths=(1, 2, 1, 1), context_width=32, context_heads=2
)
REPVIT = RepViTConfig(channels=(8, 16, 16, 24), depths=(1, 2, 1, 1))
PLAIN_VIT = PlainViTConfig(width=16, heads=2, depth=2, global_blocks=(1,), window=3, position_side=3)
Trunk = HieraConfig | ConvNetConfig | RepViTConfig | PlainViTConfig


def small_network(trunk: Trunk = HIERA, seed: int = 0) -> SAM2:
    """A whole network whose images have 64 pixels a side; behind `REPVIT` with the perceiver of EdgeTAM."""
    perceiver = PerceiverConfig(global_latents=8, grid_side=4, layers=1) if isinstance(trunk, RepViTConfig) else None
    memory = MemoryConfig(channels=16, layers=1, hidden=32, perceiver=perceiver)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SAM2(SAM2Config(trunk, image_size=64, width=32, heads=2, hidden=32, memory=memory))
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.02)
    return model


def network_to_export() -> SAM2:
    """A small network of the built-in model's kind, whose masks are a third of a frame and change from one to the next.

    Its scores of presence are around one: near zero, rounding is a large part of them.
    """
    memory = MemoryConfig(channels=16, layers=1, hidden=32)
    config = replace(CONFIGS["builtin"], trunk=CONVNET, width=32, heads=2, hidden=32, memory=memory)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = SAM2(replace(config, image_size=64, still_image_size=64, video_pixels=64**2)).eval()
        init_weights(model)
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 1
    return model


def random_image(seed: int = 0, count: int = 1) -> torch.Tensor:
    """Noise, as the networks see it."""
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def two_frames(model: SAM2) -> torch.Tensor:
    """The mask of a second frame, found from the first one's: all verbs but the prompt of a point."""
    features = model.encode_image(torch.cat([random_image(1), random_image(2)]))
    first, second = features.index_select(torch.tensor([0])), features.index_select(torch.tensor([1]))
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:40, 8:48] = 1
    found: SelectedMasks = model.use_mask_as_output(first, mask)
    memory = model.encode_memory(first, found, prompted=True)
    memories = MemoryContext((memory.spatial_BMHW,), (0,), (memory.pointer_BC,), (1,))
    logits: torch.Tensor = model.decode(
        model.condition_on_memory(second, memories), empty_prompt(1, mask.device)
    ).logits_BKHW
    return logits
