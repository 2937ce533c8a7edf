"""Many prompts about one image: what they share is done once, and what is a prompt's own stays small.

A prompt writes to the places of an image only through their attention to its few tokens: with H heads and T tokens,
the update of all places has rank H T. So the places of a prompt are never made. With r for the scales of normalization,

    after the first layer   places = norm(X + U z),            z = A
    after the second        places = norm(r X' + b + U' z'),   z' = [r A; A']

where X (C, S) is the image, A and A' (H T, S) are attention weights, and U is made from the prompt's values. All that
reads places is linear once they are normalized: its product with X is made once an image (`Table`), that with U once
a prompt, over tokens, and only z is as large as the map. The sum of squares that normalization needs is a quadratic
form in z. This is the function of `MaskDecoder`, to the last digits of fp32, with about a fifth of its products.

Where prompts are drawn as maps too (the built-in model), X differs near the click, and only there: these columns of
the table are the prompt's own.

Shapes: B prompts, T tokens, H heads, I channels inside attention, D = I / H, S places, C channels, R = H T rows of A,
K candidates, N outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor, nn

from masklet.models.fast_cpu.shared_prompt_upscaling import SharedPromptUpscaling
from masklet.models.fast_cpu.shared_prompt_weights import ProjectionTable, SharedPromptWeights, matmul
from masklet.models.heads.mask_decoder import NUM_MASK_TOKENS, MaskDecoder, MaskDecoderBase
from masklet.models.heads.prompt_encoder import STRIDE, PromptEncoder
from masklet.models.heads.two_way_transformer import TwoWayBlock
from masklet.models.types import ImageFeatures, MaskPrediction, PromptTensors
from masklet.nn.attention import Attention, merge_heads, split_heads
from masklet.nn.fused_ops import fused_linear, has_fused_operators
from masklet.nn.layers import MLP

__all__ = ["SharedPrediction", "SharedPromptContext", "SharedPromptDecoder"]

MAX_ATTENTION_BYTES = 1 << 25
"""Of the attention weights that are kept of prompts answered together."""
CLICK_REACH = 48
"""Pixels of the input beyond which the drawing of a click is lost in rounding: exp(-(REACH / 4)^2 / 8) < 2e-8."""
T = TypeVar("T")


class SharedPromptDecoder:
    """`PromptEncoder` and `MaskDecoder`, of weights that no longer change, for many points about one image.

    Example:
        >>> decode = SharedDecoder(model.sam_prompt_encoder, model.sam_mask_decoder)
        >>> answer = decode.look(features).ask(prompts)
        >>> answer.logits(0, torch.tensor([1, 3])).shape
        torch.Size([2, 256, 256])
    """

    def __init__(self, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoderBase) -> None:
        self.prompt_encoder, self.mask_decoder = prompt_encoder, mask_decoder
        first, second = (block for block in mask_decoder.transformer.layers if isinstance(block, TwoWayBlock))
        self.blocks = (first, second)
        self.upscale = SharedPromptUpscaling(mask_decoder)
        self.weights = SharedPromptWeights(mask_decoder, self.upscale.first_NC, self.upscale.first_bias_N)

    def prepare(self, features: ImageFeatures) -> SharedPromptContext:
        """What all prompts share of one image; `features` as `decode` takes them."""
        assert len(features.embed_BCHW) == 1, "one image"
        return SharedPromptContext(self, features)


@dataclass(frozen=True)
class LowRankUpdate:
    """What one prompt has made of all places, without making them."""

    z_ZS: Tensor
    """Attention weights of both layers, those of the first scaled as below."""
    first_1S: Tensor
    second_1S: Tensor
    """Scales of normalization after either layer."""
    up_ZN: Tensor
    """What z adds to the first layer of the way up."""


@dataclass(frozen=True)
class SharedPrediction:
    """What the network thinks of the candidates of B prompts; masks are made of those that are wanted."""

    context: SharedPromptContext
    iou_BK: Tensor
    """All four candidates, as `MaskPrediction`."""
    kernels_BKC: Tensor
    updates: list[LowRankUpdate]
    prompt_map_columns: list[PromptMapColumns | None]

    def logits_of_prompts(self, prompts: list[int]) -> Tensor:
        """(len(prompts), K, 4 H, 4 W): all candidates of some prompts."""
        every = torch.arange(NUM_MASK_TOKENS)
        made = [self.logits(prompt, every) for prompt in prompts]
        return torch.stack(made) if made else self._empty_logits.expand(0, NUM_MASK_TOKENS, -1, -1)

    def logits_of_candidates(self, prompts_N: Tensor, candidates_N: Tensor) -> Tensor:
        """(N, 4 H, 4 W): some candidates, those of one prompt next to each other."""
        found, counts = torch.unique_consecutive(prompts_N, return_counts=True)
        parts = torch.split(candidates_N, counts.tolist())
        made = [self.logits(prompt, some) for prompt, some in zip(found.tolist(), parts, strict=True)]
        return torch.cat(made) if made else self._empty_logits[0, :0]

    def candidates(self, prompts: list[int]) -> MaskPrediction:
        """All candidates of some prompts, as `choose` takes them; they have no tokens, and say nothing of presence."""
        logits_BKHW, iou_BK = self.logits_of_prompts(prompts), self.iou_BK[prompts]
        return MaskPrediction(logits_BKHW, iou_BK, iou_BK.new_zeros(len(prompts), 1), iou_BK[..., None][..., :0])

    @property
    def _empty_logits(self) -> Tensor:
        height, width = self.context.size
        return self.iou_BK.new_zeros(1, 1, 4 * height, 4 * width)

    def logits(self, prompt: int, candidates: Tensor) -> Tensor:
        """(len(candidates), 4 H, 4 W): the masks of some candidates of one prompt."""
        image, update = self.context, self.updates[prompt]
        with image.with_prompt_map_columns(self.prompt_map_columns[prompt]):
            half_NS = matmul(update.up_ZN.t(), update.z_ZS)
            half_NS.addcmul_(image.table.up_NS, update.first_1S).add_(image.weights.beta_up_N1)
            half_NS.mul_(update.second_1S).add_(image.half_NS)
        kernels_KC = self.kernels_BKC[prompt, candidates]
        return image.shared_decoder.upscale(half_NS, image.finest, kernels_KC, image.size)


@dataclass(frozen=True)
class PromptMapColumns:
    """Columns of the table that are a prompt's own."""

    index_n: Tensor
    rows_Nn: Tensor


@dataclass(frozen=True)
class ImageUpdate:
    """A prompt's values on the way to all places, by head, and what later products make of them."""

    value_BHTD: Tensor
    parts: dict[str, Tensor]
    """(B, R, N) each: the update itself, with the next norm's gain and without, and what reads it, as in a `Table`."""
    beta_BR: Tensor


class SharedPromptContext:
    """One image, ready for many prompts."""

    def __init__(self, shared_decoder: SharedPromptDecoder, features: ImageFeatures) -> None:
        self.shared_decoder, self.weights = shared_decoder, shared_decoder.weights
        self._table_lock = Lock()
        """One thread at a time has its prompt's columns in the table."""
        height, width = features.embed_BCHW.shape[-2:]
        self.size = (height, width)
        self.embed_CS = features.embed_BCHW[0].flatten(1)
        place_CS = shared_decoder.prompt_encoder.pe_layer.grid(height, width)[0].flatten(1)
        self.raw_by_position_NS = self.weights.raw_by_position(place_CS)
        self.key1, self.query1, self.key2 = self.weights.by_position(place_CS)
        nothing = PromptTensors(place_CS.new_zeros(1, 1, 2), torch.full((1, 1), -1, device=place_CS.device))
        dense_CS = shared_decoder.prompt_encoder(nothing, height, width)[1][0].flatten(1)
        self.table = ProjectionTable(
            self.weights, self.weights.table_columns(self.embed_CS + dense_CS, self.raw_by_position_NS)
        )
        arranged = shared_decoder.upscale.arrange_high_res_features(features.high_res_features)
        shift_N1 = self.weights.up_shift_N[:, None]
        self.half_NS = shift_N1 if arranged is None else arranged[0] + shift_N1
        self.finest = None if arranged is None else arranged[1]

    @property
    def batch_size(self) -> int:
        """Prompts that are best answered together."""
        rows = 2 * self.weights.heads * (2 + NUM_MASK_TOKENS + 2)
        return max(1, MAX_ATTENTION_BYTES // (rows * self.size[0] * self.size[1] * 4))

    def supports(self, prompts: PromptTensors) -> bool:
        """Whether they share an image: points and boxes do, masks do not, nor boxes that are drawn as maps."""
        if prompts.mask_B1HW is not None:
            return False
        return self.shared_decoder.prompt_encoder.drawing is None or not bool((prompts.labels_BN > 1).any())

    def predict(self, prompts: PromptTensors) -> SharedPrediction:
        """All four candidates of B prompts that `can_be_asked`."""
        assert self.supports(prompts), "masks, and boxes that are drawn, make an image of their own"
        own_BTC, drawn = self._tokens(prompts)
        first, second = self.shared_decoder.blocks
        tokens = first.norm1(first.self_attn(own_BTC, own_BTC, own_BTC))
        asked = self._project_heads(first.cross_attn_token_to_image.q_proj, tokens + own_BTC) * self.weights.scale
        seen = self._for_each_prompt(drawn, lambda b: self._attend_image(asked[b]))
        tokens = self._update_tokens(first, tokens, torch.stack(seen))
        keys0, layer0 = self._image_update(first, tokens, own_BTC, 0)

        asking = tokens + own_BTC
        tokens = second.norm1(tokens + second.self_attn(asking, asking, tokens))
        asked = self._project_heads(second.cross_attn_token_to_image.q_proj, tokens + own_BTC) * self.weights.scale
        found = self._for_each_prompt(drawn, lambda b: self._attend_after_first(b, keys0[b], layer0, asked[b]))
        tokens = self._update_tokens(second, tokens, torch.stack([look for _, _, look in found]))
        keys1, layer1 = self._image_update(second, tokens, own_BTC, 1)

        transformer = self.shared_decoder.mask_decoder.transformer
        last = transformer.final_attn_token_to_image
        asked = self._project_heads(last.q_proj, tokens + own_BTC) * self.weights.scale
        ends = self._for_each_prompt(
            drawn, lambda b: self._attend_after_second(b, found[b][:2], keys1[b], (layer0, layer1), asked[b])
        )
        tokens = transformer.norm_final_attn(tokens + last.out_proj(torch.stack([look for _, look in ends])))
        iou_BK, kernels_BKC = self._run_output_heads(tokens)
        return SharedPrediction(self, iou_BK, kernels_BKC, [update for update, _ in ends], drawn)

    def _tokens(self, prompts: PromptTensors) -> tuple[Tensor, list[PromptMapColumns | None]]:
        """The tokens of every prompt, and where it is drawn."""
        encoder, count = self.shared_decoder.prompt_encoder, len(prompts.points_BN2)
        sparse_BTC, dense_BCHW = encoder(prompts, *self.size)
        own_TC = self.shared_decoder.mask_decoder.output_tokens()
        tokens_BTC = torch.cat([own_TC.expand(count, -1, -1), sparse_BTC], dim=1)
        if encoder.drawing is None:
            return tokens_BTC, [None] * count
        return tokens_BTC, [
            self._prompt_map_columns(prompts.points_BN2[b], dense_BCHW[b].flatten(1)) for b in range(count)
        ]

    def _prompt_map_columns(self, points_N2: Tensor, dense_CS: Tensor) -> PromptMapColumns:
        y, x = (torch.arange(side, device=points_N2.device) * STRIDE + STRIDE / 2 for side in self.size)
        reach = CLICK_REACH + STRIDE / 2
        near_NHW = ((x - points_N2[:, :1]).abs() < reach)[:, None] & ((y - points_N2[:, 1:]).abs() < reach)[..., None]
        index_n = near_NHW.any(0).flatten().nonzero()[:, 0]
        places_Cn = (self.embed_CS[:, index_n] + dense_CS[:, index_n]).contiguous()
        return PromptMapColumns(index_n, self.weights.table_columns(places_Cn, self.raw_by_position_NS[:, index_n]))

    @contextmanager
    def with_prompt_map_columns(self, columns: PromptMapColumns | None) -> Iterator[None]:
        """The table with a prompt's own columns in it."""
        if columns is None:
            yield
            return
        rows_NS = self.table.rows_NS
        with self._table_lock:
            shared_Nn = rows_NS[:, columns.index_n]
            rows_NS[:, columns.index_n] = columns.rows_Nn
            try:
                yield
            finally:
                rows_NS[:, columns.index_n] = shared_Nn

    def _for_each_prompt(self, columns: list[PromptMapColumns | None], step: Callable[[int], T]) -> list[T]:
        """One prompt after the other: what it needs stays in the processor's cache."""
        found = []
        for b, own in enumerate(columns):
            with self.with_prompt_map_columns(own):
                found.append(step(b))
        return found

    def _project_heads(self, layer: nn.Module, x_BTC: Tensor) -> Tensor:
        return split_heads(layer(x_BTC), self.weights.heads)

    def _update_tokens(self, block: TwoWayBlock, tokens_BTC: Tensor, attended_BTI: Tensor) -> Tensor:
        """Tokens after they have looked at the image, and thought about it."""
        tokens_BTC = block.norm2(tokens_BTC + block.cross_attn_token_to_image.out_proj(attended_BTI))
        out: Tensor = block.norm3(tokens_BTC + _fused_mlp(block.mlp, tokens_BTC))
        return out

    def _image_update(
        self, block: TwoWayBlock, tokens_BTC: Tensor, token_pos_BTC: Tensor, layer_index: int
    ) -> tuple[Tensor, ImageUpdate]:
        """(B, H, T, D) keys for places that look back, and what they will see."""
        attention: Attention = block.cross_attn_image_to_token
        keys_BHTD = self._project_heads(attention.k_proj, tokens_BTC + token_pos_BTC)
        value_BHTD = self._project_heads(attention.v_proj, tokens_BTC)
        flat_HXD = value_BHTD.transpose(0, 1).flatten(1, 2)
        count = len(value_BHTD)
        made, beta = (
            _unflatten(flat_HXD @ update, 1, count).transpose(0, 1).flatten(1, 2)
            for update in (self.weights.updates[layer_index], self.weights.beta_updates[layer_index])
        )
        counts = self.weights.output_sizes[layer_index]
        parts = dict(zip(counts, torch.split(made, list(counts.values()), dim=-1), strict=True))
        return keys_BHTD, ImageUpdate(value_BHTD, parts, beta[..., 0])

    def _attend_image(self, query_HTD: Tensor) -> Tensor:
        """(T, I): tokens at the image as it is."""
        weights_HTS = (query_HTD @ self.table.key0).softmax(-1)
        return _merge_heads_unbatched(weights_HTS @ self.table.value0.transpose(1, 2))

    def _attend_after_first(
        self, b: int, keys_HTD: Tensor, layer: ImageUpdate, query_HTD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer's attention weights (R, S) and scale (1, S), and (T, I), what tokens see in the second."""
        table = self.table
        a_RS = (keys_HTD @ table.query0).softmax(1).flatten(0, 1)
        u_RC, key_RI, value_RI = (layer.parts[name][b] for name in ("first", "key1", "value1"))
        inner_RS = matmul(u_RC @ u_RC.t(), a_RS).add_((layer.value_BHTD[b] @ table.cross1).flatten(0, 1), alpha=2)
        scale_1S = self._norm_scale(table.square1 + (inner_RS.mul_(a_RS)).sum(0, keepdim=True), 0)
        scores_RS = matmul(self._head_products(query_HTD, key_RI), a_RS).add_((query_HTD @ table.key1).flatten(0, 1))
        weights_RS = _softmax(scores_RS.mul_(scale_1S).add_((query_HTD @ self.key1).flatten(0, 1)))
        weights_RS *= scale_1S
        seen_HTD = self._split_rows(weights_RS) @ table.value1.transpose(1, 2)
        seen_HTD += self._split_rows(matmul(weights_RS, a_RS.t())) @ self._by_head(value_RI)
        return a_RS, scale_1S, _merge_heads_unbatched(seen_HTD) + self.weights.value1_I

    def _attend_after_second(
        self,
        b: int,
        first_state: tuple[Tensor, Tensor],
        keys_HTD: Tensor,
        layers: tuple[ImageUpdate, ImageUpdate],
        query_HTD: Tensor,
    ) -> tuple[LowRankUpdate, Tensor]:
        """The outcome of both layers, and (T, I), what tokens see at last."""
        (a_RS, first_1S), (layer0, layer1), table, weights = first_state, layers, self.table, self.weights
        asked_RR = self._head_products(keys_HTD, layer0.parts["query1"][b])
        scores_RS = matmul(asked_RR, a_RS).add_((keys_HTD @ table.query1).flatten(0, 1))
        scores_RS.mul_(first_1S).add_((keys_HTD @ self.query1).flatten(0, 1))
        a1_RS = self._split_rows(scores_RS).softmax(1).flatten(0, 1)
        z_ZS = torch.cat([a_RS * first_1S, a1_RS])
        u_ZC, key_ZI, value_ZI, up_ZN = (
            torch.cat([layer0.parts[name][b], layer1.parts[name][b]]) for name in ("gained", "key2", "value2", "up")
        )
        cross_ZS = torch.cat([layer0.value_BHTD[b] @ table.cross20, layer1.value_BHTD[b] @ table.cross21]).flatten(0, 1)
        cross_ZS.mul_(first_1S).add_(torch.cat([layer0.beta_BR[b], layer1.beta_BR[b]])[:, None])
        inner_ZS = matmul(u_ZC @ u_ZC.t(), z_ZS).add_(cross_ZS, alpha=2).mul_(z_ZS)
        square_1S = (table.square2 * first_1S + 2 * table.beta) * first_1S + weights.beta_square
        second_1S = self._norm_scale(square_1S + inner_ZS.sum(0, keepdim=True), 1)
        scores_RS = matmul(self._head_products(query_HTD, key_ZI), z_ZS)
        scores_RS.addcmul_((query_HTD @ table.key2).flatten(0, 1), first_1S)
        scores_RS.add_((query_HTD @ weights.beta_key_HD1).flatten(0, 1)).mul_(second_1S)
        weights_RS = _softmax(scores_RS.add_((query_HTD @ self.key2).flatten(0, 1)))
        weights_RS *= second_1S
        seen_HTD = self._split_rows(matmul(weights_RS, z_ZS.t())) @ self._by_head(value_ZI)
        seen_HTD += self._split_rows(weights_RS.sum(1, keepdim=True)) * weights.beta_value_H1D
        seen_HTD += self._split_rows(weights_RS * first_1S) @ table.value2.transpose(1, 2)
        return LowRankUpdate(z_ZS, first_1S, second_1S, up_ZN), _merge_heads_unbatched(seen_HTD) + weights.value2_I

    def _norm_scale(self, square_1S: Tensor, layer_index: int) -> Tensor:
        variance = square_1S.clamp_(min=0) / self.weights.width
        return variance.add_(self.weights.epsilon[layer_index]).rsqrt_()

    def _head_products(self, query_HTD: Tensor, rows_ZI: Tensor) -> Tensor:
        """(R, Z): products of what is asked with an update's rows, head by head."""
        return (query_HTD @ _unflatten(rows_ZI, 1, self.weights.heads).permute(1, 2, 0)).flatten(0, 1)

    def _by_head(self, rows_ZI: Tensor) -> Tensor:
        """(H, Z, D)."""
        return _unflatten(rows_ZI, 1, self.weights.heads).transpose(0, 1)

    def _split_rows(self, rows_RS: Tensor) -> Tensor:
        """(H, T, S)."""
        return _unflatten(rows_RS, 0, self.weights.heads)

    def _run_output_heads(self, tokens_BTC: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted IoU (B, K) and the kernels of the masks (B, K, C / 8)."""
        decoder = self.shared_decoder.mask_decoder
        later = isinstance(decoder, MaskDecoder)  # since SAM 2 the score of presence comes first, and IoU is bounded
        tokens_BTC = tokens_BTC[:, int(later) :]
        iou_BK: Tensor = decoder.iou_prediction_head(tokens_BTC[:, 0])
        heads = [head for head in decoder.output_hypernetworks_mlps if isinstance(head, MLP)]
        kernels_BKC = torch.stack([head(tokens_BTC[:, 1 + k]) for k, head in enumerate(heads)], dim=1)
        return iou_BK.sigmoid() if later else iou_BK, kernels_BKC


def _unflatten(x: Tensor, dim: int, count: int) -> Tensor:
    """`dim` as `count` by what is left."""
    return torch.unflatten(x, dim, (count, -1))


def _softmax(scores_RS: Tensor) -> Tensor:
    return torch.softmax(scores_RS, -1)


def _merge_heads_unbatched(seen_HTD: Tensor) -> Tensor:
    """(T, I)."""
    return merge_heads(seen_HTD[None])[0]


def _fused_mlp(mlp: nn.Module, x_BTC: Tensor) -> Tensor:
    """An MLP of two layers, its activation in the same pass."""
    layers = [layer for layer in mlp.modules() if isinstance(layer, nn.Linear)]
    if not has_fused_operators(layers[0].weight):
        out: Tensor = mlp(x_BTC)
        return out
    hidden = fused_linear(x_BTC, layers[0].weight, layers[0].bias, "relu")
    return fused_linear(hidden, layers[1].weight, layers[1].bias)
