"""Made clips in batches, endlessly and in an order that depends on the seed alone; the films' `Stills`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from masklet.synth.clip import Clip
from masklet.synth.synthesiser import Synthesiser

__all__ = ["ClipBatch", "Clips"]


@dataclass(frozen=True)
class ClipBatch:
    """Shapes: B clips, T frames, N objects in all, S side."""

    pixels_BT3SS: Tensor
    """uint8."""
    masks_NTSS: Tensor
    """bool, the visible part; empty while the object is out of sight, never in the first frame."""
    clip_N: Tensor
    """Which clip each object is in."""


class Clips(IterableDataset[ClipBatch]):
    """Batches of one stage, from clip number `first` on."""

    def __init__(self, maker: Synthesiser, *, batch: int, seed: int, first: int) -> None:
        super().__init__()
        self.maker, self.batch, self.seed, self.first = maker, batch, seed, first

    def __iter__(self) -> Iterator[ClipBatch]:
        """Never ends."""
        cv2.setNumThreads(1)
        number = self.first
        while True:
            yield _collate([self.maker.clip(self.seed, number + i) for i in range(self.batch)])
            number += self.batch


def _collate(clips: list[Clip]) -> ClipBatch:
    pictures = np.stack([clip.frames_TSS3 for clip in clips]).transpose(0, 1, 4, 2, 3)
    masks = np.concatenate([clip.masks_TNSS.swapaxes(0, 1) for clip in clips])
    counts = [clip.masks_TNSS.shape[1] for clip in clips]
    return ClipBatch(
        torch.from_numpy(np.ascontiguousarray(pictures)),
        torch.from_numpy(np.ascontiguousarray(masks)),
        torch.from_numpy(np.repeat(np.arange(len(clips)), counts)),
    )
