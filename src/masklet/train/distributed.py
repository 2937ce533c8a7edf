"""Train one model in several processes, as torchrun starts them, without a wrapper around the model.

Every process has the complete model and its own part of the data. Gradients are averaged between backward and step, so
that all processes take the same step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from masklet.errors import StateError

__all__ = [
    "DistributedContext",
    "any_rank",
    "average_gradients",
    "broadcast_model",
    "init_distributed",
    "is_main_process",
]

BUCKET_BYTES = 25 << 20
"""Tensors are sent together up to this size: one message costs less than many."""
REQUIRED_ENV = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class DistributedContext:
    """This process: number `rank` of `world_size`, number `local_rank` on its machine."""

    rank: int
    world_size: int
    local_rank: int

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0


@contextmanager
def init_distributed(device: str = "cpu", *, timeout_s: float = 600.0) -> Iterator[DistributedContext]:
    """Join the processes that torchrun started; a process started by itself stays alone.

    On "cuda" the processes use NCCL, and each gets the GPU of its local rank; else Gloo. A process that waits for
    longer than `timeout_s` gives up.

    Example:
        >>> with init_distributed("cuda") as distributed:
        ...     broadcast_model(model, distributed)

    Raises:
        StateError: if some of torchrun's variables are missing, or the other processes are not found.
    """
    context = _context_from_environment()
    if context.world_size == 1:
        yield context
        return
    is_cuda = torch.device(device).type == "cuda"
    if is_cuda:
        torch.cuda.set_device(context.local_rank)
    timeout = timedelta(seconds=timeout_s)
    _call_collective(lambda: dist.init_process_group("nccl" if is_cuda else "gloo", timeout=timeout), context)
    try:
        yield context
    finally:
        dist.destroy_process_group()


def _context_from_environment() -> DistributedContext:
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return DistributedContext(0, 1, 0)
    world_size = os.environ["WORLD_SIZE"]
    missing = [name for name in REQUIRED_ENV if name not in os.environ]
    ranks = [os.environ.get(name, "") for name in REQUIRED_ENV[:2]]
    if missing or not all(number.isdecimal() for number in (world_size, *ranks)):
        raise StateError(
            f"WORLD_SIZE is {world_size!r} but {', '.join(missing) or 'a rank'} is not set to anything that fits; "
            "start several processes by torchrun --nproc-per-node N -m masklet train ..., or unset WORLD_SIZE for one"
        )
    return DistributedContext(int(ranks[0]), int(world_size), int(ranks[1]))


def is_main_process() -> bool:
    """Tell whether this process writes files and prints; a process started by itself does.

    Example:
        >>> is_main_process()
        True
    """
    return _context_from_environment().is_main_process


def average_gradients(parameters: Iterable[nn.Parameter], context: DistributedContext) -> None:
    """Replace the gradient of every trainable parameter by its mean over all processes.

    A process where a parameter has no gradient counts as zero; where no process has one, it stays without. All
    processes pass the same parameters in the same order.

    Example:
        >>> loss.backward()
        >>> average_gradients(model.parameters(), distributed)
        >>> optimizer.step()

    Raises:
        StateError: if another process has ended or does not answer.
    """
    if context.world_size == 1:
        return
    for bucket in _buckets([parameter for parameter in parameters if parameter.requires_grad]):
        pieces = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in bucket]
        has_gradient = pieces[0].new_tensor([p.grad is not None for p in bucket])
        flat = torch.cat([*pieces, has_gradient])
        _call_collective(partial(dist.all_reduce, flat), context)
        flat /= context.world_size
        *means, fractions = torch.split_with_sizes(flat, [p.numel() for p in bucket] + [len(bucket)])
        for parameter, mean, fraction in zip(bucket, means, fractions.tolist(), strict=True):
            if fraction > 0:
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
                parameter.grad.copy_(mean.view_as(parameter))


@torch.no_grad()
def broadcast_model(model: nn.Module, context: DistributedContext) -> None:
    """Copy weights and buffers of the main process to every process.

    Example:
        >>> broadcast_model(model, distributed)

    Raises:
        StateError: if another process has ended or does not answer.
    """
    if context.world_size == 1:
        return
    for bucket in _buckets([*model.parameters(), *model.buffers()]):
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        _call_collective(partial(dist.broadcast, flat, src=0), context)
        for tensor, piece in zip(
            bucket, torch.split_with_sizes(flat, [tensor.numel() for tensor in bucket]), strict=True
        ):
            tensor.copy_(piece.view_as(tensor))


def any_rank(flag: bool, context: DistributedContext) -> bool:
    """Tell whether `flag` is set in any process; all get the same answer, so that all stop at the same step.

    Example:
        >>> if any_rank(should_stop, distributed):
        ...     break

    Raises:
        StateError: if another process has ended or does not answer.
    """
    if context.world_size == 1:
        return flag
    device = torch.device("cuda", context.local_rank) if dist.get_backend() == "nccl" else torch.device("cpu")
    flags = torch.tensor([flag], dtype=torch.int32, device=device)
    _call_collective(lambda: dist.all_reduce(flags, dist.ReduceOp.MAX), context)
    return bool(flags.item())


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors by dtype and device up to `BUCKET_BYTES`, in an order that is the same in all processes."""
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for group in groups.values():
        bucket: list[Tensor] = []
        bucket_bytes = 0
        for tensor in group:
            size = tensor.numel() * tensor.element_size()
            if bucket and bucket_bytes + size > BUCKET_BYTES:
                yield bucket
                bucket, bucket_bytes = [], 0
            bucket.append(tensor)
            bucket_bytes += size
        yield bucket


def _call_collective(call: Callable[[], object], context: DistributedContext) -> None:
    try:
        call()
    except RuntimeError as error:  # the error of torch.distributed, for every backend
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StateError(
            f"process {context.rank} of {context.world_size} hears nothing from the others ({reason}); one of them has "
            "ended or is stuck: its own output says why; the same command resumes from the last checkpoint"
        ) from error
