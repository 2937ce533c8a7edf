"""Sources of assets: photographs with the masks of their objects, and cutouts.

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

__all__ = ["AssetSource", "DatasetSource", "Photograph"]

Mask = npt.NDArray[np.bool_]
Random = np.random.Generator
Mixture = tuple[tuple["Dataset", float], ...]

MAX_OBJECTS_TRIED = 4
"""Objects of a photograph that are tried as cutouts."""
MAX_WHOLE_OBJECTS_TRIED = 24
"""The same where an object must be whole: the larger ones must be among them."""
MIN_WHOLE_FRACTION, MAX_PART_OVERLAP = 0.01, 0.7
"""Smallest area of a whole object, as a fraction of its photograph, and largest part of it inside a larger one."""
MAX_IMAGES_TRIED = 1000
"""Photographs in a row that may have no usable object."""


@dataclass(frozen=True)
class Photograph:
    """An image and the masks of its objects."""

    rgb: npt.NDArray[np.uint8]
    """(H, W, 3)."""
    masks: Mapping[int, Mask]
    """By number, (H, W) each; may be decoded lazily, and be empty."""


class AssetSource(Protocol):
    """A source of photographs and cutouts; samples depend on `rng` alone."""

    def sample_image(self, rng: Random) -> Photograph:
        """Sample a photograph with at least one mask."""

    def sample_cutout(self, rng: Random) -> Cutout:
        """Sample a complete object as a cutout."""


@dataclass(frozen=True)
class DatasetSource:
    """Sample photographs and cutouts from annotated datasets, each with its weight.

    Frames of videos count as images. Without `cutout_datasets` cutouts come from `image_datasets`.

    Example:
        >>> source = DatasetSource(((open_dataset("coco"), 3.0), (open_dataset("ade"), 1.0)))  # doctest: +SKIP
        >>> CutoutClipGenerator(source, size=288, frames=8, objects=3).clip(0, 17)  # doctest: +SKIP

    Raises:
        SourceError: if a method cannot read an image, or finds no usable object.
    """

    image_datasets: Mixture
    cutout_datasets: Mixture = ()
    whole_objects: bool = False
    """Cut out no object that is a part of another one of its photograph."""

    def sample_image(self, rng: Random, mixture: Mixture = ()) -> Photograph:
        """Sample a photograph with at least one mask, of `mixture` instead of `image_datasets` where it is given."""
        mixture = mixture or self.image_datasets
        weights = np.array([weight for _, weight in mixture])
        for _ in range(MAX_IMAGES_TRIED):
            dataset = mixture[rng.choice(len(mixture), p=weights / weights.sum())][0]
            sample = dataset.samples[rng.integers(len(dataset.samples))]
            frames = sample.frame_indices
            frame_idx = frames[rng.integers(len(frames))] if len(frames) > 1 else frames[0]
            [annotated] = sample.read((frame_idx,))
            if annotated.masks:
                return Photograph(annotated.rgb, annotated.masks)
        raise _nothing_usable_error(mixture, "annotated object")

    def sample_cutout(self, rng: Random) -> Cutout:
        """Sample a complete, compact object: the larger ones of a photograph first, or any of those that are whole."""
        for _ in range(MAX_IMAGES_TRIED):
            photo = self.sample_image(rng, self.cutout_datasets)
            numbers = sorted(photo.masks)
            count = MAX_WHOLE_OBJECTS_TRIED if self.whole_objects else MAX_OBJECTS_TRIED
            masks = [photo.masks[numbers[i]] for i in rng.permutation(len(numbers))[:count]]
            if self.whole_objects:
                areas = [int(mask.sum()) for mask in masks]
                masks = [
                    mask
                    for mask, area in zip(masks, areas, strict=True)
                    if area > MIN_WHOLE_FRACTION * mask.size
                    and not any(
                        larger > area and (mask & other).sum() > MAX_PART_OVERLAP * area
                        for other, larger in zip(masks, areas, strict=True)
                    )
                ]
            else:
                masks.sort(key=lambda mask: -int(mask.sum()))
            for mask in masks:
                if is_usable_mask(mask):
                    return cut_out(jitter_color(rng, photo.rgb), mask)
        raise _nothing_usable_error(
            self.cutout_datasets or self.image_datasets, "object that is complete and large enough to be cut out"
        )


def _nothing_usable_error(mixture: Mixture, what: str) -> SourceError:
    roots = ", ".join(str(dataset.root) for dataset, _ in mixture)
    return SourceError(
        f"{roots}: {MAX_IMAGES_TRIED} sampled images in a row had no {what}; images need masks of complete objects: "
        "check the data, or make clips without a dataset"
    )
