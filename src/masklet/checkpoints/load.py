"""Open a checkpoint without running anything in it.

A pickle may contain programs, so `.pt` files go through PyTorch's weights-only unpickler, which builds tensors,
containers and numbers and nothing else. A `.safetensors` file cannot contain a program. Every failure ends in a
CheckpointError that says what the file is instead.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, cast

from masklet.checkpoints.file_type import DOWNLOAD_AGAIN, detect_file_type, unreadable_error
from masklet.damaged_files import decoder_errors
from masklet.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_finite", "check_storage_sizes", "read_metadata", "read_tensors"]

_WRAPPERS = ("model", "state_dict")
_RESAVE_HINT = (
    "Where you trust it, keep only its tensors: "
    "torch.save({'model': network.state_dict()}, 'weights.pt'), and give that file."
)
_FRESH_COPY_HINT = "Take a fresh copy from its publisher."
_MAX_STORAGE_SHARING = 4
"""Tensors may share storage (tied weights), up to this many times the size of the file."""


def read_tensors(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read the named tensors of a `.pt`, `.pth` or `.safetensors` file, on the CPU, mapped from disk if possible.

    Accepts `{"model": {...}}`, `{"state_dict": {...}}` and a bare state dict. The format is detected from the content,
    not from the suffix. Names and shapes are those of the file.

    Example:
        >>> tensors = read_tensors("sam2.1_hiera_tiny.pt")
        >>> tensors["no_mem_embed"].shape
        torch.Size([1, 1, 256])

    Raises:
        CheckpointError: if this is not such a file: missing, a folder, empty, cut short, an image or a web page, a
            pickle that needs more than tensors, a tensor that claims more values than the file has, NaN or infinity.
    """
    from masklet.tensors import HAS_TORCH, require_torch

    file = Path(path).expanduser()
    file_type = detect_file_type(file)
    if file_type.kind == "foreign":
        raise unreadable_error(file, file_type.description, file_type.remedy)
    if file_type.kind == "safetensors":
        try:
            tensors: dict[str, Tensor] = _open_safetensors(file)
        except decoder_errors() as error:
            raise unreadable_error(file, f"a damaged safetensors file ({error})", DOWNLOAD_AGAIN) from error
        if not tensors:
            raise unreadable_error(file, "a safetensors file without a single tensor")
    else:
        require_torch(f"opening {file.name}")
        tensors = _read_torch_file(file, mmap=file_type.kind == "torch-zip")
    if HAS_TORCH:
        check_storage_sizes(tensors, file)
    check_finite(tensors, path=file)
    return tensors


def read_metadata(path: str | PathLike[str]) -> dict[str, str]:
    """Read the metadata in the header of a `.safetensors` file, or what masklet wrote beside the tensors in a `.pt`.

    Empty for every other checkpoint. Keys of earlier versions are renamed, in the JSON of `config` too.

    Example:
        >>> read_metadata("masklet-builtin.safetensors")["format"]
        'pt'

    Raises:
        CheckpointError: as `read_tensors`, as far as the header shows it.
    """
    from masklet.atomic_files import current_keys  # imports NumPy

    file = Path(path).expanduser()
    file_type = detect_file_type(file)
    if file_type.kind == "foreign":
        raise unreadable_error(file, file_type.description, file_type.remedy)
    if file_type.kind == "torch-zip":
        import torch

        try:
            content: object = torch.load(str(file), map_location="cpu", weights_only=True, mmap=True)
        except decoder_errors():  # `read_tensors` says what is wrong with it
            return {}
        written = content.get("masklet") if isinstance(content, Mapping) else None
        if not isinstance(written, Mapping):
            return {}
        return {name: text for name, text in written.items() if isinstance(name, str) and isinstance(text, str)}
    if file_type.kind != "safetensors":
        return {}
    try:
        metadata: dict[str, str] = current_keys(_read_header_text(file), "weights_header")
    except decoder_errors() as error:
        raise unreadable_error(file, f"a damaged safetensors file ({error})", DOWNLOAD_AGAIN) from error
    if "config" in metadata:
        with contextlib.suppress(ValueError, RecursionError):  # a foreign file's config need not be JSON
            metadata["config"] = json.dumps(current_keys(json.loads(metadata["config"]), "weights_header"))
    return metadata


def check_finite(tensors: Mapping[str, Tensor], *, path: str | PathLike[str]) -> None:
    """Raise CheckpointError that names the first tensor of `path` with NaN or infinity."""
    from masklet.tensors import torch

    for name, tensor in tensors.items():
        if not tensor.numel() or not tensor.is_floating_point():
            continue
        wide = tensor.float() if tensor.element_size() == 1 else tensor
        low, high = torch.aminmax(wide)
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            raise CheckpointError(
                f"{path} holds NaN or infinity in the tensor {name}; every value must be finite. "
                "Either its training diverged or the file is damaged: take an earlier or a fresh copy."
            )


def _read_header_text(file: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, without its package where that is missing."""
    try:
        from safetensors import safe_open
    except ModuleNotFoundError:
        from masklet.tensors.safetensors_file import METADATA, read_header

        return dict(read_header(file)[0].get(METADATA) or {})
    with safe_open(file, framework="numpy") as opened:
        return dict(opened.metadata() or {})


def _open_safetensors(file: Path) -> dict[str, Tensor]:
    from masklet.tensors import HAS_TORCH

    if not HAS_TORCH:
        from masklet.tensors.safetensors_file import read_safetensors

        return cast("dict[str, Tensor]", read_safetensors(file))
    from safetensors import safe_open

    with safe_open(file, framework="pt", device="cpu") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def _read_torch_file(file: Path, *, mmap: bool) -> dict[str, Tensor]:
    """Unpickle a file by PyTorch's weights-only unpickler, and find the state dict in it."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old formats are deprecated, not wrong
            content: object = torch.load(str(file), map_location="cpu", weights_only=True, mmap=mmap)
    except decoder_errors() as error:
        raise _unpickling_error(file, error) from error
    state = content
    if isinstance(content, Mapping):
        state = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(state, Mapping):
        raise unreadable_error(file, f"one {type(state).__name__}, not names with tensors", _RESAVE_HINT)
    if not state:
        raise unreadable_error(file, "a checkpoint without a single tensor")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            names = ", ".join(str(key)[:40] for key in list(state)[:5])
            kind = type(value).__name__
            description = f"a file whose entry {str(name)[:40]!r} is of type {kind}, not a tensor (it has {names})"
            if {"optimizer", "epoch", "optimizer_states", "scheduler"} & set(map(str, state)):
                description = f"a training checkpoint without tensors under 'model' or 'state_dict' (it has {names})"
            elif not isinstance(name, str):
                description = f"a file whose tensors have names other than text, such as {name!r}"
            raise unreadable_error(file, description, _RESAVE_HINT)
    return {name: value.detach() for name, value in state.items()}


def _unpickling_error(file: Path, error: BaseException) -> CheckpointError:
    global_name = re.search(r"GLOBAL ([\w.]+)", str(error))
    if global_name:
        name, origin = global_name[1], ""
        if name.startswith("ultralytics."):
            origin = "It looks like a network that Ultralytics saved with its classes: masklet.YOLO opens YOLOv8. "
        elif name.startswith(("torch.nn.", "torchvision.", "timm.")):
            origin = "It looks like a network that was saved whole instead of its state dict. "
        elif name.startswith(("numpy.", "omegaconf.", "argparse.", "pytorch_lightning.", "lightning.")):
            origin = "It looks like a training checkpoint. "
        description = f"a pickle that needs {name}, which is more than tensors; nothing in it was run"
        return unreadable_error(file, description, f"{origin}{_RESAVE_HINT}")
    message = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    reason = re.split(r"\. | \(Could|\n", message)[0][:120] or type(error).__name__
    return unreadable_error(
        file, f"a PyTorch file that is damaged or holds more than tensors ({reason})", DOWNLOAD_AGAIN
    )


def check_storage_sizes(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise CheckpointError if tensors claim more bytes than the file has: by stride 0, or under many names."""
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
