"""The stand-in for `torch.nn.functional`: resizing and pooling on NumPy arrays.

Resizing is OpenCV's and Pillow's, whose filters are PyTorch's: OpenCV interpolates between neighbors, Pillow averages
all cells that a smaller one covers (`antialias`).
Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.tensors.numpy_tensor import Tensor, unwrap

__all__ = ["adaptive_max_pool2d", "avg_pool2d", "interpolate", "max_pool2d", "normalize", "pad"]

Floats = npt.NDArray[np.float32]
Size = int | tuple[int, int]


def _resize_neighbors(map_HW: Floats, height: int, width: int) -> Floats:
    return np.asarray(cv2.resize(map_HW, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _resize_averaging(map_HW: Floats, height: int, width: int) -> Floats:
    return np.asarray(Image.fromarray(map_HW).resize((width, height), Image.Resampling.BILINEAR))


def _area_weights(cells: int, parts: int) -> Floats:
    """Return the matrix (parts, cells) that averages the cells that each part touches."""
    starts = np.arange(parts) * cells // parts
    ends = -(-(np.arange(1, parts + 1) * cells) // parts)
    index = np.arange(cells)
    inside = (index >= starts[:, None]) & (index < ends[:, None])
    weights: Floats = (inside / (ends - starts)[:, None]).astype(np.float32)
    return weights


def _resize_area(map_HW: Floats, height: int, width: int) -> Floats:
    rows, columns = _area_weights(len(map_HW), height), _area_weights(map_HW.shape[1], width)
    return np.asarray(rows @ map_HW @ columns.T, np.float32)


def interpolate(
    x: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize maps (B, C, H, W) by "bilinear", with `antialias` too, or "area"; lines (B, C, W) by "linear".

    Raises:
        NotImplementedError: for other modes, and with `align_corners`.
    """
    functions: dict[tuple[str, bool], Callable[[Floats, int, int], Floats]] = {
        ("bilinear", False): _resize_neighbors,
        ("bilinear", True): _resize_averaging,
        ("area", False): _resize_area,
        ("linear", False): _resize_neighbors,
    }
    if (mode, antialias) not in functions or align_corners:
        raise NotImplementedError(f"without PyTorch there is no interpolation {mode!r} with antialias={antialias}")
    maps = np.ascontiguousarray(unwrap(x.float()))
    inner = maps.shape[2:]
    if size is None:
        assert scale_factor is not None
        target = tuple(int(side * scale_factor) for side in inner)
    else:
        target = (size,) * len(inner) if isinstance(size, int) else tuple(int(side) for side in size)
    out = np.empty((*maps.shape[:2], *target), np.float32)
    rows, results = maps.reshape(-1, *inner), out.reshape(-1, *target)
    for row, result in zip(rows, results, strict=True):
        if len(inner) == 1:
            result[:] = functions[mode, antialias](row[None], 1, *target)[0]
        elif inner == target:  # every mode is the identity
            result[:] = row
        else:
            result[:] = functions[mode, antialias](row, *target)
    return Tensor(out)


def _pair(value: Size) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _windows(maps: Floats, axis: int, size: int, stride: int) -> Floats:
    """Return the windows along an axis, whose cells are the last axis."""
    windows = np.lib.stride_tricks.sliding_window_view(maps, size, axis)
    steps = [slice(None)] * windows.ndim
    steps[axis] = slice(None, None, stride)
    return np.asarray(windows[tuple(steps)])


def max_pool2d(x: Tensor, kernel_size: Size, stride: Size | None = None, padding: int = 0) -> Tensor:
    """Return the largest value of each window."""
    maps = unwrap(x)
    maps = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + [(padding, padding)] * 2, constant_values=-np.inf)
    strides = _pair(kernel_size if stride is None else stride)
    for axis, size, step in zip((-2, -1), _pair(kernel_size), strides, strict=True):
        maps = _windows(maps, maps.ndim + axis, size, step).max(axis=-1)
    return Tensor(maps)


def avg_pool2d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of each window; with `ceil_mode` the last windows may be cut off by the edge.

    Raises:
        NotImplementedError: if padding counts as zeros.
    """
    if padding and count_include_pad:
        raise NotImplementedError("without PyTorch, padding does not count in means")
    maps = unwrap(x)
    counts = np.ones((1,) * (maps.ndim - 2) + maps.shape[-2:], maps.dtype)
    strides = _pair(kernel_size if stride is None else stride)
    for axis, size, step in zip((-2, -1), _pair(kernel_size), strides, strict=True):
        length = maps.shape[axis]
        missing = -(length + 2 * padding - size) % step if ceil_mode else 0
        around = [(0, 0)] * maps.ndim
        around[axis] = (padding, padding + missing)
        maps, counts = (
            _windows(np.pad(each, around), each.ndim + axis, size, step).sum(axis=-1) for each in (maps, counts)
        )
    return Tensor((maps / counts).astype(maps.dtype, copy=False))


def adaptive_max_pool2d(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the largest value of the cells that each cell of a map of `size` touches."""
    maps = unwrap(x)
    for axis, parts in zip((-2, -1), size, strict=True):
        cells = maps.shape[axis]
        spans = [(part * cells // parts, -(-(part + 1) * cells // parts)) for part in range(parts)]
        maps = np.stack([np.take(maps, range(*span), axis).max(axis=axis) for span in spans], axis=axis)
    return Tensor(maps)


def normalize(x: Tensor, dim: int, eps: float = 1e-12) -> Tensor:
    """Divide by the Euclidean length along an axis."""
    values = unwrap(x)
    lengths = np.sqrt((values * values).sum(axis=dim, keepdims=True))
    return Tensor(values / np.maximum(lengths, np.asarray(eps, values.dtype)))


def pad(x: Tensor, around: Sequence[Any]) -> Tensor:
    """Add zeros: left, right, above, below."""
    left, right, top, bottom = around
    values = unwrap(x)
    return Tensor(np.pad(values, [(0, 0)] * (values.ndim - 2) + [(top, bottom), (left, right)]))
