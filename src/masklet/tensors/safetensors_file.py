"""Read and write `.safetensors` files without PyTorch and without the package: a header in JSON, then the bytes.

Saved sessions are such files. Where PyTorch is installed, the package reads and writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from masklet.tensors.numpy_tensor import BY_STORAGE, DType, Tensor, bfloat16, boolean, int32, uint8
from masklet.tensors.numpy_tensor import float16 as half
from masklet.tensors.numpy_tensor import float32 as single
from masklet.tensors.numpy_tensor import float64 as double
from masklet.tensors.numpy_tensor import int64 as long

__all__ = ["read_header", "read_safetensors", "write_safetensors"]

CODES: dict[str, DType] = {
    "F64": double,
    "F32": single,
    "F16": half,
    "BF16": bfloat16,
    "I64": long,
    "I32": int32,
    "U8": uint8,
    "BOOL": boolean,
}
LENGTH_BYTES = 8
"""The file begins with the length of the header as a little-endian integer."""
MAX_HEADER = 100_000_000
METADATA = "__metadata__"


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header and the position of the first byte behind it.

    Raises:
        ValueError: if the file is no safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if not 2 <= length <= min(MAX_HEADER, path.stat().st_size - LENGTH_BYTES):
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    return header, LENGTH_BYTES + length


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        ValueError: if the file is damaged, or holds types that the stand-in lacks.
    """
    header, start = read_header(path)
    content = path.read_bytes()[start:]
    tensors, end = {}, 0
    entries = {name: entry for name, entry in header.items() if name != METADATA}
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        dtype, shape = CODES.get(entry["dtype"]), tuple(entry["shape"])
        if dtype is None:
            raise ValueError(f"the tensor {name} is of type {entry['dtype']!r:.20}")
        if first != end or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise ValueError(f"the tensor {name} is out of place")
        count, end = int(np.prod(shape, dtype=np.int64)), last
        if last - first != count * np.dtype(dtype.storage).itemsize or last > len(content):
            raise ValueError(f"the tensor {name} has {last - first} bytes for {shape}")
        array = np.frombuffer(content, dtype.storage, count, first).reshape(shape).copy()
        tensors[name] = Tensor(array, dtype)
    if end != len(content):
        raise ValueError("bytes behind the last tensor")
    return tensors


def write_safetensors(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors and text to a file."""
    names = {dtype: code for code, dtype in CODES.items()}
    header: dict[str, Any] = {METADATA: dict(metadata)}
    parts, end = [], 0
    for name, tensor in tensors.items():
        content = np.ascontiguousarray(tensor.array).tobytes()
        dtype = tensor.dtype if tensor.dtype == bfloat16 else BY_STORAGE[tensor.array.dtype]
        header[name] = {"dtype": names[dtype], "shape": list(tensor.shape), "data_offsets": [end, end + len(content)]}
        parts.append(content)
        end += len(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        for content in parts:
            file.write(content)
