"""Variants of EfficientTAM: they share all names and shapes of tensors, so that a file does not say which one it is."""

from __future__ import annotations

import re

from masklet.errors import InputError
from masklet.models.sam2.config import CONFIGS

__all__ = ["VARIANTS", "has_variants", "variant_in_name", "variant_name"]

VARIANTS = ("base", "1", "2", "512x512")
"""As the published files end: pooled memories with one constant or the other, and inputs of 512 x 512."""

_FAMILY = re.compile(r"efficienttam_(?:s|ti)")
_FILE = re.compile(rf"{_FAMILY.pattern}(?:_(1|2|512x512))?(?![a-z0-9])")


def has_variants(name: str) -> bool:
    """Return whether the network of this canonical name has variants.

    Example:
        >>> has_variants("efficienttam_ti"), has_variants("edgetam")
        (True, False)
    """
    return _FAMILY.match(name) is not None


def variant_in_name(name: str) -> str | None:
    """Return the variant that the name of a file or of a network says, or None.

    Example:
        >>> variant_in_name("efficienttam_ti_512x512.pt"), variant_in_name("efficienttam_s.pt")
        ('512x512', 'base')
        >>> variant_in_name("weights.pt") is None
        True
    """
    found = _FILE.search(name.lower().replace("-", "_"))
    return None if found is None else found[1] or "base"


def variant_name(name: str, variant: str) -> str:
    """Return the canonical name of a variant of the network called `name`.

    Example:
        >>> variant_name("efficienttam_ti", "2")
        'efficienttam_ti_2'

    Raises:
        InputError: if there is no such variant.
    """
    family = _FAMILY.match(name)
    if family is None:
        raise InputError(f"variant={variant!r} is for EfficientTAM, and {name} has no variants; leave it out")
    if variant not in VARIANTS:
        raise InputError(f"variant={variant!r:.40} is unknown; choose one of {', '.join(VARIANTS)}")
    full = family[0] if variant == "base" else f"{family[0]}_{variant}"
    assert full in CONFIGS, full
    return full
