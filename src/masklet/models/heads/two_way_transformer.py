"""The two-way transformer: tokens look at the picture, the picture looks back at the tokens (SAM, 2023).

Shapes: B objects, T tokens, S places of the map, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from masklet.nn.attention import Attention
from masklet.nn.layers import MLP, TwoLinear

__all__ = ["TwoWayBlock", "TwoWayTransformer", "first_mlp", "second_mlp"]

MakeMLP = Callable[[int, int], nn.Module]
"""From width and hidden width."""


def first_mlp(width: int, hidden: int) -> TwoLinear:
    """As it is named in the files of SAM 1."""
    return TwoLinear(width, hidden)


def second_mlp(width: int, hidden: int) -> MLP:
    """As it is named in the files of SAM 2."""
    return MLP(width, hidden, width, depth=2)


class TwoWayBlock(nn.Module):
    """Tokens among themselves, tokens at the picture, tokens through an MLP, the picture at the tokens."""

    def __init__(self, width: int, heads: int, hidden: int, first: bool, mlp: MakeMLP = second_mlp) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, inner=width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width, hidden)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, inner=width // 2)
        self.first = first

    def forward(
        self, tokens_BTC: Tensor, places_BSC: Tensor, token_pos_BTC: Tensor, place_pos_BSC: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens and places, each updated once."""
        if self.first:  # the tokens still are their own positions
            tokens = self.self_attn(tokens_BTC, tokens_BTC, tokens_BTC)
        else:
            q = tokens_BTC + token_pos_BTC
            tokens = tokens_BTC + self.self_attn(q, q, tokens_BTC)
        tokens = self.norm1(tokens)
        keys = places_BSC + place_pos_BSC
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pos_BTC, keys, places_BSC))
        tokens = self.norm3(tokens + self.mlp(tokens))
        back = self.cross_attn_image_to_token(keys, tokens + token_pos_BTC, tokens)
        return tokens, self.norm4(places_BSC + back)


class TwoWayTransformer(nn.Module):
    """`depth` two-way blocks and a last look of the tokens at the picture."""

    def __init__(self, width: int, heads: int, hidden: int, depth: int = 2, mlp: MakeMLP = second_mlp) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, heads, hidden, i == 0, mlp) for i in range(depth))
        self.final_attn_token_to_image = Attention(width, heads, inner=width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, places_BSC: Tensor, place_pos_BSC: Tensor, token_pos_BTC: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, C) and places (B, S, C)."""
        tokens = token_pos_BTC
        for layer in self.layers:
            tokens, places_BSC = layer(tokens, places_BSC, token_pos_BTC, place_pos_BSC)
        look = self.final_attn_token_to_image(tokens + token_pos_BTC, places_BSC + place_pos_BSC, places_BSC)
        return self.norm_final_attn(tokens + look), places_BSC
