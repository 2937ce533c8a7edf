"""What the machine can do at best: its rate of matrix products, and how fast it copies.

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
    """What has to be done at the very least."""

    flops: int
    """Of products."""
    elements: int
    """Weights and features that are read or written, in the precision that is computed in."""
    bytes: int
    """What is moved in any precision: pixels, masks, memories."""

    def bytes_moved(self, precision: str) -> int:
        """Bytes in all.

        Example:
            >>> Work(0, 1000, 24).moved("bf16")
            2024
        """
        return (4 if precision == "fp32" else 2) * self.elements + self.bytes


class LowerBound(NamedTuple):
    """What no program is faster than, by the measured limits."""

    seconds: float
    limited_by: str
    """Which limit it is: "operations" at the matrix rate, or "bytes" at the rate of copying."""


@dataclass(frozen=True)
class HardwareLimits:
    """The best of some rounds."""

    fp32_gflops: float
    bf16_gflops: float
    copy_gbytes: float
    """A second, read and written."""

    def maximum(self, other: HardwareLimits) -> HardwareLimits:
        """The higher of either rate: on a busy machine one reading alone is too low.

        Example:
            >>> Limits(1.0, 2.0, 3.0).best(Limits(2.0, 1.0, 3.0))
            Limits(fp32_gflops=2.0, bf16_gflops=2.0, copy_gbytes=3.0)
        """
        pairs = zip(astuple(self), astuple(other), strict=True)
        return HardwareLimits(*(max(pair) for pair in pairs))

    def lower_bound(self, work: Work, precision: str) -> LowerBound:
        """The longer of what operations take and what moving the bytes takes.

        In 16 bits the higher matrix rate counts: where the processor has no products of bf16, fp32 is faster.

        Example:
            >>> Limits(100.0, 200.0, 10.0).floor(Work(10**9, 10**9, 0), "fp32")
            Floor(seconds=0.4, bound='bytes')
        """
        rate = self.fp32_gflops if precision == "fp32" else max(self.fp32_gflops, self.bf16_gflops)
        floors = (
            LowerBound(work.flops / (rate * 1e9), "operations"),
            LowerBound(work.bytes_moved(precision) / (self.copy_gbytes * 1e9), "bytes"),
        )
        return max(floors)


def measure_hardware_limits(
    device: str = "cpu", *, side: int = 2048, megabytes: int = 256, rounds: int = 5
) -> HardwareLimits:
    """Matrix products of `side` x `side` and a copy of `megabytes`, the best of `rounds` after one untimed.

    Where oneDNN's own product can be called, the faster of it and PyTorch's counts.

    Example:
        >>> measure_limits().fp32_gflops
        180.3
    """
    fp32, bf16 = (_matmul_rate(device, side, dtype, rounds) for dtype in (torch.float32, torch.bfloat16))
    source = torch.zeros(megabytes * 1_000_000, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.numel() / _best_seconds(lambda: target.copy_(source), device, rounds)
    return HardwareLimits(fp32 / 1e9, bf16 / 1e9, copied / 1e9)


def _matmul_rate(device: str, side: int, dtype: torch.dtype, rounds: int) -> float:
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    ways: list[Callable[[], object]] = [lambda: a @ b]
    if has_fused_operators(b):  # on some processors twice as fast as what PyTorch calls by itself
        ways.append(partial(FusedLinear(b, None, side), a))
    return 2 * side**3 / min(_best_seconds(way, device, rounds) for way in ways)


def _best_seconds(function: Callable[[], object], device: str, rounds: int) -> float:
    found = [time_call(function, device) for _ in range(rounds + 1)]
    return max(min(found[1:]), 1e-9)
