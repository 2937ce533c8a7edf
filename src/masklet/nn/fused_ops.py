"""oneDNN products and convolutions with bias, activation or residual in the same pass, as `torch.compile` calls them.

They need no compiler. In fp32 they are up to twice as fast as eager PyTorch on processors that are not Intel's.
Every caller has an eager path for builds, devices and precisions without them.
Overloads are called by name: otherwise torch tries one after the other and formats all arguments for a hidden error.
Shapes: B batch, C channels, H height, W width, N rows, I inputs and O outputs of a layer.
"""

from __future__ import annotations

import timeit
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from masklet.cpu_threads import adapt_threads

__all__ = [
    "FusedConvolution",
    "FusedLinear",
    "fused_layer",
    "fused_linear",
    "has_bfloat16_matmul",
    "has_bfloat16_tiles",
    "has_fused_operators",
    "has_native_bfloat16",
    "has_slow_subnormals",
    "row_chunks",
]

OPERATORS = (
    "_convolution_pointwise",
    "_linear_pointwise",
    "_reorder_convolution_weight",
    "_reorder_linear_weight",
)


def has_fused_operators(weight: Tensor) -> bool:
    """Return whether the fused operators can run with `weight`: an fp32 tensor on the CPU of a build that has them."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and _operators_available()


@lru_cache(maxsize=1)
def _operators_available() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


def has_bfloat16_matmul() -> bool:
    """Return whether this processor has oneDNN's bfloat16 products; emulated ones are slower than fp32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_native_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16 products, which take half the time of fp32."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version
    return has_bfloat16_matmul() and any(getattr(torch.cpu, name, bool)() for name in names)


def has_bfloat16_tiles() -> bool:
    """Return whether this processor multiplies tiles of bfloat16 (AMX), at several times the rate of its vectors."""
    return has_bfloat16_matmul() and bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


@lru_cache(maxsize=1)
def has_slow_subnormals() -> bool:
    """Return whether a softmax with subnormal weights takes over four times as long here, as on Intel's processors.

    It is measured once, in less than a millisecond.
    """
    seconds = []
    for score in (-50.0, -100.0):
        scores_NK = torch.full((4, 4096), score)
        scores_NK[:, 0] = 0
        seconds.append(min(timeit.repeat(partial(torch.softmax, scores_NK, -1), number=1, repeat=5)))
    return seconds[1] > 4 * seconds[0]


def row_chunks(rows: int, bytes_per_row: int, limit: int = 1 << 24) -> list[slice]:
    """Split `rows` into slices whose results stay within `limit` bytes.

    A result above 32 MiB is newly mapped each time, and touching its pages costs more than the product. Below 16 MiB
    it also stays in the processor's cache until it is read again.
    """
    step = max(limit // bytes_per_row, 1)
    if step > 64:
        step -= step % 64
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def fused_linear(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None, activation: str = "none") -> Tensor:
    """Compute activation(x @ weight.T + bias); `activation` is none, relu or gelu."""
    adapt_threads()
    algorithm = "none" if activation == "gelu" else ""
    out: Tensor = torch.ops.mkldnn._linear_pointwise.default(x_NI, weight_OI, bias_O, activation, [], algorithm)
    return out


def fused_layer(layer: nn.Linear, x_NI: Tensor, activation: str = "none") -> Tensor:
    """Run a linear layer by `fused_linear`, its weight as it is stored."""
    return fused_linear(x_NI, layer.weight, layer.bias, activation)


class FusedLinear:
    """A linear layer whose weight is packed once, for inputs of about `rows` rows."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None, rows: int = 256) -> None:
        self.unpacked_weight, self.bias = weight_OI.detach(), None if bias_O is None else bias_O.detach()
        self.rows = rows
        self.weight = torch.ops.mkldnn._reorder_linear_weight(self.unpacked_weight.contiguous(), rows)

    def __reduce__(self) -> tuple[type[FusedLinear], tuple[Tensor, Tensor | None, int]]:
        """Copy and pickle the layer without the packed weight, which has no storage; the copy packs its own."""
        return FusedLinear, (self.unpacked_weight, self.bias, self.rows)

    @classmethod
    def from_layer(cls, layer: nn.Linear | nn.Conv2d, dtype: torch.dtype = torch.float32) -> FusedLinear:
        """Pack the weight of `layer`, a 1 x 1 convolution if it is one, for inputs of type `dtype`."""
        return cls(layer.weight.flatten(1).to(dtype), None if layer.bias is None else layer.bias.to(dtype))

    def __call__(self, x_NI: Tensor, activation: str = "none") -> Tensor:
        """Compute activation(x @ weight.T + bias); `activation` is none, relu or gelu."""
        return fused_linear(x_NI, self.weight, self.bias, activation)

    def add_to(self, x_NI: Tensor, residual_NO: Tensor) -> Tensor:
        """Compute x @ weight.T + bias + residual."""
        adapt_threads()
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x_NI, residual_NO, self.weight, self.bias, "add")
        return out


class FusedConvolution:
    """A convolution whose weights are packed once, for inputs of about `shape` and of type `dtype`."""

    def __init__(self, layer: nn.Conv2d, shape: torch.Size, dtype: torch.dtype = torch.float32) -> None:
        self.layer, self.shape, self.dtype = layer, shape, dtype
        self.conv_args = (layer.padding, layer.stride, layer.dilation, layer.groups)
        weight = layer.weight.detach().to(dtype)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.conv_args, list(shape))
        self.bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def __reduce__(self) -> tuple[type[FusedConvolution], tuple[nn.Conv2d, torch.Size, torch.dtype]]:
        """Copy and pickle the layer without the packed weight, which has no storage; the copy packs its own."""
        return FusedConvolution, (self.layer, self.shape, self.dtype)

    def __call__(self, x_BCHW: Tensor, activation: str = "none") -> Tensor:
        """Compute activation(convolution); `activation` is none or relu."""
        adapt_threads()
        out: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            x_BCHW, self.weight, self.bias, *self.conv_args, activation, [], ""
        )
        return out

    def add_to(self, x_BCHW: Tensor, residual_BCHW: Tensor) -> Tensor:
        """Compute relu(convolution + residual)."""
        adapt_threads()
        out: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            x_BCHW, residual_BCHW, self.weight, self.bias, *self.conv_args, "add", 1.0, "relu", [], ""
        )
        return out
