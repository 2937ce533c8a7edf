"""What scenes are made of: photographs with the masks of what is in them, and things that are cut out.

Shapes: H and W of a photograph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.synthetic.cutouts import Piece, cut_out, is_whole, jitter_colour

if TYPE_CHECKING:
    from masklet.datasets import Dataset

__all__ = ["Collected", "Material", "Photograph"]

Mask = npt.NDArray[np.bool_]
Random = np.random.Generator
Mixture = tuple[tuple["Dataset", float], ...]

TRIES = 4
"""Objects of a still that are looked at for one that can be cut out."""
PATIENCE = 1000
"""Stills in a row that may hold nothing of use."""


@dataclass(frozen=True)
class Photograph:
    """A picture and what is in it."""

    rgb: npt.NDArray[np.uint8]
    """(H, W, 3)."""
    masks: Mapping[int, Mask]
    """By number, (H, W) each; may be decoded only when looked at, and be empty."""


class Material(Protocol):
    """Where scenes get their photographs and things from; what is drawn depends on `random` alone."""

    def photograph(self, random: Random) -> Photograph:
        """A picture to look into, with at least one mask."""

    def piece(self, random: Random) -> Piece:
        """A whole thing that is cut out."""


@dataclass(frozen=True)
class Collected:
    """Photographs and cut-outs of annotated pictures: data sets with their weights.

    Frames of films count as pictures. Without `cutouts` things are cut out of the photographs' data sets.

    Example:
        >>> material = Collected(((open_dataset("stills/coco"), 3.0), (open_dataset("stills/ade"), 1.0)))
        >>> Synthesiser(material, size=288, frames=8, objects=3).clip(seed=0, number=17)

    Raises:
        SourceError: from its methods, a picture that cannot be read, or data sets in which there is nothing to use.
    """

    stills: Mixture
    cutouts: Mixture = ()

    def photograph(self, random: Random) -> Photograph:
        """A picture with at least one mask, by the data sets' weights."""
        return _drawn(random, self.stills)

    def piece(self, random: Random) -> Piece:
        """A whole, compact thing, the larger ones of a picture first."""
        for _ in range(PATIENCE):
            still = _drawn(random, self.cutouts or self.stills)
            numbers = sorted(still.masks)
            masks = [still.masks[numbers[i]] for i in random.permutation(len(numbers))[:TRIES]]
            for mask in sorted(masks, key=lambda m: -int(m.sum())):
                if is_whole(mask):
                    return cut_out(jitter_colour(random, still.rgb), mask)
        raise _nothing(self.cutouts or self.stills, "thing that is whole and large enough to be cut out")


def _drawn(random: Random, mixture: Mixture) -> Photograph:
    weights = np.array([weight for _, weight in mixture])
    for _ in range(PATIENCE):
        dataset = mixture[random.choice(len(mixture), p=weights / weights.sum())][0]
        entry = dataset.entries[random.integers(len(dataset.entries))]
        frame = entry.frames[random.integers(len(entry.frames))] if len(entry.frames) > 1 else entry.frames[0]
        [annotated] = entry.read((frame,))
        if annotated.masks:
            return Photograph(annotated.rgb, annotated.masks)
    raise _nothing(mixture, "annotated object")


def _nothing(mixture: Mixture, what: str) -> SourceError:
    roots = ", ".join(str(dataset.root) for dataset, _ in mixture)
    return SourceError(
        f"{roots}: {PATIENCE} pictures drawn one after the other held no {what}; allowed are pictures with masks of "
        "whole objects: check the data, or make clips without them"
    )
