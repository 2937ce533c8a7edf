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
from masklet.synthetic.cutouts import Cutout, cut_out, is_usable_mask, jitter_color

if TYPE_CHECKING:
    from masklet.datasets import Dataset

__all__ = ["AssetSource", "DatasetSource", "SourceImage"]

Mask = npt.NDArray[np.bool_]
Random = np.random.Generator
Mixture = tuple[tuple["Dataset", float], ...]

MAX_OBJECTS_TRIED = 4
"""Objects of a still that are looked at for one that can be cut out."""
MAX_IMAGES_TRIED = 1000
"""Stills in a row that may hold nothing of use."""


@dataclass(frozen=True)
class SourceImage:
    """An image and what is in it."""

    rgb: npt.NDArray[np.uint8]
    """(H, W, 3)."""
    masks: Mapping[int, Mask]
    """By number, (H, W) each; may be decoded only when looked at, and be empty."""


class AssetSource(Protocol):
    """Where scenes get their photographs and things from; what is drawn depends on `random` alone."""

    def sample_image(self, random: Random) -> SourceImage:
        """An image to look into, with at least one mask."""

    def sample_cutout(self, random: Random) -> Cutout:
        """A whole thing that is cut out."""


@dataclass(frozen=True)
class DatasetSource:
    """Photographs and cut-outs of annotated images: data sets with their weights.

    Frames of videos count as images. Without `cutouts` things are cut out of the photographs' data sets.

    Example:
        >>> material = Collected(((open_dataset("stills/coco"), 3.0), (open_dataset("stills/ade"), 1.0)))
        >>> Synthesizer(material, size=288, frames=8, objects=3).clip(seed=0, number=17)

    Raises:
        SourceError: from its methods, an image that cannot be read, or data sets in which there is nothing to use.
    """

    image_datasets: Mixture
    cutout_datasets: Mixture = ()

    def sample_image(self, random: Random) -> SourceImage:
        """An image with at least one mask, by the data sets' weights."""
        return _sample_image(random, self.image_datasets)

    def sample_cutout(self, random: Random) -> Cutout:
        """A whole, compact thing, the larger ones of an image first."""
        for _ in range(MAX_IMAGES_TRIED):
            still = _sample_image(random, self.cutout_datasets or self.image_datasets)
            numbers = sorted(still.masks)
            masks = [still.masks[numbers[i]] for i in random.permutation(len(numbers))[:MAX_OBJECTS_TRIED]]
            for mask in sorted(masks, key=lambda m: -int(m.sum())):
                if is_usable_mask(mask):
                    return cut_out(jitter_color(random, still.rgb), mask)
        raise _nothing_usable_error(
            self.cutout_datasets or self.image_datasets, "thing that is whole and large enough to be cut out"
        )


def _sample_image(random: Random, mixture: Mixture) -> SourceImage:
    weights = np.array([weight for _, weight in mixture])
    for _ in range(MAX_IMAGES_TRIED):
        dataset = mixture[random.choice(len(mixture), p=weights / weights.sum())][0]
        entry = dataset.samples[random.integers(len(dataset.samples))]
        frame = (
            entry.frame_indices[random.integers(len(entry.frame_indices))]
            if len(entry.frame_indices) > 1
            else entry.frame_indices[0]
        )
        [annotated] = entry.read((frame,))
        if annotated.masks:
            return SourceImage(annotated.rgb, annotated.masks)
    raise _nothing_usable_error(mixture, "annotated object")


def _nothing_usable_error(mixture: Mixture, what: str) -> SourceError:
    roots = ", ".join(str(dataset.root) for dataset, _ in mixture)
    return SourceError(
        f"{roots}: {MAX_IMAGES_TRIED} images drawn one after the other held no {what}; allowed are images with masks of "  # noqa: E501
        "whole objects: check the data, or make clips without them"
    )
