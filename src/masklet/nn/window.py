"""Cutting a map into square windows and putting it together again.

Shapes: B batch, N windows in all, H height, W width, K window side, C channels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

__all__ = ["join_windows", "split_windows"]


def split_windows(x_BHWC: Tensor, side: int) -> tuple[Tensor, tuple[int, int]]:
    """(B, H, W, C) to (N, K, K, C) and the padded height and width; zeros fill right and below."""
    batch, height, width, channels = x_BHWC.shape
    below, right = -height % side, -width % side
    if below or right:
        x_BHWC = pad(x_BHWC, (0, 0, 0, right, 0, below))
    rows, columns = (height + below) // side, (width + right) // side
    x = x_BHWC.view(batch, rows, side, columns, side, channels).transpose(2, 3)
    return x.reshape(-1, side, side, channels), (height + below, width + right)


def join_windows(x_NKKC: Tensor, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """(N, K, K, C) back to (B, H, W, C), with the padding cut off."""
    side, channels = x_NKKC.shape[1], x_NKKC.shape[-1]
    rows, columns = padded[0] // side, padded[1] // side
    x = x_NKKC.view(-1, rows, columns, side, side, channels).transpose(2, 3)
    return x.reshape(-1, *padded, channels)[:, : size[0], : size[1]]
