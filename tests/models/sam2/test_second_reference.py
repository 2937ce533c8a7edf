"""The `transformers` package as an independent second reference, filled from our tensors through our name mapping."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.reference import golden_image, reference_model
from masklet.models.fast_cpu.sam2 import FastSAM2Encoder
from masklet.models.sam2 import SAM2
from masklet.models.sam2.memory_attention import KeyLayout
from masklet.models.sam2.state_dict import to_transformers
from masklet.models.types import PromptTensors
from masklet.nn.attention import axial_rope
from masklet.transforms import ImageTransform

transformers = pytest.importorskip("transformers", reason="transformers (extra 'test') is not installed")
pytestmark = pytest.mark.slow

SIDE = 256


def their_model(ours: torch.nn.Module) -> torch.nn.Module:
    vision = transformers.Sam2VisionConfig(
        backbone_config=transformers.Sam2HieraDetConfig(image_size=[SIDE, SIDE]),
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    )
    config = transformers.Sam2Config(
        vision_config=vision, prompt_encoder_config=transformers.Sam2PromptEncoderConfig(image_size=SIDE)
    )
    theirs = transformers.Sam2Model(config).eval()
    named = to_transformers(ours.state_dict())
    wanted = theirs.state_dict()
    missing = [name for name in wanted if name not in named]
    assert not missing
    theirs.load_state_dict({name: named[name] for name in wanted}, strict=True)
    return theirs


@pytest.mark.golden
@pytest.mark.filterwarnings("ignore")
def test_transformers_gives_the_same_masks() -> None:
    ours = reference_model("sam2.1_hiera_tiny", SIDE)
    theirs = their_model(ours)
    image = golden_image()
    pixels = ImageTransform((image.shape[0], image.shape[1]), SIDE).preprocess(image)
    points, labels = torch.tensor([[[72.0, 138.0], [160.0, 106.0]]]), torch.tensor([[1, 0]])
    with torch.inference_mode():
        features = ours.add_no_memory_embedding(FastSAM2Encoder(ours)(pixels))
        mine = ours.decode(features, PromptTensors(points, labels))
        reply = theirs(pixel_values=pixels, input_points=points[None], input_labels=labels[None], multimask_output=True)
    logits, scores = reply.pred_masks.numpy().reshape(3, 64, 64), reply.iou_scores.numpy().ravel()
    own = mine.logits_BKHW[0, 1:].numpy()
    assert np.abs(own - logits).max() / logits.std() < 2e-2
    assert np.abs(own - logits).mean() / logits.std() < 2e-3
    np.testing.assert_allclose(mine.iou_BK[0, 1:].numpy(), scores, atol=2e-3)
    assert float(mine.object_score_B1) == pytest.approx(float(reply.object_score_logits.ravel()), abs=1e-2)


@pytest.mark.golden
@pytest.mark.filterwarnings("ignore")
def test_transformers_gives_the_same_memory() -> None:
    """Memory encoder and memory attention, which tracking will need, module by module."""
    ours = reference_model("sam2.1_hiera_tiny", SIDE, small_trunk=True)
    theirs = their_memory(ours)
    random = torch.Generator().manual_seed(0)
    features, mask = torch.randn(2, 256, 8, 8, generator=random), torch.randn(2, 1, 128, 128, generator=random)
    with torch.inference_mode():
        reply = theirs.memory_encoder(features, mask)[0]
        mine = ours.memory_encoder(features, mask)
    assert (mine - reply).abs().max() / reply.std() < 1e-3


@pytest.mark.golden
@pytest.mark.filterwarnings("ignore")
def test_transformers_conditions_on_memory_the_same() -> None:
    """Three frames of memory and eight pointer tokens, on a map of 8 by 8."""
    ours = reference_model("sam2.1_hiera_tiny", SIDE, small_trunk=True)
    theirs = their_memory(ours, side=8)
    random = torch.Generator().manual_seed(0)
    present, position = torch.randn(2, 64, 1, 256, generator=random)
    memory, memory_position = torch.randn(2, 3 * 64 + 8, 1, 64, generator=random)
    with torch.inference_mode():
        reply = theirs.memory_attention(present, memory, position, memory_position, 8)
        batched = (t.transpose(0, 1) for t in (present, position, memory, memory_position))
        mine = ours.memory_attention(*batched, (axial_rope(8, 8, 256),) * 2, KeyLayout(8, (8, 8)))
    reply = reply.reshape(mine.shape)
    assert (mine - reply).abs().max() / reply.std() < 1e-3


def their_memory(ours: SAM2, side: int = 64) -> torch.nn.Module:
    trunk = ours.config.trunk
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=trunk.width,
        blocks_per_stage=list(trunk.depths),
        embed_dim_per_stage=list(trunk.channels),
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=list(trunk.windows),
        window_positional_embedding_background_size=list(trunk.background),
        global_attention_blocks=list(trunk.global_blocks),
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=list(reversed(trunk.channels))
    )
    config = transformers.Sam2VideoConfig(vision_config=vision, memory_attention_rope_feat_sizes=[side, side])
    theirs = transformers.Sam2VideoModel(config).eval()
    theirs.load_state_dict(to_transformers(ours.state_dict()), strict=True)
    return theirs
