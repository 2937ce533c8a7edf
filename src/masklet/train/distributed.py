"""Several processes that train one model, as torchrun starts them, without a wrapper around the model.

Every process has the whole model and its own share of the data; gradients are averaged between backward and step,
so that all take the same step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

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
"""Tensors go together up to this size: one message costs less than many."""
REQUIRED_ENV = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class DistributedContext:
    """Which process this is: number `rank` of `world`, number `local` on its machine."""

    rank: int
    world_size: int
    local_rank: int

    @property
    def is_main_process(self) -> bool:
        """Whether it is the one that writes files."""
        return self.rank == 0


@contextmanager
def init_distributed(device: str = "cpu", *, timeout_s: float = 600.0) -> Iterator[DistributedContext]:
    """This process among those that torchrun started; alone, where it was started by itself.

    On "cuda" the processes talk by NCCL and each gets the graphics card of its local rank; else by Gloo. One that
    hears nothing for `patience` seconds gives up.

    Example:
        >>> with ranks("cuda") as own:
        ...     spread(model, own)

    Raises:
        StateError: half of what torchrun sets is missing, or the other processes are not found.
    """
    own = _from_environment()
    if own.world_size == 1:
        yield own
        return
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(own.local_rank)
    wait = timedelta(seconds=timeout_s)
    _call_collective(lambda: dist.init_process_group("nccl" if cuda else "gloo", timeout=wait), own)
    try:
        yield own
    finally:
        dist.destroy_process_group()


def _from_environment() -> DistributedContext:
    """From the environment."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return DistributedContext(0, 1, 0)
    world = os.environ["WORLD_SIZE"]
    missing = [name for name in REQUIRED_ENV if name not in os.environ]
    numbers = [os.environ.get(name, "") for name in REQUIRED_ENV[:2]]
    if missing or not all(number.isdecimal() for number in (world, *numbers)):
        raise StateError(
            f"WORLD_SIZE is {world!r} but {', '.join(missing) or 'a rank'} is not set to anything that fits; start "
            "several processes by torchrun --nproc-per-node N -m masklet train ..., or unset WORLD_SIZE for one"
        )
    return DistributedContext(int(numbers[0]), int(world), int(numbers[1]))


def is_main_process() -> bool:
    """Whether this process is the one that writes files and speaks; so is one that was started by itself.

    Example:
        >>> is_first()
        True
    """
    return _from_environment().is_main_process


def average_gradients(parameters: Iterable[nn.Parameter], context: DistributedContext) -> None:
    """Replace the gradient of every parameter that learns by its mean over all processes.

    A process where a parameter got none counts as zero; where none has one it stays without. All processes hand in the
    same parameters in the same order.

    Example:
        >>> loss.backward()
        >>> average_gradients(model.parameters(), own)
        >>> optimizer.step()

    Raises:
        StateError: another process has ended or is silent.
    """
    if context.world_size == 1:
        return
    for bucket in _buckets([parameter for parameter in parameters if parameter.requires_grad]):
        _average_bucket(bucket, context)


def _average_bucket(bucket: Sequence[Tensor], context: DistributedContext) -> None:
    pieces = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in bucket]
    there = pieces[0].new_tensor([p.grad is not None for p in bucket])
    flat = torch.cat([*pieces, there])
    _call_collective(lambda: dist.all_reduce(flat), context)
    flat /= context.world_size
    *means, there = _split(flat, [p.numel() for p in bucket] + [len(bucket)])
    for parameter, mean, share in zip(bucket, means, there.tolist(), strict=True):
        if share > 0:
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(mean.view_as(parameter))


@torch.no_grad()
def broadcast_model(model: nn.Module, context: DistributedContext) -> None:
    """Give every process the weights and buffers that the first one has.

    Example:
        >>> spread(model, own)

    Raises:
        StateError: another process has ended or is silent.
    """
    if context.world_size == 1:
        return
    for bucket in _buckets([*model.parameters(), *model.buffers()]):
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        _broadcast(flat, context)
        for tensor, piece in zip(bucket, _split(flat, [tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(piece.view_as(tensor))


def _broadcast(flat: Tensor, context: DistributedContext) -> None:
    _call_collective(lambda: dist.broadcast(flat, src=0), context)


def any_rank(flag: bool, context: DistributedContext) -> bool:
    """Whether any process says so; all get the same answer, so that all stop at the same step.

    Example:
        >>> if any_rank(stop_was_asked, own):
        ...     break

    Raises:
        StateError: another process has ended or is silent.
    """
    if context.world_size == 1:
        return flag
    device = torch.device("cuda", context.local_rank) if dist.get_backend() == "nccl" else torch.device("cpu")
    flags = torch.tensor([flag], dtype=torch.int32, device=device)
    _call_collective(lambda: dist.all_reduce(flags, dist.ReduceOp.MAX), context)
    return bool(flags.item())


def _split(flat: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    return torch.split_with_sizes(flat, sizes)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Of one kind and device each, in an order that is the same in all processes."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for alike in kinds.values():
        bucket: list[Tensor] = []
        held = 0
        for tensor in alike:
            size = tensor.numel() * tensor.element_size()
            if bucket and held + size > BUCKET_BYTES:
                yield bucket
                bucket, held = [], 0
            bucket.append(tensor)
            held += size
        yield bucket


def _call_collective(call: Callable[[], object], context: DistributedContext) -> None:
    try:
        call()
    except RuntimeError as error:  # what torch.distributed raises, of every backend
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StateError(
            f"process {context.rank} of {context.world_size} hears nothing from the others ({reason}); one of them has ended or is "  # noqa: E501
            "stuck: its own output says why; the same command goes on from the last checkpoint"
        ) from error
