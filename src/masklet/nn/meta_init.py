"""Build networks on the meta device: shapes without storage, and without running initializers.

Initializing tensors of the meta device goes through parts of PyTorch that take a second to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["meta_init"]

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
