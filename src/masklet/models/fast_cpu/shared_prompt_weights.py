"""Products of weights with each other and with one image, which all prompts about the image share.

`README.md` in this folder derives the formulas. A number says which state of the image a name belongs to: 0 as it
comes from the encoder, 1 after the first two-way block, 2 after the second.
Shapes: H heads, I channels inside attention, D = I / H, S image tokens (n of them), C channels, N rows or outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from masklet.models.heads.mask_decoder import MaskDecoderBase
from masklet.models.heads.two_way_transformer import TwoWayBlock
from masklet.nn.fused_ops import fused_linear, has_fused_operators

__all__ = ["ProjectionTable", "SharedPromptWeights", "matmul"]

TABLE_ROWS = (
    *("key0", "value0", "query0"),
    *("square1", "cross1", "key1", "value1", "query1"),
    *("square2", "cross2_first", "cross2_second", "cross2_bias", "key2", "value2", "up2"),
)
"""Row groups of a `ProjectionTable`, in order."""
STAGE_STARTS = ("key0", "query0", "query1", "up2")
"""The first row group of each stage of decoding, which reads the rows from there to the next stage."""


def matmul(left_NK: Tensor, right_KS: Tensor) -> Tensor:
    """Compute (N, S) by oneDNN if available, which is faster than eager PyTorch on processors that are not Intel's."""
    if has_fused_operators(left_NK):
        return fused_linear(left_NK, right_KS.t())
    return left_NK @ right_KS


def subtract_channel_mean(x_CN: Tensor) -> Tensor:
    """Subtract the mean over channels."""
    return x_CN - x_CN.mean(0, keepdim=True)


class SharedPromptWeights:
    """Weights that read the image and the low-rank update of a prompt, composed once per decoder.

    `up_NC` and `up_bias_N` are the first layer of the upscaling.
    """

    def __init__(self, decoder: MaskDecoderBase, up_NC: Tensor, up_bias_N: Tensor) -> None:
        first, second = (block for block in decoder.transformer.layers if isinstance(block, TwoWayBlock))
        last = decoder.transformer.final_attn_token_to_image
        first_to_image, first_from_image = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        second_to_image, second_from_image = second.cross_attn_token_to_image, second.cross_attn_image_to_token
        self.heads, self.width = first_from_image.heads, first_from_image.q_proj.in_features
        self.inner = inner = first_from_image.q_proj.out_features
        scale: float = (inner / self.heads) ** -0.5
        self.scale = scale
        self.epsilon = (first.norm4.eps, second.norm4.eps)
        gain1_C, shift1_C = first.norm4.weight, first.norm4.bias
        gain2_C, shift2_C = second.norm4.weight, second.norm4.bias

        # State 0: keys, values and queries of the image itself.
        layers = (first_to_image.k_proj, first_to_image.v_proj, first_from_image.q_proj)
        self.read0_NC = torch.cat([layers[0].weight, layers[1].weight, layers[2].weight * scale])
        self.read0_bias_N = torch.cat([layers[0].bias, layers[1].bias, layers[2].bias * scale])

        # Updates: W1, center(g1 W1), W2, and the constant b2; every one centered, as layer normalization does.
        self.bias1_C1, self.gain1_C1 = first_from_image.out_proj.bias[:, None], gain1_C[:, None]
        update1_CI = subtract_channel_mean(first_from_image.out_proj.weight)
        update2_CI = subtract_channel_mean(second_from_image.out_proj.weight)
        gained_CI = subtract_channel_mean(self.gain1_C1 * update1_CI)
        bias2_C1 = subtract_channel_mean((shift1_C + second_from_image.out_proj.bias)[:, None])

        # States 1 and 2: what reads them, with the gains of the normalizations folded in.
        layers = (second_to_image.k_proj, second_to_image.v_proj, second_from_image.q_proj)
        read1_NC = torch.cat([layers[0].weight, layers[1].weight, layers[2].weight * scale]) * gain1_C
        read2_NC = torch.cat([last.k_proj.weight, last.v_proj.weight, up_NC]) * gain2_C
        self.state1_NC = torch.cat([update1_CI.t(), read1_NC])
        self.state2_NC = torch.cat([gained_CI.t(), update2_CI.t(), bias2_C1.t(), read2_NC])

        # What a prompt's values become: the updates themselves, and their products with what reads them.
        self.updates = (
            self._by_head(torch.cat([update1_CI, read1_NC @ update1_CI, gained_CI, read2_NC @ gained_CI])),
            self._by_head(torch.cat([update2_CI, read2_NC @ update2_CI])),
        )
        state2 = {"update2": self.width, "key2": inner, "value2": inner, "up2": len(up_NC)}
        self.output_sizes = (
            {"update1": self.width, "key1": inner, "value1": inner, "query1": inner, **state2},
            state2,
        )
        self.bias2_updates = (self._by_head(bias2_C1.t() @ gained_CI), self._by_head(bias2_C1.t() @ update2_CI))
        self.bias2_square = float(bias2_C1.square().sum())
        key_I1, value_I1, self.bias2_up_N1 = torch.split(read2_NC @ bias2_C1, [inner, inner, len(up_NC)])
        self.bias2_key_HD1, self.bias2_value_H1D = key_I1.view(self.heads, -1, 1), value_I1.view(self.heads, 1, -1)

        # The shifts of the normalizations, as seen by what reads the states.
        self.position_projections = (
            (second_to_image.k_proj, shift1_C, 1.0),
            (second_from_image.q_proj, shift1_C, scale),
            (last.k_proj, shift2_C, 1.0),
        )
        self.value1_I = linear(shift1_C, second_to_image.v_proj.weight, second_to_image.v_proj.bias)
        self.value2_I = linear(shift2_C, last.v_proj.weight, last.v_proj.bias)
        self.up_shift_N = linear(shift2_C, up_NC, up_bias_N)

    def _by_head(self, weight_NI: Tensor) -> Tensor:
        """Return (H, D, N)."""
        return torch.unflatten(weight_NI, 1, (self.heads, -1)).permute(1, 2, 0).contiguous()

    def by_position(self, position_CS: Tensor) -> list[Tensor]:
        """Return the summands of positions to key1, query1 and key2, each (H, D, S)."""
        summands = []
        for layer, shift_C, scale in self.position_projections:
            rows_IS = matmul(layer.weight, position_CS + shift_C[:, None]) + layer.bias[:, None]
            summands.append((rows_IS * scale).view(self.heads, -1, rows_IS.shape[1]))
        return summands

    def table_columns(self, image_Cn: Tensor, read0_by_position_Nn: Tensor) -> Tensor:
        """Compute the columns of a `ProjectionTable` for some tokens of an image."""
        state0_Nn = matmul(self.read0_NC, image_Cn) + read0_by_position_Nn
        centered1_Cn = subtract_channel_mean(image_Cn + self.bias1_C1)
        centered2_Cn = subtract_channel_mean(centered1_Cn * self.gain1_C1)
        square1, square2 = (x.square().sum(0, keepdim=True) for x in (centered1_Cn, centered2_Cn))
        state1_Nn, state2_Nn = matmul(self.state1_NC, centered1_Cn), matmul(self.state2_NC, centered2_Cn)
        return torch.cat([state0_Nn, square1, state1_Nn, square2, state2_Nn])


class ProjectionTable:
    """Everything that is read of one image: rows over its tokens; a column depends on that token alone.

    Row groups are views of `rows_NS`: (H, D, S) by head, except for the squares, `cross2_bias` and `up_NS`.
    """

    def __init__(self, weights: SharedPromptWeights, rows_NS: Tensor) -> None:
        self.rows_NS = rows_NS
        counts = {"square1": 1, "square2": 1, "cross2_bias": 1, "up2": len(weights.up_shift_N)}
        sizes = [counts.get(name, weights.inner) for name in TABLE_ROWS]
        parts = dict(zip(TABLE_ROWS, torch.split(rows_NS, sizes), strict=True))
        self.square1, self.square2, self.cross2_bias = (parts[n] for n in ("square1", "square2", "cross2_bias"))
        self.up_NS = parts["up2"]
        starts = [sum(sizes[: TABLE_ROWS.index(name)]) for name in STAGE_STARTS]
        ends = [*starts[1:], len(rows_NS)]
        self.stages = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
        heads = {name: torch.unflatten(part, 0, (weights.heads, -1)) for name, part in parts.items() if len(part) > 1}
        self.key0, self.value0, self.query0 = (heads[name] for name in ("key0", "value0", "query0"))
        self.cross1, self.key1, self.value1, self.query1 = (heads[n] for n in ("cross1", "key1", "value1", "query1"))
        self.cross2_first, self.cross2_second = heads["cross2_first"], heads["cross2_second"]
        self.key2, self.value2 = heads["key2"], heads["value2"]
