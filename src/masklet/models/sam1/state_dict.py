"""State dicts of SAM 1: names in `transformers`, the size of the network in a file, and the network built from it.

One thing is more than a change of name: the random matrix of the point encoding is published once and stored twice in
transformers. MobileSAM has no names there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from torch import Tensor

from masklet.errors import CheckpointError
from masklet.models.hf_keys import (
    KeyMapping,
    KeyPair,
    deduplicate_matrix,
    mask_decoder_keys,
    norm_keys,
    prompt_encoder_keys,
)
from masklet.models.sam1.config import CONFIGS, SAM1Config, ViTConfig
from masklet.models.sam1.model import SAM1
from masklet.nn.meta_init import network_from_state, network_shapes

__all__ = ["build", "expected_shapes", "from_transformers", "infer_config", "is_transformers", "to_transformers"]

_POSITION_MATRIX = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_HF_POSITION_MATRICES = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
_BLOCK, _HF_BLOCK = "image_encoder.blocks.#", "vision_encoder.layers.#"


def _key_pairs() -> Iterator[KeyPair]:
    """Yield the rows of the table."""
    # the image encoder
    yield "image_encoder.pos_embed", "vision_encoder.pos_embed"
    yield "image_encoder.patch_embed.proj", "vision_encoder.patch_embed.projection"
    yield from norm_keys(_BLOCK, _HF_BLOCK, 2)
    for leaf in ("attn.rel_pos_h", "attn.rel_pos_w", "attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"):
        yield f"{_BLOCK}.{leaf}", f"{_HF_BLOCK}.{leaf}"
    for index, name in enumerate(("conv1", "layer_norm1", "conv2", "layer_norm2")):
        yield f"image_encoder.neck.{index}", f"vision_encoder.neck.{name}"

    # prompt encoder and mask decoder
    yield "prompt_encoder.point_embeddings.#", "prompt_encoder.point_embed.#"
    yield from prompt_encoder_keys("prompt_encoder", "prompt_encoder")
    yield from mask_decoder_keys("mask_decoder", "mask_decoder", out="out_proj")
    for leaf in ("lin1", "lin2"):
        yield f"mask_decoder.transformer.layers.#.mlp.{leaf}", f"mask_decoder.transformer.layers.#.mlp.{leaf}"


_KEYS = KeyMapping.from_pairs(_key_pairs())


def is_transformers(names: Iterable[str]) -> bool:
    """Return whether tensor names are those of transformers' `SamModel`.

    Example:
        >>> is_transformers(["vision_encoder.pos_embed", "mask_decoder.iou_token.weight"])
        True
        >>> is_transformers(["image_encoder.pos_embed", "mask_decoder.iou_token.weight"])
        False
    """
    marks = ("vision_encoder.layers.", "vision_encoder.patch_embed.projection.", "vision_encoder.pos_embed")
    names = list(names)
    return any(n.startswith(marks) for n in names) and any(n.startswith("mask_decoder.") for n in names)


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of transformers to the published names; an unknown name stays as it is.

    Example:
        >>> list(from_transformers({"vision_encoder.pos_embed": torch.zeros(1, 64, 64, 768)}))
        ['image_encoder.pos_embed']

    Raises:
        CheckpointError: if the two copies of the positional matrix differ.
    """
    published: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in _HF_POSITION_MATRICES:
            published[_POSITION_MATRIX] = deduplicate_matrix(
                published.get(_POSITION_MATRIX), tensor, _HF_POSITION_MATRICES, "SAM"
            )
        else:
            published[_KEYS.translate(name, to_published=True) or name] = tensor
    return published


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published state dict to the names of transformers' `SamModel`, for a strict load.

    Example:
        >>> list(to_transformers({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 768)}))
        ['vision_encoder.pos_embed']

    Raises:
        CheckpointError: if a name is not of a published SAM ViT (MobileSAM's trunk, for example).
    """
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        target = _KEYS.translate(name, to_published=False)
        if name == _POSITION_MATRIX:
            theirs.update(dict.fromkeys(_HF_POSITION_MATRICES, tensor))
        elif target is None:
            raise CheckpointError(
                f"{name} has no name in transformers: only SAM ViT-B, L and H do. Give the state dict of one of those."
            )
        else:
            theirs[target] = tensor
    return theirs


Shapes = Mapping[str, tuple[int, ...]]


expected_shapes = partial(network_shapes, SAM1)
"""The name and shape of every tensor of a network, by its `SAM1Config`."""
build = partial(network_from_state, SAM1)
"""Build the network of a `SAM1Config` from a state dict."""


def infer_config(shapes: Shapes) -> tuple[str, SAM1Config] | None:
    """Infer which published network these tensors belong to, or are closest to.

    Returns its name and config; None if they are not a SAM 1.
    """
    if "image_encoder.patch_embed.seq.0.c.weight" in shapes:
        return "mobile_sam", CONFIGS["mobile_sam"]
    patches = shapes.get("image_encoder.patch_embed.proj.weight")
    if patches is None:
        return None
    distances = {n: abs(c.trunk.width - patches[0]) for n, c in CONFIGS.items() if isinstance(c.trunk, ViTConfig)}
    nearest = min(distances, key=distances.__getitem__)
    return nearest, CONFIGS[nearest]
