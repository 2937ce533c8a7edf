"""The prompt encoder of SAM (Kirillov et al. 2023): points and boxes become tokens, a mask becomes a dense map.

Coordinates are pixels of the network's input, x before y.
Shapes: B objects, N points, C channels, H and W of the stride-16 map (h and w of the stride-4 map).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from masklet.models.types import PromptTensors
from masklet.nn.layers import LayerNorm2d
from masklet.nn.position import FourierPositionEncoding

__all__ = ["STRIDE", "PromptEncoder", "PromptMapEncoder"]

STRIDE = 16
"""Pixels of the input per cell of the dense map."""
NUM_POINT_EMBEDDINGS = 4
"""Off the object, on it, upper left corner, lower right corner: the labels 0 to 3."""
FIRST_BOX_LABEL = 2
"""Labels from here on are box corners."""


def _downscaling(inputs: int, narrow: int, middle: int, width: int) -> nn.Sequential:
    """Build layers from a stride-4 map with `inputs` channels to `width` channels at stride 16."""
    return nn.Sequential(
        nn.Conv2d(inputs, narrow, 2, 2),
        LayerNorm2d(narrow),
        nn.GELU(),
        nn.Conv2d(narrow, middle, 2, 2),
        LayerNorm2d(middle),
        nn.GELU(),
        nn.Conv2d(middle, width, 1),
    )


class PromptEncoder(nn.Module):
    """Sparse tokens and a dense map of each object's prompt.

    Args:
        prompt_maps: Also render points and boxes as a map and add it to the dense one. A small network learns much
            sooner from such a map than from tokens (the built-in model; published models have none).
        always_pad: Append a padding token to every prompt (SAM 2), or only to points without a box (SAM 1).
    """

    def __init__(self, width: int, prompt_maps: bool = False, always_pad: bool = True) -> None:
        super().__init__()
        self.always_pad = always_pad
        self.pe_layer = FourierPositionEncoding(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(NUM_POINT_EMBEDDINGS))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = _downscaling(1, 4, 16, width)
        self.no_mask_embed = nn.Embedding(1, width)
        self.drawing = PromptMapEncoder(width) if prompt_maps else None

    def forward(self, prompts: PromptTensors, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Encode prompts for a stride-16 map of `height` by `width` cells.

        Returns tokens (B, N + 1, C), or (B, N, C) without padding, and the dense map (B, C, H, W).
        """
        batch, labels = len(prompts.points_BN2), prompts.labels_BN
        pads = self.always_pad or bool(labels.shape[1] and not (labels >= FIRST_BOX_LABEL).any())
        tokens_BNC = self.encode_points(prompts, height, width, pads=pads)

        if prompts.mask_B1HW is None:
            dense_BCHW = self.no_mask_embed.weight[..., None, None].expand(batch, -1, height, width)
        else:
            dense_BCHW = self.mask_downscaling(prompts.mask_B1HW.to(self.no_mask_embed.weight.dtype))
        if self.drawing is not None:
            dense_BCHW = dense_BCHW + self.drawing(prompts, height, width)
        return tokens_BNC, dense_BCHW

    def encode_points(self, prompts: PromptTensors, height: int, width: int, *, pads: bool) -> Tensor:
        """Return a token for each point (B, N, C), and one more for a padding point if it `pads`."""
        batch, labels = prompts.points_BN2.shape[0], prompts.labels_BN
        x_BN, y_BN = (prompts.points_BN2.float() + 0.5).unbind(-1)
        xy = torch.stack([x_BN / (width * STRIDE), y_BN / (height * STRIDE)], dim=-1)
        if pads:
            xy = torch.cat([xy, xy.new_zeros(batch, 1, 2)], dim=1)
            labels = torch.cat([labels, labels.new_full((batch, 1), -1)], dim=1)
        embeddings = torch.cat([self.not_a_point_embed.weight, *self.point_embeddings.parameters()])
        position = self.pe_layer(xy) * (labels >= 0)[..., None]
        tokens_BNC: Tensor = position.to(embeddings.dtype) + embeddings[labels.long() + 1]
        return tokens_BNC


class PromptMapEncoder(nn.Module):
    """Points on the object, points off it and box interiors, rendered as three maps at stride 4 and encoded."""

    CLICK_SIGMA = 2.0
    """Standard deviation of a rendered point, in cells of stride 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = _downscaling(3, 16, 64, width)

    def forward(self, prompts: PromptTensors, height: int, width: int) -> Tensor:
        """Encode prompts as a map (B, C, H, W) at stride 16."""
        out: Tensor = self.layers(self.render(prompts, height * 4, width * 4))
        return out

    def render(self, prompts: PromptTensors, height: int, width: int) -> Tensor:
        """Render prompts as (B, 3, h, w) in 0..1 at stride 4: points on, points off, box interiors with soft edges."""
        cells_BN2, labels_BN = prompts.points_BN2.float() / (STRIDE // 4), prompts.labels_BN
        x_w = torch.arange(width, device=cells_BN2.device) + 0.5
        y_h = torch.arange(height, device=cells_BN2.device) + 0.5
        near_x_BNw = torch.exp(-((x_w - cells_BN2[..., :1]) ** 2) / (2 * self.CLICK_SIGMA**2))
        near_y_BNh = torch.exp(-((y_h - cells_BN2[..., 1:]) ** 2) / (2 * self.CLICK_SIGMA**2))
        maps = []
        for label in (1, 0):
            spots = near_y_BNh[..., :, None] * near_x_BNw[..., None, :] * (labels_BN == label)[..., None, None]
            maps.append(spots.amax(dim=1) if spots.shape[1] else spots.sum(dim=1))  # a mask alone has no points

        low_B2 = torch.where((labels_BN == 2)[..., None], cells_BN2, 0).sum(1)
        high_B2 = torch.where((labels_BN == 3)[..., None], cells_BN2, 0).sum(1)
        inside_x = torch.sigmoid(4 * (x_w - low_B2[:, :1])) * torch.sigmoid(4 * (high_B2[:, :1] - x_w))
        inside_y = torch.sigmoid(4 * (y_h - low_B2[:, 1:])) * torch.sigmoid(4 * (high_B2[:, 1:] - y_h))
        has_box_B = (labels_BN == 3).any(1)
        maps.append(inside_y[..., None] * inside_x[:, None] * has_box_B[:, None, None])
        return torch.stack(maps, dim=1)
