"""Memories of several frames laid end to end, each with its place and its time.

Shapes: B objects, S tokens, M memory channels, H and W at stride 16, P pointers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from masklet.models.types import MemoryContext
from masklet.nn.position import sine_position_1d, sine_position_2d

__all__ = ["MemoryTokenizer", "MemoryTokens"]


@dataclass(frozen=True)
class MemoryTokens:
    """What memory attention looks at."""

    values_BSM: Tensor
    positions_1SM: Tensor
    """Place and time, the same for all objects."""
    num_pointers: int
    """So many tokens at the end have no place in the image."""


@dataclass(frozen=True)
class MemoryTokenizer:
    """How memories are laid out, with the learned encodings of time."""

    temporal_embed_S11M: Tensor
    """By age: the frame before, the one before that, ...; the last row is for prompted frames."""
    pointer_time_proj: nn.Module | None
    """Offset of a pointer (sines) to M channels; None: pointers have no time (2.0)."""

    def tokenize(self, memory_context: MemoryContext) -> MemoryTokens:
        """All memories as tokens, pointers last, each cut into pieces of M channels."""
        assert memory_context.spatial, "an object without any memory cannot be tracked"
        values = [memory.flatten(2).transpose(1, 2) for memory in memory_context.spatial]
        pointers = 0
        if memory_context.pointers:
            pieces_BPM = self._split_pointers(torch.stack(memory_context.pointers, dim=1))
            values.append(pieces_BPM)
            pointers = pieces_BPM.shape[1]
        return MemoryTokens(torch.cat(values, dim=1), self.positions(memory_context), pointers)

    def positions(self, memory_context: MemoryContext) -> Tensor:
        """(1, S, M): place and time of every token, which do not depend on what is in the memories."""
        times = [self._pointer_positions(memory_context)] if memory_context.pointers else []
        return torch.cat([*self._spatial_positions(memory_context), *times], dim=1)

    def _spatial_positions(self, memory_context: MemoryContext) -> list[Tensor]:
        channels, height, width = memory_context.spatial[0].shape[1:]
        place = sine_position_2d(height, width, channels, memory_context.spatial[0].device).flatten(2).transpose(1, 2)
        place = place.to(memory_context.spatial[0].dtype)
        return [
            place + self.temporal_embed_S11M[age - 1][0] for age in memory_context.temporal_positions
        ]  # age 0 is the last row

    def _split_pointers(self, pointers_BPC: Tensor) -> Tensor:
        return pointers_BPC.reshape(len(pointers_BPC), -1, self.temporal_embed_S11M.shape[-1])

    def _pointer_positions(self, memory_context: MemoryContext) -> Tensor:
        pointer = memory_context.pointers[0]
        channels = self.temporal_embed_S11M.shape[-1]
        pieces = pointer.shape[-1] // channels
        if self.pointer_time_proj is None:
            return pointer.new_zeros(1, len(memory_context.pointers) * pieces, channels)
        offset = torch.tensor(memory_context.pointer_offsets, device=pointer.device).float() / max(
            memory_context.max_pointers - 1, 1
        )
        encoded_PM: Tensor = self.pointer_time_proj(sine_position_1d(offset, pointer.shape[-1]).to(pointer.dtype))
        return encoded_PM.repeat_interleave(pieces, dim=0)[None]
