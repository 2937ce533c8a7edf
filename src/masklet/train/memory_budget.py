"""Measure time and memory of a step, and advise what to lower if memory runs out."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

__all__ = ["StepUsage", "is_out_of_memory", "measure_step", "memory_advice"]

PROC_SELF = Path("/proc/self")
OOM_PATTERN = re.compile(r"out of memory|can't allocate memory|not enough memory|alloc_failed", re.IGNORECASE)
"""Messages of the allocators of CPUs, GPUs and the libraries between."""

MIN_IMAGE_SIZE = 64
"""Smallest useful side, pixels."""
ENCODER_COST, CHECKPOINTED_ENCODER_COST, OBJECT_COST = 1.0, 0.1, 0.25
"""Relative memory that a frame keeps for the backward pass: in its encoder without and with checkpointing, and for
each object.

Counted (bytes that autograd holds, published tiny and base plus, 256 and 512 pixels): checkpointing leaves 0.06 to 0.10
of the encoder's, an object takes 0.12 to 0.42 of them.
"""


@dataclass(frozen=True)
class StepUsage:
    """Time and memory of one step."""

    seconds: float
    peak_bytes: int | None
    """Of tensors on a GPU, else of the process; None where the system does not report it."""


def measure_step(step: Callable[[], object], device: torch.device) -> StepUsage:
    """Run `step` once and measure it; a step before it should have warmed everything up.

    Example:
        >>> measure_step(lambda: model(pixels).sum().backward(), torch.device("cpu"))
        StepUsage(seconds=1.9, peak_bytes=1431655765)
    """
    before: int | None = 0  # the peak so far, where counting cannot start from zero
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    if device.type == "cpu":
        try:
            (PROC_SELF / "clear_refs").write_text("5")
        except OSError:
            before = _peak_resident_bytes()
    clock = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    seconds = time.perf_counter() - clock
    if device.type == "cuda":
        return StepUsage(seconds, torch.cuda.max_memory_allocated(device))
    if device.type == "mps":  # the process keeps what the driver allocated, so this is the peak
        return StepUsage(seconds, int(torch.mps.driver_allocated_memory()))
    after = _peak_resident_bytes() if device.type == "cpu" else None
    is_new_peak = after is not None and before is not None and after > before
    return StepUsage(seconds, after if is_new_peak else None)


def _peak_resident_bytes() -> int | None:
    """Return the peak resident memory of this process."""
    try:
        match = re.search(r"VmHWM:\s*(\d+) kB", (PROC_SELF / "status").read_text())
    except OSError:
        match = None
    if match:
        return int(match[1]) << 10
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error reports a lack of memory, for any device or library.

    Example:
        >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
        True
        >>> is_out_of_memory(RuntimeError("shape mismatch"))
        False
    """
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and OOM_PATTERN.search(str(error)) is not None


@dataclass(frozen=True)
class _StepSize:
    """The options that memory grows with."""

    batch: int
    clip_length: int
    objects: int
    image_size: int

    def smaller_options(self) -> dict[str, _StepSize]:
        """Return the next smaller value of each option that has one, by name."""
        image_size = max(int(self.image_size * 0.75) // 32 * 32, MIN_IMAGE_SIZE)
        smaller = {
            "batch": replace(self, batch=self.batch // 2),
            "clip_length": replace(self, clip_length=self.clip_length // 2),
            "objects": replace(self, objects=self.objects // 2),
            "image_size": replace(self, image_size=image_size),
        }
        return {name: step for name, step in smaller.items() if 0 < getattr(step, name) < getattr(self, name)}


def memory_advice(
    batch: int,
    objects: int,
    clip_length: int,
    image_size: int,
    grad_accum: int,
    gradient_checkpointing: bool | None,
    frozen_encoder: bool,
) -> str:
    """Advise what to change if memory runs out, largest gain first, with the next values to try.

    `gradient_checkpointing` is None if the network has none.

    Example:
        >>> print(memory_advice(2, 3, 8, 1024, 1, gradient_checkpointing=True, frozen_encoder=False))
        out of memory with batch 2, clip_length 8, objects 3, image_size 1024
        Lower one of these, largest gain first:
          objects 3 -> 1
          batch 2 -> 1, with grad_accum 1 -> 2 (the same steps)
          clip_length 8 -> 4
          image_size 1024 -> 768
        Or keep them, and:
          train adapters of low rank (LoRA): less for the optimizer
          freeze the encoder: it keeps nothing
    """
    current = _StepSize(batch, clip_length, objects, image_size)
    encoder_cost = 0.0 if frozen_encoder else CHECKPOINTED_ENCODER_COST if gradient_checkpointing else ENCODER_COST
    smaller = current.smaller_options()
    memory = {  # up to a factor
        name: one.batch * one.clip_length * one.image_size**2 * (encoder_cost + OBJECT_COST * one.objects)
        for name, one in smaller.items()
    }
    lines = []
    for name in sorted(smaller, key=memory.__getitem__):  # stable: a tie stays as is
        line = f"  {name} {getattr(current, name)} -> {getattr(smaller[name], name)}"
        if name == "batch" and batch % 2 == 0:
            line += f", with grad_accum {grad_accum} -> {2 * grad_accum} (the same steps)"
        lines.append(line)
    others = []
    if not frozen_encoder:  # a frozen encoder keeps nothing
        if gradient_checkpointing is False:
            others.append("turn gradient checkpointing on (the same steps, a third more time)")
        others.append("train adapters of low rank (LoRA): less for the optimizer")
        others.append("freeze the encoder: it keeps nothing")
    advice = [
        f"out of memory with batch {batch}, clip_length {clip_length}, objects {objects}, image_size {image_size}"
    ]
    advice += ["Lower one of these, largest gain first:" if lines else "Nothing of these can be lowered.", *lines]
    if others:
        advice += ["Or keep them, and:" if lines else "What is left:", *(f"  {line}" for line in others)]
    elif not lines:
        advice.append("Take a smaller model, or a device with more memory.")
    return "\n".join(advice)
