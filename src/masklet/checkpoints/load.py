"""Open a checkpoint without running anything in it.

A pickle may hold programs, so `.pt` files go through PyTorch's weights-only unpickler, which builds
tensors, containers and numbers and nothing else; a `.safetensors` file cannot hold a program at all.
Every way of failing ends in a CheckpointError that says what the file is instead.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from masklet.checkpoints.file_type import DOWNLOAD_AGAIN, detect_file_type, unreadable_error
from masklet.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LOAD_ERRORS", "check_finite", "check_storage_sizes", "read_metadata", "read_tensors"]

LOAD_ERRORS = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""A damaged or hostile pickle can make the unpickler fail in any of these ways."""
_WRAPPERS = ("model", "state_dict")
_RESAVE_HINT = (
    "Where you trust it, keep only its tensors: "
    "torch.save({'model': network.state_dict()}, 'weights.pt'), and give that file."
)
_FRESH_COPY_HINT = "Take a fresh copy from its publisher."
# Tensors may share storage (tied weights); this many times the file is no longer sharing.
_MAX_STORAGE_SHARING = 4


def read_tensors(path: str | PathLike[str]) -> dict[str, Tensor]:
    """The named tensors of a `.pt`, `.pth` or `.safetensors` file, on the CPU, mapped from disk if possible.

    Takes `{"model": {...}}`, `{"state_dict": {...}}` and a bare state dict. The format is read from the
    content, not from the suffix. Names and shapes come back as they stand in the file.

    Example:
        >>> tensors = read_tensors("sam2.1_hiera_tiny.pt")
        >>> tensors["no_mem_embed"].shape
        torch.Size([1, 1, 256])

    Errors: CheckpointError for anything that is not such a file: missing, a folder, empty, cut short,
    an image or a web page, a pickle that asks for more than tensors, a tensor that claims more values
    than the file holds, NaN or infinity.
    """
    file = Path(path).expanduser()
    sniffed = detect_file_type(file)
    if sniffed.kind == "foreign":
        raise unreadable_error(file, sniffed.description, sniffed.remedy)
    if sniffed.kind == "safetensors":
        tensors = _read_safetensors(file)
    else:
        tensors = _unwrap(_unpickle(file, mmap=sniffed.kind == "torch-zip"), file)
    check_storage_sizes(tensors, file)
    check_finite(tensors, path=file)
    return tensors


def read_metadata(path: str | PathLike[str]) -> dict[str, str]:
    """The words a `.safetensors` file carries in its header; empty for every other checkpoint.

    Example:
        >>> read_metadata("masklet-builtin.safetensors")["format"]
        'pt'

    Errors: CheckpointError as for `read_tensors`, as far as the header shows them.
    """
    file = Path(path).expanduser()
    sniffed = detect_file_type(file)
    if sniffed.kind == "foreign":
        raise unreadable_error(file, sniffed.description, sniffed.remedy)
    if sniffed.kind != "safetensors":
        return {}
    try:
        with safe_open(file, framework="numpy") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise unreadable_error(file, f"a damaged safetensors file ({error})", DOWNLOAD_AGAIN) from error


def check_finite(tensors: Mapping[str, Tensor], *, path: str | PathLike[str]) -> None:
    """Raise CheckpointError naming the first tensor of `path` that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.is_floating_point() and not _is_finite(tensor):
            raise CheckpointError(
                f"{path} holds NaN or infinity in the tensor {name}; every value must be finite. "
                "Either its training diverged or the file is damaged: take an earlier or a fresh copy."
            )


def _is_finite(tensor: Tensor) -> bool:
    import torch

    wide = tensor.float() if tensor.element_size() == 1 else tensor
    low, high = torch.aminmax(wide)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, *LOAD_ERRORS) as error:
        raise unreadable_error(file, f"a damaged safetensors file ({error})", DOWNLOAD_AGAIN) from error
    if not tensors:
        raise unreadable_error(file, "a safetensors file without a single tensor")
    return tensors


def _unpickle(file: Path, *, mmap: bool) -> object:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old formats are deprecated, not wrong
            content: object = torch.load(str(file), map_location="cpu", weights_only=True, mmap=mmap)
    except LOAD_ERRORS as error:
        raise _unpickling_error(file, error) from error
    return content


def _unpickling_error(file: Path, error: BaseException) -> CheckpointError:
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked:
        whole = f"a pickle that asks for {asked[1]}, which is more than tensors; nothing in it was run"
        return unreadable_error(file, whole, f"{_guess_origin(asked[1])}{_RESAVE_HINT}")
    said = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    reason = re.split(r"\. | \(Could|\n", said)[0][:120] or type(error).__name__
    return unreadable_error(
        file, f"a PyTorch file that is damaged or holds more than tensors ({reason})", DOWNLOAD_AGAIN
    )


def _guess_origin(global_name: str) -> str:
    if global_name.startswith("ultralytics."):
        return "It looks like a network that Ultralytics saved whole, class and all: masklet.YOLO opens YOLOv8. "
    if global_name.startswith(("torch.nn.", "torchvision.", "timm.")):
        return "It looks like a network saved whole instead of its state dict. "
    if global_name.startswith(("numpy.", "omegaconf.", "argparse.", "pytorch_lightning.", "lightning.")):
        return "It looks like a training checkpoint. "
    return ""


def _unwrap(content: object, file: Path) -> dict[str, Tensor]:
    from torch import Tensor

    state = _unwrap_state_dict(content)
    if not isinstance(state, Mapping):
        raise unreadable_error(file, f"one {type(state).__name__}, not names with tensors", _RESAVE_HINT)
    if not state:
        raise unreadable_error(file, "a checkpoint without a single tensor")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise unreadable_error(file, _describe_entry(state, name, value), _RESAVE_HINT)
    return {name: value.detach() for name, value in state.items()}


def _unwrap_state_dict(content: object) -> object:
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                return content[key]
    return content


def _describe_entry(state: Mapping[object, object], name: object, value: object) -> str:
    names = ", ".join(str(key)[:40] for key in list(state)[:5])
    if {"optimizer", "epoch", "optimizer_states", "scheduler"} & set(map(str, state)):
        return f"a training checkpoint without tensors under 'model' or 'state_dict' (it has {names})"
    if not isinstance(name, str):
        return f"a file whose tensors are named by other things than words, such as {name!r}"
    return f"a file whose entry {name[:40]!r} is of type {type(value).__name__}, not a tensor (it has {names})"


def check_storage_sizes(tensors: Mapping[str, Tensor], file: Path) -> None:
    """A few bytes may claim to be a tensor of any size (stride 0), or be repeated under many names."""
    import torch

    size, total = file.stat().st_size, 0
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            kind = "quantized" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}"
            raise unreadable_error(file, f"a file whose tensor {name} is not a plain one ({kind})", _RESAVE_HINT)
        claimed = tensor.numel() * tensor.element_size()
        total += claimed
        if claimed > min(size, tensor.untyped_storage().nbytes()):
            raise unreadable_error(
                file, f"a file of {size} bytes whose tensor {name} claims {claimed} bytes", _FRESH_COPY_HINT
            )
    if total > _MAX_STORAGE_SHARING * size:
        raise unreadable_error(file, f"a file of {size} bytes whose tensors claim {total} bytes", _FRESH_COPY_HINT)
