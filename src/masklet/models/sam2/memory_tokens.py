"""Memories of several frames as one sequence of tokens, each with a position in space and time.

Shapes: B objects, S tokens, M memory channels, H and W at stride 16, P pointer tokens, C channels of a pointer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from masklet.models.sam2.memory_attention import KeyLayout
from masklet.models.types import MemoryContext
from masklet.nn.position import sine_position_1d, sine_position_2d

__all__ = ["MemoryTokenizer", "MemoryTokens"]


@dataclass(frozen=True)
class MemoryTokens:
    """Keys and values of memory attention."""

    values_BSM: Tensor
    positions_1SM: Tensor
    """Position in space and time, the same for all objects."""
    layout: KeyLayout
    key_weights_BS: Tensor | None = None
    """Factors of the keys; None: all are 1."""


@dataclass(frozen=True)
class MemoryTokenizer:
    """Order of the tokens, and the learned encodings of time."""

    temporal_embed_S11M: Tensor
    """By age in frames, from 1; the last row is for prompted frames."""
    pointer_time_proj: nn.Module | None
    """Projects a pointer's sine-encoded offset to M channels; None: pointers have no time (SAM 2.0)."""
    unplaced: int = 0
    """Number of tokens at the start of each memory that have no position in the image (EdgeTAM)."""
    pooling: Literal["logits", "keys"] | None = None
    """As `MemoryConfig.key_pooling`."""

    def tokenize(self, memory_context: MemoryContext) -> MemoryTokens:
        """Concatenate all memories, pointers last; each pointer is split into tokens of M channels."""
        assert memory_context.spatial, "an object without any memory cannot be tracked"
        values = [memory.flatten(2).transpose(1, 2) for memory in memory_context.spatial]
        num_pointers = 0
        if memory_context.pointers:
            pointers_BPC = torch.stack(memory_context.pointers, dim=1)
            tokens_BPM = pointers_BPC.reshape(len(pointers_BPC), -1, self.temporal_embed_S11M.shape[-1])
            values.append(tokens_BPM)
            num_pointers = tokens_BPM.shape[1]
        layout = self.layout(memory_context.spatial[0], num_pointers)
        weights_BS = self.key_weights(memory_context, layout)
        return MemoryTokens(torch.cat(values, dim=1), self.positions(memory_context), layout, weights_BS)

    def layout(self, memory_BMHW: Tensor, num_pointers: int) -> KeyLayout:
        """Return the layout of the tokens of memories of this size."""
        rows, columns = memory_BMHW.shape[-2:]
        return KeyLayout(num_pointers, (rows - self.unplaced // columns, columns), self.unplaced, self.pooling)

    def key_weights(self, memory_context: MemoryContext, layout: KeyLayout) -> Tensor | None:
        """Return the factor of each token's key, (B, S), or None where no memory is weighted."""
        weights_BF = memory_context.spatial_weights_BF
        if weights_BF is None:
            return None
        weights_BS = weights_BF.repeat_interleave(layout.per_memory, dim=1)
        if memory_context.pointer_weights_BP is None or not memory_context.pointers:
            return pad(weights_BS, (0, layout.num_pointers), value=1.0)
        tokens_per_pointer = layout.num_pointers // len(memory_context.pointers)
        pointers_BS = memory_context.pointer_weights_BP.repeat_interleave(tokens_per_pointer, dim=1)
        return torch.cat([weights_BS, pointers_BS], dim=1)

    def positions(self, memory_context: MemoryContext) -> Tensor:
        """Return the positions (1, S, M) of all tokens, which do not depend on the values of the memories."""
        spatial = memory_context.spatial[0]
        channels, (height, width) = spatial.shape[1], self.layout(spatial, 0).size
        position = sine_position_2d(height, width, channels, spatial.device).flatten(2).transpose(1, 2)
        position = pad(position.to(spatial.dtype), (0, 0, self.unplaced, 0))
        parts = [  # age 0 indexes the last row
            position + self.temporal_embed_S11M[age - 1][0] for age in memory_context.temporal_positions
        ]
        if memory_context.pointers:
            pointer = memory_context.pointers[0]
            channels = self.temporal_embed_S11M.shape[-1]
            tokens_per_pointer = pointer.shape[-1] // channels
            if self.pointer_time_proj is None:
                parts.append(pointer.new_zeros(1, len(memory_context.pointers) * tokens_per_pointer, channels))
            else:
                offsets = torch.tensor(memory_context.pointer_offsets, device=pointer.device).float()
                offsets = offsets / max(memory_context.max_pointers - 1, 1)
                encoded_PM = self.pointer_time_proj(sine_position_1d(offsets, pointer.shape[-1]).to(pointer.dtype))
                parts.append(encoded_PM.repeat_interleave(tokens_per_pointer, dim=0)[None])
        return torch.cat(parts, dim=1)
