"""Memories of several frames laid end to end, each with its place and its time.

Shapes: B objects, S tokens, M memory channels, H and W at stride 16, P pointers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from masklet.models.types import Memories
from masklet.nn.position import sine_of, sine_position

__all__ = ["Recollection", "Tokens"]


@dataclass(frozen=True)
class Tokens:
    """What memory attention looks at."""

    values_BSM: Tensor
    positions_1SM: Tensor
    """Place and time, the same for all objects."""
    pointers: int
    """So many tokens at the end have no place in the picture."""


@dataclass(frozen=True)
class Recollection:
    """How memories are laid out, with the learned encodings of time."""

    slot_S11M: Tensor
    """By age: the frame before, the one before that, ...; the last row is for prompted frames."""
    temporal: nn.Module | None
    """Offset of a pointer (sines) to M channels; None: pointers have no time (2.0)."""

    def gather(self, memories: Memories) -> Tokens:
        """All memories as tokens, pointers last, each cut into pieces of M channels."""
        assert memories.spatial, "an object without any memory cannot be tracked"
        values = [memory.flatten(2).transpose(1, 2) for memory in memories.spatial]
        pointers = 0
        if memories.pointers:
            pieces_BPM = self._pieces(torch.stack(memories.pointers, dim=1))
            values.append(pieces_BPM)
            pointers = pieces_BPM.shape[1]
        return Tokens(torch.cat(values, dim=1), self.positions(memories), pointers)

    def positions(self, memories: Memories) -> Tensor:
        """(1, S, M): place and time of every token, which do not depend on what is in the memories."""
        times = [self._times(memories)] if memories.pointers else []
        return torch.cat([*self._places(memories), *times], dim=1)

    def _places(self, memories: Memories) -> list[Tensor]:
        channels, height, width = memories.spatial[0].shape[1:]
        place = sine_position(height, width, channels, memories.spatial[0].device).flatten(2).transpose(1, 2)
        place = place.to(memories.spatial[0].dtype)
        return [place + self.slot_S11M[age - 1][0] for age in memories.ages]  # age 0 is the last row

    def _pieces(self, pointers_BPC: Tensor) -> Tensor:
        return pointers_BPC.reshape(len(pointers_BPC), -1, self.slot_S11M.shape[-1])

    def _times(self, memories: Memories) -> Tensor:
        pointer = memories.pointers[0]
        channels = self.slot_S11M.shape[-1]
        pieces = pointer.shape[-1] // channels
        if self.temporal is None:
            return pointer.new_zeros(1, len(memories.pointers) * pieces, channels)
        offset = torch.tensor(memories.offsets, device=pointer.device).float() / max(memories.horizon - 1, 1)
        encoded_PM: Tensor = self.temporal(sine_of(offset, pointer.shape[-1]).to(pointer.dtype))
        return encoded_PM.repeat_interleave(pieces, dim=0)[None]
