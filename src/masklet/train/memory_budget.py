"""What a step needs of time and memory, and what to lower where there is not enough."""

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
"""What allocators say, of processors, of graphics cards, of the libraries between."""

MIN_IMAGE_SIZE = 64
"""Pixels a side that something can be learnt from."""
ENCODER_COST, CHECKPOINTED_ENCODER_COST, OBJECT_COST = 1.0, 0.1, 0.25
"""What a frame keeps for the way back: in its encoder, without and with checkpointing, and for each object.

Counted (bytes that autograd holds, published tiny and base plus, 256 and 512 pixels): 0.06 to 0.10 of the encoder's
are left by checkpointing, an object takes 0.12 to 0.42 of them.
"""


@dataclass(frozen=True)
class StepUsage:
    """What one step took."""

    seconds: float
    peak_bytes: int | None
    """Of tensors on a graphics card, else of the whole process; None where the system does not tell."""


def measure_step(step: Callable[[], object], device: torch.device) -> StepUsage:
    """Do `step` once and say what it took; a step before it should have warmed everything up.

    Example:
        >>> measure(lambda: model(pixels).sum().backward(), torch.device("cpu"))
        Budget(seconds=1.9, peak_bytes=1431655765)
    """
    before = _reset_peak(device)
    clock = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return StepUsage(time.perf_counter() - clock, _peak_bytes(device, before))


def _reset_peak(device: torch.device) -> int | None:
    """Begin counting anew; where that cannot be, the peak so far, which the step's hides behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    if device.type != "cpu":
        return 0
    try:
        (PROC_SELF / "clear_refs").write_text("5")
    except OSError:
        return _peak_resident_bytes()
    return 0


def _peak_bytes(device: torch.device, before: int | None) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":  # what the driver handed out stays with the process, so this is the peak
        return int(torch.mps.driver_allocated_memory())
    after = _peak_resident_bytes() if device.type == "cpu" else None
    return after if after is not None and before is not None and after > before else None


def _peak_resident_bytes() -> int | None:
    """Bytes of this process that were in memory at once, at most."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", (PROC_SELF / "status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) << 10
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, of whatever device or library.

    Example:
        >>> out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
        True
        >>> out_of_memory(RuntimeError("shape mismatch"))
        False
    """
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and OOM_PATTERN.search(str(error)) is not None


@dataclass(frozen=True)
class _StepSize:
    """What memory grows with."""

    batch: int
    clip_length: int
    objects: int
    image_size: int

    def smaller_options(self) -> dict[str, _StepSize]:
        """The next value down of each that has one."""
        size = max(int(self.image_size * 0.75) // 32 * 32, MIN_IMAGE_SIZE)
        down = {
            "batch": replace(self, batch=self.batch // 2),
            "frames": replace(self, clip_length=self.clip_length // 2),
            "objects": replace(self, objects=self.objects // 2),
            "size": replace(self, image_size=size),
        }
        return {name: step for name, step in down.items() if 0 < getattr(step, name) < getattr(self, name)}

    def memory_cost(self, encoder: float) -> float:
        """Memory, up to a factor."""
        return self.batch * self.clip_length * self.image_size**2 * (encoder + OBJECT_COST * self.objects)


def memory_advice(
    batch: int,
    objects: int,
    clip_length: int,
    image_size: int,
    grad_accum: int,
    gradient_checkpointing: bool | None,
    frozen_encoder: bool,
) -> str:
    """What to change where memory ran out, what gains most first, with the next values to try.

    `checkpointing` is None where the network has none.

    Example:
        >>> print(advice(2, 3, 8, 1024, 1, checkpointing=True, frozen_encoder=False))
        out of memory with batch 2, frames 8, objects 3, size 1024
        Lower one of these, what gains most first:
          objects 3 -> 1
          batch 2 -> 1, with accumulate 1 -> 2 (the same steps)
          frames 8 -> 4
          size 1024 -> 768
        Or keep them, and:
          train adapters of low rank (LoRA): less for the optimizer
          freeze the encoder: it keeps nothing
    """
    now = _StepSize(batch, clip_length, objects, image_size)
    encoder = 0.0 if frozen_encoder else CHECKPOINTED_ENCODER_COST if gradient_checkpointing else ENCODER_COST
    steps = now.smaller_options()
    order = sorted(steps, key=lambda name: steps[name].memory_cost(encoder))  # a stable sort: a tie stays as listed
    lines = [_advice_line(name, now, steps[name], grad_accum) for name in order]
    others = _other_advice(gradient_checkpointing, frozen_encoder)
    head = f"out of memory with batch {batch}, frames {clip_length}, objects {objects}, size {image_size}"
    parts = [head, "Lower one of these, what gains most first:" if lines else "Nothing of these can be lowered."]
    parts += [f"  {line}" for line in lines]
    if others:
        parts += ["Or keep them, and:" if lines else "What is left:", *(f"  {line}" for line in others)]
    elif not lines:
        parts.append("Take a smaller model, or a device with more memory.")
    return "\n".join(parts)


def _advice_line(name: str, current: _StepSize, smaller: _StepSize, accumulate: int) -> str:
    line = f"{name} {getattr(current, name)} -> {getattr(smaller, name)}"
    if name == "batch" and current.batch % 2 == 0:
        return f"{line}, with accumulate {accumulate} -> {2 * accumulate} (the same steps)"
    return line


def _other_advice(checkpointing: bool | None, frozen_encoder: bool) -> list[str]:
    if frozen_encoder:  # nothing is kept of it
        return []
    ways = [] if checkpointing is not False else ["turn gradient checkpointing on (the same steps, a third more time)"]
    return [*ways, "train adapters of low rank (LoRA): less for the optimizer", "freeze the encoder: it keeps nothing"]
