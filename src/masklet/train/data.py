"""Stills with masks, endlessly and in an order that depends on the seed alone.

A source is a folder `NAME/images/ID.jpg` with `NAME/masks/ID.json`, a list of COCO compressed RLE. Sample number k of
a run is the same on every machine and after every resume, whatever came before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from masklet.errors import SourceError
from masklet.masks import rle
from masklet.masks.rle import Rle
from masklet.train.augment import draw_view, jitter_colour

__all__ = ["Batch", "Source", "Still", "Stills", "batches", "draw_still", "find_sources"]

Picture = npt.NDArray[np.uint8]

AnyBatch = TypeVar("AnyBatch")

SMALLEST = 8e-4
LARGEST = 0.95
"""Share of the view that an object has to cover to be asked for."""


@dataclass(frozen=True)
class Batch:
    """Shapes: B pictures, N objects in all, S side."""

    pixels_B3SS: Tensor
    """uint8."""
    masks_NSS: Tensor
    """bool."""
    picture_N: Tensor
    """Which picture each object is in."""


@dataclass(frozen=True)
class Source:
    """The stems of one folder's pictures."""

    folder: Path
    stems: tuple[str, ...]
    weight: float


@dataclass(frozen=True)
class Still:
    """A picture and the codes of its masks, at least one."""

    rgb: Picture
    """(H, W, 3)."""
    codes: list[Rle]


def find_sources(root: Path, mixture: tuple[tuple[str, float], ...]) -> tuple[Source, ...]:
    """The folders of a mixture under `root`.

    Raises:
        SourceError: a folder is missing or holds no picture with a mask file.
    """
    return tuple(_source(root / name, weight) for name, weight in mixture)


def _source(folder: Path, weight: float) -> Source:
    masks = {path.stem for path in (folder / "masks").glob("*.json")}
    stems = sorted(path.stem for path in (folder / "images").glob("*.jpg") if path.stem in masks)
    if not stems:
        raise SourceError(
            f"{folder} holds no picture to train on; allowed is a folder with images/ID.jpg and masks/ID.json "
            "(a list of COCO RLE) for each; check --data, or take the source out of the recipe"
        )
    return Source(folder, tuple(stems), weight)


class Stills(IterableDataset[Batch]):
    """Batches of one stage, from sample number `first` on."""

    def __init__(
        self, sources: tuple[Source, ...], *, size: int, batch: int, objects: int, seed: int, first: int
    ) -> None:
        super().__init__()
        self.sources, self.size, self.batch, self.objects = sources, size, batch, objects
        self.seed, self.first = seed, first

    def __iter__(self) -> Iterator[Batch]:
        """Never ends."""
        cv2.setNumThreads(1)
        number = self.first
        while True:
            yield _collate([self.sample(number + i) for i in range(self.batch)])
            number += self.batch

    def sample(self, number: int) -> tuple[Picture, npt.NDArray[np.bool_]]:
        """Picture (S, S, 3) and masks (N, S, S), N from 1 to `objects`, of sample `number`."""
        random = np.random.default_rng((self.seed, number))
        while True:
            found = self._view(draw_still(random, self.sources), random)
            if found is not None:
                return found

    def _view(self, still: Still, random: np.random.Generator) -> tuple[Picture, npt.NDArray[np.bool_]] | None:
        view = draw_view(random, still.rgb.shape[0], still.rgb.shape[1], self.size)
        masks: list[npt.NDArray[np.bool_]] = []
        for index in random.permutation(len(still.codes))[: 4 * self.objects]:
            mask = view.mask(rle.decode(still.codes[index]))
            if SMALLEST < mask.mean() < LARGEST:
                masks.append(mask)
            if len(masks) == self.objects:
                break
        if not masks:
            return None
        return jitter_colour(random, view.picture(still.rgb)), np.stack(masks)


def draw_still(random: np.random.Generator, sources: tuple[Source, ...]) -> Still:
    """A still with at least one mask, by the sources' weights."""
    weights = np.array([source.weight for source in sources])
    while True:
        source = sources[random.choice(len(sources), p=weights / weights.sum())]
        stem = source.stems[random.integers(len(source.stems))]
        codes: list[Rle] = json.loads((source.folder / "masks" / f"{stem}.json").read_text())
        if codes:
            return Still(read_picture(source.folder / "images" / f"{stem}.jpg"), codes)


def read_picture(path: Path) -> Picture:
    """RGB (H, W, 3)."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SourceError(f"{path} cannot be read as a picture; remove it and its mask file, or mend it")
    return np.ascontiguousarray(bgr[..., ::-1])


def _collate(samples: list[tuple[Picture, npt.NDArray[np.bool_]]]) -> Batch:
    pictures = np.stack([picture for picture, _ in samples]).transpose(0, 3, 1, 2)
    counts = [len(masks) for _, masks in samples]
    return Batch(
        torch.from_numpy(np.ascontiguousarray(pictures)),
        torch.from_numpy(np.concatenate([masks for _, masks in samples])),
        torch.from_numpy(np.repeat(np.arange(len(samples)), counts)),
    )


def batches(samples: IterableDataset[AnyBatch]) -> Iterator[AnyBatch]:
    """The same batches, made in a process of their own so that the network never waits for a picture."""
    loader: DataLoader[AnyBatch] = DataLoader(
        samples, batch_size=None, num_workers=1, prefetch_factor=4, multiprocessing_context="spawn"
    )  # a forked process would inherit thread pools that have no threads
    return iter(loader)
