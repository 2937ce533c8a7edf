"""What many prompts about one image share: products of weights with each other, and with the image.

The mathematics is told in `sharing`. Shapes: H heads, I channels inside attention, D = I / H, S places (n of them), C
channels, N rows or outputs.
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
    *("square2", "cross20", "cross21", "beta", "key2", "value2", "up"),
)
"""Of a table, in order; a number tells after which layer a row is read."""


def matmul(left_NK: Tensor, right_KS: Tensor) -> Tensor:
    """(N, S), by oneDNN where it is there: faster than what eager PyTorch calls on processors that are not Intel's."""
    if has_fused_operators(left_NK):
        return fused_linear(left_NK, right_KS.t())
    return left_NK @ right_KS


class SharedPromptWeights:
    """Products of weights: what reads the image, and what reads the update that a prompt has made to it.

    `up_NC` and `up_bias_N` are the first layer of the way up.
    """

    def __init__(self, decoder: MaskDecoderBase, up_NC: Tensor, up_bias_N: Tensor) -> None:
        first, second = (block for block in decoder.transformer.layers if isinstance(block, TwoWayBlock))
        last = decoder.transformer.final_attn_token_to_image
        there, back = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        then, behind = second.cross_attn_token_to_image, second.cross_attn_image_to_token
        self.heads, self.width = back.heads, back.q_proj.in_features
        self.inner = back.q_proj.out_features
        self.scale = (self.inner / self.heads) ** -0.5
        gain1_C, shift1_C = first.norm4.weight, first.norm4.bias
        gain2_C, shift2_C = second.norm4.weight, second.norm4.bias
        self.epsilon = (first.norm4.eps, second.norm4.eps)

        self.raw_NC = torch.cat([there.k_proj.weight, there.v_proj.weight, back.q_proj.weight * self.scale])
        self.raw_bias_N = torch.cat([there.k_proj.bias, there.v_proj.bias, back.q_proj.bias * self.scale])
        self.bias_C1, self.gain_C1 = back.out_proj.bias[:, None], gain1_C[:, None]
        out0_CI, out1_CI = subtract_channel_mean(back.out_proj.weight), subtract_channel_mean(behind.out_proj.weight)
        gained_CI = subtract_channel_mean(self.gain_C1 * out0_CI)
        beta_C1 = subtract_channel_mean((shift1_C + behind.out_proj.bias)[:, None])

        once_NC = torch.cat([then.k_proj.weight, then.v_proj.weight, behind.q_proj.weight * self.scale]) * gain1_C
        twice_NC = torch.cat([last.k_proj.weight, last.v_proj.weight, up_NC]) * gain2_C
        self.after_first_NC = torch.cat([out0_CI.t(), once_NC])
        self.after_second_NC = torch.cat([gained_CI.t(), out1_CI.t(), beta_C1.t(), twice_NC])
        self.updates = (
            self._by_head(torch.cat([out0_CI, once_NC @ out0_CI, gained_CI, twice_NC @ gained_CI])),
            self._by_head(torch.cat([out1_CI, twice_NC @ out1_CI])),
        )
        inner, width = self.inner, self.width
        late = {"key2": inner, "value2": inner, "up": len(up_NC)}
        self.output_sizes = (
            {"first": width, "key1": inner, "value1": inner, "query1": inner, "gained": width, **late},
            {"gained": width, **late},
        )
        self.beta_square = float(beta_C1.square().sum())
        self.beta_updates = (self._by_head(beta_C1.t() @ gained_CI), self._by_head(beta_C1.t() @ out1_CI))
        self.beta_key_HD1, self.beta_value_H1D, self.beta_up_N1 = self._split_beta(twice_NC @ beta_C1)

        self.position_projections = (
            (then.k_proj, shift1_C, 1.0),
            (behind.q_proj, shift1_C, self.scale),
            (last.k_proj, shift2_C, 1.0),
        )
        self.value1_I = linear(shift1_C, then.v_proj.weight, then.v_proj.bias)
        self.value2_I = linear(shift2_C, last.v_proj.weight, last.v_proj.bias)
        self.up_shift_N = linear(shift2_C, up_NC, up_bias_N)

    def _by_head(self, weight_NI: Tensor) -> Tensor:
        """(H, D, N)."""
        return torch.unflatten(weight_NI, 1, (self.heads, -1)).permute(1, 2, 0).contiguous()

    def _split_beta(self, beta_N1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key, value, up = torch.split(beta_N1, [self.inner, self.inner, len(beta_N1) - 2 * self.inner])
        return key.view(self.heads, -1, 1), value.view(self.heads, 1, -1), up

    def by_position(self, position_CS: Tensor) -> list[Tensor]:
        """(H, D, S) each: what adds to keys and queries of later layers by place alone."""
        found = []
        for layer, shift_C, scale in self.position_projections:
            rows_IS = matmul(layer.weight, position_CS + shift_C[:, None]) + layer.bias[:, None]
            found.append((rows_IS * scale).view(self.heads, -1, rows_IS.shape[1]))
        return found

    def raw_by_position(self, position_CS: Tensor) -> Tensor:
        """(3 I, S): what adds to the raw rows; values are told nothing of their place."""
        share_NS = matmul(self.raw_NC, position_CS)
        share_NS[self.inner : 2 * self.inner] = 0
        return share_NS + self.raw_bias_N[:, None]

    def table_columns(self, image_Cn: Tensor, raw_by_position_Nn: Tensor) -> Tensor:
        """The columns of a `Table` for some places."""
        raw_Nn = matmul(self.raw_NC, image_Cn) + raw_by_position_Nn
        once_Cn = subtract_channel_mean(image_Cn + self.bias_C1)
        twice_Cn = subtract_channel_mean(once_Cn * self.gain_C1)
        squares = [x.square().sum(0, keepdim=True) for x in (once_Cn, twice_Cn)]
        return torch.cat(
            [
                raw_Nn,
                squares[0],
                matmul(self.after_first_NC, once_Cn),
                squares[1],
                matmul(self.after_second_NC, twice_Cn),
            ]
        )

    @property
    def row_counts(self) -> list[int]:
        """Rows of each of `ROWS`."""
        single = {"square1", "square2", "beta"}
        return [1 if name in single else len(self.up_shift_N) if name == "up" else self.inner for name in TABLE_ROWS]


class ProjectionTable:
    """Rows over the places of one image; every column is made from that place alone."""

    def __init__(self, weights: SharedPromptWeights, rows_NS: Tensor) -> None:
        self.rows_NS = rows_NS
        parts = dict(zip(TABLE_ROWS, torch.split(rows_NS, weights.row_counts), strict=True))
        heads = {name: torch.unflatten(part, 0, (weights.heads, -1)) for name, part in parts.items() if len(part) > 1}
        self.key0, self.value0, self.query0 = (heads[name] for name in ("key0", "value0", "query0"))
        self.cross1, self.key1, self.value1, self.query1 = (heads[n] for n in ("cross1", "key1", "value1", "query1"))
        self.cross20, self.cross21 = heads["cross20"], heads["cross21"]
        self.key2, self.value2 = heads["key2"], heads["value2"]
        self.square1, self.square2, self.beta = (parts[name] for name in ("square1", "square2", "beta"))
        self.up_NS = parts["up"]


def subtract_channel_mean(x_CN: Tensor) -> Tensor:
    """Without its mean over channels."""
    return x_CN - x_CN.mean(0, keepdim=True)
