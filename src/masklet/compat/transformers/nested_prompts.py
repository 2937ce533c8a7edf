"""Prompts nested as image, object, point, coordinate: lists, arrays or tensors to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from masklet.errors import PromptError

__all__ = ["PADDING", "NestedPrompt", "scale_points", "to_tensor"]

PADDING = -10
"""The label, and both coordinates, of points that fill up objects with fewer of them."""
NestedPrompt = Any
"""Nested lists, an array or a tensor."""


def to_tensor(value: NestedPrompt, depths: Sequence[int], nesting: str, *, pads: bool = True) -> Tensor:
    """Return nested lists of one of these depths as a float64 tensor, in which shorter rows are filled up.

    Example:
        >>> to_tensor([[[1, 1], [1]]], [3], "labels[image][object][point]").tolist()
        [[[1.0, 1.0], [1.0, -10.0]]]

    Raises:
        PromptError: if they are nested in another way, or have to be filled up and `pads` is False.
    """
    rows = value.tolist() if hasattr(value, "tolist") else value
    try:
        shape = _longest(rows)
        tensor = torch.tensor(_fill_up(rows, shape), dtype=torch.float64)
    except (TypeError, ValueError):
        raise PromptError(f"{value!r:.80} must be nested as {nesting}") from None
    if tensor.ndim not in depths or (not pads and (tensor == PADDING).any()):
        raise PromptError(f"{value!r:.80} must be nested as {nesting}, with as many objects in each image")
    return tensor


def scale_points(points: Tensor, factors_B2: Tensor) -> Tensor:
    """Multiply points (B, N, P, 2) by the factors of their image; padding stays what it is."""
    is_padding = (points == PADDING).any(-1, keepdim=True)
    return torch.where(is_padding, points, points * factors_B2[:, None, None])


def _longest(rows: Any) -> tuple[int, ...]:
    """Return the largest length at each depth."""
    if not isinstance(rows, (list, tuple)):
        return ()
    inner = [_longest(one) for one in rows]
    return (len(rows), *(max(lengths) for lengths in zip(*inner, strict=True)))


def _fill_up(rows: Any, shape: tuple[int, ...]) -> Any:
    if not shape:
        return rows
    filler = _fill_up([], shape[1:]) if len(shape) > 1 else PADDING
    return [_fill_up(one, shape[1:]) for one in rows] + [filler] * (shape[0] - len(rows))
