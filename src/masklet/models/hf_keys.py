"""Tensor names as published and as `transformers` has them: what the families have in common.

A table of rows `(published, transformers)` serves both directions; `#` stands for a number that is the same on both
sides, and weight and bias go with their stem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from masklet.errors import CheckpointError

__all__ = ["Names", "Row", "attention", "decoder", "mlp", "norms", "one_matrix", "prompts"]

Row = tuple[str, str]


@dataclass(frozen=True)
class Names:
    """A table of names, read either way.

    Example:
        >>> names = Names.of([("neck.#", "vision.neck.layers.#")])
        >>> names.theirs("neck.3.weight"), names.ours("vision.neck.layers.3.weight"), names.ours("head.weight")
        ('vision.neck.layers.3.weight', 'neck.3.weight', None)
    """

    forward: Mapping[str, str]
    backward: Mapping[str, str]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Names:
        """The table of these rows."""
        rows = list(rows)
        forward, backward = dict(rows), {there: here for here, there in rows}
        assert len(forward) == len(backward) == len(rows), "two rows share a name"
        return cls(forward, backward)

    def theirs(self, name: str) -> str | None:
        """A published name in transformers; None where no row fits."""
        return _translate(name, self.forward)

    def ours(self, name: str) -> str | None:
        """A name of transformers as it was published; None where no row fits."""
        return _translate(name, self.backward)


def _translate(name: str, table: Mapping[str, str]) -> str | None:
    stem, leaf = re.fullmatch(r"(.*?)(\.weight|\.bias)?", name).groups()  # type: ignore[union-attr]
    if stem in table:
        return f"{table[stem]}{leaf or ''}"
    for number in re.finditer(r"(?<=\.)\d+(?=\.|$)", stem):
        target = table.get(f"{stem[: number.start()]}#{stem[number.end() :]}")
        if target:
            return f"{target.replace('#', number[0])}{leaf or ''}"
    return None


def attention(here: str, there: str, out: str = "o_proj") -> Iterator[Row]:
    """Queries, keys and values; `out` is what transformers calls the last projection."""
    yield from ((f"{here}.{x}_proj", f"{there}.{x}_proj") for x in "qkv")
    yield f"{here}.out_proj", f"{there}.{out}"


def mlp(here: str, there: str, depth: int) -> Iterator[Row]:
    """An MLP's linear layers: first, middle ones and last have names of their own in transformers."""
    yield f"{here}.layers.0", f"{there}.proj_in"
    yield from ((f"{here}.layers.{i}", f"{there}.layers.{i - 1}") for i in range(1, depth - 1))
    yield f"{here}.layers.{depth - 1}", f"{there}.proj_out"


def norms(here: str, there: str, count: int) -> Iterator[Row]:
    """Normalisations, counted from one."""
    yield from ((f"{here}.norm{i}", f"{there}.layer_norm{i}") for i in range(1, count + 1))


def prompts(here: str, there: str) -> Iterator[Row]:
    """The prompt encoder, but for points and the matrix of positions."""
    for leaf in ("not_a_point_embed", "no_mask_embed"):
        yield f"{here}.{leaf}", f"{there}.{leaf}"
    stages = {0: "conv1", 1: "layer_norm1", 3: "conv2", 4: "layer_norm2", 6: "conv3"}
    for index, name in stages.items():
        yield f"{here}.mask_downscaling.{index}", f"{there}.mask_embed.{name}"


def decoder(here: str, there: str, out: str = "o_proj") -> Iterator[Row]:
    """The mask decoder, but for the MLPs of its transformer and what only SAM 2 has."""
    layer, layer_there = f"{here}.transformer.layers.#", f"{there}.transformer.layers.#"
    for leaf in ("iou_token", "mask_tokens"):
        yield f"{here}.{leaf}", f"{there}.{leaf}"
    for part in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
        yield from attention(f"{layer}.{part}", f"{layer_there}.{part}", out)
    yield from norms(layer, layer_there, 4)
    final = "transformer.final_attn_token_to_image"
    yield from attention(f"{here}.{final}", f"{there}.{final}", out)
    yield f"{here}.transformer.norm_final_attn", f"{there}.transformer.layer_norm_final_attn"
    upscaling = {0: "upscale_conv1", 1: "upscale_layer_norm", 3: "upscale_conv2"}
    for index, name in upscaling.items():
        yield f"{here}.output_upscaling.{index}", f"{there}.{name}"
    for head in ("output_hypernetworks_mlps.#", "iou_prediction_head"):
        yield from mlp(f"{here}.{head}", f"{there}.{head}", 3)


def one_matrix(earlier: Tensor | None, tensor: Tensor, names: tuple[str, str], family: str) -> Tensor:
    """The matrix of positions, published once and kept twice in transformers.

    Errors: CheckpointError where the two copies differ.
    """
    if earlier is not None and not (earlier.is_meta or torch.equal(earlier, tensor)):
        raise CheckpointError(f"{names[0]} and {names[1]} differ; a {family} has one. Save it anew.")
    return tensor
