"""Hiera with oneDNN's products, one strip of windows at a time.

Windows do not depend on each other, so a strip of the map that is one or more windows high passes through a complete
block by itself. Its intermediate results stay small, and the processor spends its time on products instead of mapping
new memory. Blocks with global attention attend in chunks of queries.
Shapes: B batch, N windows, H height, W width, C channels, A heads, D channels per head, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from masklet.models.fast_cpu.memory_attention import AttentionKeys, AttentionValues, attend
from masklet.models.sam2.hiera import Hiera, HieraBlock, max_pool_2x2
from masklet.models.sam2.plain_vit import PlainViT
from masklet.nn.attention import merge_heads, split_heads, window_partition, window_unpartition
from masklet.nn.fused_ops import FusedLinear, fused_layer, has_bfloat16_tiles, row_chunks

__all__ = ["FusedHiera"]

STRIP_BYTES = 8 << 20
"""Limit on a strip's widest intermediate result."""
HEAD_BYTES = 4 << 20
"""Limit on the scores of a chunk of queries in global attention."""


class FusedHiera:
    """`Hiera` or `PlainViT` in inference.

    `dtype` is the type of matrix products. In fp32 weights are read as they are stored, in bf16 they are copied. The
    residual stream and normalizations are fp32 in both.
    """

    def __init__(self, trunk: Hiera | PlainViT, dtype: torch.dtype = torch.float32) -> None:
        self.trunk = trunk
        self.blocks = [FusedHieraBlock(block, dtype) for block in trunk.blocks if isinstance(block, HieraBlock)]
        self._cached_position: tuple[torch.Size | None, Tensor] = (None, torch.zeros(0))
        """Map size, and the position embedding of that size."""

    def __call__(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """Return maps (B, C, H, W), as the trunk."""
        pixels_B3HW = pixels_B3HW.contiguous(memory_format=torch.channels_last)  # so is the output
        x_BHWC: Tensor = self.trunk.patch_embed(pixels_B3HW).permute(0, 2, 3, 1).contiguous()
        size, position = self._cached_position  # read once: another thread may replace it
        if size != x_BHWC.shape[1:3]:
            position = self.trunk.position_embedding(*x_BHWC.shape[1:3])
            self._cached_position = (x_BHWC.shape[1:3], position)
        x_BHWC = x_BHWC + position
        maps = []
        for i, block in enumerate(self.blocks):
            x_BHWC = block(x_BHWC)
            if i in self.trunk.last_blocks:
                maps.append(x_BHWC.permute(0, 3, 1, 2))
        return maps


class FusedHieraBlock:
    """`HieraBlock`, one strip of windows at a time."""

    def __init__(self, block: HieraBlock, dtype: torch.dtype) -> None:
        self.block, self.dtype, attention = block, dtype, block.attn
        self.inputs, self.outputs = attention.qkv.in_features, attention.proj.out_features
        self.query_stride = 2 if block.pool else 1
        self.mlp = [layer for layer in block.mlp.layers if isinstance(layer, nn.Linear)]
        self.by_kernel = dtype == torch.float32 or has_bfloat16_tiles()
        """Whether PyTorch's own kernel is the fastest in windows."""
        self.packed: dict[nn.Linear, FusedLinear] = {}
        if dtype != torch.float32:
            layers = (attention.qkv, attention.proj, block.proj, *self.mlp)
            self.packed = {layer: FusedLinear.from_layer(layer, dtype) for layer in layers if layer is not None}

    def __call__(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape, or to half of H and W and more channels."""
        batch, height, width, _ = x_BHWC.shape
        if self.block.window == 0:
            return torch.cat([self._global_attention(x_BHWC[i : i + 1]) for i in range(batch)])
        out_BHWC = x_BHWC.new_empty(batch, height // self.query_stride, width // self.query_stride, self.outputs)
        window, attention = self.block.window, self.block.attn
        widest = max(3 * self.outputs, 4 * self.outputs // self.query_stride**2)  # of qkv and of the MLP
        for rows in row_chunks(
            -(-height // window), batch * window * width * self.dtype.itemsize * widest, STRIP_BYTES
        ):
            strip = slice(rows.start * window, min(rows.stop * window, height))
            normed, residual_BHWC = self._norm_and_residual(x_BHWC[:, strip])
            windows, padded = window_partition(normed, window)
            padded = (padded[0] // self.query_stride, padded[1] // self.query_stride)
            q, k, v = self._product(attention.qkv, windows).chunk(3, dim=-1)
            q = max_pool_2x2(q) if self.block.pool else q
            q_NATD, k_NATD, v_NATD = (split_heads(t.flatten(1, 2), attention.heads) for t in (q, k, v))
            attend_in_windows = scaled_dot_product_attention if self.by_kernel else _attend_by_products
            attended = attend_in_windows(q_NATD, k_NATD, v_NATD)
            attended = attended.transpose(1, 2).reshape(q.shape)
            attended = window_unpartition(
                self._product(attention.proj, attended), padded, (residual_BHWC.shape[1], residual_BHWC.shape[2])
            )
            into = slice(strip.start // self.query_stride, strip.stop // self.query_stride)
            out_BHWC[:, into] = self._add_mlp((residual_BHWC + attended).contiguous())
        return out_BHWC

    def _global_attention(self, x_1HWC: Tensor) -> Tensor:
        """Run the block with attention over the full map, one head at a time where products are oneDNN's."""
        normed, residual_1HWC = self._norm_and_residual(x_1HWC)
        attention = self.block.attn
        q, k, v = self._product(attention.qkv, normed).chunk(3, dim=-1)
        q = max_pool_2x2(q) if self.block.pool else q
        size, depth = q.shape, self.outputs // attention.heads
        if self.dtype != torch.float32 and self.by_kernel:
            q_1ATD, k_1ATD, v_1ATD = (split_heads(t.flatten(1, 2), attention.heads) for t in (q, k, v))
            attended = merge_heads(scaled_dot_product_attention(q_1ATD, k_1ATD, v_1ATD))
            return self._add_mlp((residual_1HWC + self._product(attention.proj, attended.view(size))).contiguous())
        q, k, v = (t.reshape(-1, self.outputs) for t in (q, k, v))
        out_TC = q.new_empty(q.shape)
        for head in range(attention.heads):
            part = slice(head * depth, (head + 1) * depth)
            values = AttentionValues(v[:, part], self.dtype, depth)
            keys = AttentionKeys(k[:, part].contiguous(), values, HEAD_BYTES)
            attend(q[:, part] * depth**-0.5, keys, out_TC[:, part])
        return self._add_mlp((residual_1HWC + self._product(attention.proj, out_TC.view(size))).contiguous())

    def _norm_and_residual(self, x_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalized input in `dtype`, and the residual that attention is added to."""
        block = self.block
        normed = block.norm1(x_BHWC).to(self.dtype)
        if block.proj is None:
            return normed, x_BHWC
        widened = self._product(block.proj, normed).float()
        return normed, max_pool_2x2(widened) if block.pool else widened

    def _add_mlp(self, x_BHWC: Tensor) -> Tensor:
        """Add the MLP in place, a chunk of rows at a time."""
        flat_TC = x_BHWC.view(-1, self.outputs)
        first, second = self.mlp
        for rows in row_chunks(len(flat_TC), first.out_features * self.dtype.itemsize, STRIP_BYTES):
            hidden = self._product(first, self.block.norm2(flat_TC[rows]), "gelu")
            flat_TC[rows] += self._product(second, hidden)
        return x_BHWC

    def _product(self, layer: nn.Linear, x_NI: Tensor, activation: str = "none") -> Tensor:
        """Run a layer in `dtype`, and return its output in that type."""
        packed = self.packed.get(layer)
        return fused_layer(layer, x_NI, activation) if packed is None else packed(x_NI.to(self.dtype), activation)


def _attend_by_products(q_NATD: Tensor, k_NATD: Tensor, v_NATD: Tensor) -> Tensor:
    """Attend in windows by two batched products, in bf16 faster than PyTorch's own kernel."""
    scale = q_NATD.shape[-1] ** -0.5
    weights_NATT = torch.softmax((q_NATD * scale) @ k_NATD.transpose(-2, -1), -1)
    return weights_NATT @ v_NATD
