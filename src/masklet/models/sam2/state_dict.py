"""The published tensor names of SAM 2 and those of `transformers`, mapped both ways.

Two things are more than a change of name:

- the four point embeddings are four tensors (1, C) when published and one (4, C) in transformers;
- the random matrix of the point encoding is published once and kept twice in transformers.

There is nothing in either naming that the other lacks. transformers' `Sam2Model` holds only the image part
(without memory encoder, memory attention and object pointers); its files give the image part here.

Which network a file holds, read from its tensors, and the network filled from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache

import torch
from torch import Tensor

from masklet.errors import CheckpointError
from masklet.models.hf_keys import Names, Row, attention, decoder, mlp, norms, one_matrix, prompts
from masklet.models.sam2.config import CONFIGS, HieraConfig, SAM2Config
from masklet.models.sam2.model import SAM2
from masklet.nn.meta_init import blank

__all__ = ["build", "config_of", "from_transformers", "is_transformers", "shapes_of", "to_transformers"]

_POINTS = tuple(f"sam_prompt_encoder.point_embeddings.{i}.weight" for i in range(4))
_POINTS_THERE = "prompt_encoder.point_embed.weight"
_MATRIX = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_MATRICES_THERE = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)

_TRUNK, _TRUNK_THERE = "image_encoder.trunk", "vision_encoder.backbone"
_DECODER, _DECODER_THERE = "sam_mask_decoder", "mask_decoder"
_LAYER, _LAYER_THERE = f"{_DECODER}.transformer.layers.#", f"{_DECODER_THERE}.transformer.layers.#"
_DOWN = "memory_encoder.mask_downsampler"
_FUSER, _FUSER_THERE = "memory_encoder.fuser.layers.#", "memory_encoder.memory_fuser.layers.#"


def _same(name: str) -> Row:
    return name, name


def _image_encoder() -> Iterator[Row]:
    block, block_there = f"{_TRUNK}.blocks.#", f"{_TRUNK_THERE}.blocks.#"
    for leaf in ("pos_embed", "pos_embed_window"):
        yield f"{_TRUNK}.{leaf}", f"{_TRUNK_THERE}.{leaf}"
    yield f"{_TRUNK}.patch_embed.proj", f"{_TRUNK_THERE}.patch_embed.projection"
    for leaf in ("attn.qkv", "attn.proj", "proj"):
        yield f"{block}.{leaf}", f"{block_there}.{leaf}"
    yield from norms(block, block_there, 2)
    yield from mlp(f"{block}.mlp", f"{block_there}.mlp", 2)
    yield "image_encoder.neck.convs.#.conv", "vision_encoder.neck.convs.#"


def _heads() -> Iterator[Row]:
    yield from prompts("sam_prompt_encoder", "prompt_encoder")
    yield from decoder(_DECODER, _DECODER_THERE)
    for leaf in ("obj_score_token", "conv_s0", "conv_s1"):
        yield f"{_DECODER}.{leaf}", f"{_DECODER_THERE}.{leaf}"
    yield from mlp(f"{_LAYER}.mlp", f"{_LAYER_THERE}.mlp", 2)
    yield from mlp(f"{_DECODER}.pred_obj_score_head", f"{_DECODER_THERE}.pred_obj_score_head", 3)


def _memory_attention() -> Iterator[Row]:
    layer = "memory_attention.layers.#"
    for part in ("self_attn", "cross_attn_image"):
        yield from attention(f"{layer}.{part}", f"{layer}.{part}")
    yield from norms(layer, layer, 3)
    yield from (_same(f"{layer}.linear{i}") for i in (1, 2))
    yield "memory_attention.norm", "memory_attention.layer_norm"


def _memory_encoder() -> Iterator[Row]:
    for stage in range(4):
        yield f"{_DOWN}.encoder.{3 * stage}", f"{_DOWN}.layers.{stage}.conv"
        yield f"{_DOWN}.encoder.{3 * stage + 1}", f"{_DOWN}.layers.{stage}.layer_norm"
    yield f"{_DOWN}.encoder.12", f"{_DOWN}.final_conv"
    yield "memory_encoder.pix_feat_proj", "memory_encoder.feature_projection"
    yield "memory_encoder.out_proj", "memory_encoder.projection"
    parts = {
        "gamma": "scale",
        "dwconv": "depthwise_conv",
        "norm": "layer_norm",
        "pwconv1": "pointwise_conv1",
        "pwconv2": "pointwise_conv2",
    }
    yield from ((f"{_FUSER}.{here}", f"{_FUSER_THERE}.{there}") for here, there in parts.items())


def _tracking() -> Iterator[Row]:
    yield _same("mask_downsample")
    yield "maskmem_tpos_enc", "memory_temporal_positional_encoding"
    yield "no_mem_embed", "no_memory_embedding"
    yield "no_mem_pos_enc", "no_memory_positional_encoding"
    yield "no_obj_ptr", "no_object_pointer"
    yield "no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"
    yield "obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer"
    yield from mlp("obj_ptr_proj", "object_pointer_proj", 3)


_PARTS = (_image_encoder, _heads, _memory_attention, _memory_encoder, _tracking)


@lru_cache(maxsize=1)
def _names() -> Names:
    return Names.of(row for part in _PARTS for row in part())


def is_transformers(names: Iterable[str]) -> bool:
    """Whether tensor names are those of transformers' `Sam2Model` or `Sam2VideoModel`.

    Example:
        >>> is_transformers(["vision_encoder.backbone.pos_embed"])
        True
        >>> is_transformers(["image_encoder.trunk.pos_embed"])
        False
    """
    marks = tuple(f"{_TRUNK_THERE}.{part}" for part in ("blocks.", "patch_embed.projection.", "pos_embed"))
    return any(name.startswith(marks) for name in names)


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in transformers' naming under the published names.

    What `state` lacks (the memory part of a `Sam2Model` file) is lacking in the answer too; a name that
    is in no row stays as it is, so that a strict load reports it.

    Example:
        >>> list(from_transformers({"no_memory_embedding": torch.zeros(1, 1, 256)}))
        ['no_mem_embed']

    Errors: CheckpointError where the two copies of the point encoding's matrix differ, or the point
    embeddings are not four.
    """
    names = _names()
    published: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == _POINTS_THERE:
            published.update(zip(_POINTS, _split_points(tensor), strict=True))
        elif name in _MATRICES_THERE:
            published[_MATRIX] = one_matrix(published.get(_MATRIX), tensor, _MATRICES_THERE, "SAM 2")
        else:
            published[names.ours(name) or name] = tensor
    return published


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under the names of transformers' `Sam2VideoModel`, ready for a strict load.

    Example:
        >>> list(to_transformers({"no_mem_embed": torch.zeros(1, 1, 256)}))
        ['no_memory_embedding']

    Errors: CheckpointError for names that are not of a published SAM 2 (the built-in model's trunk, say).
    """
    names = _names()
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == _MATRIX:
            theirs.update(dict.fromkeys(_MATRICES_THERE, tensor))
        elif name not in _POINTS:
            theirs[_known(name, names)] = tensor
    if any(name in state for name in _POINTS):
        theirs[_POINTS_THERE] = _join_points(state)
    return theirs


def _known(name: str, names: Names) -> str:
    target = names.theirs(name)
    if target is None:
        raise CheckpointError(
            f"{name} has no name in transformers: only the published networks of SAM 2 and SAM 2.1 do. "
            "Give the state dict of one of those."
        )
    return target


def _split_points(tensor: Tensor) -> tuple[Tensor, ...]:
    if tensor.ndim != 2 or len(tensor) != len(_POINTS):
        raise CheckpointError(f"{_POINTS_THERE} has shape {tuple(tensor.shape)}; a SAM 2 has (4, channels).")
    return tuple(tensor[i : i + 1] for i in range(len(_POINTS)))


def _join_points(state: Mapping[str, Tensor]) -> Tensor:
    missing = [name for name in _POINTS if name not in state]
    if missing:
        raise CheckpointError(f"{missing[0]} is missing; transformers joins all four point embeddings.")
    return torch.cat([state[name] for name in _POINTS])


Shapes = Mapping[str, tuple[int, ...]]


@cache
def shapes_of(config: SAM2Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network, without building it."""
    with blank():
        return {name: tuple(t.shape) for name, t in SAM2(config).state_dict().items()}


def config_of(found: Shapes) -> tuple[str, SAM2Config] | None:
    """Name and config of the published network (or the built-in one) that these tensors are, or come closest to.

    None when they are no SAM 2 at all. The trunk's width and depth tell the size; two tensors tell 2.1 from 2.0.
    """
    if "image_encoder.trunk.stem.weight" in found:
        return "builtin", CONFIGS["builtin"]
    patches = found.get("image_encoder.trunk.patch_embed.proj.weight")
    if patches is None:
        return None
    blocks = sum(bool(re.fullmatch(r"image_encoder\.trunk\.blocks\.\d+\.norm1\.weight", name)) for name in found)
    second = "no_obj_embed_spatial" in found or "obj_ptr_tpos_proj.weight" in found
    version = [(name, c) for name, c in CONFIGS.items() if name.startswith("sam2.1_" if second else "sam2_")]
    return min(version, key=lambda item: _distance(item[1], patches[0], blocks))


def _distance(config: SAM2Config, width: int, blocks: int) -> tuple[int, int]:
    """How far a Hiera trunk is from one with so many channels and blocks."""
    assert isinstance(config.trunk, HieraConfig)
    return abs(config.trunk.width - width), abs(sum(config.trunk.depths) - blocks)


def build(config: SAM2Config, state: Mapping[str, Tensor]) -> SAM2:
    """An fp32 network in evaluation mode, filled from `state`; names and shapes must fit exactly."""
    with blank():
        model = SAM2(config)
    floats = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    model.load_state_dict(floats, strict=True, assign=True)
    return model.eval().requires_grad_(False)
