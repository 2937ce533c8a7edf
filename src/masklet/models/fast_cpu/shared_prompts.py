"""Many prompts about one picture: what they share is done once, and what is a prompt's own stays small.

A prompt writes to the places of a picture only through their attention to its few tokens: with H heads and T tokens,
the update of all places has rank H T. So the places of a prompt are never made. With r for the scales of normalisation,

    after the first layer   places = norm(X + U z),            z = A
    after the second        places = norm(r X' + b + U' z'),   z' = [r A; A']

where X (C, S) is the picture, A and A' (H T, S) are attention weights, and U is made from the prompt's values. All that
reads places is linear once they are normalised: its product with X is made once a picture (`Table`), that with U once
a prompt, over tokens, and only z is as large as the map. The sum of squares that normalisation needs is a quadratic
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

from masklet.models.fast_cpu.shared_prompt_upscaling import SharedUpscaling
from masklet.models.fast_cpu.shared_prompt_weights import SharedWeights, Table, product
from masklet.models.heads.mask_decoder import CANDIDATES, MaskDecoder, MaskDecoderBase
from masklet.models.heads.prompt_encoder import STRIDE, PromptEncoder
from masklet.models.heads.two_way_transformer import TwoWayBlock
from masklet.models.types import ImageFeatures, MaskPrediction, PromptTensors
from masklet.nn.attention import Attention, merge_heads, split_heads
from masklet.nn.fused_ops import fused_linear, has_fused_operators
from masklet.nn.layers import MLP

__all__ = ["Answer", "SharedDecoder", "SharedPicture"]

BYTES_AT_ONCE = 1 << 25
"""Of the attention weights that are kept of prompts answered together."""
REACH = 48
"""Pixels of the input beyond which the drawing of a click is lost in rounding: exp(-(REACH / 4)^2 / 8) < 2e-8."""
Found = TypeVar("Found")


class SharedDecoder:
    """`PromptEncoder` and `MaskDecoder`, of weights that no longer change, for many points about one picture.

    Example:
        >>> decode = SharedDecoder(model.sam_prompt_encoder, model.sam_mask_decoder)
        >>> answer = decode.look(features).ask(prompts)
        >>> answer.logits(0, torch.tensor([1, 3])).shape
        torch.Size([2, 256, 256])
    """

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoderBase) -> None:
        self.prompts, self.decoder = prompts, decoder
        first, second = (block for block in decoder.transformer.layers if isinstance(block, TwoWayBlock))
        self.blocks = (first, second)
        self.upscale = SharedUpscaling(decoder)
        self.weights = SharedWeights(decoder, self.upscale.first_NC, self.upscale.first_bias_N)

    def look(self, features: ImageFeatures) -> SharedPicture:
        """What all prompts share of one picture; `features` as `decode` takes them."""
        assert len(features.embed_BCHW) == 1, "one picture"
        return SharedPicture(self, features)


@dataclass(frozen=True)
class Update:
    """What one prompt has made of all places, without making them."""

    z_ZS: Tensor
    """Attention weights of both layers, those of the first scaled as below."""
    first_1S: Tensor
    second_1S: Tensor
    """Scales of normalisation after either layer."""
    up_ZN: Tensor
    """What z adds to the first layer of the way up."""


@dataclass(frozen=True)
class Answer:
    """What the network thinks of the candidates of B prompts; masks are made of those that are wanted."""

    picture: SharedPicture
    iou_BK: Tensor
    """All four candidates, as `MaskPrediction`."""
    kernels_BKC: Tensor
    updates: list[Update]
    drawn: list[Drawn | None]

    def all_logits(self, prompts: list[int]) -> Tensor:
        """(len(prompts), K, 4 H, 4 W): all candidates of some prompts."""
        every = torch.arange(CANDIDATES)
        made = [self.logits(prompt, every) for prompt in prompts]
        return torch.stack(made) if made else self._none.expand(0, CANDIDATES, -1, -1)

    def some_logits(self, prompts_N: Tensor, candidates_N: Tensor) -> Tensor:
        """(N, 4 H, 4 W): some candidates, those of one prompt next to each other."""
        found, counts = torch.unique_consecutive(prompts_N, return_counts=True)
        parts = torch.split(candidates_N, counts.tolist())
        made = [self.logits(prompt, some) for prompt, some in zip(found.tolist(), parts, strict=True)]
        return torch.cat(made) if made else self._none[0, :0]

    def candidates(self, prompts: list[int]) -> MaskPrediction:
        """All candidates of some prompts, as `choose` takes them; they have no tokens, and say nothing of presence."""
        logits_BKHW, iou_BK = self.all_logits(prompts), self.iou_BK[prompts]
        return MaskPrediction(logits_BKHW, iou_BK, iou_BK.new_zeros(len(prompts), 1), iou_BK[..., None][..., :0])

    @property
    def _none(self) -> Tensor:
        height, width = self.picture.size
        return self.iou_BK.new_zeros(1, 1, 4 * height, 4 * width)

    def logits(self, prompt: int, candidates: Tensor) -> Tensor:
        """(len(candidates), 4 H, 4 W): the masks of some candidates of one prompt."""
        picture, update = self.picture, self.updates[prompt]
        with picture.drawn(self.drawn[prompt]):
            half_NS = product(update.up_ZN.t(), update.z_ZS)
            half_NS.addcmul_(picture.table.up_NS, update.first_1S).add_(picture.weights.beta_up_N1)
            half_NS.mul_(update.second_1S).add_(picture.half_NS)
        kernels_KC = self.kernels_BKC[prompt, candidates]
        return picture.decode.upscale(half_NS, picture.finest, kernels_KC, picture.size)


@dataclass(frozen=True)
class Drawn:
    """Columns of the table that are a prompt's own."""

    index_n: Tensor
    rows_Nn: Tensor


@dataclass(frozen=True)
class Layer:
    """A prompt's values on the way to all places, by head, and what later products make of them."""

    value_BHTD: Tensor
    parts: dict[str, Tensor]
    """(B, R, N) each: the update itself, with the next norm's gain and without, and what reads it, as in a `Table`."""
    beta_BR: Tensor


class SharedPicture:
    """One picture, ready for many prompts."""

    def __init__(self, decode: SharedDecoder, features: ImageFeatures) -> None:
        self.decode, self.weights = decode, decode.weights
        self._alone = Lock()
        """One thread at a time has its prompt's columns in the table."""
        height, width = features.embed_BCHW.shape[-2:]
        self.size = (height, width)
        self.embed_CS = features.embed_BCHW[0].flatten(1)
        place_CS = decode.prompts.pe_layer.grid(height, width)[0].flatten(1)
        self.raw_by_place_NS = self.weights.raw_by_place(place_CS)
        self.key1, self.query1, self.key2 = self.weights.by_place(place_CS)
        nothing = PromptTensors(place_CS.new_zeros(1, 1, 2), torch.full((1, 1), -1, device=place_CS.device))
        dense_CS = decode.prompts(nothing, height, width)[1][0].flatten(1)
        self.table = Table(self.weights, self.weights.rows(self.embed_CS + dense_CS, self.raw_by_place_NS))
        arranged = decode.upscale.arranged(features.fine)
        shift_N1 = self.weights.up_shift_N[:, None]
        self.half_NS = shift_N1 if arranged is None else arranged[0] + shift_N1
        self.finest = None if arranged is None else arranged[1]

    @property
    def at_once(self) -> int:
        """Prompts that are best answered together."""
        rows = 2 * self.weights.heads * (2 + CANDIDATES + 2)
        return max(1, BYTES_AT_ONCE // (rows * self.size[0] * self.size[1] * 4))

    def can_be_asked(self, prompts: PromptTensors) -> bool:
        """Whether they share a picture: points and boxes do, masks do not, nor boxes that are drawn as maps."""
        if prompts.mask_B1HW is not None:
            return False
        return self.decode.prompts.drawing is None or not bool((prompts.labels_BN > 1).any())

    def ask(self, prompts: PromptTensors) -> Answer:
        """All four candidates of B prompts that `can_be_asked`."""
        assert self.can_be_asked(prompts), "masks, and boxes that are drawn, make a picture of their own"
        own_BTC, drawn = self._tokens(prompts)
        first, second = self.decode.blocks
        tokens = first.norm1(first.self_attn(own_BTC, own_BTC, own_BTC))
        asked = self._heads(first.cross_attn_token_to_image.q_proj, tokens + own_BTC) * self.weights.scale
        seen = self._each(drawn, lambda b: self._look(asked[b]))
        tokens = self._thought(first, tokens, torch.stack(seen))
        keys0, layer0 = self._back(first, tokens, own_BTC, 0)

        asking = tokens + own_BTC
        tokens = second.norm1(tokens + second.self_attn(asking, asking, tokens))
        asked = self._heads(second.cross_attn_token_to_image.q_proj, tokens + own_BTC) * self.weights.scale
        found = self._each(drawn, lambda b: self._first(b, keys0[b], layer0, asked[b]))
        tokens = self._thought(second, tokens, torch.stack([look for _, _, look in found]))
        keys1, layer1 = self._back(second, tokens, own_BTC, 1)

        transformer = self.decode.decoder.transformer
        last = transformer.final_attn_token_to_image
        asked = self._heads(last.q_proj, tokens + own_BTC) * self.weights.scale
        ends = self._each(drawn, lambda b: self._second(b, found[b][:2], keys1[b], (layer0, layer1), asked[b]))
        tokens = transformer.norm_final_attn(tokens + last.out_proj(torch.stack([look for _, look in ends])))
        iou_BK, kernels_BKC = self._heard(tokens)
        return Answer(self, iou_BK, kernels_BKC, [update for update, _ in ends], drawn)

    def _tokens(self, prompts: PromptTensors) -> tuple[Tensor, list[Drawn | None]]:
        """The tokens of every prompt, and where it is drawn."""
        encoder, count = self.decode.prompts, len(prompts.points_BN2)
        sparse_BTC, dense_BCHW = encoder(prompts, *self.size)
        own_TC = self.decode.decoder.own_tokens()
        tokens_BTC = torch.cat([own_TC.expand(count, -1, -1), sparse_BTC], dim=1)
        if encoder.drawing is None:
            return tokens_BTC, [None] * count
        return tokens_BTC, [self._drawing(prompts.points_BN2[b], dense_BCHW[b].flatten(1)) for b in range(count)]

    def _drawing(self, points_N2: Tensor, dense_CS: Tensor) -> Drawn:
        y, x = (torch.arange(side, device=points_N2.device) * STRIDE + STRIDE / 2 for side in self.size)
        reach = REACH + STRIDE / 2
        near_NHW = ((x - points_N2[:, :1]).abs() < reach)[:, None] & ((y - points_N2[:, 1:]).abs() < reach)[..., None]
        index_n = near_NHW.any(0).flatten().nonzero()[:, 0]
        places_Cn = (self.embed_CS[:, index_n] + dense_CS[:, index_n]).contiguous()
        return Drawn(index_n, self.weights.rows(places_Cn, self.raw_by_place_NS[:, index_n]))

    @contextmanager
    def drawn(self, drawn: Drawn | None) -> Iterator[None]:
        """The table with a prompt's own columns in it."""
        if drawn is None:
            yield
            return
        rows_NS = self.table.rows_NS
        with self._alone:
            shared_Nn = rows_NS[:, drawn.index_n]
            rows_NS[:, drawn.index_n] = drawn.rows_Nn
            try:
                yield
            finally:
                rows_NS[:, drawn.index_n] = shared_Nn

    def _each(self, drawn: list[Drawn | None], step: Callable[[int], Found]) -> list[Found]:
        """One prompt after the other: what it needs stays in the processor's cache."""
        found = []
        for b, own in enumerate(drawn):
            with self.drawn(own):
                found.append(step(b))
        return found

    def _heads(self, layer: nn.Module, x_BTC: Tensor) -> Tensor:
        return split_heads(layer(x_BTC), self.weights.heads)

    def _thought(self, block: TwoWayBlock, tokens_BTC: Tensor, look_BTI: Tensor) -> Tensor:
        """Tokens after they have looked at the picture, and thought about it."""
        tokens_BTC = block.norm2(tokens_BTC + block.cross_attn_token_to_image.out_proj(look_BTI))
        out: Tensor = block.norm3(tokens_BTC + _thinking(block.mlp, tokens_BTC))
        return out

    def _back(self, block: TwoWayBlock, tokens_BTC: Tensor, own_BTC: Tensor, number: int) -> tuple[Tensor, Layer]:
        """(B, H, T, D) keys for places that look back, and what they will see."""
        attention: Attention = block.cross_attn_image_to_token
        keys_BHTD = self._heads(attention.k_proj, tokens_BTC + own_BTC)
        value_BHTD = self._heads(attention.v_proj, tokens_BTC)
        flat_HXD = value_BHTD.transpose(0, 1).flatten(1, 2)
        count = len(value_BHTD)
        made, beta = (
            _parted(flat_HXD @ update, 1, count).transpose(0, 1).flatten(1, 2)
            for update in (self.weights.updates[number], self.weights.beta_updates[number])
        )
        counts = self.weights.parts[number]
        parts = dict(zip(counts, torch.split(made, list(counts.values()), dim=-1), strict=True))
        return keys_BHTD, Layer(value_BHTD, parts, beta[..., 0])

    def _look(self, asked_HTD: Tensor) -> Tensor:
        """(T, I): tokens at the picture as it is."""
        weights_HTS = (asked_HTD @ self.table.key0).softmax(-1)
        return _merged(weights_HTS @ self.table.value0.transpose(1, 2))

    def _first(self, b: int, keys_HTD: Tensor, layer: Layer, asked_HTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer's attention weights (R, S) and scale (1, S), and (T, I), what tokens see in the second."""
        table = self.table
        a_RS = (keys_HTD @ table.query0).softmax(1).flatten(0, 1)
        u_RC, key_RI, value_RI = (layer.parts[name][b] for name in ("first", "key1", "value1"))
        inner_RS = product(u_RC @ u_RC.t(), a_RS).add_((layer.value_BHTD[b] @ table.cross1).flatten(0, 1), alpha=2)
        scale_1S = self._scale(table.square1 + (inner_RS.mul_(a_RS)).sum(0, keepdim=True), 0)
        scores_RS = product(self._between(asked_HTD, key_RI), a_RS).add_((asked_HTD @ table.key1).flatten(0, 1))
        weights_RS = _softmax(scores_RS.mul_(scale_1S).add_((asked_HTD @ self.key1).flatten(0, 1)))
        weights_RS *= scale_1S
        seen_HTD = self._split(weights_RS) @ table.value1.transpose(1, 2)
        seen_HTD += self._split(product(weights_RS, a_RS.t())) @ self._by_head(value_RI)
        return a_RS, scale_1S, _merged(seen_HTD) + self.weights.value1_I

    def _second(
        self, b: int, before: tuple[Tensor, Tensor], keys_HTD: Tensor, layers: tuple[Layer, Layer], asked_HTD: Tensor
    ) -> tuple[Update, Tensor]:
        """The outcome of both layers, and (T, I), what tokens see at last."""
        (a_RS, first_1S), (layer0, layer1), table, weights = before, layers, self.table, self.weights
        asked_RR = self._between(keys_HTD, layer0.parts["query1"][b])
        scores_RS = product(asked_RR, a_RS).add_((keys_HTD @ table.query1).flatten(0, 1))
        scores_RS.mul_(first_1S).add_((keys_HTD @ self.query1).flatten(0, 1))
        a1_RS = self._split(scores_RS).softmax(1).flatten(0, 1)
        z_ZS = torch.cat([a_RS * first_1S, a1_RS])
        u_ZC, key_ZI, value_ZI, up_ZN = (
            torch.cat([layer0.parts[name][b], layer1.parts[name][b]]) for name in ("gained", "key2", "value2", "up")
        )
        cross_ZS = torch.cat([layer0.value_BHTD[b] @ table.cross20, layer1.value_BHTD[b] @ table.cross21]).flatten(0, 1)
        cross_ZS.mul_(first_1S).add_(torch.cat([layer0.beta_BR[b], layer1.beta_BR[b]])[:, None])
        inner_ZS = product(u_ZC @ u_ZC.t(), z_ZS).add_(cross_ZS, alpha=2).mul_(z_ZS)
        square_1S = (table.square2 * first_1S + 2 * table.beta) * first_1S + weights.beta_square
        second_1S = self._scale(square_1S + inner_ZS.sum(0, keepdim=True), 1)
        scores_RS = product(self._between(asked_HTD, key_ZI), z_ZS)
        scores_RS.addcmul_((asked_HTD @ table.key2).flatten(0, 1), first_1S)
        scores_RS.add_((asked_HTD @ weights.beta_key_HD1).flatten(0, 1)).mul_(second_1S)
        weights_RS = _softmax(scores_RS.add_((asked_HTD @ self.key2).flatten(0, 1)))
        weights_RS *= second_1S
        seen_HTD = self._split(product(weights_RS, z_ZS.t())) @ self._by_head(value_ZI)
        seen_HTD += self._split(weights_RS.sum(1, keepdim=True)) * weights.beta_value_H1D
        seen_HTD += self._split(weights_RS * first_1S) @ table.value2.transpose(1, 2)
        return Update(z_ZS, first_1S, second_1S, up_ZN), _merged(seen_HTD) + weights.value2_I

    def _scale(self, square_1S: Tensor, number: int) -> Tensor:
        variance = square_1S.clamp_(min=0) / self.weights.width
        return variance.add_(self.weights.epsilon[number]).rsqrt_()

    def _between(self, asked_HTD: Tensor, rows_ZI: Tensor) -> Tensor:
        """(R, Z): products of what is asked with an update's rows, head by head."""
        return (asked_HTD @ _parted(rows_ZI, 1, self.weights.heads).permute(1, 2, 0)).flatten(0, 1)

    def _by_head(self, rows_ZI: Tensor) -> Tensor:
        """(H, Z, D)."""
        return _parted(rows_ZI, 1, self.weights.heads).transpose(0, 1)

    def _split(self, rows_RS: Tensor) -> Tensor:
        """(H, T, S)."""
        return _parted(rows_RS, 0, self.weights.heads)

    def _heard(self, tokens_BTC: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted IoU (B, K) and the kernels of the masks (B, K, C / 8)."""
        decoder = self.decode.decoder
        later = isinstance(decoder, MaskDecoder)  # since SAM 2 the score of presence comes first, and IoU is bounded
        tokens_BTC = tokens_BTC[:, int(later) :]
        iou_BK: Tensor = decoder.iou_prediction_head(tokens_BTC[:, 0])
        heads = [head for head in decoder.output_hypernetworks_mlps if isinstance(head, MLP)]
        kernels_BKC = torch.stack([head(tokens_BTC[:, 1 + k]) for k, head in enumerate(heads)], dim=1)
        return iou_BK.sigmoid() if later else iou_BK, kernels_BKC


def _parted(x: Tensor, dim: int, count: int) -> Tensor:
    """`dim` as `count` by what is left."""
    return torch.unflatten(x, dim, (count, -1))


def _softmax(scores_RS: Tensor) -> Tensor:
    return torch.softmax(scores_RS, -1)


def _merged(seen_HTD: Tensor) -> Tensor:
    """(T, I)."""
    return merge_heads(seen_HTD[None])[0]


def _thinking(mlp: nn.Module, x_BTC: Tensor) -> Tensor:
    """An MLP of two layers, its activation in the same pass."""
    layers = [layer for layer in mlp.modules() if isinstance(layer, nn.Linear)]
    if not has_fused_operators(layers[0].weight):
        out: Tensor = mlp(x_BTC)
        return out
    hidden = fused_linear(x_BTC, layers[0].weight, layers[0].bias, "relu")
    return fused_linear(hidden, layers[1].weight, layers[1].bias)
