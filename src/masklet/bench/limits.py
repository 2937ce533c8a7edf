"""What the machine can do at best: its rate of matrix products, and how fast it copies.

A matrix product of n x n by n x n counts as 2 n^3 operations, a copy as twice its bytes (read and written).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from masklet.bench.machine import timed
from masklet.models.base import PromptableNetwork

__all__ = ["Limits", "encoder_operations", "measure_limits"]


@dataclass(frozen=True)
class Limits:
    """The best of some rounds."""

    fp32_gflops: float
    bf16_gflops: float
    copy_gbytes: float
    """A second, read and written."""

    def best(self, other: Limits) -> Limits:
        """The higher of either rate: on a busy machine one reading alone is too low.

        Example:
            >>> Limits(1.0, 2.0, 3.0).best(Limits(2.0, 1.0, 3.0))
            Limits(fp32_gflops=2.0, bf16_gflops=2.0, copy_gbytes=3.0)
        """
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Limits(*(max(pair) for pair in pairs))

    def floor_s(self, operations: float, precision: str) -> float:
        """Seconds that as many operations take at the rate of `precision`; no program is faster.

        Example:
            >>> Limits(100.0, 200.0, 10.0).floor_s(50e9, "fp32")
            0.5
        """
        rate = self.fp32_gflops if precision == "fp32" else self.bf16_gflops
        return operations / (rate * 1e9)


def measure_limits(device: str = "cpu", *, side: int = 2048, megabytes: int = 256, rounds: int = 5) -> Limits:
    """Matrix products of `side` x `side` and a copy of `megabytes`, the best of `rounds` after one untimed.

    Example:
        >>> measure_limits().fp32_gflops
        180.3
    """
    fp32, bf16 = (_rate(device, side, dtype, rounds) for dtype in (torch.float32, torch.bfloat16))
    source = torch.zeros(megabytes * 1_000_000, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.numel() / _best(lambda: target.copy_(source), device, rounds)
    return Limits(fp32 / 1e9, bf16 / 1e9, copied / 1e9)


def encoder_operations(network: PromptableNetwork) -> int:
    """Operations of encoding one picture, as the network's plain modules make them; a product and a sum are two.

    Example:
        >>> encoder_operations(load("builtin").network) / 1e9
        7.1
    """
    assert isinstance(network, nn.Module)
    side, device = network.picture_size, next(network.parameters()).device
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.encode_image(torch.zeros(1, 3, side, side, device=device))
    return int(counter.get_total_flops())


def _rate(device: str, side: int, dtype: torch.dtype, rounds: int) -> float:
    a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _best(lambda: a @ b, device, rounds)


def _best(work: Callable[[], object], device: str, rounds: int) -> float:
    found = [timed(work, device) for _ in range(rounds + 1)]
    return max(min(found[1:]), 1e-9)
