"""Recognize an object that was lost by its appearance, so that it gets its own id back, and no other object does.

An appearance is the histogram of the object's colors and, for networks that match labels, the mean of its keys. Of
what a network knows of an object these tell objects apart best: on the clips of `masklet eval synthetic` the object
pointer does it hardly better than chance, as it says where an object is rather than what it looks like.
Shapes: H and W of a frame, h and w at stride 8, C channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from masklet.tensors import Tensor
from masklet.video.color_histogram import color_histogram

__all__ = ["Appearance", "AppearanceGallery"]

Floats = npt.NDArray[np.float32]
MIN_PIXELS = 64
"""Objects of fewer pixels have no appearance."""
APPEARANCES_PER_OBJECT = 4
"""The first one stays, as the object was detected there; the others are the latest."""
MAX_OBJECTS = 256
"""Objects that are remembered; the one that was seen longest ago is forgotten first."""


@dataclass(frozen=True, eq=False)
class Appearance:
    """How an object looks on one frame."""

    colors: Floats
    """Square roots of the shares of its pixels, by color; of length 1."""
    features: Floats | None = None
    """The mean key of its cells, of length 1; None: the network has no keys."""

    @classmethod
    def of_object(
        cls, rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], keys_hwC: Tensor | None = None
    ) -> Appearance | None:
        """Describe the object under a mask (H, W); None: it is too small."""
        if np.count_nonzero(mask) < MIN_PIXELS:
            return None
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        colors = color_histogram(rgb[window], mask[window])
        if keys_hwC is None:
            return cls(colors)
        keys: Floats = keys_hwC.float().cpu().numpy()
        height, width = keys.shape[:2]
        weights = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        mean: Floats = np.tensordot(weights, keys, 2).astype(np.float32)
        return cls(colors, mean / np.float32(max(float(np.linalg.norm(mean)), 1e-6)))

    @classmethod
    def of_logits(
        cls, rgb: npt.NDArray[np.uint8], logits_11HW: Tensor, keys_hwC: Tensor | None = None
    ) -> Appearance | None:
        """Describe the object under a mask of logits, of any size; None: it is too small."""
        mask = (logits_11HW[0, 0] > 0).cpu().numpy()
        small = cv2.resize(rgb, mask.shape[::-1], interpolation=cv2.INTER_AREA)
        return cls.of_object(small.astype(np.uint8, copy=False), mask, keys_hwC)

    def similarity(self, other: Appearance) -> float:
        """Return how similar two appearances are, 0 to 1: the mean of colors and features."""
        colors = float(self.colors @ other.colors)
        if self.features is None or other.features is None:
            return colors
        return (colors + max(float(self.features @ other.features), 0.0)) / 2

    def best_similarity(self, others: Iterable[Appearance]) -> float:
        """Return the similarity to the most similar of some appearances, at least one."""
        return max(self.similarity(each) for each in others)


@dataclass
class AppearanceGallery:
    """The appearances of all objects, by id.

    Example:
        >>> rgb, mask = np.full((48, 64, 3), (200, 30, 30), np.uint8), np.ones((48, 64), bool)
        >>> gallery = AppearanceGallery(min_similarity=0.9)
        >>> gallery.add(7, Appearance.of_object(rgb, mask))
        >>> gallery.recognize(Appearance.of_object(rgb, mask), {7})
        7
    """

    min_similarity: float
    """Two appearances of at least this similarity may be one object."""
    _appearances: OrderedDict[int, list[Appearance]] = field(default_factory=OrderedDict)

    def add(self, object_id: int, appearance: Appearance | None) -> None:
        """Remember how an object looks now; nothing if it is too small."""
        if appearance is None:
            return
        known = self._appearances.setdefault(object_id, [])
        known.append(appearance)
        del known[1 : 1 + len(known) - APPEARANCES_PER_OBJECT]
        self._appearances.move_to_end(object_id)
        while len(self._appearances) > MAX_OBJECTS:
            self._appearances.popitem(last=False)

    def resembles(self, object_id: int, appearance: Appearance | None) -> bool:
        """Whether an object still looks like itself; one that has become too small does not, a new one does."""
        known = self._appearances.get(object_id)
        if known is None or appearance is None:
            return known is None
        return appearance.best_similarity(known) >= self.min_similarity

    def recognize(self, appearance: Appearance | None, object_ids: Collection[int]) -> int | None:
        """Return which of some objects looks most like this; None: no one looks like it."""
        if appearance is None:
            return None
        similarities = {
            number: appearance.best_similarity(self._appearances[number])
            for number in object_ids
            if number in self._appearances
        }
        best = max(similarities, key=lambda number: similarities[number], default=None)
        return None if best is None or similarities[best] < self.min_similarity else best
