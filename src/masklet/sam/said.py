"""What a caller said about device, size, options and ids, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from masklet.errors import InputError, PromptError
from masklet.video import TrackOptions

__all__ = ["check_side", "numbers_of", "options_of"]


def options_of(options: TrackOptions | None, how: dict[str, Any]) -> TrackOptions:
    """Options given as a value, by name, or both."""
    try:
        return replace(options or TrackOptions(), **how)
    except TypeError:
        known = [field.name for field in fields(TrackOptions)]
        unknown = ", ".join(name for name in how if name not in known)
        raise InputError(f"no option {unknown}; options of tracking are {', '.join(known)}") from None


def numbers_of(ids: Sequence[int] | None, count: int) -> Sequence[int]:
    """The ids of `count` objects."""
    if ids is None:
        return range(1, count + 1)
    if len(set(ids)) != count or len(ids) != count:
        raise PromptError(f"ids {list(ids)!r} must be {count} different number(s), one for each object")
    return ids


def check_side(side: object) -> None:
    """Raise unless `side` is None or a side that the networks take."""
    if side is None:
        return
    if isinstance(side, bool) or not isinstance(side, int) or side % 32 or not 64 <= side <= 4096:
        raise InputError(f"image_size={side!r} must be a multiple of 32 from 64 to 4096, such as 512; or leave it out")
