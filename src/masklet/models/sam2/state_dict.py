"""State dicts of SAM 2: names in `transformers`, the size of the network in a file, and the network built from it.

Three things are more than a change of name:

- the four point embeddings are four tensors (1, C) when published and one (4, C) in transformers;
- the random matrix of the point encoding is published once and stored twice in transformers;
- keys and values of EdgeTAM's perceiver are one tensor (2 C, C) when published and two in transformers.

Both namings hold the same tensors. transformers' `Sam2Model` and `EdgeTamModel` hold only the image part (no memory
encoder, memory attention or object pointers); their files give the image part here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from masklet.errors import CheckpointError
from masklet.models.hf_keys import (
    KeyMapping,
    KeyPair,
    attention_keys,
    deduplicate_matrix,
    mask_decoder_keys,
    mlp_keys,
    norm_keys,
    prompt_encoder_keys,
)
from masklet.models.sam2.config import CONFIGS, HieraConfig, SAM2Config
from masklet.models.sam2.model import SAM2
from masklet.nn.meta_init import network_from_state, network_shapes

__all__ = ["build", "expected_shapes", "from_transformers", "infer_config", "is_transformers", "to_transformers"]

IOU_CALIBRATION = "sam_mask_decoder.iou_calibration"
_POINTS = tuple(f"sam_prompt_encoder.point_embeddings.{i}.weight" for i in range(4))
_HF_POINTS = "prompt_encoder.point_embed.weight"
_POSITION_MATRIX = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_HF_POSITION_MATRICES = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)

_TRUNK, _HF_TRUNK = "image_encoder.trunk", "vision_encoder.backbone"
_DECODER, _HF_DECODER = "sam_mask_decoder", "mask_decoder"
_LAYER, _HF_LAYER = f"{_DECODER}.transformer.layers.#", f"{_HF_DECODER}.transformer.layers.#"
_DOWNSAMPLER = "memory_encoder.mask_downsampler"
_FUSER, _HF_FUSER = "memory_encoder.fuser.layers.#", "memory_encoder.memory_fuser.layers.#"


_BODY, _HF_BODY = f"{_TRUNK}.body.", f"{_HF_TRUNK}.timm_model."
"""Prefixes of EdgeTAM's trunk, whose names are the same behind them."""
_TO_KV = re.compile(r"(spatial_perceiver\.layers\.\d+)\.(self_)?attn\.to_kv\.weight")
_HF_KV = re.compile(r"(spatial_perceiver\.layers\.\d+)\.(cross|self)_attention\.([kv])_proj\.weight")


def _key_pairs(edgetam: bool = False) -> Iterator[KeyPair]:
    """Yield the rows of the table, of SAM 2 or of EdgeTAM."""
    # the image encoder
    block, hf_block = f"{_TRUNK}.blocks.#", f"{_HF_TRUNK}.blocks.#"
    for leaf in ("pos_embed", "pos_embed_window"):
        yield f"{_TRUNK}.{leaf}", f"{_HF_TRUNK}.{leaf}"
    yield f"{_TRUNK}.patch_embed.proj", f"{_HF_TRUNK}.patch_embed.projection"
    for leaf in ("attn.qkv", "attn.proj", "proj"):
        yield f"{block}.{leaf}", f"{hf_block}.{leaf}"
    yield from norm_keys(block, hf_block, 2)
    yield from mlp_keys(f"{block}.mlp", f"{hf_block}.mlp", 2)
    yield "image_encoder.neck.convs.#.conv", "vision_encoder.neck.convs.#"

    # prompt encoder and mask decoder
    yield from prompt_encoder_keys("sam_prompt_encoder", "prompt_encoder")
    yield from mask_decoder_keys(_DECODER, _HF_DECODER)
    for leaf in ("obj_score_token", "conv_s0", "conv_s1"):
        yield f"{_DECODER}.{leaf}", f"{_HF_DECODER}.{leaf}"
    yield from mlp_keys(f"{_LAYER}.mlp", f"{_HF_LAYER}.mlp", 2)
    yield from mlp_keys(f"{_DECODER}.pred_obj_score_head", f"{_HF_DECODER}.pred_obj_score_head", 3)

    # memory attention and memory encoder
    layer = "memory_attention.layers.#"
    for part in ("self_attn", "cross_attn_image"):
        yield from attention_keys(f"{layer}.{part}", f"{layer}.{part}")
    yield from norm_keys(layer, layer, 3)
    hidden = ("mlp.up_proj", "mlp.down_proj") if edgetam else ("linear1", "linear2")
    yield from ((f"{layer}.linear{i}", f"{layer}.{theirs}") for i, theirs in enumerate(hidden, start=1))
    yield "memory_attention.norm", "memory_attention.layer_norm"
    for stage in range(4):
        yield f"{_DOWNSAMPLER}.encoder.{3 * stage}", f"{_DOWNSAMPLER}.layers.{stage}.conv"
        yield f"{_DOWNSAMPLER}.encoder.{3 * stage + 1}", f"{_DOWNSAMPLER}.layers.{stage}.layer_norm"
    yield f"{_DOWNSAMPLER}.encoder.12", f"{_DOWNSAMPLER}.final_conv"
    yield "memory_encoder.pix_feat_proj", "memory_encoder.feature_projection"
    yield "memory_encoder.out_proj", "memory_encoder.projection"
    parts = {
        "gamma": "scale",
        "dwconv": "depthwise_conv",
        "norm": "layer_norm",
        "pwconv1": "pointwise_conv1",
        "pwconv2": "pointwise_conv2",
    }
    yield from ((f"{_FUSER}.{published}", f"{_HF_FUSER}.{theirs}") for published, theirs in parts.items())

    # embeddings for tracking
    yield "mask_downsample", "mask_downsample"
    yield "maskmem_tpos_enc", "memory_temporal_positional_encoding"
    yield "no_mem_embed", "no_memory_embedding"
    yield "no_mem_pos_enc", "no_memory_positional_encoding"
    yield "no_obj_ptr", "no_object_pointer"
    yield "no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"
    yield "obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer"
    yield from mlp_keys("obj_ptr_proj", "object_pointer_proj", 3)
    if edgetam:
        yield from _perceiver_keys()


def _perceiver_keys() -> Iterator[KeyPair]:
    layer = "spatial_perceiver.layers.#"
    yield "spatial_perceiver.latents", "spatial_perceiver.latents_1d"
    yield "spatial_perceiver.latents_2d", "spatial_perceiver.latents_2d"
    yield "spatial_perceiver.norm", "spatial_perceiver.layer_norm"
    for attention, theirs in (("attn", "cross_attention"), ("self_attn", "self_attention")):
        yield f"{layer}.{attention}.to_q", f"{layer}.{theirs}.q_proj"
        yield f"{layer}.{attention}.to_out", f"{layer}.{theirs}.o_proj"
    yield f"{layer}.attn.norm_x", f"{layer}.layer_norm_input"
    yield f"{layer}.attn.norm_latents", f"{layer}.layer_norm_latents"
    yield f"{layer}.self_attn.norm", f"{layer}.layer_norm_self"
    for published, theirs in (("ff", "mlp"), ("self_ff", "self_mlp")):
        for index, leaf in {0: "layer_norm", 1: "up_proj", 3: "down_proj"}.items():
            yield f"{layer}.{published}.{index}", f"{layer}.{theirs}.{leaf}"


_KEYS, _EDGETAM_KEYS = KeyMapping.from_pairs(_key_pairs()), KeyMapping.from_pairs(_key_pairs(edgetam=True))


def _translate(name: str, keys: KeyMapping, *, to_published: bool) -> str | None:
    """Translate a name by a table, or by the prefix of EdgeTAM's trunk."""
    before, after = (_HF_BODY, _BODY) if to_published else (_BODY, _HF_BODY)
    if name.startswith(before):
        return after + name.removeprefix(before)
    return keys.translate(name, to_published=to_published)


def is_transformers(names: Iterable[str]) -> bool:
    """Return whether tensor names are those of transformers' `Sam2Model`, `EdgeTamModel` or their video models.

    Example:
        >>> is_transformers(["vision_encoder.backbone.pos_embed"])
        True
        >>> is_transformers(["image_encoder.trunk.pos_embed"])
        False
    """
    marks = tuple(f"{_HF_TRUNK}.{part}" for part in ("blocks.", "patch_embed.projection.", "pos_embed", "timm_model."))
    return any(name.startswith(marks) for name in names)


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of transformers to the published names.

    A missing part (the memory in a `Sam2Model` file) stays missing; an unknown name stays as it is, so that a strict
    load reports it.

    Example:
        >>> list(from_transformers({"no_memory_embedding": torch.zeros(1, 1, 256)}))
        ['no_mem_embed']

    Raises:
        CheckpointError: if the two copies of the positional matrix differ, or if there are not four point embeddings.
    """
    keys = _EDGETAM_KEYS if any(name.startswith(_HF_BODY) for name in state) else _KEYS
    published: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == _HF_POINTS:
            if tensor.ndim != 2 or len(tensor) != len(_POINTS):
                raise CheckpointError(f"{_HF_POINTS} has shape {tuple(tensor.shape)}; a SAM 2 has (4, channels).")
            published.update(zip(_POINTS, torch.split(tensor, 1), strict=True))
        elif name in _HF_POSITION_MATRICES:
            published[_POSITION_MATRIX] = deduplicate_matrix(
                published.get(_POSITION_MATRIX), tensor, _HF_POSITION_MATRICES, "SAM 2"
            )
        elif (kv := _HF_KV.fullmatch(name)) is not None:
            part = f"{kv[1]}.{'self_attn' if kv[2] == 'self' else 'attn'}.to_kv.weight"
            other = state.get(name.replace(f".{kv[3]}_proj.", ".v_proj." if kv[3] == "k" else ".k_proj."))
            if other is not None:
                published[part] = torch.cat([tensor, other] if kv[3] == "k" else [other, tensor])
        else:
            published[_translate(name, keys, to_published=True) or name] = tensor
    return published


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published state dict to those of transformers' `Sam2VideoModel` or `EdgeTamVideoModel`.

    Example:
        >>> list(to_transformers({"no_mem_embed": torch.zeros(1, 1, 256)}))
        ['no_memory_embedding']

    Raises:
        CheckpointError: if a name is not of a published SAM 2 (the built-in model's trunk, for example).
    """
    keys = _EDGETAM_KEYS if any(name.startswith(_BODY) for name in state) else _KEYS
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == _POSITION_MATRIX:
            theirs.update(dict.fromkeys(_HF_POSITION_MATRICES, tensor))
        elif (kv := _TO_KV.fullmatch(name)) is not None:
            attention = f"{kv[1]}.{'self' if kv[2] else 'cross'}_attention"
            for leaf, half in zip(("k_proj", "v_proj"), tensor.chunk(2), strict=True):
                theirs[f"{attention}.{leaf}.weight"] = half
        elif name not in _POINTS:
            target = _translate(name, keys, to_published=False)
            if target is None:
                raise CheckpointError(
                    f"{name} has no name in transformers: only the published networks of SAM 2, 2.1 and EdgeTAM do. "
                    "Give the state dict of one of those."
                )
            theirs[target] = tensor
    missing = [name for name in _POINTS if name not in state]
    if not missing:
        theirs[_HF_POINTS] = torch.cat([state[name] for name in _POINTS])
    elif len(missing) < len(_POINTS):
        raise CheckpointError(f"{missing[0]} is missing; transformers joins all four point embeddings.")
    return theirs


Shapes = Mapping[str, tuple[int, ...]]


expected_shapes = partial(network_shapes, SAM2)
"""The name and shape of every tensor of a network, by its `SAM2Config`."""
build = partial(network_from_state, SAM2)
"""Build the network of a `SAM2Config` from a state dict."""


def infer_config(shapes: Shapes) -> tuple[str, SAM2Config] | None:
    """Infer which published network (or the built-in one) these tensors belong to, or are closest to.

    Returns its name and config; None if they are not a SAM 2. The trunk's width and depth determine the size, two
    tensors distinguish SAM 2.1 from 2.0.
    """
    if "image_encoder.trunk.stem.weight" in shapes:
        config = replace(CONFIGS["builtin"], iou_knots=(shapes.get(IOU_CALIBRATION) or (0,))[-1])
        return "builtin", config if "matching_projection" in shapes else replace(config, matching=None)
    if "image_encoder.trunk.body.stem.conv1.c.weight" in shapes:
        return "edgetam", CONFIGS["edgetam"]
    patches = shapes.get("image_encoder.trunk.patch_embed.proj.weight")
    if patches is None:
        return None
    if "image_encoder.neck.convs.0.conv_3x3.weight" in shapes:
        name = "efficienttam_ti" if patches[0] <= CONFIGS["efficienttam_ti"].trunk.channels[0] else "efficienttam_s"
        return name, CONFIGS[name]
    blocks = sum(bool(re.fullmatch(r"image_encoder\.trunk\.blocks\.\d+\.norm1\.weight", name)) for name in shapes)
    is_2_1 = "no_obj_embed_spatial" in shapes or "obj_ptr_tpos_proj.weight" in shapes

    version, distances = "sam2.1_" if is_2_1 else "sam2_", {}
    for name, config in CONFIGS.items():
        if name.startswith(version) and isinstance(config.trunk, HieraConfig):
            trunk = config.trunk
            distances[name] = (abs(trunk.width - patches[0]), abs(sum(trunk.depths) - blocks))
    nearest = min(distances, key=distances.__getitem__)
    return nearest, CONFIGS[nearest]
