"""Every published tensor has its place in transformers' networks, and comes back from there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from masklet.errors import CheckpointError
from masklet.models.sam2.state_dict import from_transformers, is_transformers, to_transformers

MANIFESTS = sorted((Path(__file__).parents[2] / "golden" / "manifests").glob("sam2*.json"))
POINTS = "prompt_encoder.point_embed.weight"
MATRIX = "shared_image_embedding.positional_embedding"

# embed dim, blocks per stage, heads, global blocks, window of the position embedding, windows per stage
TRUNKS = {
    "tiny": (96, [1, 2, 7, 2], 1, [5, 7, 9], 7, [8, 4, 14, 7]),
    "small": (96, [1, 2, 11, 2], 1, [7, 10, 13], 7, [8, 4, 14, 7]),
    "base_plus": (112, [2, 3, 16, 3], 2, [12, 16, 20], 14, [8, 4, 14, 7]),
    "large": (144, [2, 6, 36, 4], 2, [23, 33, 43], 7, [8, 4, 16, 8]),
}


@pytest.fixture(params=MANIFESTS, ids=lambda path: path.stem)
def published(request: pytest.FixtureRequest) -> tuple[str, dict[str, Tensor]]:
    shapes = json.loads(request.param.read_text())
    return request.param.stem, {n: torch.empty(s, device="meta") for n, s in shapes.items()}


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def reference(name: str, kind: str) -> dict[str, Tensor]:
    """The state dict of transformers' own network of this size, built from a config, without memory."""
    transformers = pytest.importorskip("transformers")
    dim, blocks, heads, attention, background, windows = TRUNKS[name.partition("_hiera_")[2]]
    widths = [dim * 2**i for i in range(4)]
    trunk = transformers.Sam2HieraDetConfig(
        hidden_size=dim,
        num_attention_heads=heads,
        blocks_per_stage=blocks,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**i for i in range(4)],
        global_attention_blocks=attention,
        window_positional_embedding_background_size=[background, background],
        window_size_per_stage=windows,
    )
    vision = transformers.Sam2VisionConfig(backbone_config=trunk, backbone_channel_list=widths[::-1])
    newer = name.startswith("sam2.1")
    with torch.device("meta"):
        if kind == "image":
            model = transformers.Sam2Model(transformers.Sam2Config(vision_config=vision))
        else:
            model = transformers.Sam2VideoModel(
                transformers.Sam2VideoConfig(
                    vision_config=vision,
                    enable_occlusion_spatial_embedding=newer,
                    enable_temporal_pos_encoding_for_object_pointers=newer,
                )
            )
    state: dict[str, Tensor] = model.state_dict()
    return state


def test_all_eight_are_here() -> None:
    assert len(MANIFESTS) == 8


@pytest.mark.slow
def test_names_and_shapes_are_those_of_the_video_model(published: tuple[str, dict[str, Tensor]]) -> None:
    name, state = published
    assert shapes_of(to_transformers(state)) == shapes_of(reference(name, "video"))


@pytest.mark.slow
def test_the_image_model_holds_a_part(published: tuple[str, dict[str, Tensor]]) -> None:
    name, state = published
    theirs = reference(name, "image")
    whole = shapes_of(to_transformers(state))
    assert {n: s for n, s in whole.items() if n in theirs} == shapes_of(theirs)
    part = shapes_of(from_transformers(theirs))
    assert part == {n: s for n, s in shapes_of(state).items() if n in part}
    absent = {re.split(r"[.]", n)[0] for n in state if n not in part}
    assert absent <= {
        "mask_downsample",
        "maskmem_tpos_enc",
        "memory_attention",
        "memory_encoder",
        "no_mem_pos_enc",
        "no_obj_embed_spatial",
        "no_obj_ptr",
        "obj_ptr_proj",
        "obj_ptr_tpos_proj",
    }


def test_there_and_back_is_the_identity(published: tuple[str, dict[str, Tensor]]) -> None:
    _, state = published
    back = from_transformers(to_transformers(state))
    assert shapes_of(back) == shapes_of(state)


def test_values_travel_with_their_names(published: tuple[str, dict[str, Tensor]]) -> None:
    _, meta = published
    state = {name: torch.full((1, *t.shape[1:2]), float(i)) for i, (name, t) in enumerate(meta.items())}
    back = from_transformers(to_transformers(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_published_names_are_distinguished_from_transformers_names(published: tuple[str, dict[str, Tensor]]) -> None:
    _, state = published
    assert not is_transformers(state)
    assert is_transformers(to_transformers(state))


def test_sam1_in_transformers_is_not_taken_for_sam2() -> None:
    assert not is_transformers(["vision_encoder.layers.0.attn.qkv.weight", "mask_decoder.iou_token.weight"])


def test_point_embeddings_are_split_in_order() -> None:
    rows = torch.arange(8.0).reshape(4, 2)
    split = from_transformers({POINTS: rows})
    assert [t.tolist() for t in split.values()] == [[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, 5.0]], [[6.0, 7.0]]]
    assert list(split)[2] == "sam_prompt_encoder.point_embeddings.2.weight"


def test_one_copy_of_the_matrix_is_enough() -> None:
    alone = from_transformers({MATRIX: torch.ones(2, 4)})
    assert list(alone) == ["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]


def test_two_different_matrices_are_refused() -> None:
    two = {
        MATRIX: torch.ones(2, 4),
        "prompt_encoder.shared_embedding.positional_embedding": torch.zeros(2, 4),
    }
    with pytest.raises(CheckpointError, match="differ"):
        from_transformers(two)


@pytest.mark.parametrize("shape", [(3, 8), (4,), (5, 8)])
def test_other_than_four_points_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"\(4, channels\)"):
        from_transformers({POINTS: torch.zeros(shape)})


def test_a_lone_point_embedding_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"point_embeddings\.0\.weight is missing"):
        to_transformers({"sam_prompt_encoder.point_embeddings.1.weight": torch.zeros(1, 4)})


def test_unknown_names_stay_on_the_way_in_and_are_refused_on_the_way_out() -> None:
    odd = {"image_encoder.trunk.stages.0.conv.weight": torch.zeros(1)}
    assert list(from_transformers(odd)) == list(odd)
    with pytest.raises(CheckpointError, match=r"stages\.0\.conv\.weight has no name in transformers"):
        to_transformers(odd)
