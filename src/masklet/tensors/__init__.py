"""Arrays of the code around the networks: PyTorch's where it is installed, else a small NumPy stand-in.

Predictors, tracking and post-processing use a few dozen array functions. They import them from here, so that an
exported model (`masklet.exported`) runs in an environment without PyTorch:

    from masklet.tensors import Tensor, interpolate, torch

With PyTorch these names are PyTorch's own and nothing changes. `MASKLET_TENSORS=numpy` chooses the stand-in where
PyTorch is installed too; networks then need an exported folder. `numpy_torch` lists what the stand-in has.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from masklet.errors import InputError, MissingExtraError

__all__ = [
    "HAS_TORCH",
    "Tensor",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "interpolate",
    "max_pool2d",
    "normalize",
    "pad",
    "require_torch",
    "torch",
]

CHOICES = ("", "torch", "numpy")


def _has_torch() -> bool:
    """Return whether PyTorch is to be used: it is installed, and the environment does not choose the stand-in."""
    choice = os.environ.get("MASKLET_TENSORS", "")
    if choice not in CHOICES:
        raise InputError(
            f"MASKLET_TENSORS={choice!r:.40} must be 'torch' or 'numpy'; unset it to use PyTorch where it is installed"
        )
    if choice == "numpy":
        return False
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return False
    return True


HAS_TORCH = _has_torch()
"""Whether tensors are PyTorch's."""

if TYPE_CHECKING or HAS_TORCH:
    import torch
    from torch import Tensor
    from torch.nn.functional import adaptive_max_pool2d, avg_pool2d, interpolate, max_pool2d, normalize, pad
else:
    from masklet.tensors import numpy_torch as torch
    from masklet.tensors.numpy_functional import (
        adaptive_max_pool2d,
        avg_pool2d,
        interpolate,
        max_pool2d,
        normalize,
        pad,
    )
    from masklet.tensors.numpy_tensor import Tensor


def require_torch(purpose: str) -> None:
    """Check that PyTorch is there for `purpose`, such as "training".

    Raises:
        MissingExtraError: if it is not installed, or the stand-in was chosen.
    """
    if HAS_TORCH:
        return
    if os.environ.get("MASKLET_TENSORS") == "numpy":
        raise MissingExtraError(
            f"{purpose} needs PyTorch, and MASKLET_TENSORS=numpy rules it out: unset it, or open an exported folder"
        )
    raise MissingExtraError(
        f"{purpose} needs PyTorch, which is not installed: pip install torch, or export the model where PyTorch is "
        "(masklet export MODEL --out DIR) and open the folder here: SAM('DIR')"
    )
