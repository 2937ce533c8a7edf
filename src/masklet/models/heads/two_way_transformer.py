"""The two-way transformer of SAM: tokens attend to the image, and the image attends to the tokens.

Shapes: B objects, T tokens, S image tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from masklet.nn.attention import Attention
from masklet.nn.layers import MLP

__all__ = ["TwoWayBlock", "TwoWayTransformer"]

MLPFactory = Callable[[int, int], nn.Module]
"""Builds an MLP from its width and hidden width: `MLPBlock` for the tensor names of SAM 1; None is that of SAM 2."""


class TwoWayBlock(nn.Module):
    """Self-attention of tokens, attention to the image, an MLP, and attention of the image to the tokens."""

    def __init__(self, width: int, heads: int, hidden: int, is_first: bool, mlp: MLPFactory | None = None) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, inner=width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width, hidden) if mlp else MLP(width, hidden, width, depth=2)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, inner=width // 2)
        self.is_first = is_first

    def forward(
        self, tokens_BTC: Tensor, image_BSC: Tensor, token_pos_BTC: Tensor, image_pos_BSC: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update tokens (B, T, C) and image (B, S, C)."""
        if self.is_first:  # the tokens are their own positions
            tokens = self.self_attn(tokens_BTC, tokens_BTC, tokens_BTC)
        else:
            q = tokens_BTC + token_pos_BTC
            tokens = tokens_BTC + self.self_attn(q, q, tokens_BTC)
        tokens = self.norm1(tokens)
        keys = image_BSC + image_pos_BSC
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pos_BTC, keys, image_BSC))
        tokens = self.norm3(tokens + self.mlp(tokens))
        back = self.cross_attn_image_to_token(keys, tokens + token_pos_BTC, tokens)
        return tokens, self.norm4(image_BSC + back)


class TwoWayTransformer(nn.Module):
    """`depth` two-way blocks and a final attention of the tokens to the image."""

    def __init__(self, width: int, heads: int, hidden: int, depth: int = 2, mlp: MLPFactory | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, heads, hidden, i == 0, mlp) for i in range(depth))
        self.final_attn_token_to_image = Attention(width, heads, inner=width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, image_BSC: Tensor, image_pos_BSC: Tensor, token_pos_BTC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the updated tokens (B, T, C) and image (B, S, C)."""
        tokens = token_pos_BTC
        for layer in self.layers:
            tokens, image_BSC = layer(tokens, image_BSC, token_pos_BTC, image_pos_BSC)
        attended = self.final_attn_token_to_image(tokens + token_pos_BTC, image_BSC + image_pos_BSC, image_BSC)
        return self.norm_final_attn(tokens + attended), image_BSC
