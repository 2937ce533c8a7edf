"""Every published tensor of SAM has its place in transformers' network, and comes back from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from masklet.errors import CheckpointError
from masklet.models.sam1 import CONFIGS
from masklet.models.sam1.state_dict import from_transformers, is_transformers, to_transformers

MANIFESTS = Path(__file__).parents[2] / "golden" / "manifests"
MATRICES = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)


def published(name: str) -> dict[str, Tensor]:
    shapes = json.loads((MANIFESTS / f"{name}.json").read_text())
    return {n: torch.empty(s, device="meta") for n, s in shapes.items()}


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam_vit_b", "sam_vit_l", "sam_vit_h"])
def test_names_and_shapes_are_those_of_their_model(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    trunk = CONFIGS[name].trunk
    vision = transformers.SamVisionConfig(
        hidden_size=trunk.width,
        num_hidden_layers=trunk.depth,
        num_attention_heads=trunk.heads,
        global_attn_indexes=list(trunk.global_blocks),
        mlp_dim=4 * trunk.width,
    )
    with torch.device("meta"):
        theirs = transformers.SamModel(transformers.SamConfig(vision_config=vision)).state_dict()
    state = published(name)
    assert shapes_of(to_transformers(state)) == shapes_of(theirs)
    assert shapes_of(from_transformers(theirs)) == shapes_of(state)


def test_values_travel_with_their_names() -> None:
    state = {name: torch.full((1,), float(i)) for i, name in enumerate(published("sam_vit_b"))}
    back = from_transformers(to_transformers(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_published_names_are_distinguished_from_transformers_names() -> None:
    state = published("sam_vit_b")
    assert not is_transformers(state)
    assert is_transformers(to_transformers(state))
    assert not is_transformers(["vision_encoder.backbone.pos_embed", "mask_decoder.iou_token.weight"])


def test_two_different_matrices_are_refused() -> None:
    with pytest.raises(CheckpointError, match="differ; a SAM has one"):
        from_transformers({MATRICES[0]: torch.ones(2, 4), MATRICES[1]: torch.zeros(2, 4)})


def test_mobile_sam_has_no_names_there() -> None:
    with pytest.raises(CheckpointError, match="only SAM ViT-B, L and H do"):
        to_transformers(published("mobile_sam"))
