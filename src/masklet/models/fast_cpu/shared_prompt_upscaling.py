"""From places to masks, one prompt at a time and only the masks that are wanted.

Transposed convolutions of two by two with stride two are products whose outputs are the four cells; these stay side by
side to the end. Maps have channels first, so that what goes on over channels goes on over whole rows.
Shapes: K masks, S places at stride 16, H and W their rows and columns, C channels, N = C rows: four cells of C / 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from masklet.models.fast_cpu.shared_prompt_weights import matmul
from masklet.models.heads.mask_decoder import MaskDecoderBase
from masklet.nn.layers import LayerNorm2d

__all__ = ["SharedPromptUpscaling"]


class SharedPromptUpscaling:
    """The way up of a decoder whose weights no longer change; centring is folded into its first layer."""

    def __init__(self, decoder: MaskDecoderBase) -> None:
        first, norm, _, second, _ = decoder.output_upscaling.children()
        assert isinstance(first, nn.ConvTranspose2d)
        assert isinstance(second, nn.ConvTranspose2d)
        assert isinstance(norm, LayerNorm2d)
        (weight_4NC, bias_4N), (self.second_NC, bias_N) = (
            _transposed_conv_as_matrix(first),
            _transposed_conv_as_matrix(second),
        )
        self.first_NC = _subtract_cell_mean(weight_4NC)
        self.first_bias_N = _subtract_cell_mean(bias_4N[:, None])[:, 0]
        self.bias_N1 = bias_N[:, None]
        self.norm = (norm.weight[:, None], norm.bias[:, None], norm.eps)

    def arrange_high_res_features(self, high_res_features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor] | None:
        """Finer maps cell by cell, (N, S) and (4, N / 2, S); the bias of the second layer is in the second."""
        if not high_res_features:
            return None
        return _subtract_cell_mean(_stride8_to_cells(high_res_features[0])), _stride4_to_cells(
            high_res_features[1]
        ) + self.bias_N1

    def __call__(self, half_NS: Tensor, finest: Tensor | None, kernels_KC: Tensor, size: tuple[int, int]) -> Tensor:
        """(K, 4 H, 4 W), from the first layer's outcome, which is overwritten."""
        weight, bias, eps = self.norm
        x_4CS = half_NS.view(4, -1, half_NS.shape[1])
        x_4CS *= x_4CS.square().mean(1, keepdim=True).add_(eps).rsqrt_()
        x_4CS = gelu(x_4CS.mul_(weight).add_(bias))
        logits = [self._cell(x_CS, None if finest is None else finest[i], kernels_KC) for i, x_CS in enumerate(x_4CS)]
        cells = torch.stack(logits).view(2, 2, 2, 2, len(kernels_KC), *size)
        return cells.permute(4, 5, 0, 2, 6, 1, 3).reshape(len(kernels_KC), 4 * size[0], 4 * size[1])

    def _cell(self, x_CS: Tensor, finest_NS: Tensor | None, kernels_KC: Tensor) -> Tensor:
        """(4, K, S): the masks in the four cells of a cell."""
        detail_NS = matmul(self.second_NC, x_CS)
        detail_NS += self.bias_N1 if finest_NS is None else finest_NS
        return kernels_KC @ gelu(detail_NS).view(4, -1, x_CS.shape[1])


def _transposed_conv_as_matrix(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """As a product whose outputs are the four cells of a place, row by row."""
    assert layer.bias is not None
    return layer.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), layer.bias.repeat(4)


def _stride8_to_cells(map_1CHW: Tensor) -> Tensor:
    """(4 C, S): a map at stride 8, cell by cell."""
    height, width = (side // 2 for side in map_1CHW.shape[-2:])
    return map_1CHW[0].reshape(-1, height, 2, width, 2).permute(2, 4, 0, 1, 3).flatten(0, 2).flatten(1)


def _stride4_to_cells(map_1CHW: Tensor) -> Tensor:
    """(4, 4 C, S): a map at stride 4, by cell, then by the cell's cells."""
    height, width = (side // 4 for side in map_1CHW.shape[-2:])
    cells = map_1CHW[0].reshape(-1, height, 2, 2, width, 2, 2).permute(2, 5, 3, 6, 0, 1, 4)
    return cells.flatten(5).flatten(2, 4).flatten(0, 1)


def _subtract_cell_mean(x_NS: Tensor) -> Tensor:
    """Each of four cells without its mean over channels."""
    x_4CS = x_NS.view(4, -1, x_NS.shape[1])
    return (x_4CS - x_4CS.mean(1, keepdim=True)).flatten(0, 1)
