"""What a run learns from: batches of stills, of videos and of videos made out of stills, endlessly.

Batch number k of a run depends on the seed and on k alone: it is the same on every machine, after every resume and
whatever came before it. A batch is drawn from one data set: videos of T frames, or stills, which are videos of one.
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

from masklet.datasets import AnnotatedFrame, DataPaths, Dataset, Mixture, Sample, open_dataset, open_mixture
from masklet.errors import InputError, SourceError
from masklet.synthetic import SCENARIOS, CutoutClipGenerator, DatasetSource, ProceduralSource
from masklet.synthetic import Clip as MadeClip
from masklet.train.augment import AffineView, ColorJitter, apply_color_jitter, sample_color_jitter, sample_view
from masklet.train.config import AugmentConfig, SourceConfig, Stage, TrainConfig

__all__ = ["ClipBatch", "ClipDataset", "SamplePool", "TrainData", "build_pools", "make_loader", "open_train_data"]

ImageArray = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Rng = np.random.Generator

MIN_OBJECT_AREA, MAX_OBJECT_AREA = 8e-4, 0.95
"""Share of the first frame that an object has to cover to be asked for."""
CANDIDATES_PER_OBJECT = 4
"""Objects of an image that are looked at for each one that is wanted."""
MAX_ATTEMPTS = 50
"""Entries that may be without any such object, or broken, one after the other."""
PROCEDURAL_SEED_OFFSET = 1_000_000
"""Added to the seed of drawn scenes, so that none is one of the benchmark's."""
RETRY_SEED_OFFSET = 1_000_003
"""Added to the seed for another video in the place of one that could not be made."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips with the truth; a still is a clip of one frame."""

    pixels_BT3SS: Tensor
    """uint8."""
    masks_NTSS: Tensor
    """bool, the visible part; empty while the object is out of sight, never in the first frame."""
    clip_index_N: Tensor
    """Which clip each object is in."""
    cache_keys: tuple[str, ...] = ()
    """Names of the images under which their embeddings are kept; empty: they are not."""
    warnings: tuple[str, ...] = ()
    """What was broken and left out."""

    @property
    def num_frames(self) -> int:
        """T."""
        return self.pixels_BT3SS.shape[1]

    @property
    def flat_pixels(self) -> Tensor:
        """(B * T, 3, S, S), clip after clip."""
        return self.pixels_BT3SS.flatten(0, 1)

    def to(self, device: torch.device) -> ClipBatch:
        """The same on another device."""
        return ClipBatch(
            self.pixels_BT3SS.to(device),
            self.masks_NTSS.to(device),
            self.clip_index_N.to(device),
            self.cache_keys,
            self.warnings,
        )


@dataclass(frozen=True)
class SamplePool:
    """Entries of one kind out of one data set."""

    samples: tuple[Sample, ...]
    weight: float
    is_video: bool
    root: str = ""
    """Where they are."""


def build_pools(mixture: Sequence[tuple[Dataset, float]]) -> tuple[SamplePool, ...]:
    """A mixture with the videos and the stills of each data set apart; they share its weight by their number."""
    pools = []
    for dataset, weight in mixture:
        for videos in (False, True):
            chosen = tuple(entry for entry in dataset.samples if (len(entry.frame_indices) > 1) == videos)
            if chosen:
                pools.append(SamplePool(chosen, weight * len(chosen) / len(dataset.samples), videos, str(dataset.root)))
    return tuple(pools)


class ClipDataset(IterableDataset[ClipBatch]):
    """Batches `first`, `first + stride`, ... of one stage; several loading processes share them out."""

    def __init__(
        self,
        pools: tuple[SamplePool, ...],
        config: TrainConfig,
        stage: Stage,
        *,
        generator: CutoutClipGenerator | None = None,
        first_batch: int = 0,
        batch_stride: int = 1,
    ) -> None:
        super().__init__()
        self.pools, self.config, self.stage, self.generator = pools, config, stage, generator
        self.first_batch, self.batch_stride = first_batch, batch_stride

    def __iter__(self) -> Iterator[ClipBatch]:
        """Never ends."""
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        mine, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        number = self.first_batch + mine * self.batch_stride
        while True:
            yield self.make_batch(number)
            number += self.batch_stride * workers

    def make_batch(self, number: int) -> ClipBatch:
        """Batch `number` of the run.

        Raises:
            SourceError: entry after entry is broken or shows no object.
        """
        random = np.random.default_rng((self.config.seed, number))
        weights = np.array([pool.weight for pool in self.pools])
        pool = self.pools[random.choice(len(weights), p=weights / weights.sum())]
        if not pool.is_video and self.generator is not None and random.random() < self.config.synthetic_fraction:
            return (
                self._procedural_batch(number)
                if random.random() < self.config.procedural_fraction
                else self._synthetic_batch(number)
            )
        clips = _ClipSampler(pool, self.config, self.stage, random)
        count = self.stage.batch if pool.is_video else self.stage.batch * self.stage.image_batch_multiplier
        return _collate([clips.sample() for _ in range(count)], tuple(clips.errors))

    def _procedural_batch(self, number: int) -> ClipBatch:
        """Videos that are hard in one way, each way in turn."""
        clips = [self._procedural_clip(number * self.stage.batch + i) for i in range(self.stage.batch)]
        wanted = self.stage.prompts.max_objects
        return _collate([_ClipSample(clip.frames_THW3, clip.masks_TNHW[:, :wanted].swapaxes(0, 1)) for clip in clips])

    def _procedural_clip(self, number: int) -> MadeClip:
        """Clip `number`; a scene that cannot be shown in so small or short a video gives way to the next one."""
        stage, names = self.stage, list(SCENARIOS)
        for attempt in range(len(names)):
            scene = SCENARIOS[names[(number + attempt) % len(names)]]
            try:
                return scene(
                    self.config.seed + PROCEDURAL_SEED_OFFSET,
                    number,
                    (stage.image_size, stage.image_size),
                    stage.clip_length,
                    ProceduralSource(),
                )
            except InputError:
                continue
        raise InputError(
            f"no scene can be drawn in {stage.clip_length} frames of {stage.image_size} x {stage.image_size}; take 8 frames or more "  # noqa: E501
            "of 128 x 128 or more, or drawn=0"
        )

    def _synthetic_batch(self, number: int) -> ClipBatch:
        broken: list[str] = []
        made = [self._synthetic_clip(number * self.stage.batch + i, broken) for i in range(self.stage.batch)]
        clips = [_ClipSample(clip.frames_THW3, clip.masks_TNHW.swapaxes(0, 1)) for clip in made]
        return _collate(clips, tuple(broken))

    def _synthetic_clip(self, number: int, broken: list[str]) -> MadeClip:
        """Clip `number`; where an image that it takes is broken, another one in its place."""
        assert self.generator is not None
        for attempt in range(MAX_ATTEMPTS):
            try:
                return self.generator.clip(self.config.seed + attempt * RETRY_SEED_OFFSET, number)
            except SourceError as error:
                broken.append(str(error))
        raise SourceError(
            f"{MAX_ATTEMPTS} videos that were to be made one after the other met broken images ({broken[-1]})"
        )


@dataclass(frozen=True)
class _ClipSample:
    frames_TSS3: ImageArray
    masks_NTSS: Masks
    cache_key: str = ""


class _ClipSampler:
    """Draws clips out of a pool, and keeps what was broken."""

    def __init__(self, pool: SamplePool, config: TrainConfig, stage: Stage, rng: Rng) -> None:
        self.pool, self.config, self.stage, self.rng = pool, config, stage, rng
        self.errors: list[str] = []

    def sample(self) -> _ClipSample:
        """One clip with at least one object."""
        for _ in range(MAX_ATTEMPTS):
            entry = self.pool.samples[self.rng.integers(len(self.pool.samples))]
            try:
                clip = self._sample_video(entry) if self.pool.is_video else self._sample_image(entry)
            except SourceError as error:
                self.errors.append(str(error))
                continue
            if clip is not None:
                return clip
        reason = self.errors[-1] if self.errors else "no object is large enough in the first frame"
        raise SourceError(
            f"{MAX_ATTEMPTS} entries drawn one after the other, the last {entry.name}, gave nothing to learn from "
            f"({reason}); look at the data with masklet data check"
        )

    @property
    def _image_size(self) -> int:
        return self.stage.image_size if self.pool.is_video else self.stage.still_image_size or self.stage.image_size

    def _sample_video(self, entry: Sample) -> _ClipSample | None:
        numbers = _sample_consecutive(self.rng, entry.frame_indices, self.stage.clip_length)
        if self.rng.random() < self.config.reverse_prob:
            numbers = numbers[::-1]
        return self._make_clip(entry.read(numbers), self.rng)

    def _sample_image(self, entry: Sample) -> _ClipSample | None:
        """In one of endlessly many views, or in one of few whose embeddings are kept."""
        if not self.config.cached_views:
            return self._make_clip(entry.read(entry.frame_indices), self.rng)
        view = int(self.rng.integers(self.config.cached_views))
        own = np.random.default_rng((self.config.seed, zlib.crc32(entry.name.encode()), view))
        key = f"{self.pool.root}/{entry.name}#{view} {self._image_size} {self.config.seed} {self.config.augment}"
        return self._make_clip(entry.read(entry.frame_indices), own, key)

    def _make_clip(self, frames: Sequence[AnnotatedFrame], rng: Rng, key: str = "") -> _ClipSample | None:
        """Frames and masks through one view; None where the first frame shows nothing to ask for."""
        height, width = frames[0].rgb.shape[:2]
        view = sample_view(rng, height, width, self._image_size, self.config.augment)
        colors = _sample_clip_colors(rng, len(frames), self.config.augment)
        chosen = self._choose_objects(frames[0], view)
        if not chosen:
            return None
        images = [
            apply_color_jitter(view.warp_image(frame.rgb), *own) for frame, own in zip(frames, colors, strict=True)
        ]
        masks = [[first, *(_view_mask(frame, n, view) for frame in frames[1:])] for n, first in chosen.items()]
        return _ClipSample(np.stack(images), np.array(masks), key)

    def _choose_objects(self, first: AnnotatedFrame, view: AffineView) -> dict[int, Masks]:
        """Objects that the first frame shows well, and what it shows of them."""
        ids, wanted = sorted(first.masks), self.stage.prompts.max_objects
        chosen: dict[int, Masks] = {}
        for index in self.rng.permutation(len(ids))[: CANDIDATES_PER_OBJECT * wanted]:
            mask = _view_mask(first, ids[index], view)
            if MIN_OBJECT_AREA < mask.mean() < MAX_OBJECT_AREA:
                chosen[ids[index]] = mask
            if len(chosen) == wanted:
                break
        return chosen


def _sample_consecutive(rng: Rng, frames: tuple[int, ...], count: int) -> list[int]:
    """Numbers of `count` frames that follow each other; a shorter video is played to and fro."""
    if len(frames) >= count:
        start = int(rng.integers(len(frames) - count + 1))
        return list(frames[start : start + count])
    there_and_back = [*frames, *frames[-2:0:-1]]
    return [there_and_back[i % len(there_and_back)] for i in range(count)]


def _view_mask(frame: AnnotatedFrame, number: int, view: AffineView) -> Masks:
    if number not in frame.masks:
        return np.zeros((view.size, view.size), bool)
    return view.warp_mask(frame.masks[number])


def _sample_clip_colors(rng: Rng, count: int, config: AugmentConfig) -> list[tuple[ColorJitter, ColorJitter]]:
    """How colors change for the whole clip, and a little from frame to frame."""
    whole = sample_color_jitter(rng, config.brightness, config.contrast, config.saturation)
    if rng.random() < config.grayscale_prob:
        whole = ColorJitter(whole.brightness, whole.contrast, 0.0)
    own = (config.frame_brightness, config.frame_contrast, config.frame_saturation)
    return [(whole, sample_color_jitter(rng, *own)) for _ in range(count)]


def _collate(clips: Sequence[_ClipSample], warnings: tuple[str, ...] = ()) -> ClipBatch:
    images = np.stack([clip.frames_TSS3 for clip in clips]).transpose(0, 1, 4, 2, 3)
    masks = np.concatenate([clip.masks_NTSS for clip in clips])
    keys = tuple(clip.cache_key for clip in clips)
    return ClipBatch(
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(np.ascontiguousarray(masks)),
        torch.from_numpy(np.repeat(np.arange(len(clips)), [len(clip.masks_NTSS) for clip in clips])),
        keys if all(keys) else (),
        warnings,
    )


class _ErrorsAsValues(IterableDataset[Any]):
    """The same batches; an error travels as a value, since the loader would bury it in another one."""

    def __init__(self, samples: ClipDataset) -> None:
        super().__init__()
        self.samples = samples

    def __iter__(self) -> Iterator[ClipBatch | SourceError]:
        try:
            yield from self.samples
        except SourceError as error:
            yield error


def make_loader(samples: ClipDataset, workers: int = 1) -> Iterator[ClipBatch]:
    """The same batches, made in processes of their own so that the network never waits for an image.

    Raises:
        SourceError: as `Samples.batch`.
    """
    loader: DataLoader[ClipBatch | SourceError] = DataLoader(
        _ErrorsAsValues(samples),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_exit_without_cleanup,
    )  # a forked process would inherit thread pools that have no threads
    for item in loader:
        if isinstance(item, SourceError):
            raise item
        yield item


def _exit_without_cleanup(worker: int) -> None:
    """A process that ends does so when its queues are flushed: native threads that are left may abort it after that."""
    Finalize(None, os._exit, args=(0,), exitpriority=-100)


@dataclass(frozen=True)
class TrainData:
    """What a run learns from."""

    pools: tuple[SamplePool, ...]
    image_sources: DatasetSource | None
    """What videos are made out of; None: none are."""

    @property
    def num_samples(self) -> int:
        """Stills and videos, all of them: an epoch."""
        return sum(len(pool.samples) for pool in self.pools)

    def clip_dataset(self, config: TrainConfig, stage: Stage, step: int, rank: int, world_size: int) -> ClipDataset:
        """The batches of process number `rank` of `world`, from `step` on."""
        maker = None
        if self.image_sources is not None and stage.clip_length > 1:
            maker = CutoutClipGenerator(
                self.image_sources, size=stage.image_size, frames=stage.clip_length, objects=stage.prompts.max_objects
            )
        first = step * config.grad_accum * world_size + rank
        return ClipDataset(self.pools, config, stage, generator=maker, first_batch=first, batch_stride=world_size)


def open_train_data(data: DataPaths, config: TrainConfig) -> TrainData:
    """Open the sources of a run; `data` is the folder they are in, or, where the run names none, what to open.

    Raises:
        SourceError: a data set is missing or holds nothing.
        InputError: a weight that is no positive number.
    """
    mixture = _open_sources(data, config.sources)
    if not config.synthetic_fraction:
        return TrainData(build_pools(mixture), None)
    stills = tuple((dataset, weight) for dataset, weight in mixture if _has_images(dataset))
    cutouts = _open_sources(data, config.cutouts) if config.cutouts else ()
    return TrainData(build_pools(mixture), DatasetSource(stills, cutouts) if stills else None)


def _open_sources(data: DataPaths, sources: Sequence[SourceConfig]) -> Mixture:
    if [source.path for source in sources] == [""] and sources[0].data_format is None and sources[0].split is None:
        return tuple(open_mixture(data))
    if not isinstance(data, str | os.PathLike):
        raise InputError(f"data={data!r} must be the folder in which {', '.join(s.path for s in sources)} are")
    root = Path(data)
    return tuple(
        (open_dataset(root / source.path, data_format=source.data_format, split=source.split), source.weight)
        for source in sources
    )


def _has_images(dataset: Dataset) -> bool:
    return any(len(entry.frame_indices) == 1 for entry in dataset.samples)
