"""The next corrective click from a prediction and the truth, as training draws it: at random from what is wrong.

Evaluation asks with the deepest pixel instead, which is the same in every run (`masklet.evaluate.prompting`).

Coordinates are pixels of the maps handed in, x before y, at pixel centres (column + 0.5 would be the same point
in continuous coordinates; the prompt encoder adds the half itself).
Shapes: B objects, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["random_click"]

CELL = 4
"""Pixels; random clicks look at depth in cells of this size."""


def random_click(
    predicted_BHW: Tensor, truth_BHW: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """A pixel drawn from what is wrong, the likelier the deeper inside: (B, 2) coordinates, and (B,) labels.

    A label is 1 where truth was missed and 0 where there is none.
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
