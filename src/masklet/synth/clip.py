"""A short film with the truth.

Shapes: T frames, N objects, H and W of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SPECK", "Clip"]

SPECK = 2e-4
"""Share of a frame below which an object counts as hidden: nobody could say what it is."""


@dataclass(frozen=True)
class Clip:
    """Frames, and where each object is to be seen in them."""

    frames_THW3: npt.NDArray[np.uint8]
    masks_TNHW: npt.NDArray[np.bool_]
    """The visible part; empty while the object is hidden or out of the picture, never in the first frame."""
