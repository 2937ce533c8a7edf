"""Measure the limits of the machine, matrix products and copying, and the lower bounds that they imply.

A matrix product of n x n by n x n counts as 2 n^3 operations, a copy as twice its bytes (read and written).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from typing import NamedTuple

import torch

from masklet.benchmark.machine import time_call
from masklet.nn.fused_ops import FusedLinear, has_fused_operators

__all__ = ["HardwareLimits", "LowerBound", "Work", "measure_hardware_limits"]


@dataclass(frozen=True)
class Work:
    """The least amount of work of a task."""

    flops: int
    """Operations of matrix products and convolutions."""
    elements: int
    """Weights and features that are read or written, in the precision of the computation."""
    bytes: int
    """Bytes moved in any precision: pixels, masks, memories."""


class LowerBound(NamedTuple):
    """The time that no program can beat, by the measured limits."""

    seconds: float
    limited_by: str
    """The limit: "operations" at the matrix rate, or "bytes" at the copy rate."""


@dataclass(frozen=True)
class HardwareLimits:
    """The best rates of several rounds."""

    fp32_gflops: float
    bf16_gflops: float
    copy_gbytes: float
    """Per second, read and written."""

    def maximum(self, other: HardwareLimits) -> HardwareLimits:
        """Return the higher of each rate: on a busy machine a single reading is too low.

        Example:
            >>> HardwareLimits(1.0, 2.0, 3.0).maximum(HardwareLimits(2.0, 1.0, 3.0))
            HardwareLimits(fp32_gflops=2.0, bf16_gflops=2.0, copy_gbytes=3.0)
        """
        pairs = zip(astuple(self), astuple(other), strict=True)
        return HardwareLimits(*(max(pair) for pair in pairs))

    def lower_bound(self, work: Work, precision: str) -> LowerBound:
        """Return the longer of the times for operations and for moving bytes.

        In 16 bits the higher matrix rate counts: on a processor without bf16 products, fp32 is faster.

        Example:
            >>> HardwareLimits(100.0, 200.0, 10.0).lower_bound(Work(10**9, 10**9, 0), "fp32")
            LowerBound(seconds=0.4, limited_by='bytes')
        """
        is_fp32 = precision == "fp32"
        rate = self.fp32_gflops if is_fp32 else max(self.fp32_gflops, self.bf16_gflops)
        bytes_moved = (4 if is_fp32 else 2) * work.elements + work.bytes
        return max(
            LowerBound(work.flops / (rate * 1e9), "operations"),
            LowerBound(bytes_moved / (self.copy_gbytes * 1e9), "bytes"),
        )


def measure_hardware_limits(
    device: str = "cpu", *, side: int = 2048, megabytes: int = 256, rounds: int = 5
) -> HardwareLimits:
    """Time matrix products of `side` x `side` and a copy of `megabytes`, the best of `rounds` after a warm-up.

    If oneDNN's own product is available, the faster of it and PyTorch's counts.

    Example:
        >>> measure_hardware_limits().fp32_gflops
        180.3
    """
    gflops = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
        products: list[Callable[[], object]] = [partial(torch.matmul, a, b)]
        if has_fused_operators(b):  # on some processors twice as fast as the product that PyTorch chooses
            products.append(partial(FusedLinear(b, None, side), a))
        gflops.append(2 * side**3 / min(_best_seconds(product, device, rounds) for product in products) / 1e9)
    source = torch.zeros(megabytes * 1_000_000, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.numel() / _best_seconds(lambda: target.copy_(source), device, rounds)
    return HardwareLimits(gflops[0], gflops[1], copied / 1e9)


def _best_seconds(function: Callable[[], object], device: str, rounds: int) -> float:
    seconds = [time_call(function, device) for _ in range(rounds + 1)]
    return max(min(seconds[1:]), 1e-9)
