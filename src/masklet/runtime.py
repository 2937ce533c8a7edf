"""What masklet needs of the machine and of PyTorch in this process.

A device by its name, the name of the processor, and settings of PyTorch that a caller may have changed.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

from masklet.errors import InputError
from masklet.tensors import HAS_TORCH, torch

__all__ = ["DeviceLike", "processor_name", "resolve_device", "standard_torch"]

DeviceLike = str | int | torch.device | Sequence[int]
"""What names a device: "cpu", "cuda", "cuda:1", "mps", the number of a GPU (1 or "1"), [1], a `torch.device`."""

MAX_REASON_LENGTH = 60
"""Characters of PyTorch's own message that are kept in ours."""


def resolve_device(name: DeviceLike | None) -> str:
    """Return the named device, or the best of this machine for None, "" and "auto".

    A number, or a list of one number, is a GPU: 1, "1" and [1] are cuda:1.

    Example:
        >>> resolve_device("cpu")
        'cpu'

    Raises:
        InputError: if this machine does not have the device, or if several are named.
    """
    word: object = name
    if isinstance(name, (str, torch.device)):
        word = str(name).strip("[]() ").rstrip(",").lower()
    if word in (None, "", "auto"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    numbers = word.split(",") if isinstance(word, str) else word
    if isinstance(numbers, (list, tuple)) and len(numbers) == 1:
        word = numbers[0]
    elif isinstance(numbers, (list, tuple)):
        raise InputError(
            f"device {name!r:.40} must be one device, because a model runs on one: choose the first, such as 'cuda:0', "
            "or leave it out for the best there is"
        )
    if str(word).strip().isdecimal():
        word = f"cuda:{str(word).strip()}"
    elif word in ("gpu", "gpu:0"):
        word = "cuda"
    try:
        if not isinstance(word, str):
            raise RuntimeError(f"a {type(name).__name__} names no device")
        device = torch.device(word)
        if device.type == "meta":
            raise RuntimeError("meta tensors have no values")
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("PyTorch finds no CUDA GPU")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise RuntimeError(f"there are {torch.cuda.device_count()} GPUs, numbered from 0")
        if device.type == "mps" and not torch.backends.mps.is_available():
            raise RuntimeError("PyTorch finds no Apple GPU")
        torch.empty(1, device=device, dtype=torch.float32)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = reason.removeprefix("Expected one of ").split(". ")[0][:MAX_REASON_LENGTH]
        if isinstance(word, str) and "device string" in str(error):
            reason = "no such device"
        raise InputError(
            f"device {name!r:.40} cannot be used here ({reason}): leave it out for the best there is, or name cpu"
        ) from None
    return str(device)


def processor_name() -> str:
    """Return the name of the processor.

    Example:
        >>> processor_name()
        'AMD EPYC'
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


_dtype_lock = Lock()
_dtype_users = 0
_callers_dtype = torch.float32


@contextmanager
def standard_torch() -> Iterator[None]:
    """Run a block, or a decorated function, with the settings that PyTorch starts with, then restore the caller's.

    These are the default dtype and device, recorded gradients, no inference mode and no autocast. Networks choose their
    own precision, so what a program has set for its own work must not change a mask. The dtype is the one setting that
    all threads share; it is restored when the last block that changed it has ended.

    Example:
        >>> with standard_torch():
        ...     torch.zeros(1).dtype
        torch.float32
    """
    global _dtype_users, _callers_dtype
    if not HAS_TORCH:
        yield
        return
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        with _dtype_lock:
            changes_dtype = _dtype_users > 0 or torch.get_default_dtype() != torch.float32
            if changes_dtype:
                if not _dtype_users:
                    _callers_dtype = torch.get_default_dtype()
                    torch.set_default_dtype(torch.float32)
                _dtype_users += 1
        try:
            yield
        finally:
            if changes_dtype:
                with _dtype_lock:
                    _dtype_users -= 1
                    if not _dtype_users:
                        torch.set_default_dtype(_callers_dtype)
