"""The stand-in for the module `torch`: the functions that masklet uses outside its networks, on NumPy arrays.

The same names, arguments and results as PyTorch's, as far as they are used; `tests/tensors` compares each with PyTorch.
"""

from __future__ import annotations

import builtins
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from masklet.tensors.numpy_tensor import (
    Device,
    DType,
    Tensor,
    bfloat16,
    float16,
    float32,
    float64,
    int32,
    int64,
    promote,
    sizes_of,
    uint8,
    unwrap,
)
from masklet.tensors.numpy_tensor import boolean as bool

__all__ = [
    "Tensor",
    "addcmul",
    "aminmax",
    "arange",
    "backends",
    "baddbmm",
    "bfloat16",
    "bool",
    "cat",
    "cuda",
    "device",
    "dtype",
    "einsum",
    "empty",
    "eye",
    "float16",
    "float32",
    "float64",
    "from_numpy",
    "frombuffer",
    "full",
    "get_num_threads",
    "inf",
    "inference_mode",
    "int32",
    "int64",
    "isfinite",
    "lerp",
    "long",
    "matmul",
    "maximum",
    "meshgrid",
    "minimum",
    "ones_like",
    "set_num_threads",
    "stack",
    "strided",
    "tensor",
    "uint8",
    "unflatten",
    "where",
    "zeros",
    "zeros_like",
]

inf, strided, long = float("inf"), "strided", int64
device, dtype = Device, DType


class _NoGpuMemoryError(RuntimeError):
    """Never raised: there is no GPU."""


def _no() -> builtins.bool:
    return False


cuda = SimpleNamespace(is_available=_no, device_count=int, OutOfMemoryError=_NoGpuMemoryError)
backends = SimpleNamespace(mps=SimpleNamespace(is_available=_no))


@contextmanager
def inference_mode(mode: builtins.bool = True) -> Iterator[None]:
    """Do nothing: there are no gradients."""
    yield


def get_num_threads() -> int:
    """Return the number of cores, which NumPy and the runtimes use on their own."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_threads(number: int) -> None:
    """Do nothing: runtimes take their threads when a model is opened."""


from_numpy = Tensor
"""A tensor shares the memory of its array."""


def frombuffer(buffer: Any, dtype: DType) -> Tensor:
    """Return a tensor of the bytes of a buffer."""
    return Tensor(np.frombuffer(buffer, dtype.storage), dtype)


def tensor(values: Any, dtype: DType | None = None, device: object = None) -> Tensor:
    """Return a tensor of numbers in nested lists; floats are float32."""
    array = np.array(unwrap(values))
    if not array.size and dtype is None:
        array = array.astype(np.float32)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    made = Tensor(array.astype(np.int64) if array.dtype.kind in "iu" else array)
    return made if dtype is None else made.to(dtype)


def zeros(*shape: Any, dtype: DType = float32, device: object = None) -> Tensor:
    """Return zeros."""
    return Tensor(np.zeros(sizes_of(shape), dtype.storage), dtype)


def empty(*shape: Any, dtype: DType = float32, device: object = None) -> Tensor:
    """Return zeros, where PyTorch leaves values open.

    Raises:
        RuntimeError: if the device is no CPU.
    """
    if device is not None and Device(str(device)).type != "cpu":
        raise RuntimeError("without PyTorch there is only a CPU")
    return zeros(*shape, dtype=dtype)


def full(shape: Sequence[int], value: Any, dtype: DType | None = None, device: object = None) -> Tensor:
    """Return a tensor filled with a number."""
    made = tensor(value).array
    result = Tensor(np.full(shape, made, made.dtype))
    return result if dtype is None else result.to(dtype)


def zeros_like(like: Tensor) -> Tensor:
    """Return zeros of the shape and type of a tensor."""
    return like.new_zeros(like.shape)


def ones_like(like: Tensor) -> Tensor:
    """Return ones of the shape and type of a tensor."""
    return like.new_ones(like.shape)


def eye(count: int, dtype: DType = float32) -> Tensor:
    """Return the unit matrix."""
    return Tensor(np.eye(count, dtype=dtype.storage), dtype)


def arange(*bounds: int, device: object = None) -> Tensor:
    """Return whole numbers, as `range` does."""
    return Tensor(np.arange(*bounds, dtype=np.int64))


def meshgrid(*tensors: Tensor, indexing: str) -> tuple[Tensor, ...]:
    """Return the coordinates of a grid."""
    grids = np.meshgrid(*(each.array for each in tensors), indexing=indexing)  # type: ignore[call-overload]
    return tuple(map(Tensor, grids))


def _join(function: Callable[..., Any], tensors: Sequence[Tensor], dim: int) -> Tensor:
    if all(each.dtype == bfloat16 for each in tensors):
        return Tensor(function([each.array for each in tensors], axis=dim), bfloat16)
    return Tensor(function([unwrap(each) for each in tensors], axis=dim))


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate along an axis."""
    return _join(np.concatenate, tensors, dim)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Stack along a new axis."""
    return _join(np.stack, tensors, dim)


def where(condition: Tensor, left: Any, right: Any) -> Tensor:
    """Return values of `left` where the condition holds, else of `right`."""
    if not isinstance(left, Tensor) and not isinstance(right, Tensor):
        left = tensor(float(left) if isinstance(left, float) or isinstance(right, float) else left)
    return Tensor(np.where(condition.array, *promote(left, right)))


def _of_two(function: Callable[[Any, Any], Any]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda left, right: Tensor(function(*promote(left, right)))


minimum, maximum, matmul = _of_two(np.minimum), _of_two(np.maximum), operator.matmul


def lerp(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """Interpolate between two tensors."""
    first, last = unwrap(start), unwrap(end)
    step = np.asarray(weight, first.dtype) * (last - first)
    return Tensor(first + step if abs(weight) < 0.5 else last - (last - first) * np.asarray(1 - weight, first.dtype))


def addcmul(start: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return start + left * right."""
    return start + left * right


def baddbmm(start: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return start + left @ right, for batches of matrices."""
    return start + left @ right


def einsum(equation: str, *tensors: Tensor) -> Tensor:
    """Sum products by Einstein's convention."""
    return Tensor(np.einsum(equation, *map(unwrap, tensors), optimize=True))


def unflatten(values: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Split an axis into several."""
    dim %= values.ndim
    return values.reshape(*values.shape[:dim], *sizes, *values.shape[dim + 1 :])


def aminmax(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value."""
    return Tensor(unwrap(values).min()), Tensor(unwrap(values).max())


def isfinite(values: Tensor) -> Tensor:
    """Return which values are finite."""
    return Tensor(np.isfinite(unwrap(values)))
