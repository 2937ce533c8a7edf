"""The mask decoder for many prompts about one image: what prompts share is computed once, the rest has low rank.

A prompt changes the tokens of an image only through their attention to its few tokens. With H heads and T tokens, the
update of all image tokens has rank H T. With s1 and s2 for the scales of the two layer normalizations,

    state 1 = norm(X + b1 + U1 A1)                         before s1
    state 2 = norm(s1 X2 + b2 + U2 z),  z = [s1 A1; A2]    before s2

where X (C, S) is the image, A1 and A2 (H T, S) are attention weights, and U1, U2 come from the prompt's values.
Everything that reads the image is linear after its normalization: its product with X is computed once per image
(`ProjectionTable`), its product with U once per prompt over tokens, and only A1 and A2 are as large as the map. The sum
of squares that a normalization needs is a quadratic form in them. The result is that of `MaskDecoder` to the last
digits of fp32, with about a fifth of its products. `README.md` in this folder derives every formula.

Where prompts are also rendered as maps (the built-in model), X differs near a click, and only there: these columns of
the table belong to the prompt.

Shapes: B prompts, T tokens, H heads, I channels inside attention, D = I / H, S image tokens, C channels, R = H T rows
of A1 or A2, Z = 2 R rows of z, K candidates, N outputs of the first upscaling layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor, nn

from masklet.cpu_threads import adapt_threads
from masklet.models.fast_cpu.shared_prompt_upscaling import SharedPromptUpscaling
from masklet.models.fast_cpu.shared_prompt_weights import ProjectionTable, SharedPromptWeights, matmul
from masklet.models.heads.mask_decoder import NUM_MASK_TOKENS, MaskDecoder, MaskDecoderBase
from masklet.models.heads.prompt_encoder import FIRST_BOX_LABEL, STRIDE, PromptEncoder
from masklet.models.heads.two_way_transformer import TwoWayBlock
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2
from masklet.models.types import ImageFeatures, MaskPrediction, PromptableModel, PromptTensors, empty_prompt
from masklet.nn.attention import Attention, merge_heads, split_heads
from masklet.nn.fused_ops import fused_layer, has_fused_operators
from masklet.nn.layers import MLP

__all__ = ["SharedPrediction", "SharedPromptContext", "SharedPromptDecoder", "make_shared_context"]

MAX_ATTENTION_BYTES = 1 << 25
"""Limit on the stored attention weights of prompts that are decoded together."""
CLICK_REACH = 48
"""Pixels of the input beyond which a rendered click is lost in rounding: exp(-(reach / 4)^2 / 8) < 2e-8."""
CLICK_CELLS = 2 * (CLICK_REACH // STRIDE) + 1
"""Cells along each side of the part of the map that a click changes."""
T = TypeVar("T")


def make_shared_context(
    model: PromptableModel, features: ImageFeatures, device: torch.device
) -> SharedPromptContext | None:
    """Prepare one image for prompts that share their work; None on devices other than a CPU.

    Example:
        >>> context = make_shared_context(model, predictor.features, predictor.device)
        >>> context.predict(prompts).iou_BK.shape
        torch.Size([1, 4])
    """
    if device.type != "cpu":
        return None
    if isinstance(model, SAM2):
        decoder = SharedPromptDecoder(model.sam_prompt_encoder, model.sam_mask_decoder)
    elif isinstance(model, SAM1):
        decoder = SharedPromptDecoder(model.prompt_encoder, model.mask_decoder)
    else:
        return None
    return SharedPromptContext(decoder, features)


class SharedPromptDecoder:
    """`PromptEncoder` and `MaskDecoder` with frozen weights, for many prompts about one image.

    Example:
        >>> decoder = SharedPromptDecoder(model.sam_prompt_encoder, model.sam_mask_decoder)
        >>> prediction = SharedPromptContext(decoder, features).predict(prompts)
        >>> prediction.logits(0, torch.tensor([1, 3])).shape
        torch.Size([2, 256, 256])
    """

    def __init__(self, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoderBase) -> None:
        self.prompt_encoder, self.mask_decoder = prompt_encoder, mask_decoder
        first, second = (block for block in mask_decoder.transformer.layers if isinstance(block, TwoWayBlock))
        self.blocks = (first, second)
        self.upscale = SharedPromptUpscaling(mask_decoder)
        self.weights = SharedPromptWeights(mask_decoder, self.upscale.first_NC, self.upscale.first_bias_N)


@dataclass(frozen=True)
class LowRankUpdate:
    """The change of all image tokens by one prompt, as factors."""

    z_ZS: Tensor
    """Attention weights of both blocks, [s1 A1; A2]."""
    scale1_1S: Tensor
    scale2_1S: Tensor
    """Scales of the normalizations after either block."""
    up_ZN: Tensor
    """What z adds to the first upscaling layer."""


@dataclass(frozen=True)
class SharedPrediction:
    """Predictions for B prompts; masks are computed only for the candidates that are wanted."""

    context: SharedPromptContext
    iou_BK: Tensor
    """Of all four candidates, as in `MaskPrediction`."""
    kernels_BKC: Tensor
    updates: list[LowRankUpdate]
    prompt_map_columns: list[PromptMapColumns | None]

    def logits_of_candidates(self, prompts_N: Tensor, candidates_N: Tensor) -> Tensor:
        """Compute some candidates (N, 4 H, 4 W), those of one prompt next to each other."""
        if not len(prompts_N):
            height, width = self.context.size
            return self.iou_BK.new_zeros(0, 4 * height, 4 * width)
        prompts, counts = torch.unique_consecutive(prompts_N, return_counts=True)
        parts = torch.split(candidates_N, counts.tolist())
        return torch.cat([self.logits(prompt, some) for prompt, some in zip(prompts.tolist(), parts, strict=True)])

    def candidates(self, prompts: list[int]) -> MaskPrediction:
        """Return all candidates of some prompts, as `select_masks` takes them: without tokens or object scores."""
        iou_BK, every = self.iou_BK[prompts], torch.arange(NUM_MASK_TOKENS)
        if prompts:
            logits_BKHW = torch.stack([self.logits(prompt, every) for prompt in prompts])
        else:
            height, width = self.context.size
            logits_BKHW = iou_BK.new_zeros(0, NUM_MASK_TOKENS, 4 * height, 4 * width)
        return MaskPrediction(logits_BKHW, iou_BK, iou_BK.new_zeros(len(prompts), 1), iou_BK[..., None][..., :0])

    def logits(self, prompt: int, candidates: Tensor) -> Tensor:
        """Compute some candidates (len(candidates), 4 H, 4 W) of one prompt."""
        adapt_threads()
        context, update = self.context, self.updates[prompt]
        with context.with_prompt_map_columns(self.prompt_map_columns[prompt], stage=3):
            half_NS = matmul(update.up_ZN.t(), update.z_ZS)
            half_NS.addcmul_(context.table.up_NS, update.scale1_1S).add_(context.weights.bias2_up_N1)
            half_NS.mul_(update.scale2_1S).add_(context.half_NS)
        kernels_KC = self.kernels_BKC[prompt, candidates]
        return context.shared_decoder.upscale(half_NS, context.stride4, kernels_KC, context.size)


@dataclass(frozen=True)
class PromptMapColumns:
    """Columns of the table that a prompt's map changes."""

    index_n: Tensor
    rows_Nn: Tensor


@dataclass(frozen=True)
class ImageUpdate:
    """The values that prompts write to all image tokens in one block, and their products with what reads them."""

    value_BHTD: Tensor
    parts: dict[str, Tensor]
    """(B, R, N) each, by the names of `SharedPromptWeights.output_sizes`."""
    bias2_BR: Tensor
    """Products of the update with the constant b2."""


class SharedPromptContext:
    """One image, prepared for many prompts: what they share is computed; `features` as `decode` takes them."""

    def __init__(self, shared_decoder: SharedPromptDecoder, features: ImageFeatures) -> None:
        assert len(features.embed_BCHW) == 1, "one image"
        self.shared_decoder, self.weights = shared_decoder, shared_decoder.weights
        self._table_lock = Lock()
        """Held while the table has the columns of one prompt."""
        height, width = features.embed_BCHW.shape[-2:]
        self.size = (height, width)
        rows = 2 * self.weights.heads * (2 + NUM_MASK_TOKENS + 2)
        self.batch_size = max(1, MAX_ATTENTION_BYTES // (rows * height * width * 4))
        """Number of prompts that are best decoded together."""
        self.embed_CS = features.embed_BCHW[0].flatten(1)
        position_CS = shared_decoder.prompt_encoder.pe_layer.grid(height, width)[0].flatten(1)
        read0_NS = matmul(self.weights.read0_NC, position_CS)
        read0_NS[self.weights.inner : 2 * self.weights.inner] = 0  # values have no position
        self.read0_by_position_NS = read0_NS + self.weights.read0_bias_N[:, None]
        self.key1, self.query1, self.key2 = self.weights.by_position(position_CS)
        dense_CS = shared_decoder.prompt_encoder(empty_prompt(1, position_CS.device), height, width)[1][0].flatten(1)
        self.table = ProjectionTable(
            self.weights, self.weights.table_columns(self.embed_CS + dense_CS, self.read0_by_position_NS)
        )
        arranged = shared_decoder.upscale.arrange_high_res_features(features.high_res_features)
        shift_N1 = self.weights.up_shift_N[:, None]
        self.half_NS = shift_N1 if arranged is None else arranged[0] + shift_N1
        self.stride4 = None if arranged is None else arranged[1]

    def supports(self, prompts: PromptTensors) -> bool:
        """Return whether prompts can share the image: not if they have masks, or boxes that are rendered as maps."""
        if prompts.mask_B1HW is not None:
            return False
        return self.shared_decoder.prompt_encoder.drawing is None or not bool(
            (prompts.labels_BN >= FIRST_BOX_LABEL).any()
        )

    def predict(self, prompts: PromptTensors) -> SharedPrediction:
        """Decode all four candidates of B prompts that `supports` accepts."""
        assert self.supports(prompts), "masks and rendered boxes change every token of the image"
        (first, second), transformer = self.shared_decoder.blocks, self.shared_decoder.mask_decoder.transformer
        token_pos_BTC, columns = self._tokens(prompts)

        tokens = first.norm1(first.self_attn(token_pos_BTC, token_pos_BTC, token_pos_BTC))
        query = self._scaled_query(first.cross_attn_token_to_image, tokens + token_pos_BTC)
        key0, value0 = self.table.key0, self.table.value0.transpose(1, 2)  # of the image as it is
        attended = self._for_each_prompt(
            columns, 0, lambda b: merge_heads(((query[b] @ key0).softmax(-1) @ value0)[None])[0]
        )
        tokens = self._update_tokens(first, tokens, torch.stack(attended))
        keys1, layer1 = self._image_update(first, tokens, token_pos_BTC, 0)

        q = tokens + token_pos_BTC
        tokens = second.norm1(tokens + second.self_attn(q, q, tokens))
        query1 = self._scaled_query(second.cross_attn_token_to_image, tokens + token_pos_BTC)
        states = self._for_each_prompt(columns, 1, lambda b: self._attend_after_first(b, keys1[b], layer1, query1[b]))
        tokens = self._update_tokens(second, tokens, torch.stack([attended for _, _, attended in states]))
        keys2, layer2 = self._image_update(second, tokens, token_pos_BTC, 1)

        last = transformer.final_attn_token_to_image
        query2 = self._scaled_query(last, tokens + token_pos_BTC)
        ends = self._for_each_prompt(
            columns, 2, lambda b: self._attend_after_second(b, states[b][:2], keys2[b], (layer1, layer2), query2[b])
        )
        tokens = transformer.norm_final_attn(tokens + last.out_proj(torch.stack([attended for _, attended in ends])))

        decoder = self.shared_decoder.mask_decoder
        is_sam2 = isinstance(decoder, MaskDecoder)  # its object score token comes first, and its IoU is bounded
        tokens = tokens[:, int(is_sam2) :]
        iou_BK: Tensor = decoder.iou_prediction_head(tokens[:, 0])
        iou_BK = decoder.calibrate_iou(iou_BK) if isinstance(decoder, MaskDecoder) else iou_BK
        heads = [head for head in decoder.output_hypernetworks_mlps if isinstance(head, MLP)]
        kernels_BKC = torch.stack([head(tokens[:, 1 + k]) for k, head in enumerate(heads)], dim=1)
        return SharedPrediction(self, iou_BK, kernels_BKC, [update for update, _ in ends], columns)

    def _tokens(self, prompts: PromptTensors) -> tuple[Tensor, list[PromptMapColumns | None]]:
        """Return the tokens (B, T, C) of every prompt, and the columns of the table that its map changes."""
        encoder, count = self.shared_decoder.prompt_encoder, len(prompts.points_BN2)
        output_TC = self.shared_decoder.mask_decoder.output_tokens()
        if encoder.drawing is None:
            sparse_BTC = encoder(prompts, *self.size)[0]
            return torch.cat([output_TC.expand(count, -1, -1), sparse_BTC], dim=1), [None] * count
        sparse_BTC = encoder.encode_points(prompts, *self.size, pads=True)
        single = prompts.points_BN2.shape[1] == 1 and min(self.size) >= CLICK_CELLS
        columns = self._click_columns(prompts) if single else self._map_columns(prompts)
        return torch.cat([output_TC.expand(count, -1, -1), sparse_BTC], dim=1), [*columns]

    def _click_columns(self, prompts: PromptTensors) -> list[PromptMapColumns]:
        """Return the columns that single clicks change: only the part of each map around its click is rendered."""
        encoder, (height, width) = self.shared_decoder.prompt_encoder, self.size
        assert encoder.drawing is not None
        highest_2 = torch.tensor([width, height]) - CLICK_CELLS
        first_B2 = (prompts.points_BN2[:, 0] // STRIDE).long() - CLICK_REACH // STRIDE
        first_B2 = torch.minimum(first_B2.clamp(min=0), highest_2)
        around = PromptTensors(prompts.points_BN2 - STRIDE * first_B2[:, None], prompts.labels_BN)
        dense_BCHW = encoder.drawing(around, CLICK_CELLS, CLICK_CELLS) + encoder.no_mask_embed.weight[..., None, None]
        x_Bn, y_Bn = (first_B2[:, axis, None] + torch.arange(CLICK_CELLS) for axis in (0, 1))
        index_Bn = (width * y_Bn[:, :, None] + x_Bn[:, None]).flatten(1)
        index_n = index_Bn.flatten()
        image_Cn = self.embed_CS.index_select(1, index_n) + dense_BCHW.flatten(2).transpose(0, 1).flatten(1)
        rows_Nn = self.weights.table_columns(image_Cn, self.read0_by_position_NS.index_select(1, index_n))
        rows_BNn = torch.unflatten(rows_Nn, 1, index_Bn.shape).transpose(0, 1).contiguous()
        return [PromptMapColumns(*of_prompt) for of_prompt in zip(index_Bn, rows_BNn, strict=True)]

    def _map_columns(self, prompts: PromptTensors) -> list[PromptMapColumns]:
        """Return the columns that several clicks change, from the rendered map of each prompt."""
        dense_BCHW = self.shared_decoder.prompt_encoder(prompts, *self.size)[1]
        y, x = (torch.arange(side, device=dense_BCHW.device) * STRIDE + STRIDE / 2 for side in self.size)
        reach, columns = CLICK_REACH + STRIDE / 2, []
        for points_N2, dense_CHW in zip(prompts.points_BN2, dense_BCHW, strict=True):
            near_x_NW, near_y_NH = (x - points_N2[:, :1]).abs() < reach, (y - points_N2[:, 1:]).abs() < reach
            index_n = (near_x_NW[:, None] & near_y_NH[..., None]).any(0).flatten().nonzero()[:, 0]
            image_Cn = self.embed_CS.index_select(1, index_n) + dense_CHW.flatten(1).index_select(1, index_n)
            rows_Nn = self.weights.table_columns(image_Cn, self.read0_by_position_NS.index_select(1, index_n))
            columns.append(PromptMapColumns(index_n, rows_Nn))
        return columns

    @contextmanager
    def with_prompt_map_columns(self, columns: PromptMapColumns | None, stage: int) -> Iterator[None]:
        """Replace columns of the table by those of one prompt during a block, in the rows that a stage reads."""
        if columns is None:
            yield
            return
        rows = self.table.stages[stage]
        rows_NS = self.table.rows_NS[rows]
        with self._table_lock:
            shared_Nn = rows_NS.index_select(1, columns.index_n)  # by methods: brackets take three times as long
            rows_NS.index_copy_(1, columns.index_n, columns.rows_Nn[rows])
            try:
                yield
            finally:
                rows_NS.index_copy_(1, columns.index_n, shared_Nn)

    def _for_each_prompt(self, columns: list[PromptMapColumns | None], stage: int, step: Callable[[int], T]) -> list[T]:
        """Run `step` of a stage for one prompt after the other, so that its maps stay in the processor's cache."""
        results = []
        for b, of_prompt in enumerate(columns):
            adapt_threads()
            with self.with_prompt_map_columns(of_prompt, stage):
                results.append(step(b))
        return results

    def _scaled_query(self, attention: Attention, x_BTC: Tensor) -> Tensor:
        """Return the queries (B, H, T, D) of tokens, scaled."""
        return split_heads(attention.q_proj(x_BTC), self.weights.heads) * self.weights.scale

    def _update_tokens(self, block: TwoWayBlock, tokens_BTC: Tensor, attended_BTI: Tensor) -> Tensor:
        """Finish a block's tokens after their attention to the image: projection, norms and MLP."""
        tokens_BTC = block.norm2(tokens_BTC + block.cross_attn_token_to_image.out_proj(attended_BTI))
        layers = [layer for layer in block.mlp.modules() if isinstance(layer, nn.Linear)]
        if has_fused_operators(layers[0].weight):
            hidden = fused_layer(layers[1], fused_layer(layers[0], tokens_BTC, "relu"))
        else:
            hidden = block.mlp(tokens_BTC)
        out: Tensor = block.norm3(tokens_BTC + hidden)
        return out

    def _image_update(
        self, block: TwoWayBlock, tokens_BTC: Tensor, token_pos_BTC: Tensor, layer_index: int
    ) -> tuple[Tensor, ImageUpdate]:
        """Return the keys (B, H, T, D) that the image attends to, and the update that it receives."""
        attention, heads = block.cross_attn_image_to_token, self.weights.heads
        keys_BHTD = split_heads(attention.k_proj(tokens_BTC + token_pos_BTC), heads)
        value_BHTD = split_heads(attention.v_proj(tokens_BTC), heads)
        flat_HXD = value_BHTD.transpose(0, 1).flatten(1, 2)
        count = len(value_BHTD)
        products_BRN, bias2_BR1 = (
            torch.unflatten(flat_HXD @ update, 1, (count, -1)).transpose(0, 1).flatten(1, 2)
            for update in (self.weights.updates[layer_index], self.weights.bias2_updates[layer_index])
        )
        sizes = self.weights.output_sizes[layer_index]
        parts = dict(zip(sizes, torch.split(products_BRN, list(sizes.values()), dim=-1), strict=True))
        return keys_BHTD, ImageUpdate(value_BHTD, parts, bias2_BR1[..., 0])

    def _attend_after_first(
        self, b: int, keys_HTD: Tensor, layer: ImageUpdate, query_HTD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute A1 (R, S) and s1 (1, S) of prompt `b`, then the attention (T, I) of its tokens to state 1."""
        table = self.table
        a1_RS = (keys_HTD @ table.query0).softmax(1).flatten(0, 1)
        u_RC, key_RI, value_RI = (layer.parts[name][b] for name in ("update1", "key1", "value1"))
        inner_RS = matmul(u_RC @ u_RC.t(), a1_RS).add_((layer.value_BHTD[b] @ table.cross1).flatten(0, 1), alpha=2)
        scale1_1S = self._norm_scale(table.square1 + (inner_RS.mul_(a1_RS)).sum(0, keepdim=True), 0)

        scores_RS = matmul(self._head_products(query_HTD, key_RI), a1_RS)
        scores_RS.add_((query_HTD @ table.key1).flatten(0, 1))
        weights_RS = torch.softmax(scores_RS.mul_(scale1_1S).add_((query_HTD @ self.key1).flatten(0, 1)), -1)
        weights_RS *= scale1_1S
        attended_HTD = self._split_rows(weights_RS) @ table.value1.transpose(1, 2)
        attended_HTD += self._split_rows(matmul(weights_RS, a1_RS.t())) @ self._by_head(value_RI)
        return a1_RS, scale1_1S, merge_heads(attended_HTD[None])[0] + self.weights.value1_I

    def _attend_after_second(
        self,
        b: int,
        state1: tuple[Tensor, Tensor],
        keys_HTD: Tensor,
        layers: tuple[ImageUpdate, ImageUpdate],
        query_HTD: Tensor,
    ) -> tuple[LowRankUpdate, Tensor]:
        """Compute z and s2 of prompt `b` from A1 and s1, then the attention (T, I) of its tokens to state 2."""
        (a1_RS, scale1_1S), (layer1, layer2), table, weights = state1, layers, self.table, self.weights
        query_RR = self._head_products(keys_HTD, layer1.parts["query1"][b])
        scores_RS = matmul(query_RR, a1_RS).add_((keys_HTD @ table.query1).flatten(0, 1))
        scores_RS.mul_(scale1_1S).add_((keys_HTD @ self.query1).flatten(0, 1))
        a2_RS = self._split_rows(scores_RS).softmax(1).flatten(0, 1)
        z_ZS = torch.cat([a1_RS * scale1_1S, a2_RS])

        u_ZC, key_ZI, value_ZI, up_ZN = (
            torch.cat([layer1.parts[name][b], layer2.parts[name][b]]) for name in ("update2", "key2", "value2", "up2")
        )
        cross_first, cross_second = (
            layer1.value_BHTD[b] @ table.cross2_first,
            layer2.value_BHTD[b] @ table.cross2_second,
        )
        cross_ZS = torch.cat([cross_first, cross_second]).flatten(0, 1)
        cross_ZS.mul_(scale1_1S).add_(torch.cat([layer1.bias2_BR[b], layer2.bias2_BR[b]])[:, None])
        inner_ZS = matmul(u_ZC @ u_ZC.t(), z_ZS).add_(cross_ZS, alpha=2).mul_(z_ZS)
        square_1S = (table.square2 * scale1_1S + 2 * table.cross2_bias) * scale1_1S + weights.bias2_square
        scale2_1S = self._norm_scale(square_1S + inner_ZS.sum(0, keepdim=True), 1)

        scores_RS = matmul(self._head_products(query_HTD, key_ZI), z_ZS)
        scores_RS.addcmul_((query_HTD @ table.key2).flatten(0, 1), scale1_1S)
        scores_RS.add_((query_HTD @ weights.bias2_key_HD1).flatten(0, 1)).mul_(scale2_1S)
        weights_RS = torch.softmax(scores_RS.add_((query_HTD @ self.key2).flatten(0, 1)), -1)
        weights_RS *= scale2_1S
        attended_HTD = self._split_rows(matmul(weights_RS, z_ZS.t())) @ self._by_head(value_ZI)
        attended_HTD += self._split_rows(weights_RS.sum(1, keepdim=True)) * weights.bias2_value_H1D
        attended_HTD += self._split_rows(weights_RS * scale1_1S) @ table.value2.transpose(1, 2)
        attended_TI = merge_heads(attended_HTD[None])[0] + weights.value2_I
        return LowRankUpdate(z_ZS, scale1_1S, scale2_1S, up_ZN), attended_TI

    def _norm_scale(self, square_1S: Tensor, layer_index: int) -> Tensor:
        """Return 1 / sqrt(variance + epsilon) from sums of squares, which are overwritten."""
        variance = square_1S.clamp_(min=0) / self.weights.width
        return variance.add_(self.weights.epsilon[layer_index]).rsqrt_()

    def _head_products(self, query_HTD: Tensor, rows_ZI: Tensor) -> Tensor:
        """Multiply queries with the rows of an update, head by head; returns (R, Z)."""
        return (query_HTD @ torch.unflatten(rows_ZI, 1, (self.weights.heads, -1)).permute(1, 2, 0)).flatten(0, 1)

    def _by_head(self, rows_ZI: Tensor) -> Tensor:
        """Return (H, Z, D)."""
        return torch.unflatten(rows_ZI, 1, (self.weights.heads, -1)).transpose(0, 1)

    def _split_rows(self, rows_RS: Tensor) -> Tensor:
        """Return (H, T, S)."""
        return torch.unflatten(rows_RS, 0, (self.weights.heads, -1))
