"""The video parts of SAM 2 as modules with plain tensors in and out, which exporters trace.

A frame attends to a fixed number of memories and pointers: those that are missing are masked. Positions are rotated
in real arithmetic.
Shapes: N objects, K memories, Q pointers, C channels, M memory channels, h and w of the stride-16 map, T = h w tokens
of a map, S tokens of all memories.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, relu, scaled_dot_product_attention

from masklet.models.sam2 import SAM2
from masklet.models.sam2.memory_attention import (
    POOLING_CONSTANT,
    KeyLayout,
    MemoryAttention,
    MemoryAttentionLayer,
    RoPEAttention,
    pool_2x2,
)
from masklet.models.sam2.output_masks import MEMORY_MASK_BIAS, MEMORY_MASK_SCALE
from masklet.nn.attention import axial_rope
from masklet.nn.position import sine_position_1d, sine_position_2d

__all__ = ["MemoryAttentionGraph", "MemoryEncoderGraph"]

MASKED_SCORE = -3e4
"""Added to the attention scores of tokens that do not count: their weight is 0, and the number is one in fp16 too."""


class MemoryEncoderGraph(nn.Module):
    """Features of a frame and its masks to the memory of each object."""

    def __init__(self, network: SAM2) -> None:
        super().__init__()
        self.memory_encoder = network.memory_encoder
        absent = getattr(network, "no_obj_embed_spatial", None)
        self.absent_1M = None if absent is None else nn.Parameter(absent.detach().clone(), requires_grad=False)
        self.perceiver: nn.Module | None = getattr(network, "spatial_perceiver", None)

    def forward(self, image_embeddings: Tensor, masks: Tensor, object_scores: Tensor, prompted: Tensor) -> Tensor:
        """Encode memories (N, M, h, w), of EdgeTAM (N, M, rows, columns).

        Args:
            image_embeddings: (1, C, h, w), without the embedding of an empty memory.
            masks: (N, 1, 4 h, 4 w) logits.
            object_scores: (N, 1), above 0 where the object is in the image.
            prompted: (1,), 1 where the masks come from prompts and count as inside or outside, else 0.
        """
        height, width = masks.shape[-2:]
        full_N1HW = interpolate(masks, (4 * height, 4 * width), mode="bilinear", align_corners=False)
        inside_N1HW = torch.where(prompted > 0.5, (full_N1HW > 0).to(masks.dtype), full_N1HW.sigmoid())
        scaled_N1HW = inside_N1HW * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS
        # Repeated by an index: OpenVINO fuses the sum of two convolutions, and then wants one shape.
        encoder, rows = self.memory_encoder, torch.zeros(masks.shape[0], dtype=torch.long, device=masks.device)
        projected_NChw = encoder.pix_feat_proj(image_embeddings).index_select(0, rows)
        mixed_NChw = projected_NChw + encoder.mask_downsampler(scaled_N1HW)
        memory_NMhw: Tensor = encoder.out_proj(encoder.fuser(mixed_NChw))
        if self.absent_1M is not None:
            absent_N1 = (object_scores <= 0).to(memory_NMhw.dtype)
            memory_NMhw = memory_NMhw + (absent_N1 * self.absent_1M)[..., None, None]
        return memory_NMhw if self.perceiver is None else self.perceiver(memory_NMhw)


class HalvesRoPE(nn.Module):
    """Rotary attention whose channels are ordered so that the two of a plane are in the two halves.

    Queries and keys have the same order, so that their products stay the same, and a rotation needs no strided access.
    """

    def __init__(self, attention: RoPEAttention) -> None:
        super().__init__()
        width = attention.q_proj.out_features
        order = torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])
        self.q_proj, self.k_proj = (self._reordered(proj, order) for proj in (attention.q_proj, attention.k_proj))
        self.v_proj, self.out_proj = attention.v_proj, attention.out_proj

    @staticmethod
    def _reordered(proj: nn.Linear, order: Tensor) -> nn.Linear:
        other = nn.Linear(proj.in_features, proj.out_features)
        with torch.no_grad():
            other.weight.copy_(proj.weight[order])
            other.bias.copy_(proj.bias[order])
        return other.requires_grad_(False)

    @staticmethod
    def rotate(x: Tensor, cos_TP: Tensor, sin_TP: Tensor) -> Tensor:
        """Rotate (..., T, C) by the angle of each token."""
        even, odd = x.chunk(2, dim=-1)
        return torch.cat([even * cos_TP - odd * sin_TP, even * sin_TP + odd * cos_TP], dim=-1)


class MemoryAttentionLayerGraph(nn.Module):
    """A layer of memory attention over a fixed number of memories, whose tokens are as `layout` says."""

    def __init__(self, layer: MemoryAttentionLayer, layout: KeyLayout) -> None:
        super().__init__()
        self.layer, self.layout = layer, layout
        self.self_attention, self.cross_attention = HalvesRoPE(layer.self_attn), HalvesRoPE(layer.cross_attn_image)

    def forward(
        self,
        x_NTC: Tensor,
        spatial_NKTM: Tensor,
        spatial_position_1KTM: Tensor,
        pointers_NSM: Tensor,
        pointer_position_1SM: Tensor,
        mask_111S: Tensor,
        rope: tuple[Tensor, Tensor],
        key_rope: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Update the frame (N, T, C)."""
        layer, layout, one, other = self.layer, self.layout, self.self_attention, self.cross_attention
        y = layer.norm1(x_NTC)
        q, k = (one.rotate(proj(y), *rope)[:, None] for proj in (one.q_proj, one.k_proj))
        attended = scaled_dot_product_attention(q, k, one.v_proj(y)[:, None])
        x_NTC = x_NTC + one.out_proj(attended[:, 0])

        q = other.rotate(other.q_proj(layer.norm2(x_NTC)), *rope)[:, None]
        spatial_NKTC = other.k_proj(spatial_NKTM + spatial_position_1KTM)
        unplaced_NKTC, placed_NKTC = spatial_NKTC[:, :, : layout.unplaced], spatial_NKTC[:, :, layout.unplaced :]
        placed_NKTC = other.rotate(placed_NKTC, *key_rope)
        spatial_NKTC = torch.cat([unplaced_NKTC, placed_NKTC], dim=2) if layout.unplaced else placed_NKTC
        if is_pooled(layout, memories=spatial_NKTM.shape[1]):
            spatial_NKTC, spatial_NKTM = (pool_2x2(tokens, layout.size) for tokens in (spatial_NKTC, spatial_NKTM))
            spatial_NKTC = spatial_NKTC + POOLING_CONSTANT if layout.pooling == "keys" else spatial_NKTC
        k = torch.cat([spatial_NKTC.flatten(1, 2), other.k_proj(pointers_NSM + pointer_position_1SM)], dim=1)
        v = other.v_proj(torch.cat([spatial_NKTM.flatten(1, 2), pointers_NSM], dim=1))
        attended = scaled_dot_product_attention(q, k[:, None], v[:, None], mask_111S)
        x_NTC = x_NTC + other.out_proj(attended[:, 0])
        out: Tensor = x_NTC + layer.linear2(relu(layer.linear1(layer.norm3(x_NTC))))
        return out


def is_pooled(layout: KeyLayout, memories: int) -> bool:
    """Return whether a graph for so many memories pools their keys, as the network does from two memories on."""
    return layout.pooling is not None and memories > 1


class MemoryAttentionGraph(nn.Module):
    """Features of a frame and memories of N objects to features conditioned on them.

    `memory_size` are the rows and columns of one memory; of networks whose frames keep their shape, any.
    """

    def __init__(self, network: SAM2, memory_size: tuple[int, int]) -> None:
        super().__init__()
        attention: MemoryAttention = network.memory_attention
        self.layout = network.memory_tokenizer().layout(torch.zeros(1, 1, *memory_size), 0)
        layers = (layer for layer in attention.layers if isinstance(layer, MemoryAttentionLayer))
        self.layers = nn.ModuleList(MemoryAttentionLayerGraph(layer, self.layout) for layer in layers)
        self.norm, self.position_weight = attention.norm, attention.POSITION_WEIGHT
        self.temporal_S11M = nn.Parameter(network.maskmem_tpos_enc.detach().clone(), requires_grad=False)
        self.pointer_time_proj: nn.Module | None = getattr(network, "obj_ptr_tpos_proj", None)

    def forward(
        self,
        image_embeddings: Tensor,
        memories: Tensor,
        ages: Tensor,
        memory_valid: Tensor,
        pointers: Tensor,
        pointer_offsets: Tensor,
        pointer_valid: Tensor,
    ) -> Tensor:
        """Condition features (N, C, h, w) on memories.

        Args:
            image_embeddings: (1, C, h, w), without the embedding of an empty memory.
            memories: (N, K, M, h, w), of EdgeTAM (N, K, M, rows, columns).
            ages: (K,) in frames; 0 for prompted frames.
            memory_valid: (K,), 1 for a memory and 0 for padding; at least one is 1.
            pointers: (N, Q, C).
            pointer_offsets: (Q,), distance in frames divided by the largest one.
            pointer_valid: (Q,), 1 for a pointer and 0 for padding.
        """
        count, channels, layout = memories.shape[0], memories.shape[2], self.layout
        height, width = image_embeddings.shape[2], image_embeddings.shape[3]
        device, dtype, per_pointer = memories.device, memories.dtype, pointers.shape[2] // channels
        x_1TC = image_embeddings.flatten(2).transpose(1, 2)
        position = sine_position_2d(height, width, x_1TC.shape[2], device).flatten(2).transpose(1, 2)
        x_NTC = (x_1TC + self.position_weight * position.to(dtype)).expand(count, -1, -1)

        slots = self.temporal_S11M.shape[0]
        time_KM = self.temporal_S11M[torch.where(ages == 0, slots - 1, ages - 1), 0, 0]
        # EdgeTAM's memories have a size of their own; all others are as large as the frame, whatever its size.
        size = layout.size if layout.unplaced else (height, width)
        position = sine_position_2d(*size, channels, device).flatten(2).transpose(1, 2).to(dtype)
        spatial_position_1KTM = (pad(position, (0, 0, layout.unplaced, 0)) + time_KM[:, None])[None]
        pointers_NSM = pointers.reshape(count, -1, channels)
        if self.pointer_time_proj is None:
            pointer_position_1SM = torch.zeros_like(pointers_NSM[:1])
        else:
            encoded_QC = sine_position_1d(pointer_offsets, pointers.shape[2]).to(dtype)
            encoded_QM = self.pointer_time_proj(encoded_QC)
            pointer_position_1SM = encoded_QM.repeat_interleave(per_pointer, dim=0)[None]

        pools = is_pooled(layout, memories.shape[1])
        per_memory = (layout.unplaced + size[0] * size[1]) // (4 if pools else 1)
        score_K, score_Q = (1 - memory_valid) * MASKED_SCORE, (1 - pointer_valid) * MASKED_SCORE
        if pools and layout.pooling == "logits":
            score_K = score_K + POOLING_CONSTANT
        score_KT = score_K[:, None].expand(-1, per_memory)
        mask_S = torch.cat([score_KT.flatten(), score_Q.repeat_interleave(per_pointer)])
        mask_111S = mask_S.to(dtype)[None, None, None]
        rope = axial_rope(height, width, x_1TC.shape[2], device=device).to(dtype)
        key_rope = axial_rope(*size, x_1TC.shape[2], device=device).to(dtype) if layout.unplaced else rope
        spatial_NKTM = memories.flatten(3).transpose(2, 3)
        for layer in self.layers:
            x_NTC = layer(
                x_NTC,
                spatial_NKTM,
                spatial_position_1KTM,
                pointers_NSM,
                pointer_position_1SM,
                mask_111S,
                rope.unbind(0),
                key_rope.unbind(0),
            )
        conditioned_NCT = self.norm(x_NTC).transpose(1, 2)
        return torch.unflatten(conditioned_NCT, 2, (height, width))
