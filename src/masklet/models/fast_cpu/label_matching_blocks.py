"""Label matching block by block: only cells near an object, and only keys within reach of a block.

The best keys of a cell are selected in two exact steps: no key of a column can be among the K best unless the column's
best is among the K best columns.
Shapes: F earlier frames, N objects, H and W at stride 8, Q cells of a block, R and S rows and columns of its keys,
C channels, K neighbors.
"""

from __future__ import annotations

from functools import lru_cache

from masklet.models.sam2.config import MatchingConfig
from masklet.models.sam2.label_matching import search_regions
from masklet.tensors import Tensor, torch

__all__ = ["match_labels_in_blocks"]

BLOCK = 8
"""Rows and columns of a block of queries: smaller blocks reach fewer keys in vain, larger ones need fewer steps."""


def match_labels_in_blocks(query_HWC: Tensor, keys_FHWC: Tensor, labels_NFHW: Tensor, config: MatchingConfig) -> Tensor:
    """Return the prior (N, 1, H, W), as `match_labels`; similarities are products in the type of the keys."""
    frames, height, width, channels = keys_FHWC.shape
    prior_NHW = labels_NFHW.new_zeros(len(labels_NFHW), height, width)
    labels_ND = labels_NFHW.flatten(1)
    boxes = [region for region in search_regions(labels_NFHW, config) if region is not None]
    if not boxes:
        return prior_NHW[:, None]
    # all blocks are of one grid: oneDNN compiles a product for each new shape, which takes longer than the product
    first_row, first_column = (min(box[side] for box in boxes) // BLOCK * BLOCK for side in (0, 1))
    last_row, last_column = max(box[2] for box in boxes), max(box[3] for box in boxes)
    for x in range(first_column, last_column, BLOCK):
        right = min(x + BLOCK, width)
        left_key, right_key = max(x - config.radius, 0), min(right + config.radius, width)
        keys_FHSC = keys_FHWC[:, :, left_key:right_key].contiguous()
        for y in range(first_row, last_row, BLOCK):
            bottom = min(y + BLOCK, height)
            if not any(top < bottom and y < low and left < right and x < far for top, left, low, far in boxes):
                continue
            top_key, bottom_key = max(y - config.radius, 0), min(bottom + config.radius, height)
            rows, columns = bottom_key - top_key, right_key - left_key
            query_QC = query_HWC[y:bottom, x:right].reshape(-1, channels)
            keys_FCD = keys_FHSC[:, top_key:bottom_key].flatten(1, 2).transpose(1, 2)
            outside_QD = outside_window(
                (y - top_key, bottom - y, rows), (x - left_key, right - x, columns), config.radius
            ).to(query_QC.device)
            if query_QC.dtype == torch.float32:
                scores_FQD = torch.baddbmm(outside_QD, query_QC.expand(frames, -1, -1), keys_FCD)
            else:  # maxima of bf16 take far longer than those of fp32
                scores_FQD = torch.matmul(query_QC, keys_FCD).float().add_(outside_QD)
            best, index = select_best_keys(torch.unflatten(scores_FQD, 2, (rows, columns)), config.neighbors)
            frame, row, column = index
            cells_QK = (frame * height + row + top_key) * width + column + left_key
            weights_QK = (best / config.temperature).softmax(1)
            copied_NQ = (labels_ND[:, cells_QK] * weights_QK).sum(-1)
            prior_NHW[:, y:bottom, x:right] = torch.unflatten(copied_NQ, 1, (bottom - y, right - x))
    for own_HW, region in zip(prior_NHW, search_regions(labels_NFHW, config), strict=True):
        if region is None:
            own_HW.zero_()
            continue
        top, left, low, far = region
        for outside in (own_HW[:top], own_HW[low:], own_HW[:, :left], own_HW[:, far:]):
            outside.zero_()
    return prior_NHW[:, None]


@lru_cache(maxsize=32)
def outside_window(rows: tuple[int, int, int], columns: tuple[int, int, int], radius: int) -> Tensor:
    """Return 0 for the keys (D,) in the window of each query (Q,) of a block, and minus infinity for the others.

    `rows` and `columns` are the position of the first query among the keys, the number of queries and that of keys.
    """
    near = []
    for offset, queries, keys in (rows, columns):
        distance = torch.arange(queries)[:, None] + offset - torch.arange(keys)
        near.append(distance.abs() <= radius)
    both = near[0][:, None, :, None] & near[1][None, :, None, :]
    return torch.where(both.flatten(2).flatten(0, 1), 0.0, -torch.inf)


def select_best_keys(scores_FQRS: Tensor, neighbors: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return the highest scores (Q, K) of each query, and the frame, row and column of each."""
    frames, count, rows, columns = scores_FQRS.shape
    best_QG = scores_FQRS.amax(2).transpose(0, 1).flatten(1)
    groups_QK = best_QG.topk(min(neighbors, frames * columns), dim=1, sorted=False).indices
    frame_QK, column_QK = groups_QK // columns, groups_QK % columns
    start_QK = (frame_QK * count + torch.arange(count, device=groups_QK.device)[:, None]) * (rows * columns) + column_QK
    every_row = torch.arange(rows, device=groups_QK.device) * columns
    candidates_QD = scores_FQRS.flatten()[(start_QK[..., None] + every_row).flatten(1)]
    best_QK, chosen_QK = candidates_QD.topk(min(neighbors, candidates_QD.shape[1]), dim=1, sorted=False)
    group_QK = chosen_QK // rows
    return best_QK, (frame_QK.gather(1, group_QK), chosen_QK % rows, column_QK.gather(1, group_QK))
