"""The device that networks run on."""

from __future__ import annotations

import torch

from masklet.errors import InputError

__all__ = ["resolve_device"]


def resolve_device(name: str | None) -> str:
    """Return the named device, or without a name the best of this machine.

    Example:
        >>> resolve_device("cpu")
        'cpu'

    Raises:
        InputError: if this machine does not have the device.
    """
    if not name:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device {name!r} cannot be used here ({reason}); leave it out for the best there is, or name cpu"
        ) from error
    return str(device)
