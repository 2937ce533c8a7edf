"""Networks as shapes alone: nothing is stored, and nothing is drawn to fill what is not there.

Drawing numbers for tensors of the meta device goes through parts of PyTorch that take a second to import.
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
"""What gives back the tensor that it is given first."""


class _SkipInit(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in INIT_FUNCTIONS:
            return args[0] if args else given["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **given)


@contextmanager
def meta_init() -> Iterator[None]:
    """Modules that are made within have parameters and buffers of the meta device.

    Example:
        >>> with blank():
        ...     nn.Linear(2, 3).weight
        Parameter containing:
        tensor(..., device='meta', size=(3, 2), requires_grad=True)
    """
    with torch.device("meta"), _SkipInit():
        yield
