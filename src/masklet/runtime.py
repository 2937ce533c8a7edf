"""Where a network runs."""

from __future__ import annotations

import torch

from masklet.errors import InputError

__all__ = ["resolve_device"]


def resolve_device(name: str | None) -> str:
    """The device that was named; without a name the best there is.

    Example:
        >>> device_of("cpu")
        'cpu'

    Raises:
        InputError: a device that this machine does not have.
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
