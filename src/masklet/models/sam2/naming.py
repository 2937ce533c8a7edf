"""The published tensor names of SAM 2 and those of `transformers`, mapped both ways.

One table of rows `(published, transformers)` serves both directions; `#` stands for a number that is the
same on both sides. Two things are more than a change of name:

- the four point embeddings are four tensors (1, C) when published and one (4, C) in transformers;
- the random matrix of the point encoding is published once and kept twice in transformers.

There is nothing in either naming that the other lacks. transformers' `Sam2Model` holds only the image part
(without memory encoder, memory attention and object pointers); its files give the image part here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from masklet.errors import CheckpointError

__all__ = ["from_transformers", "is_transformers", "to_transformers"]

_POINTS = tuple(f"sam_prompt_encoder.point_embeddings.{i}.weight" for i in range(4))
_POINTS_THERE = "prompt_encoder.point_embed.weight"
_MATRIX = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_MATRICES_THERE = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)

_TRUNK, _TRUNK_THERE = "image_encoder.trunk", "vision_encoder.backbone"
_PROMPT, _PROMPT_THERE = "sam_prompt_encoder", "prompt_encoder"
_DECODER, _DECODER_THERE = "sam_mask_decoder", "mask_decoder"
_LAYER, _LAYER_THERE = f"{_DECODER}.transformer.layers.#", f"{_DECODER_THERE}.transformer.layers.#"
_DOWN = "memory_encoder.mask_downsampler"
_FUSER, _FUSER_THERE = "memory_encoder.fuser.layers.#", "memory_encoder.memory_fuser.layers.#"

Row = tuple[str, str]


def _same(name: str) -> Row:
    return name, name


def _attention(here: str, there: str) -> Iterator[Row]:
    yield from ((f"{here}.{x}_proj", f"{there}.{x}_proj") for x in "qkv")
    yield f"{here}.out_proj", f"{there}.o_proj"


def _mlp(here: str, there: str, depth: int) -> Iterator[Row]:
    """An MLP's linear layers: first, middle ones and last have names of their own in transformers."""
    yield f"{here}.layers.0", f"{there}.proj_in"
    yield from ((f"{here}.layers.{i}", f"{there}.layers.{i - 1}") for i in range(1, depth - 1))
    yield f"{here}.layers.{depth - 1}", f"{there}.proj_out"


def _norms(here: str, there: str, count: int) -> Iterator[Row]:
    yield from ((f"{here}.norm{i}", f"{there}.layer_norm{i}") for i in range(1, count + 1))


def _image_encoder() -> Iterator[Row]:
    block, block_there = f"{_TRUNK}.blocks.#", f"{_TRUNK_THERE}.blocks.#"
    for leaf in ("pos_embed", "pos_embed_window"):
        yield f"{_TRUNK}.{leaf}", f"{_TRUNK_THERE}.{leaf}"
    yield f"{_TRUNK}.patch_embed.proj", f"{_TRUNK_THERE}.patch_embed.projection"
    for leaf in ("attn.qkv", "attn.proj", "proj"):
        yield f"{block}.{leaf}", f"{block_there}.{leaf}"
    yield from _norms(block, block_there, 2)
    yield from _mlp(f"{block}.mlp", f"{block_there}.mlp", 2)
    yield "image_encoder.neck.convs.#.conv", "vision_encoder.neck.convs.#"


def _prompt_encoder() -> Iterator[Row]:
    for leaf in ("not_a_point_embed", "no_mask_embed"):
        yield f"{_PROMPT}.{leaf}", f"{_PROMPT_THERE}.{leaf}"
    stages = {0: "conv1", 1: "layer_norm1", 3: "conv2", 4: "layer_norm2", 6: "conv3"}
    for index, name in stages.items():
        yield f"{_PROMPT}.mask_downscaling.{index}", f"{_PROMPT_THERE}.mask_embed.{name}"


def _mask_decoder() -> Iterator[Row]:
    for leaf in ("iou_token", "mask_tokens", "obj_score_token", "conv_s0", "conv_s1"):
        yield f"{_DECODER}.{leaf}", f"{_DECODER_THERE}.{leaf}"
    for attention in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
        yield from _attention(f"{_LAYER}.{attention}", f"{_LAYER_THERE}.{attention}")
    yield from _norms(_LAYER, _LAYER_THERE, 4)
    yield from _mlp(f"{_LAYER}.mlp", f"{_LAYER_THERE}.mlp", 2)
    final = "transformer.final_attn_token_to_image"
    yield from _attention(f"{_DECODER}.{final}", f"{_DECODER_THERE}.{final}")
    yield f"{_DECODER}.transformer.norm_final_attn", f"{_DECODER_THERE}.transformer.layer_norm_final_attn"
    upscaling = {0: "upscale_conv1", 1: "upscale_layer_norm", 3: "upscale_conv2"}
    for index, name in upscaling.items():
        yield f"{_DECODER}.output_upscaling.{index}", f"{_DECODER_THERE}.{name}"
    for head in ("output_hypernetworks_mlps.#", "iou_prediction_head", "pred_obj_score_head"):
        yield from _mlp(f"{_DECODER}.{head}", f"{_DECODER_THERE}.{head}", 3)


def _memory_attention() -> Iterator[Row]:
    layer = "memory_attention.layers.#"
    for attention in ("self_attn", "cross_attn_image"):
        yield from _attention(f"{layer}.{attention}", f"{layer}.{attention}")
    yield from _norms(layer, layer, 3)
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
    yield from _mlp("obj_ptr_proj", "object_pointer_proj", 3)


_PARTS = (_image_encoder, _prompt_encoder, _mask_decoder, _memory_attention, _memory_encoder, _tracking)


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    """Published to transformers, and back, as templates with `#` for the numbers that stay."""
    rows = [row for part in _PARTS for row in part()]
    forward, backward = dict(rows), {there: here for here, there in rows}
    assert len(forward) == len(backward) == len(rows), "two rows share a name"
    return forward, backward


def _translate(name: str, table: Mapping[str, str]) -> str | None:
    """`name` by `table`; None where no row fits."""
    stem, leaf = re.fullmatch(r"(.*?)(\.weight|\.bias)?", name).groups()  # type: ignore[union-attr]
    if stem in table:
        return f"{table[stem]}{leaf or ''}"
    for number in re.finditer(r"(?<=\.)\d+(?=\.|$)", stem):
        target = table.get(f"{stem[: number.start()]}#{stem[number.end() :]}")
        if target:
            return f"{target.replace('#', number[0])}{leaf or ''}"
    return None


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
    _, table = _tables()
    published: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == _POINTS_THERE:
            published.update(zip(_POINTS, _split_points(tensor), strict=True))
        elif name in _MATRICES_THERE:
            published[_MATRIX] = _one_matrix(published.get(_MATRIX), tensor)
        else:
            published[_translate(name, table) or name] = tensor
    return published


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under the names of transformers' `Sam2VideoModel`, ready for a strict load.

    Example:
        >>> list(to_transformers({"no_mem_embed": torch.zeros(1, 1, 256)}))
        ['no_memory_embedding']

    Errors: CheckpointError for names that are not of a published SAM 2 (the built-in model's trunk, say).
    """
    table, _ = _tables()
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == _MATRIX:
            theirs.update(dict.fromkeys(_MATRICES_THERE, tensor))
        elif name not in _POINTS:
            theirs[_known(name, table)] = tensor
    if any(name in state for name in _POINTS):
        theirs[_POINTS_THERE] = _join_points(state)
    return theirs


def _known(name: str, table: Mapping[str, str]) -> str:
    target = _translate(name, table)
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


def _one_matrix(earlier: Tensor | None, tensor: Tensor) -> Tensor:
    if earlier is not None and not (earlier.is_meta or torch.equal(earlier, tensor)):
        raise CheckpointError(f"{_MATRICES_THERE[0]} and {_MATRICES_THERE[1]} differ; a SAM 2 has one. Save it anew.")
    return tensor
