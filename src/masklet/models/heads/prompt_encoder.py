"""Prompts become tokens (points, box corners) and a map (an earlier mask), after SAM (Kirillov et al. 2023).

Shapes: B objects, N points, C channels, H and W of the stride-16 map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from masklet.models.types import PromptTensors
from masklet.nn.layers import LayerNorm2d
from masklet.nn.position import FourierPositionEncoding

__all__ = ["PromptEncoder"]

STRIDE = 16
NUM_POINT_EMBEDDINGS = 4
"""Outside, inside, upper left corner, lower right corner: the labels 0 to 3."""
FIRST_BOX_LABEL = 2
"""Labels from here on are of boxes."""


def _downscaling(inputs: int, narrow: int, middle: int, width: int) -> nn.Sequential:
    """A stride-4 map with `inputs` channels to `width` channels at stride 16."""
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
    """Sparse tokens and a dense map of what was asked.

    `maps` also draws points and boxes as a map and adds it to the dense one: a small network learns far
    sooner from a drawing than from tokens (the built-in model; published models have none).
    `always_stops`: a token that says nothing follows whatever was asked (SAM 2), or only clicks without a box (SAM 1).
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
        """Tokens (B, N + 1, C) or (B, N, C) and map (B, C, H, W) for a stride-16 map of `height` by `width` cells."""
        tokens_BNC = self._tokens(prompts, (width * STRIDE, height * STRIDE))
        return tokens_BNC, self._dense(prompts, height, width)

    def _tokens(self, prompts: PromptTensors, size: tuple[int, int]) -> Tensor:
        batch = len(prompts.points_BN2)
        place = (prompts.points_BN2.float() + 0.5) / prompts.points_BN2.new_tensor(size, dtype=torch.float32)
        labels = prompts.labels_BN
        if self.always_pad or (labels.shape[1] and not bool((labels >= FIRST_BOX_LABEL).any())):
            place = torch.cat([place, place.new_zeros(batch, 1, 2)], dim=1)
            labels = torch.cat([labels, labels.new_full((batch, 1), -1)], dim=1)
        kinds = torch.cat([self.not_a_point_embed.weight, *self.point_embeddings.parameters()])
        position = self.pe_layer(place) * (labels >= 0)[..., None]
        tokens: Tensor = position.to(kinds.dtype) + kinds[labels.long() + 1]
        return tokens

    def _dense(self, prompts: PromptTensors, height: int, width: int) -> Tensor:
        if prompts.mask_B1HW is None:
            dense = self.no_mask_embed.weight[..., None, None].expand(len(prompts.points_BN2), -1, height, width)
        else:
            dense = self.mask_downscaling(prompts.mask_B1HW.to(self.no_mask_embed.weight.dtype))
        if self.drawing is not None:
            dense = dense + self.drawing(prompts, height, width)
        return dense


class PromptMapEncoder(nn.Module):
    """Clicks inside, clicks outside and box interiors as three images at stride 4, brought to stride 16."""

    CLICK_SIGMA = 2.0
    """Standard deviation of a click, in cells of stride 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = _downscaling(3, 16, 64, width)

    def forward(self, prompts: PromptTensors, height: int, width: int) -> Tensor:
        """(B, C, H, W)."""
        out: Tensor = self.layers(self.render(prompts, height * 4, width * 4))
        return out

    def render(self, prompts: PromptTensors, height: int, width: int) -> Tensor:
        """(B, 3, height, width) in 0..1, at stride 4 of the input."""
        cells_BN2 = prompts.points_BN2.float() / (STRIDE // 4)
        labels = prompts.labels_BN
        x = torch.arange(width, device=cells_BN2.device) + 0.5
        y = torch.arange(height, device=cells_BN2.device) + 0.5
        near_x = torch.exp(-((x - cells_BN2[..., :1]) ** 2) / (2 * self.CLICK_SIGMA**2))
        near_y = torch.exp(-((y - cells_BN2[..., 1:]) ** 2) / (2 * self.CLICK_SIGMA**2))
        clicks = [self._render_clicks(near_x, near_y, labels == kind) for kind in (1, 0)]
        return torch.stack([*clicks, self._render_boxes(x, y, cells_BN2, labels)], dim=1)

    @staticmethod
    def _render_clicks(near_x_BNW: Tensor, near_y_BNH: Tensor, selected_BN: Tensor) -> Tensor:
        spots = near_y_BNH[..., :, None] * near_x_BNW[..., None, :] * selected_BN[..., None, None]
        return spots.amax(dim=1) if spots.shape[1] else spots.sum(dim=1)  # a mask may be all there is

    @staticmethod
    def _render_boxes(x_W: Tensor, y_H: Tensor, cells_BN2: Tensor, labels_BN: Tensor) -> Tensor:
        """Ones inside the box of each object, with soft edges; zeros for an object without one."""
        low = torch.where((labels_BN == 2)[..., None], cells_BN2, 0).sum(1)
        high = torch.where((labels_BN == 3)[..., None], cells_BN2, 0).sum(1)
        inside_x = torch.sigmoid(4 * (x_W - low[:, :1])) * torch.sigmoid(4 * (high[:, :1] - x_W))
        inside_y = torch.sigmoid(4 * (y_H - low[:, 1:])) * torch.sigmoid(4 * (high[:, 1:] - y_H))
        shown_B = (labels_BN == 3).any(1)
        return inside_y[..., None] * inside_x[:, None] * shown_B[:, None, None]
