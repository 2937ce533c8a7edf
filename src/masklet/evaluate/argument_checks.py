"""Checks of numbers that several evaluators take."""

from __future__ import annotations

from masklet.errors import InputError

__all__ = ["validate_positive_int"]


def validate_positive_int(name: str, value: object) -> None:
    """Check that an argument is a whole number, 1 or more.

    Raises:
        InputError: if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r} must be a whole number, 1 or more")
