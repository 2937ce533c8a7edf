"""Tensor names as published and as in `transformers`: the part that SAM 1 and SAM 2 share.

A table of rows `(published, transformers)` serves both directions. `#` stands for a number that is the same on both
sides; weight and bias follow their stem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from masklet.errors import CheckpointError

__all__ = [
    "KeyMapping",
    "KeyPair",
    "attention_keys",
    "deduplicate_matrix",
    "mask_decoder_keys",
    "mlp_keys",
    "norm_keys",
    "prompt_encoder_keys",
]

KeyPair = tuple[str, str]


@dataclass(frozen=True)
class KeyMapping:
    """A table of tensor names that is read in both directions.

    Example:
        >>> keys = KeyMapping.from_pairs([("neck.#", "vision.neck.layers.#")])
        >>> keys.translate("neck.3.weight", to_published=False)
        'vision.neck.layers.3.weight'
        >>> keys.translate("vision.neck.layers.3.weight", to_published=True)
        'neck.3.weight'
    """

    published_to_transformers: Mapping[str, str]
    transformers_to_published: Mapping[str, str]

    @classmethod
    def from_pairs(cls, pairs: Iterable[KeyPair]) -> KeyMapping:
        """Build the table of these rows; no name may occur twice."""
        pairs = list(pairs)
        forward, backward = dict(pairs), {theirs: published for published, theirs in pairs}
        assert len(forward) == len(backward) == len(pairs), "two rows share a name"
        return cls(forward, backward)

    def translate(self, name: str, *, to_published: bool) -> str | None:
        """Translate a published name to that of transformers, or back (`to_published`); None if no row matches."""
        table = self.transformers_to_published if to_published else self.published_to_transformers
        stem, leaf = re.fullmatch(r"(.*?)(\.weight|\.bias)?", name).groups()  # type: ignore[union-attr]
        if stem in table:
            return f"{table[stem]}{leaf or ''}"
        for number in re.finditer(r"(?<=\.)\d+(?=\.|$)", stem):
            target = table.get(f"{stem[: number.start()]}#{stem[number.end() :]}")
            if target:
                return f"{target.replace('#', number[0])}{leaf or ''}"
        return None


def attention_keys(published: str, transformers: str, out: str = "o_proj") -> Iterator[KeyPair]:
    """Yield the rows of an attention layer; `out` is transformers' name of the output projection."""
    yield from ((f"{published}.{x}_proj", f"{transformers}.{x}_proj") for x in "qkv")
    yield f"{published}.out_proj", f"{transformers}.{out}"


def mlp_keys(published: str, transformers: str, depth: int) -> Iterator[KeyPair]:
    """Yield the rows of an MLP; transformers names its first, middle and last layers differently."""
    yield f"{published}.layers.0", f"{transformers}.proj_in"
    yield from ((f"{published}.layers.{i}", f"{transformers}.layers.{i - 1}") for i in range(1, depth - 1))
    yield f"{published}.layers.{depth - 1}", f"{transformers}.proj_out"


def norm_keys(published: str, transformers: str, count: int) -> Iterator[KeyPair]:
    """Yield the rows of `count` normalizations, numbered from one."""
    yield from ((f"{published}.norm{i}", f"{transformers}.layer_norm{i}") for i in range(1, count + 1))


def prompt_encoder_keys(published: str, transformers: str) -> Iterator[KeyPair]:
    """Yield the rows of the prompt encoder, except for points and the positional matrix."""
    for leaf in ("not_a_point_embed", "no_mask_embed"):
        yield f"{published}.{leaf}", f"{transformers}.{leaf}"
    stages = {0: "conv1", 1: "layer_norm1", 3: "conv2", 4: "layer_norm2", 6: "conv3"}
    for index, name in stages.items():
        yield f"{published}.mask_downscaling.{index}", f"{transformers}.mask_embed.{name}"


def mask_decoder_keys(published: str, transformers: str, out: str = "o_proj") -> Iterator[KeyPair]:
    """Yield the rows of the mask decoder, except for its transformer's MLPs and what only SAM 2 has."""
    layer, hf_layer = f"{published}.transformer.layers.#", f"{transformers}.transformer.layers.#"
    for leaf in ("iou_token", "mask_tokens"):
        yield f"{published}.{leaf}", f"{transformers}.{leaf}"
    for part in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
        yield from attention_keys(f"{layer}.{part}", f"{hf_layer}.{part}", out)
    yield from norm_keys(layer, hf_layer, 4)
    final = "transformer.final_attn_token_to_image"
    yield from attention_keys(f"{published}.{final}", f"{transformers}.{final}", out)
    yield f"{published}.transformer.norm_final_attn", f"{transformers}.transformer.layer_norm_final_attn"
    upscaling = {0: "upscale_conv1", 1: "upscale_layer_norm", 3: "upscale_conv2"}
    for index, name in upscaling.items():
        yield f"{published}.output_upscaling.{index}", f"{transformers}.{name}"
    for head in ("output_hypernetworks_mlps.#", "iou_prediction_head"):
        yield from mlp_keys(f"{published}.{head}", f"{transformers}.{head}", 3)


def deduplicate_matrix(previous: Tensor | None, tensor: Tensor, names: tuple[str, str], family: str) -> Tensor:
    """Return the positional matrix, which is published once and stored twice in transformers.

    Raises:
        CheckpointError: if the two copies differ.
    """
    if previous is not None and not (previous.is_meta or torch.equal(previous, tensor)):
        raise CheckpointError(f"{names[0]} and {names[1]} differ; a {family} has one. Save the file again.")
    return tensor
