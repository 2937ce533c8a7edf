"""Sample training batches from images, from videos, and from both made of images, endlessly.

Batch number k of a run depends on the seed and on k alone: it is the same on every machine and after every resume.
A batch comes from one data set: clips of T video frames, or images, which are clips of one frame.
Shapes: B clips, T frames, N objects in all, S side, H and W of the original.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from masklet.damaged_files import damage_errors, decoder_errors
from masklet.datasets import AnnotatedFrame, DataPaths, Dataset, Mixture, Sample, open_dataset, open_mixture
from masklet.datasets.dataset import ReadableMasks
from masklet.errors import InputError, MaskletWarning, SourceError
from masklet.synthetic import SCENARIOS, CompositeGenerator, CutoutClipGenerator, DatasetSource, ProceduralSource
from masklet.train.augment import AffineView, apply_color_jitter, sample_color_jitter, sample_view
from masklet.train.config import SourceConfig, TrainConfig, TrainStage

__all__ = [
    "ClipBatch",
    "ClipDataset",
    "SamplePool",
    "TrainData",
    "build_pools",
    "make_loader",
    "open_train_data",
    "read_difficulties",
]

ImageArray = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Rng = np.random.Generator

MIN_OBJECT_AREA, MAX_OBJECT_AREA = 8e-4, 0.95
"""Fractions of the first frame that an object must cover."""
CANDIDATES_PER_OBJECT = 4
"""Objects of an image that are tried for each object wanted."""
DIFFICULTY_LIMITS = 0.5, 3.0
"""Smallest and largest weight of an image by its error; no image is lost, and none with wrong masks is all there is."""
MAX_ATTEMPTS = 50
"""Samples in a row that may be broken or without a usable object."""
PROCEDURAL_SEED_OFFSET = 1_000_000
"""Added to the seed of procedural scenes, so that none is a scene of the benchmark."""
RETRY_SEED_OFFSET = 1_000_003
"""Added to the seed of a synthetic clip that replaces one with a broken image."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips with ground truth; an image is a clip of one frame."""

    pixels_BT3SS: Tensor
    """uint8."""
    masks_NTSS: Tensor
    """bool, the visible part; empty while the object is hidden, never in the first frame."""
    clip_index_N: Tensor
    """The clip of each object."""
    cache_keys: tuple[str, ...] = ()
    """Names under which the embeddings of the images are cached; empty: no cache."""
    warnings: tuple[str, ...] = ()
    """Descriptions of broken samples that were skipped."""

    @property
    def num_frames(self) -> int:
        """T."""
        return self.pixels_BT3SS.shape[1]

    @property
    def flat_pixels(self) -> Tensor:
        """(B * T, 3, S, S), clip after clip."""
        return self.pixels_BT3SS.flatten(0, 1)

    def to(self, device: torch.device) -> ClipBatch:
        """Copy the tensors to `device`."""
        return replace(
            self,
            pixels_BT3SS=self.pixels_BT3SS.to(device),
            masks_NTSS=self.masks_NTSS.to(device),
            clip_index_N=self.clip_index_N.to(device),
        )


@dataclass(frozen=True)
class SamplePool:
    """The images, or the videos, of one data set."""

    samples: tuple[Sample, ...]
    weight: float
    is_video: bool
    root: str = ""
    """Folder of the data set."""
    probabilities: tuple[float, ...] = ()
    """How often each sample is drawn, with sum 1; empty: all alike."""

    def draw(self, rng: Rng) -> Sample:
        """Draw a sample."""
        if not self.probabilities:
            return self.samples[rng.integers(len(self.samples))]
        return self.samples[rng.choice(len(self.samples), p=self.probabilities)]


def read_difficulties(report: Path) -> dict[str, float]:
    """Return how often each image of a report of `masklet eval images` is drawn, compared with an image not in it.

    It is the error of the image, 1 - IoU of its boxes and clicks, divided by the mean error, from 0.5 to 3.

    Raises:
        SourceError: if the file cannot be read or is no such report.
    """
    errors: dict[str, float] = {}
    try:
        for row in json.loads(report.read_text(encoding="utf-8"))["rows"]:
            values = np.array([value for ious in row["ious"] for value in ious if value is not None], float)
            if np.isfinite(values).any():
                errors[row["image"]] = 1 - float(np.nanmean(values))
    except decoder_errors() as error:
        raise SourceError(
            f"{report} is no report of masklet eval images ({error}); make one with --report, or take hard_examples=''"
        ) from error
    mean = max(float(np.mean(list(errors.values()) or [1.0])), 1e-6)
    return {image: float(np.clip(value / mean, *DIFFICULTY_LIMITS)) for image, value in errors.items()}


def build_pools(
    mixture: Sequence[tuple[Dataset, float]], difficulties: Mapping[str, float] | None = None
) -> tuple[SamplePool, ...]:
    """Split each data set into images and videos; they divide its weight in proportion to their number.

    `difficulties` says how often an image is drawn, by SOURCE/NAME; 1 where it has none.
    """
    pools = []
    for dataset, weight in mixture:
        for is_video in (False, True):
            samples = tuple(sample for sample in dataset.samples if (len(sample.frame_indices) > 1) == is_video)
            if samples:
                part = len(samples) / len(dataset.samples)
                probabilities: tuple[float, ...] = ()
                if difficulties and not is_video:
                    names = [(f"{dataset.root.name}/{sample.name}", sample.name) for sample in samples]
                    weights = np.array([difficulties.get(full, difficulties.get(name, 1.0)) for full, name in names])
                    probabilities = tuple((weights / weights.sum()).tolist())
                pools.append(SamplePool(samples, weight * part, is_video, str(dataset.root), probabilities))
    return tuple(pools)


class ClipDataset(IterableDataset[ClipBatch]):
    """Batches `first_batch`, `first_batch + batch_stride`, ... of one stage, dealt out among loader processes."""

    def __init__(
        self,
        pools: tuple[SamplePool, ...],
        config: TrainConfig,
        stage: TrainStage,
        *,
        generator: CutoutClipGenerator | None = None,
        composites: CompositeGenerator | None = None,
        first_batch: int = 0,
        batch_stride: int = 1,
    ) -> None:
        super().__init__()
        self.composites = composites
        self.pools, self.config, self.stage, self.generator = pools, config, stage, generator
        self.first_batch, self.batch_stride = first_batch, batch_stride

    def __iter__(self) -> Iterator[ClipBatch]:
        """Yield batches without end."""
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        worker_id, num_workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        number = self.first_batch + worker_id * self.batch_stride
        while True:
            yield self.make_batch(number)
            number += self.batch_stride * num_workers

    def make_batch(self, number: int) -> ClipBatch:
        """Sample batch `number` of the run.

        Raises:
            SourceError: if many samples in a row are broken or show no usable object.
        """
        config, stage = self.config, self.stage
        rng = np.random.default_rng((config.seed, number))
        weights = np.array([pool.weight for pool in self.pools])
        pool = self.pools[rng.choice(len(weights), p=weights / weights.sum())]
        errors: list[str] = []
        if not pool.is_video and self.generator is not None and rng.random() < config.synthetic_fraction:
            clip_numbers = range(number * stage.batch, (number + 1) * stage.batch)
            if rng.random() < config.procedural_fraction:
                return _collate([self._procedural_clip(clip) for clip in clip_numbers])
            clips = [self._synthetic_clip(self.generator, clip, errors) for clip in clip_numbers]
        else:
            sampler = _ClipSampler(pool, config, stage, rng, errors)
            count = stage.batch if pool.is_video else stage.batch * stage.image_batch_multiplier
            if not pool.is_video and self.composites is not None and rng.random() < config.composite_fraction:
                numbers = range(number * count, (number + 1) * count)
                clips = [self._synthetic_clip(self.composites, composite, errors) for composite in numbers]
            else:
                clips = [sampler.sample() for _ in range(count)]
        return _collate(clips, tuple(errors))

    def _procedural_clip(self, number: int) -> _ClipSample:
        """Draw clip `number`, the scenarios in turn; one that cannot be shown at this size yields to the next."""
        stage, names = self.stage, list(SCENARIOS)
        for attempt in range(len(names)):
            scenario = SCENARIOS[names[(number + attempt) % len(names)]]
            try:
                clip = scenario(
                    self.config.seed + PROCEDURAL_SEED_OFFSET,
                    number,
                    (stage.image_size, stage.image_size),
                    stage.clip_length,
                    ProceduralSource(),
                )
            except InputError:
                continue
            return _ClipSample(clip.frames_THW3, clip.masks_TNHW[:, : stage.prompts.max_objects].swapaxes(0, 1))
        raise InputError(
            f"no scene can be drawn in {stage.clip_length} frames of {stage.image_size} x {stage.image_size}; "
            "take 8 frames or more of 128 x 128 or more, or procedural_fraction=0"
        )

    def _synthetic_clip(self, generator: CutoutClipGenerator, number: int, errors: list[str]) -> _ClipSample:
        """Generate clip `number`; if an image is broken, another clip takes its place."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                clip = generator.clip(self.config.seed + attempt * RETRY_SEED_OFFSET, number)
            except SourceError as error:
                errors.append(str(error))
                continue
            except damage_errors() as error:
                errors.append(f"{type(error).__name__}: {error}")
                continue
            return _ClipSample(clip.frames_THW3, clip.masks_TNHW.swapaxes(0, 1))
        raise SourceError(f"{MAX_ATTEMPTS} synthetic videos in a row met broken images ({errors[-1]})")


@dataclass(frozen=True)
class _ClipSample:
    frames_TSS3: ImageArray
    masks_NTSS: Masks
    cache_key: str = ""


class _ClipSampler:
    """Sample augmented clips from a pool; `errors` collects descriptions of broken samples."""

    def __init__(self, pool: SamplePool, config: TrainConfig, stage: TrainStage, rng: Rng, errors: list[str]) -> None:
        self.pool, self.config, self.prompts, self.rng, self.errors = pool, config, stage.prompts, rng, errors
        self.clip_length = stage.clip_length
        self.image_size = stage.image_size if pool.is_video else stage.still_image_size or stage.image_size

    def sample(self) -> _ClipSample:
        """Return a clip with at least one object."""
        for _ in range(MAX_ATTEMPTS):
            sample = self.pool.draw(self.rng)
            try:
                clip = self._read_clip(sample)
            except SourceError as error:
                self.errors.append(str(error))
                continue
            except Exception as error:  # one sample never ends a run
                self.errors.append(f"{sample.name}: {type(error).__name__}: {error}")
                continue
            if clip is not None:
                return clip
        reason = self.errors[-1] if self.errors else "no object is large enough in the first frame"
        raise SourceError(
            f"{MAX_ATTEMPTS} samples drawn one after the other, the last {sample.name}, gave nothing to learn from "
            f"({reason}); check the data with masklet data check"
        )

    def _read_clip(self, sample: Sample) -> _ClipSample | None:
        """Read frames of `sample` in one view: a random one, or one of a few whose embeddings are cached.

        Frames of a video are consecutive; a video that is shorter than a clip is played back and forth.

        The cache key holds the fields of the augmentation by name: embeddings that a version with other field names
        cached are not found again, they only take up room until they are evicted.
        """
        if self.pool.is_video:
            every_frame, count = sample.frame_indices, self.clip_length
            if len(every_frame) >= count:
                start = int(self.rng.integers(len(every_frame) - count + 1))
                frame_indices = list(every_frame[start : start + count])
            else:
                back_and_forth = [*every_frame, *every_frame[-2:0:-1]]
                frame_indices = [back_and_forth[i % len(back_and_forth)] for i in range(count)]
            if self.rng.random() < self.config.reverse_prob:
                frame_indices = frame_indices[::-1]
            return self._augment(sample.read(frame_indices), self.rng)
        if not self.config.cached_views:
            return self._augment(sample.read(sample.frame_indices), self.rng)
        view = int(self.rng.integers(self.config.cached_views))
        view_rng = np.random.default_rng((self.config.seed, zlib.crc32(sample.name.encode()), view))
        key = f"{self.pool.root}/{sample.name}#{view} {self.image_size} {self.config.seed} {self.config.augment}"
        return self._augment(sample.read(sample.frame_indices), view_rng, key)

    def _augment(self, frames: Sequence[AnnotatedFrame], rng: Rng, key: str = "") -> _ClipSample | None:
        """Apply one view to frames and masks; None if the first frame shows no usable object.

        An object whose mask is broken in one of the frames is left out, and its problem is in `errors`.
        """
        frames = [replace(frame, masks=ReadableMasks(frame.masks, frame.size)) for frame in frames]
        height, width = frames[0].rgb.shape[:2]
        view = sample_view(rng, height, width, self.image_size, self.config.augment)
        config = self.config.augment
        clip_jitter = sample_color_jitter(rng, config.brightness, config.contrast, config.saturation)
        if rng.random() < config.grayscale_prob:
            clip_jitter = replace(clip_jitter, saturation=0.0)
        frame_limits = (config.frame_brightness, config.frame_contrast, config.frame_saturation)
        frame_jitters = [sample_color_jitter(rng, *frame_limits) for _ in frames]
        first_masks = self._choose_objects(frames[0], view)
        if not first_masks:
            assert isinstance(frames[0].masks, ReadableMasks)
            self.errors += frames[0].masks.problems.values()
            return None
        images = [
            apply_color_jitter(view.warp_image(frame.rgb), clip_jitter, frame_jitter)
            for frame, frame_jitter in zip(frames, frame_jitters, strict=True)
        ]
        empty = np.zeros((view.size, view.size), bool)
        masks = {
            n: [first, *(view.warp_mask(frame.masks[n]) if n in frame.masks else empty for frame in frames[1:])]
            for n, first in first_masks.items()
        }
        for frame in frames:
            assert isinstance(frame.masks, ReadableMasks)
            self.errors += frame.masks.problems.values()
            for n in frame.masks.problems:
                masks.pop(n, None)
        return _ClipSample(np.stack(images), np.array(list(masks.values())), key) if masks else None

    def _choose_objects(self, first: AnnotatedFrame, view: AffineView) -> dict[int, Masks]:
        """Choose objects that the first frame shows well, with their masks in it."""
        ids, max_objects = sorted(first.masks), self.prompts.max_objects
        by_area = self.config.objects_by_area and not self.pool.is_video
        chosen: dict[int, Masks] = {}
        for index in self.rng.permutation(len(ids))[: CANDIDATES_PER_OBJECT * max_objects]:
            mask = view.warp_mask(first.masks[ids[index]])
            if MIN_OBJECT_AREA < mask.mean() < MAX_OBJECT_AREA:
                chosen[ids[index]] = mask
            if len(chosen) == max_objects and not by_area:
                break
        if len(chosen) > max_objects:  # those nearest to areas that are spread evenly by logarithm
            ranked = sorted(chosen, key=lambda number: int(chosen[number].sum()))
            log_areas = np.log([chosen[number].sum() for number in ranked])
            targets = np.linspace(log_areas[0], log_areas[-1], max_objects)
            keep: list[int] = []
            for target in targets:
                free = [i for i in range(len(ranked)) if i not in keep]
                keep.append(min(free, key=lambda i: abs(float(log_areas[i] - target))))
            chosen = {ranked[i]: chosen[ranked[i]] for i in keep}
        return chosen


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
    """The same batches; an error is yielded as a value, because the loader would wrap it in another one."""

    def __init__(self, clips: ClipDataset) -> None:
        super().__init__()
        self.clips = clips

    def __iter__(self) -> Iterator[ClipBatch | SourceError]:
        try:
            yield from self.clips
        except SourceError as error:
            yield error


def make_loader(clips: ClipDataset, workers: int = 1) -> Iterator[ClipBatch]:
    """Yield the same batches, made in worker processes so that the network never waits for an image.

    Raises:
        SourceError: as `ClipDataset.make_batch`.
    """
    loader: DataLoader[ClipBatch | SourceError] = DataLoader(
        _ErrorsAsValues(clips),
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
    """End a worker process once its queues are flushed: native threads that are left may abort it after that."""
    Finalize(None, os._exit, args=(0,), exitpriority=-100)


@dataclass(frozen=True)
class TrainData:
    """The opened data of a run."""

    pools: tuple[SamplePool, ...]
    image_sources: DatasetSource | None
    """Images for synthetic videos and composites; None: there are none."""

    @property
    def num_samples(self) -> int:
        """Number of images and videos in an epoch."""
        return sum(len(pool.samples) for pool in self.pools)

    def clip_dataset(
        self, config: TrainConfig, stage: TrainStage, step: int, rank: int, world_size: int
    ) -> ClipDataset:
        """Return the batches of process `rank` of `world_size`, from `step` on."""
        generator = composites = None
        if self.image_sources is not None and stage.clip_length > 1:
            generator = CutoutClipGenerator(
                self.image_sources, size=stage.image_size, frames=stage.clip_length, objects=stage.prompts.max_objects
            )
        if self.image_sources is not None and config.composite_fraction:
            composites = CompositeGenerator(
                replace(self.image_sources, whole_objects=True),
                size=stage.still_image_size or stage.image_size,
                objects=stage.prompts.max_objects,
            )
        return ClipDataset(
            self.pools,
            config,
            stage,
            generator=generator,
            composites=composites,
            first_batch=step * config.grad_accum * world_size + rank,
            batch_stride=world_size,
        )


def open_train_data(data: DataPaths, config: TrainConfig) -> TrainData:
    """Open the sources of a run; `data` is their folder or, where the run names no sources, the data itself.

    Raises:
        SourceError: if a data set is missing or empty, or `hard_examples` is no report.
        InputError: if a weight is no positive number.
    """
    mixture = _open_sources(data, config.sources)
    for dataset, _ in mixture:
        if dataset.left_out:
            warnings.warn(dataset.left_out_summary, MaskletWarning, stacklevel=2)
    pools = build_pools(mixture, read_difficulties(Path(config.hard_examples)) if config.hard_examples else None)
    if not (config.synthetic_fraction or config.composite_fraction):
        return TrainData(pools, None)
    with_images = tuple(
        (dataset, weight)
        for dataset, weight in mixture
        if any(len(sample.frame_indices) == 1 for sample in dataset.samples)
    )
    cutouts = _open_sources(data, config.cutouts) if config.cutouts else ()
    return TrainData(pools, DatasetSource(with_images, cutouts) if with_images else None)


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
