"""The upscaling from image tokens to masks, one prompt at a time and only the masks that are wanted.

Transposed convolutions of two by two with stride two are products whose outputs are the four cells; these stay side by
side to the end. Maps are channels-first, so that operations over channels run over complete rows.
Shapes: K masks, S image tokens at stride 16, H and W their rows and columns, C channels, N = C rows: four cells of
C / 4 channels.
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
    """The upscaling of a decoder with frozen weights; the mean of its normalization is folded into the first layer."""

    def __init__(self, decoder: MaskDecoderBase) -> None:
        first, norm, _, second, _ = decoder.output_upscaling.children()
        assert isinstance(norm, LayerNorm2d)
        matrices = []  # (4 O, I) and (4 O,): the outputs are the four cells, row by row
        for layer in (first, second):
            assert isinstance(layer, nn.ConvTranspose2d)
            assert layer.bias is not None
            matrices.append((layer.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), layer.bias.repeat(4)))
        (first_NC, first_bias_N), (self.second_NC, second_bias_N) = matrices
        self.first_NC = _subtract_cell_mean(first_NC)
        self.first_bias_N = _subtract_cell_mean(first_bias_N[:, None])[:, 0]
        self.bias_N1 = second_bias_N[:, None]
        self.norm = (norm.weight[:, None], norm.bias[:, None], norm.eps)

    def arrange_high_res_features(self, high_res_features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor] | None:
        """Order the high-resolution features of one image cell by cell; None for SAM 1, which has none.

        Returns stride 8, (N, S), centered as the first layer is, and stride 4, (4, N / 2, S), by cell and then by
        cell of the cell, with the bias of the second layer added.
        """
        if not high_res_features:
            return None
        stride8_CHW, stride4_CHW = (features[0] for features in high_res_features)
        height, width = (side // 2 for side in stride8_CHW.shape[-2:])
        stride8 = stride8_CHW.reshape(-1, height, 2, width, 2).permute(2, 4, 0, 1, 3).flatten(0, 2).flatten(1)
        stride4 = stride4_CHW.reshape(-1, height, 2, 2, width, 2, 2).permute(2, 5, 3, 6, 0, 1, 4)
        stride4 = stride4.flatten(5).flatten(2, 4).flatten(0, 1)
        return _subtract_cell_mean(stride8), stride4 + self.bias_N1

    def __call__(self, half_NS: Tensor, stride4: Tensor | None, kernels_KC: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute masks (K, 4 H, 4 W) from the outputs of the first layer, which are overwritten."""
        weight, bias, eps = self.norm
        x_4CS = half_NS.view(4, -1, half_NS.shape[1])
        x_4CS *= x_4CS.square().mean(1, keepdim=True).add_(eps).rsqrt_()
        x_4CS = gelu(x_4CS.mul_(weight).add_(bias))
        logits = []
        for cell, x_CS in enumerate(x_4CS):
            detail_NS = matmul(self.second_NC, x_CS)
            detail_NS += self.bias_N1 if stride4 is None else stride4[cell]
            logits.append(kernels_KC @ gelu(detail_NS).view(4, -1, x_CS.shape[1]))
        cells = torch.stack(logits).view(2, 2, 2, 2, len(kernels_KC), *size)
        return cells.permute(4, 5, 0, 2, 6, 1, 3).reshape(len(kernels_KC), 4 * size[0], 4 * size[1])


def _subtract_cell_mean(x_NS: Tensor) -> Tensor:
    """Subtract the mean over the channels of each of the four cells."""
    x_4CS = x_NS.view(4, -1, x_NS.shape[1])
    return (x_4CS - x_4CS.mean(1, keepdim=True)).flatten(0, 1)
