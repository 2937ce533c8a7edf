"""Build networks on the meta device: shapes without storage, and without running initializers.

Initializing tensors of the meta device goes through parts of PyTorch that take a second to import.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["meta_init", "network_from_state", "network_shapes"]

ConfigT = TypeVar("ConfigT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)

INIT_FUNCTIONS = frozenset(
    {
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.uniform_,
        nn.init.kaiming_uniform_,
        Tensor.normal_,
        Tensor.uniform_,
    }
)
"""Functions that return their first argument, the tensor to initialize."""


class _SkipInit(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func in INIT_FUNCTIONS:
            return args[0] if args else named["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **named)


@contextmanager
def meta_init() -> Iterator[None]:
    """Create the parameters and buffers of all modules built in this block on the meta device.

    Example:
        >>> with meta_init():
        ...     nn.Linear(2, 3).weight
        Parameter containing:
        tensor(..., device='meta', size=(3, 2), requires_grad=True)
    """
    with torch.device("meta"), _SkipInit():
        yield


@lru_cache(maxsize=64)
def network_shapes(network: Callable[[Any], nn.Module], config: Hashable) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of the network of a config, without allocating it."""
    with meta_init():
        return {name: tuple(t.shape) for name, t in network(config).state_dict().items()}


def network_from_state(network: Callable[[ConfigT], ModuleT], config: ConfigT, state: Mapping[str, Tensor]) -> ModuleT:
    """Build an fp32 network in evaluation mode from `state`, whose names and shapes must match exactly."""
    with meta_init():
        model = network(config)
    floats = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    model.load_state_dict(floats, strict=True, assign=True)
    return model.eval().requires_grad_(False)
