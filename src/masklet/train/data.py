"""What a run learns from: batches of stills, of films and of films made out of stills, endlessly.

Batch number k of a run depends on the seed and on k alone: it is the same on every machine, after every resume and
whatever came before it. A batch is drawn from one data set: films of T frames, or stills, which are films of one.
Shapes: B clips, T frames, N objects in all, S side.

The data sets of a run, opened and weighed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from masklet.datasets import Annotated, DataPaths, Dataset, Entry, Mixture, open_dataset, open_mixture
from masklet.errors import InputError, SourceError
from masklet.synthetic import DIFFICULTIES, Collected, Drawn, Synthesiser
from masklet.synthetic import Clip as MadeClip
from masklet.train.augment import Colours, View, draw_colours, draw_view, recoloured
from masklet.train.config import AugmentConfig, SourceConfig, Stage, TrainConfig

__all__ = ["ClipBatch", "Material", "Pool", "Samples", "batches", "open_material", "pools_of"]

Picture = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Random = np.random.Generator

SMALLEST, LARGEST = 8e-4, 0.95
"""Share of the first frame that an object has to cover to be asked for."""
LOOKED_AT = 4
"""Objects of a picture that are looked at for each one that is wanted."""
TRIES = 50
"""Entries that may be without any such object, or broken, one after the other."""
APART = 1_000_000
"""Added to the seed of drawn scenes, so that none is one of the benchmark's."""
ANOTHER = 1_000_003
"""Added to the seed for another film in the place of one that could not be made."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips with the truth; a still is a clip of one frame."""

    pixels_BT3SS: Tensor
    """uint8."""
    masks_NTSS: Tensor
    """bool, the visible part; empty while the object is out of sight, never in the first frame."""
    clip_N: Tensor
    """Which clip each object is in."""
    keys: tuple[str, ...] = ()
    """Names of the pictures under which their embeddings are kept; empty: they are not."""
    notes: tuple[str, ...] = ()
    """What was broken and left out."""

    @property
    def frames(self) -> int:
        """T."""
        return self.pixels_BT3SS.shape[1]

    @property
    def frames_of_all(self) -> Tensor:
        """(B * T, 3, S, S), clip after clip."""
        return self.pixels_BT3SS.flatten(0, 1)

    def to(self, device: torch.device) -> ClipBatch:
        """The same on another device."""
        return ClipBatch(
            self.pixels_BT3SS.to(device), self.masks_NTSS.to(device), self.clip_N.to(device), self.keys, self.notes
        )


@dataclass(frozen=True)
class Pool:
    """Entries of one kind out of one data set."""

    entries: tuple[Entry, ...]
    weight: float
    films: bool
    root: str = ""
    """Where they are."""


def pools_of(mixture: Sequence[tuple[Dataset, float]]) -> tuple[Pool, ...]:
    """A mixture with the films and the stills of each data set apart; they share its weight by their number."""
    pools = []
    for dataset, weight in mixture:
        for films in (False, True):
            chosen = tuple(entry for entry in dataset.entries if (len(entry.frames) > 1) == films)
            if chosen:
                pools.append(Pool(chosen, weight * len(chosen) / len(dataset.entries), films, str(dataset.root)))
    return tuple(pools)


class Samples(IterableDataset[ClipBatch]):
    """Batches `first`, `first + stride`, ... of one stage; several loading processes share them out."""

    def __init__(
        self,
        pools: tuple[Pool, ...],
        config: TrainConfig,
        stage: Stage,
        *,
        maker: Synthesiser | None = None,
        first: int = 0,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.pools, self.config, self.stage, self.maker = pools, config, stage, maker
        self.first, self.stride = first, stride

    def __iter__(self) -> Iterator[ClipBatch]:
        """Never ends."""
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        mine, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        number = self.first + mine * self.stride
        while True:
            yield self.batch(number)
            number += self.stride * workers

    def batch(self, number: int) -> ClipBatch:
        """Batch `number` of the run.

        Raises:
            SourceError: entry after entry is broken or shows no object.
        """
        random = np.random.default_rng((self.config.seed, number))
        weights = np.array([pool.weight for pool in self.pools])
        pool = self.pools[random.choice(len(weights), p=weights / weights.sum())]
        if not pool.films and self.maker is not None and random.random() < self.config.made:
            return self._drawn(number) if random.random() < self.config.drawn else self._made(number)
        clips = _Clips(pool, self.config, self.stage, random)
        count = self.stage.batch if pool.films else self.stage.batch * self.stage.stills
        return _collate([clips.draw() for _ in range(count)], tuple(clips.broken))

    def _drawn(self, number: int) -> ClipBatch:
        """Films that are hard in one way, each way in turn."""
        clips = [self._drawn_clip(number * self.stage.batch + i) for i in range(self.stage.batch)]
        wanted = self.stage.prompts.objects
        return _collate([_Clip(clip.frames_THW3, clip.masks_TNHW[:, :wanted].swapaxes(0, 1)) for clip in clips])

    def _drawn_clip(self, number: int) -> MadeClip:
        """Clip `number`; a scene that cannot be shown in so small or short a film gives way to the next one."""
        stage, names = self.stage, list(DIFFICULTIES)
        for attempt in range(len(names)):
            scene = DIFFICULTIES[names[(number + attempt) % len(names)]]
            try:
                return scene(self.config.seed + APART, number, (stage.size, stage.size), stage.frames, Drawn())
            except InputError:
                continue
        raise InputError(
            f"no scene can be drawn in {stage.frames} frames of {stage.size} x {stage.size}; take 8 frames or more "
            "of 128 x 128 or more, or drawn=0"
        )

    def _made(self, number: int) -> ClipBatch:
        broken: list[str] = []
        made = [self._made_clip(number * self.stage.batch + i, broken) for i in range(self.stage.batch)]
        clips = [_Clip(clip.frames_THW3, clip.masks_TNHW.swapaxes(0, 1)) for clip in made]
        return _collate(clips, tuple(broken))

    def _made_clip(self, number: int, broken: list[str]) -> MadeClip:
        """Clip `number`; where a picture that it takes is broken, another one in its place."""
        assert self.maker is not None
        for attempt in range(TRIES):
            try:
                return self.maker.clip(self.config.seed + attempt * ANOTHER, number)
            except SourceError as error:
                broken.append(str(error))
        raise SourceError(f"{TRIES} films that were to be made one after the other met broken pictures ({broken[-1]})")


@dataclass(frozen=True)
class _Clip:
    frames_TSS3: Picture
    masks_NTSS: Masks
    key: str = ""


class _Clips:
    """Draws clips out of a pool, and keeps what was broken."""

    def __init__(self, pool: Pool, config: TrainConfig, stage: Stage, random: Random) -> None:
        self.pool, self.config, self.stage, self.random = pool, config, stage, random
        self.broken: list[str] = []

    def draw(self) -> _Clip:
        """One clip with at least one object."""
        for _ in range(TRIES):
            entry = self.pool.entries[self.random.integers(len(self.pool.entries))]
            try:
                clip = self._film(entry) if self.pool.films else self._still(entry)
            except SourceError as error:
                self.broken.append(str(error))
                continue
            if clip is not None:
                return clip
        reason = self.broken[-1] if self.broken else "no object is large enough in the first frame"
        raise SourceError(
            f"{TRIES} entries drawn one after the other, the last {entry.name}, gave nothing to learn from "
            f"({reason}); look at the data with masklet data check"
        )

    @property
    def _size(self) -> int:
        return self.stage.size if self.pool.films else self.stage.still_size or self.stage.size

    def _film(self, entry: Entry) -> _Clip | None:
        numbers = _consecutive(self.random, entry.frames, self.stage.frames)
        if self.random.random() < self.config.reverse:
            numbers = numbers[::-1]
        return self._seen(entry.read(numbers), self.random)

    def _still(self, entry: Entry) -> _Clip | None:
        """In one of endlessly many views, or in one of few whose embeddings are kept."""
        if not self.config.views:
            return self._seen(entry.read(entry.frames), self.random)
        view = int(self.random.integers(self.config.views))
        own = np.random.default_rng((self.config.seed, zlib.crc32(entry.name.encode()), view))
        key = f"{self.pool.root}/{entry.name}#{view} {self._size} {self.config.seed} {self.config.augment}"
        return self._seen(entry.read(entry.frames), own, key)

    def _seen(self, frames: Sequence[Annotated], random: Random, key: str = "") -> _Clip | None:
        """Frames and masks through one view; None where the first frame shows nothing to ask for."""
        height, width = frames[0].rgb.shape[:2]
        view = draw_view(random, height, width, self._size, self.config.augment)
        colours = _colours(random, len(frames), self.config.augment)
        chosen = self._chosen(frames[0], view)
        if not chosen:
            return None
        pictures = [recoloured(view.picture(frame.rgb), *own) for frame, own in zip(frames, colours, strict=True)]
        masks = [[first, *(_mask(frame, n, view) for frame in frames[1:])] for n, first in chosen.items()]
        return _Clip(np.stack(pictures), np.array(masks), key)

    def _chosen(self, first: Annotated, view: View) -> dict[int, Masks]:
        """Objects that the first frame shows well, and what it shows of them."""
        ids, wanted = sorted(first.masks), self.stage.prompts.objects
        chosen: dict[int, Masks] = {}
        for index in self.random.permutation(len(ids))[: LOOKED_AT * wanted]:
            mask = _mask(first, ids[index], view)
            if SMALLEST < mask.mean() < LARGEST:
                chosen[ids[index]] = mask
            if len(chosen) == wanted:
                break
        return chosen


def _consecutive(random: Random, frames: tuple[int, ...], count: int) -> list[int]:
    """Numbers of `count` frames that follow each other; a shorter film is played to and fro."""
    if len(frames) >= count:
        start = int(random.integers(len(frames) - count + 1))
        return list(frames[start : start + count])
    there_and_back = [*frames, *frames[-2:0:-1]]
    return [there_and_back[i % len(there_and_back)] for i in range(count)]


def _mask(frame: Annotated, number: int, view: View) -> Masks:
    if number not in frame.masks:
        return np.zeros((view.size, view.size), bool)
    return view.mask(frame.masks[number])


def _colours(random: Random, count: int, how: AugmentConfig) -> list[tuple[Colours, Colours]]:
    """How colours change for the whole clip, and a little from frame to frame."""
    whole = draw_colours(random, how.brightness, how.contrast, how.saturation)
    if random.random() < how.grayscale:
        whole = Colours(whole.brightness, whole.contrast, 0.0)
    own = (how.frame_brightness, how.frame_contrast, how.frame_saturation)
    return [(whole, draw_colours(random, *own)) for _ in range(count)]


def _collate(clips: Sequence[_Clip], notes: tuple[str, ...] = ()) -> ClipBatch:
    pictures = np.stack([clip.frames_TSS3 for clip in clips]).transpose(0, 1, 4, 2, 3)
    masks = np.concatenate([clip.masks_NTSS for clip in clips])
    keys = tuple(clip.key for clip in clips)
    return ClipBatch(
        torch.from_numpy(np.ascontiguousarray(pictures)),
        torch.from_numpy(np.ascontiguousarray(masks)),
        torch.from_numpy(np.repeat(np.arange(len(clips)), [len(clip.masks_NTSS) for clip in clips])),
        keys if all(keys) else (),
        notes,
    )


class _Told(IterableDataset[Any]):
    """The same batches; an error travels as a value, since the loader would bury it in another one."""

    def __init__(self, samples: Samples) -> None:
        super().__init__()
        self.samples = samples

    def __iter__(self) -> Iterator[ClipBatch | SourceError]:
        try:
            yield from self.samples
        except SourceError as error:
            yield error


def batches(samples: Samples, workers: int = 1) -> Iterator[ClipBatch]:
    """The same batches, made in processes of their own so that the network never waits for a picture.

    Raises:
        SourceError: as `Samples.batch`.
    """
    loader: DataLoader[ClipBatch | SourceError] = DataLoader(
        _Told(samples),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_leave_at_once,
    )  # a forked process would inherit thread pools that have no threads
    for item in loader:
        if isinstance(item, SourceError):
            raise item
        yield item


def _leave_at_once(worker: int) -> None:
    """A process that ends does so when its queues are flushed: native threads that are left may abort it after that."""
    Finalize(None, os._exit, args=(0,), exitpriority=-100)


@dataclass(frozen=True)
class Material:
    """What a run learns from."""

    pools: tuple[Pool, ...]
    collected: Collected | None
    """What films are made out of; None: none are."""

    @property
    def entries(self) -> int:
        """Stills and films, all of them: an epoch."""
        return sum(len(pool.entries) for pool in self.pools)

    def samples(self, config: TrainConfig, stage: Stage, step: int, rank: int, world: int) -> Samples:
        """The batches of process number `rank` of `world`, from `step` on."""
        maker = None
        if self.collected is not None and stage.frames > 1:
            maker = Synthesiser(self.collected, size=stage.size, frames=stage.frames, objects=stage.prompts.objects)
        first = step * config.accumulate * world + rank
        return Samples(self.pools, config, stage, maker=maker, first=first, stride=world)


def open_material(data: DataPaths, config: TrainConfig) -> Material:
    """Open the sources of a run; `data` is the folder they are in, or, where the run names none, what to open.

    Raises:
        SourceError: a data set is missing or holds nothing.
        InputError: a weight that is no positive number.
    """
    mixture = _opened(data, config.sources)
    if not config.made:
        return Material(pools_of(mixture), None)
    stills = tuple((dataset, weight) for dataset, weight in mixture if _has_stills(dataset))
    cutouts = _opened(data, config.cutouts) if config.cutouts else ()
    return Material(pools_of(mixture), Collected(stills, cutouts) if stills else None)


def _opened(data: DataPaths, sources: Sequence[SourceConfig]) -> Mixture:
    if [source.path for source in sources] == [""] and sources[0].kind is None and sources[0].split is None:
        return tuple(open_mixture(data))
    if not isinstance(data, str | os.PathLike):
        raise InputError(f"data={data!r} must be the folder in which {', '.join(s.path for s in sources)} are")
    root = Path(data)
    return tuple(
        (open_dataset(root / source.path, kind=source.kind, split=source.split), source.weight) for source in sources
    )


def _has_stills(dataset: Dataset) -> bool:
    return any(len(entry.frames) == 1 for entry in dataset.entries)
