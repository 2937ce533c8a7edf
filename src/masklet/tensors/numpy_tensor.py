"""`Tensor` on a NumPy array: the attributes and methods of `torch.Tensor` that masklet uses outside its networks.

Types follow PyTorch: a Python number takes the type of the tensor, integers and floats give floats, the quotient of
integers is float32. bfloat16, which NumPy lacks, is stored as its 16 bits; a calculation with it is in float32.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partialmethod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["DType", "Device", "Tensor", "dtype_of", "unwrap"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DType:
    """The type of a tensor's values."""

    name: str
    storage: type
    """Type of the NumPy array that holds them."""

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    @property
    def is_floating_point(self) -> bool:
        """Whether values are floating-point numbers."""
        return self.name == "bfloat16" or issubclass(self.storage, np.floating)


float32, float16, float64 = (DType(f"float{bits}", getattr(np, f"float{bits}")) for bits in (32, 16, 64))
bfloat16 = DType("bfloat16", np.uint16)
uint8, int32, int64 = DType("uint8", np.uint8), DType("int32", np.int32), DType("int64", np.int64)
boolean = DType("bool", np.bool_)
BY_STORAGE = {np.dtype(each.storage): each for each in (float32, float16, float64, uint8, int32, int64, boolean)}


class Device:
    """A device by its name, of which only the CPU has tensors.

    Raises:
        RuntimeError: if the name is no device.
    """

    def __init__(self, name: str | Device = "cpu", index: int | None = None) -> None:
        kind, _, number = str(name).partition(":")
        if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()):
            raise RuntimeError(f"Invalid device string: {name!r}")
        self.type, self.index = kind, int(number) if number else index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


CPU = Device()


def dtype_of(array: Array) -> DType:
    """Return the type of the values of a NumPy array.

    Raises:
        TypeError: if tensors have no such type.
    """
    if array.dtype not in BY_STORAGE:
        raise TypeError(
            f"an array of {array.dtype} is no tensor: convert it to one of {', '.join(map(str, BY_STORAGE))}"
        )
    return BY_STORAGE[array.dtype]


def unwrap(value: Any) -> Any:
    """Return the NumPy array of a tensor, bfloat16 as float32; containers of them likewise; all else as it is."""
    if isinstance(value, Tensor):
        return value.float().array if value.dtype is bfloat16 else value.array
    if isinstance(value, tuple):
        return tuple(unwrap(each) for each in value)
    return value


def to_bfloat16_bits(array: Array) -> Array:
    """Round float32 values to the nearest bfloat16, ties to even, and return their bits."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded).reshape(np.shape(array))


def promote(left: Any, right: Any) -> tuple[Any, Any]:
    """Convert two operands to the type that PyTorch would compute in; one of them is an array."""
    left, right = unwrap(left), unwrap(right)
    for_left, for_right = isinstance(left, (np.ndarray, np.generic)), isinstance(right, (np.ndarray, np.generic))
    if for_left and for_right:
        floats = [each.dtype for each in (left, right) if each.dtype.kind == "f"]
        if len(floats) == 1:
            return left.astype(floats[0], copy=False), right.astype(floats[0], copy=False)
        return left, right
    array, number = (left, right) if for_left else (right, left)
    dtype = array.dtype
    if isinstance(number, float) and dtype.kind != "f":
        dtype = np.dtype(np.float32)
    elif isinstance(number, int) and not isinstance(number, bool) and dtype.kind == "b":
        dtype = np.dtype(np.int64)
    array, number = array.astype(dtype, copy=False), np.asarray(number, dtype)
    return (array, number) if for_left else (number, array)


def axes(dim: Any) -> Any:
    """Return the axes of a `dim` argument; None: all of them."""
    return tuple(dim) if isinstance(dim, (list, tuple)) else dim


def sizes_of(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the sizes of a call such as `reshape(2, 3)` or `reshape((2, 3))`."""
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else shape


def _operator(function: Callable[[Any, Any], Any], *, swapped: bool = False) -> Callable[[Tensor, Any], Tensor]:
    """Make the method of a binary operator; with `swapped`, the tensor is on the right."""

    def method(self: Tensor, other: Any) -> Tensor:
        operands = (other, self) if swapped else (self, other)
        result = function(*promote(*operands))
        if function is operator.truediv and result.dtype == np.float64:  # of integers
            tensors = [each for each in operands if isinstance(each, Tensor)]
            if all(each.dtype != float64 for each in tensors):
                result = result.astype(np.float32)
        return Tensor(result)

    return method


def _elementwise(function: Callable[[Any], Any]) -> Callable[[Tensor], Tensor]:
    """Make the method of a function of each value."""
    return lambda self: Tensor(function(unwrap(self)))


def _reduction(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """Make the method of a reduction along axes; without `dim`, of all values."""

    def method(self: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
        return Tensor(np.asarray(function(unwrap(self), axis=axes(dim), keepdims=keepdim)))

    return method


class TopK(NamedTuple):
    """The largest values along an axis, and where they are."""

    values: Tensor
    indices: Tensor


class Tensor:
    """An array with the interface of `torch.Tensor`; views share memory, as PyTorch's do."""

    __array_ufunc__ = None  # so that `array + tensor` is ours
    __hash__ = object.__hash__
    device = CPU
    is_quantized = False

    def __init__(self, array: Any, dtype: DType | None = None) -> None:
        self.array: Array = np.asarray(array)
        self.dtype = dtype_of(self.array) if dtype is None else dtype

    def _like(self, array: Any) -> Tensor:
        """Return `array`, which holds the same kind of values."""
        return Tensor(array, self.dtype)

    def __repr__(self) -> str:
        return f"tensor({unwrap(self)!r})"

    # Shape and storage.

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    @property
    def T(self) -> Tensor:  # noqa: N802
        """The transposed matrix."""
        return self._like(self.array.T)

    def t(self) -> Tensor:
        """Return the transposed matrix."""
        return self.T

    def size(self, dim: int) -> int:
        """Return the size of an axis."""
        length: int = self.array.shape[dim]
        return length

    def stride(self, dim: int) -> int:
        """Return how many values lie between neighbors along an axis; 0: one value is repeated."""
        return self.array.strides[dim] // self.array.itemsize

    def numel(self) -> int:
        """Return the number of values."""
        return self.array.size

    def element_size(self) -> int:
        """Return the bytes of a value."""
        return self.array.itemsize

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        return (self._like(row) for row in self.array)

    def __getitem__(self, index: Any) -> Tensor:
        return self._like(self.array[unwrap(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[unwrap(index)] = unwrap(value)

    def reshape(self, *shape: Any) -> Tensor:
        """Return the values in another shape."""
        return self._like(self.array.reshape(sizes_of(shape)))

    view = reshape

    def flatten(self, start: int = 0, end: int = -1) -> Tensor:
        """Return the axes from `start` to `end`, inclusive, as one."""
        if not self.ndim:
            return self.reshape(1)
        start, end = start % self.ndim, end % self.ndim
        length = int(np.prod(self.shape[start : end + 1], dtype=np.int64))  # -1 would fail for empty tensors
        return self.reshape(*self.shape[:start], length, *self.shape[end + 1 :])

    def expand(self, *shape: Any) -> Tensor:
        """Repeat axes of length 1, without copies; -1 keeps a length."""
        wanted = sizes_of(shape)
        own = (1,) * (len(wanted) - self.ndim) + self.shape
        target = tuple(have if want == -1 else want for want, have in zip(wanted, own, strict=True))
        return self._like(np.broadcast_to(self.array, target))

    def permute(self, *dims: Any) -> Tensor:
        """Return the axes in another order."""
        return self._like(self.array.transpose(sizes_of(dims)))

    def transpose(self, first: int, second: int) -> Tensor:
        """Swap two axes."""
        return self._like(self.array.swapaxes(first, second))

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """Return the slices along an axis."""
        return tuple(self._like(part) for part in np.moveaxis(self.array, dim, 0))

    def diagonal(self) -> Tensor:
        """Return the diagonal of a matrix."""
        return self._like(self.array.diagonal())

    def clone(self) -> Tensor:
        """Return a copy."""
        return self._like(self.array.copy())

    def contiguous(self) -> Tensor:
        """Return the values in one piece of memory."""
        return self._like(np.ascontiguousarray(self.array))

    def detach(self) -> Tensor:
        """Return itself: there are no gradients, and no other device."""
        return self

    cpu = detach

    # Types.

    def to(self, *targets: Any, dtype: DType | None = None, copy: bool = False) -> Tensor:
        """Convert to a type, or to the type of another tensor; devices are ignored."""
        for target in targets:
            if isinstance(target, Tensor):
                dtype = target.dtype
            elif isinstance(target, DType):
                dtype = target
        if dtype is None or dtype == self.dtype:
            return self.clone() if copy else self
        if self.dtype == bfloat16:
            wide = (self.array.astype(np.uint32) << 16).view(np.float32)
            return Tensor(wide, float32).to(dtype)
        if dtype == bfloat16:
            return Tensor(to_bfloat16_bits(self.array.astype(np.float32, copy=False)), bfloat16)
        return Tensor(self.array.astype(dtype.storage), dtype)

    float, half, long = partialmethod(to, float32), partialmethod(to, float16), partialmethod(to, int64)

    def numpy(self) -> Array:
        """Return the array; it shares memory.

        Raises:
            TypeError: if values are bfloat16, which NumPy lacks.
        """
        if self.dtype == bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16: NumPy has no bfloat16, call float() first")
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array: Array = np.array(unwrap(self), dtype, copy=True) if copy else np.asarray(unwrap(self), dtype)
        return array

    def tolist(self) -> Any:
        """Return nested lists of Python numbers."""
        return unwrap(self).tolist()

    def item(self) -> Any:
        """Return the only value as a Python number."""
        return unwrap(self).item()

    def is_floating_point(self) -> bool:
        """Return whether values are floating-point numbers."""
        return self.dtype.is_floating_point

    def __float__(self) -> Any:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return int(operator.index(self.item()))

    def __bool__(self) -> bool:
        return bool(self.item())

    # New tensors of the same type.

    def new_zeros(self, *shape: Any) -> Tensor:
        """Return zeros."""
        return self._like(np.zeros(sizes_of(shape), self.array.dtype))

    def new_ones(self, *shape: Any) -> Tensor:
        """Return ones."""
        return self.new_full(sizes_of(shape), 1)

    def new_full(self, shape: Sequence[int], value: Any) -> Tensor:
        """Return a tensor filled with a number."""
        return Tensor(np.full(shape, value, np.float32 if self.dtype == bfloat16 else self.array.dtype)).to(self.dtype)

    # Arithmetic.

    __add__ = __radd__ = _operator(operator.add)
    __sub__, __rsub__ = _operator(operator.sub), _operator(operator.sub, swapped=True)
    __mul__ = __rmul__ = _operator(operator.mul)
    __truediv__, __rtruediv__ = _operator(operator.truediv), _operator(operator.truediv, swapped=True)
    __floordiv__, __mod__, __pow__ = _operator(operator.floordiv), _operator(operator.mod), _operator(operator.pow)
    __and__, __or__ = _operator(operator.and_), _operator(operator.or_)
    __lt__, __le__, __gt__, __ge__ = (_operator(one) for one in (operator.lt, operator.le, operator.gt, operator.ge))
    __eq__, __ne__ = _operator(operator.eq), _operator(operator.ne)  # type: ignore[assignment]
    __neg__, abs, exp = (_elementwise(one) for one in (np.negative, np.abs, np.exp))
    round = _elementwise(np.round)

    def __matmul__(self, other: Tensor) -> Tensor:
        return Tensor(unwrap(self) @ unwrap(other))

    def __invert__(self) -> Tensor:
        return Tensor(~self.array)

    def add_(self, other: Any) -> Tensor:
        """Add in place."""
        self.array += promote(self, other)[1]
        return self

    def zero_(self) -> Tensor:
        """Set all values to zero."""
        self.array[...] = 0
        return self

    def sigmoid(self) -> Tensor:
        """Return 1 / (1 + exp(-x))."""
        values = unwrap(self)
        with np.errstate(over="ignore"):  # exp of a large number is infinite, its inverse 0
            return Tensor(1 / (1 + np.exp(-values)))

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """Limit values to `min` and `max`."""
        values = unwrap(self)
        values = values if min is None else np.maximum(*promote(values, min))
        return Tensor(values if max is None else np.minimum(*promote(values, max)))

    clamp_min = clamp

    def softmax(self, dim: int) -> Tensor:
        """Return the softmax along an axis."""
        values = unwrap(self)
        powers = np.exp(values - values.max(axis=dim, keepdims=True))
        return Tensor(powers / powers.sum(axis=dim, keepdims=True))

    def masked_fill(self, mask: Tensor, value: Any) -> Tensor:
        """Return a copy with `value` where `mask` is true."""
        values = unwrap(self)
        return Tensor(np.where(mask.array, np.asarray(value, values.dtype), values))

    # Reductions.

    def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """Return sums along axes."""
        values = unwrap(self)
        dtype = None if values.dtype.kind == "f" else np.int64
        return Tensor(np.asarray(values.sum(axis=axes(dim), dtype=dtype, keepdims=keepdim)))

    mean, any, all, amax = (_reduction(one) for one in (np.mean, np.any, np.all, np.max))

    max = amax

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Return the index of the largest value along an axis."""
        return Tensor(np.asarray(unwrap(self).argmax(axis=dim, keepdims=keepdim), np.int64))

    def nonzero(self) -> Tensor:
        """Return the indices of true values, one a row."""
        return Tensor(np.argwhere(self.array))

    def gather(self, dim: int, index: Tensor) -> Tensor:
        """Take values along an axis by index."""
        return self._like(np.take_along_axis(self.array, index.array, dim))

    def topk(self, k: int, dim: int = -1, sorted: bool = True) -> TopK:
        """Return the `k` largest values along an axis, the largest first."""
        values = unwrap(self)
        largest = np.argpartition(-values, k - 1, axis=dim) if k < values.shape[dim] else np.argsort(-values, axis=dim)
        index = np.take(largest, range(k), axis=dim)
        if sorted:
            order = np.argsort(-np.take_along_axis(values, index, dim), axis=dim, kind="stable")
            index = np.take_along_axis(index, order, dim)
        return TopK(Tensor(np.take_along_axis(values, index, dim)), Tensor(index.astype(np.int64, copy=False)))
