"""Copy the labels of earlier frames to a frame, along features of the trunk at stride 8.

Each cell takes the labels of the cells that resemble it most, among those nearby in a few earlier frames (as in
space-time correspondence networks, Jabri et al. 2020). The result is a soft mask, the prior of the decoder.
Shapes: F earlier frames, N objects, H and W at stride 8, Q cells of the frame, R of them, D of the earlier ones,
C channels of a key.
"""

from __future__ import annotations

from masklet.models.sam2.config import MatchingConfig
from masklet.tensors import Tensor, avg_pool2d, interpolate, normalize, torch

__all__ = ["Region", "label_from_mask", "match_labels", "recall_labels", "search_regions"]

Region = tuple[int, int, int, int]
"""First row, first column, and the row and column after the last."""
MAX_SIMILARITIES = 1 << 22
"""Of pairs of cells that are compared at a time, 16 MB."""
MIN_COARSE_LABEL = 0.1
"""Of a coarse cell: an object that is out of sight rarely has more anywhere, and one in sight has .3 or more."""


def label_from_mask(logits_B1HW: Tensor, prior_B1HW: Tensor | None = None) -> Tensor:
    """Return soft labels (B, 1, H, W) at stride 8 from logits at stride 4, averaged with the prior where there is one.

    Without a prior the mask counts as it is: inside or outside at each cell of stride 4.
    """
    if prior_B1HW is None:
        return avg_pool2d((logits_B1HW > 0).float(), 2)
    return (avg_pool2d(logits_B1HW.float().sigmoid(), 2) + prior_B1HW) / 2


def search_regions(labels_NFHW: Tensor, config: MatchingConfig) -> list[Region | None]:
    """Return the rectangle in which each object may be: around its labels in the last two frames; None: nowhere."""
    height, width = labels_NFHW.shape[-2:]
    regions: list[Region | None] = []
    for object_HW in (labels_NFHW[:, -2:] > config.min_label).any(1).cpu():
        rows, columns = object_HW.any(1).nonzero(), object_HW.any(0).nonzero()
        if not len(rows):
            regions.append(None)
            continue
        y, x = (int(part[0]) - config.reach for part in (rows, columns))
        bottom, right = (int(part[-1]) + config.reach + 1 for part in (rows, columns))
        regions.append((max(y, 0), max(x, 0), min(bottom, height), min(right, width)))
    return regions


def match_labels(query_HWC: Tensor, keys_FHWC: Tensor, labels_NFHW: Tensor, config: MatchingConfig) -> Tensor:
    """Return the prior (N, 1, H, W) in 0..1: the mean label of the most similar cells, 0 outside the search region.

    Frames are in the order of their distance, the nearest last. Every cell is compared with every other, so this is
    the reference; `models/fast_cpu/label_matching_blocks.py` computes what can matter.
    """
    height, width, _ = query_HWC.shape
    y, x = torch.meshgrid(*(torch.arange(n, device=query_HWC.device) for n in (height, width)), indexing="ij")
    position_Q2 = torch.stack([y, x], -1).reshape(-1, 2)
    distance_QQ = (position_Q2[:, None] - position_Q2[None]).abs().amax(-1)
    similarity_QFQ = torch.einsum("qc,fkc->qfk", query_HWC.flatten(0, 1), keys_FHWC.flatten(1, 2))
    similarity_QFQ = similarity_QFQ.masked_fill((distance_QQ > config.radius)[:, None], -torch.inf)
    best, index = similarity_QFQ.flatten(1).topk(config.neighbors, dim=1)
    weights = (best / config.temperature).softmax(1)
    prior_NHW = torch.unflatten((labels_NFHW.flatten(1)[:, index] * weights).sum(-1), 1, (height, width))
    inside_NHW = torch.zeros_like(prior_NHW)
    for inside_HW, region in zip(inside_NHW, search_regions(labels_NFHW, config), strict=True):
        if region is not None:
            inside_HW[region[0] : region[2], region[1] : region[3]] = 1
    return (prior_NHW * inside_NHW)[:, None]


def recall_labels(query_HWC: Tensor, keys_FHWC: Tensor, labels_NFHW: Tensor, config: MatchingConfig) -> Tensor:
    """Return the priors (N, H, W) of objects that may be anywhere: the mean label of the most similar cells.

    Cells of `config.recall_stride` x `config.recall_stride` cells are compared first, all with all. Where that finds a
    little of an object, the cells of the frame are then compared with all.
    """
    height, width, channels = query_HWC.shape
    maps = torch.cat([query_HWC[None], keys_FHWC]).permute(0, 3, 1, 2)
    pooled = normalize(avg_pool2d(maps, config.recall_stride, ceil_mode=True), dim=1)
    pooled_labels = avg_pool2d(labels_NFHW, config.recall_stride, ceil_mode=True)
    keys_CD = pooled[1:].transpose(0, 1).reshape(channels, -1)
    coarse_NQ = _similar_labels(pooled[0].flatten(1).T, keys_CD, pooled_labels.flatten(1), config)
    coarse_N1HW = coarse_NQ.view(len(labels_NFHW), 1, *pooled.shape[-2:])
    coarse_NHW = interpolate(coarse_N1HW, (height, width), mode="bilinear", align_corners=False)[:, 0]
    near_R = (coarse_NHW > MIN_COARSE_LABEL).any(0).flatten().nonzero()[:, 0]
    prior_NQ = torch.zeros_like(coarse_NHW).flatten(1)
    if len(near_R):
        query_RC, keys_CD = query_HWC.reshape(-1, channels)[near_R], keys_FHWC.reshape(-1, channels).T
        prior_NQ[:, near_R] = _similar_labels(query_RC, keys_CD, labels_NFHW.flatten(1), config)
    return prior_NQ.view(coarse_NHW.shape)


def _similar_labels(query_QC: Tensor, keys_CD: Tensor, labels_ND: Tensor, config: MatchingConfig) -> Tensor:
    """Return the mean labels (N, Q) of the keys that are most similar to each query."""
    parts, rows = [], max(MAX_SIMILARITIES // keys_CD.shape[1], 1)
    for start in range(0, len(query_QC), rows):
        similarity_RD = query_QC[start : start + rows] @ keys_CD
        best, index = similarity_RD.topk(min(config.recall_neighbors, keys_CD.shape[1]), dim=1)
        parts.append((labels_ND[:, index] * (best / config.temperature).softmax(1)).sum(2))
    return torch.cat(parts, 1)
