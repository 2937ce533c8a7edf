"""Attention of one head, a few queries at a time.

PyTorch's own kernel calls its slower product inside and makes every query pay for it; here both products are
oneDNN's, and the scores of a chunk never leave the processor's cache.
Shapes: T queries, S keys, C channels, M value channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from masklet.nn.fused import FusedLinear, row_chunks

__all__ = ["Looked", "attend"]

SCORE_BYTES = 15 << 20
"""Of a chunk's scores, at most: 128 queries at 28736 keys."""


class Looked:
    """Keys and values laid out for `attend`; both are read once a chunk."""

    def __init__(
        self,
        key_SC: Tensor,
        value_MS: FusedLinear,
        dtype: torch.dtype = torch.float32,
        limit: int = SCORE_BYTES,
    ) -> None:
        self.count, self.dtype, self.limit = len(key_SC), dtype, limit
        self.key = FusedLinear(key_SC.to(dtype), None, rows=128)
        self.value = value_MS

    def chunks(self, queries: int) -> list[slice]:
        """Of so many queries."""
        return row_chunks(queries, self.count * 4, self.limit)


def attend(query_TC: Tensor, looked: Looked, out_TM: Tensor) -> Tensor:
    """softmax(query @ key.T) @ value into `out_TM`; queries bring their scale with them."""
    for rows in looked.chunks(len(query_TC)):
        scores_RS = looked.key(query_TC[rows].to(looked.dtype))
        if looked.dtype == torch.float32:
            torch.softmax(scores_RS, -1, out=scores_RS)
        else:
            scores_RS = torch.softmax(scores_RS, -1)
        out_TM[rows] = looked.value(scores_RS)
    return out_TM
