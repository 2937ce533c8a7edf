"""The next corrective click from a prediction and the truth: one rule for training and for evaluation.

Coordinates are pixels of the maps handed in, x before y, at pixel centres (column + 0.5 would be the same point
in continuous coordinates; the prompt encoder adds the half itself).
Shapes: B objects, H height, W width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["centre_click", "depth_inside", "random_click"]

CELL = 4
"""Pixels; random clicks look at depth in cells of this size."""


def depth_inside(mask_BHW: Tensor) -> Tensor:
    """Euclidean distance (B, H, W) of every pixel of a mask to the nearest pixel outside it, or to the border.

    Exact, by one pass down the columns and a minimum along each row.
    """
    inside = torch.nn.functional.pad(mask_BHW.bool(), (1, 1, 1, 1))
    height, width = inside.shape[-2:]
    rows = torch.arange(height, device=inside.device)
    here = rows[:, None]
    last_outside = torch.where(inside, 0, here).cummax(-2).values
    next_outside = torch.where(inside, height - 1, here).flip(-2).cummin(-2).values.flip(-2)
    vertical = torch.minimum(here - last_outside, next_outside - here).float() ** 2
    across = torch.arange(width, device=inside.device)
    step_WW = (across[:, None] - across).float() ** 2
    squared = torch.stack([(row[..., None, :] + step_WW).amin(-1) for row in vertical.unbind(-2)], dim=-2)
    return squared.sqrt()[..., 1:-1, 1:-1]


def centre_click(predicted_BHW: Tensor, truth_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """The pixel deepest inside what is wrong: (B, 2) coordinates and (B,) labels, 1 where truth was missed.

    Missed and excess regions are looked at separately, as interactive segmentation is scored by (Sofiiuk et al.
    2022). Where nothing is wrong, the deepest pixel of the truth.
    """
    predicted, truth = predicted_BHW.bool(), truth_BHW.bool()
    right_B = (predicted == truth).flatten(1).all(1)
    missed = (truth & ~predicted) | (truth & right_B[:, None, None])
    excess = predicted & ~truth
    inside, outside = ([_deepest(mask) for mask in masks] for masks in (missed, excess))
    label = [a.depth >= b.depth for a, b in zip(inside, outside, strict=True)]
    place = [(a if on else b).xy for a, b, on in zip(inside, outside, label, strict=True)]
    device = truth.device
    return torch.tensor(place, device=device).float(), torch.tensor(label, device=device).long()


class _Deepest(NamedTuple):
    xy: tuple[int, int]
    depth: float


def _deepest(mask_HW: Tensor) -> _Deepest:
    """The pixel farthest from the edge of a mask; only the part that holds the mask is looked at."""
    rows, columns = mask_HW.any(1).nonzero()[:, 0], mask_HW.any(0).nonzero()[:, 0]
    if len(rows) == 0:
        return _Deepest((0, 0), 0.0)
    top, left = int(rows[0]), int(columns[0])
    depth = depth_inside(mask_HW[None, top : int(rows[-1]) + 1, left : int(columns[-1]) + 1])[0]
    index, width = int(depth.argmax()), depth.shape[1]
    return _Deepest((left + index % width, top + index // width), float(depth.max()))


def random_click(
    predicted_BHW: Tensor, truth_BHW: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """A pixel drawn from what is wrong, the likelier the deeper inside: coordinates and labels as `centre_click`.

    Depth is judged by the share of a neighbourhood of about `3 * CELL` pixels that is wrong too; sides are multiples
    of `CELL`. Where nothing is wrong, a pixel of the truth.
    """
    truth = truth_BHW.bool()
    wrong = predicted_BHW.bool() ^ truth
    none_B = ~wrong.flatten(1).any(1)
    wrong = torch.where(none_B[:, None, None], truth, wrong).float()
    coarse = avg_pool2d(avg_pool2d(wrong[:, None], CELL, CELL), 3, 1, 1)[:, 0]
    depth = coarse.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    ladder = (wrong * depth**3).flatten(1).double().cumsum(1)
    height = torch.rand(len(truth), 1, generator=generator, dtype=torch.float64).to(truth.device) * ladder[:, -1:]
    index_B = torch.searchsorted(ladder, height, right=True)[:, 0].clamp(max=ladder.shape[1] - 1)
    label_B = truth.flatten(1).gather(1, index_B[:, None])[:, 0].long()
    return _coordinates(index_B, truth.shape[-1]), label_B


def _coordinates(index_B: Tensor, width: int) -> Tensor:
    return torch.stack([index_B % width, index_B // width], dim=-1).float()
