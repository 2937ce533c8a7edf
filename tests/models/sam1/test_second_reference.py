"""The `transformers` package as an independent second reference, filled from our tensors through our name mapping."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.small_sam1 import small_sam1
from masklet.models.sam1 import SAM1
from masklet.models.sam1.state_dict import to_transformers
from masklet.models.types import PromptTensors

transformers = pytest.importorskip("transformers", reason="transformers (extra 'test') is not installed")
pytestmark = [pytest.mark.golden, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def their_model(ours: SAM1) -> torch.nn.Module:
    config, trunk = ours.config, ours.config.trunk
    vision = transformers.SamVisionConfig(
        hidden_size=trunk.width,
        output_channels=config.width,
        num_hidden_layers=trunk.depth,
        num_attention_heads=trunk.heads,
        image_size=config.image_size,
        window_size=trunk.window,
        global_attn_indexes=list(trunk.global_blocks),
        num_pos_feats=config.width // 2,
        mlp_dim=4 * trunk.width,
    )
    prompts = transformers.SamPromptEncoderConfig(
        hidden_size=config.width, image_size=config.image_size, image_embedding_size=config.image_size // 16
    )
    decoder = transformers.SamMaskDecoderConfig(
        hidden_size=config.width,
        mlp_dim=config.hidden,
        num_attention_heads=config.heads,
        iou_head_hidden_dim=config.width,
    )
    theirs = transformers.SamModel(
        transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    ).eval()
    theirs.load_state_dict(to_transformers(ours.state_dict()), strict=True)
    return theirs


CASES = {
    "one click": {"points": [[20.0, 33.0]], "labels": [1]},
    "three clicks": {"points": [[20.0, 33.0], [50.0, 12.0], [5.0, 60.0]], "labels": [1, 0, 1]},
    "a box": {"box": [10.0, 8.0, 40.0, 50.0]},
    "a box and a click": {"box": [10.0, 8.0, 40.0, 50.0], "points": [[20.0, 33.0]], "labels": [0]},
    "a mask": {"mask": True},
    "a mask and a click": {"mask": True, "points": [[20.0, 33.0]], "labels": [1]},
}


@pytest.fixture(scope="module")
def both() -> tuple[SAM1, torch.nn.Module]:
    ours = small_sam1("sam_vit_b")
    return ours, their_model(ours)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(CASES))
def test_transformers_gives_the_same_masks(case: str, both: tuple[SAM1, torch.nn.Module]) -> None:
    ours, theirs = both
    prompts = CASES[case]
    random = torch.Generator().manual_seed(1)
    pixels, earlier = torch.randn(1, 3, 64, 64, generator=random), torch.randn(1, 1, 16, 16, generator=random) * 5
    mask = earlier if "mask" in prompts else None
    with torch.inference_mode():
        mine = ours.decode(ours.encode_image(pixels), prompts_of(prompts, mask))
        reply = theirs(pixel_values=pixels, input_masks=mask, multimask_output=True, **theirs_of(prompts))
    logits, scores = reply.pred_masks.numpy().reshape(3, 16, 16), reply.iou_scores.numpy().ravel()
    own = mine.logits_BKHW[0, 1:].numpy()
    assert np.abs(own - logits).max() / logits.std() < 5e-4
    np.testing.assert_allclose(mine.iou_BK[0, 1:].numpy(), scores, atol=1e-5)


def prompts_of(prompts: dict, mask: torch.Tensor | None) -> PromptTensors:
    """As `pixels.prompt_tensors` lays them out: corners before clicks."""
    box = prompts.get("box")
    corners = [] if box is None else [box[:2], box[2:]]
    points = torch.tensor([*corners, *prompts.get("points", [])]).reshape(1, -1, 2)
    labels = torch.tensor([*[2, 3][: len(corners)], *prompts.get("labels", [])], dtype=torch.long)[None]
    return PromptTensors(points, labels, mask)


def theirs_of(prompts: dict) -> dict[str, torch.Tensor]:
    found = {}
    if "points" in prompts:
        found["input_points"] = torch.tensor(prompts["points"])[None, None]
        found["input_labels"] = torch.tensor(prompts["labels"])[None, None]
    if "box" in prompts:
        found["input_boxes"] = torch.tensor(prompts["box"])[None, None]
    return found
