"""Evaluate a model on your own data: `validate`, which `SAM.val` and `masklet val` call.

A sample with one annotated frame is an image, evaluated as in `masklet.evaluate.image_prompts`; one with more is a
video, evaluated as in `masklet.evaluate.semi_supervised_vos`. Broken samples are reported, skipped and counted.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TypeAlias

import numpy as np

from masklet.datasets import AnnotatedFrame, Dataset, Sample, open_dataset, open_mixture
from masklet.datasets.dataset import ReadableMasks
from masklet.errors import InputError, MaskletError, MaskletWarning, ModelError, SourceError
from masklet.evaluate.argument_checks import validate_positive_int
from masklet.evaluate.image_prompts import ImageResult, IouArray, image_ious, image_report, source_name
from masklet.evaluate.prompts_from_masks import parse_prompt_types, sample_evenly
from masklet.evaluate.semi_supervised_vos import ObjectResult, evaluate_video
from masklet.evaluate.tracking import ValidationModel
from masklet.evaluate.validation_result import SampleCounts, TrackingMetrics, TrackingReport, ValidationResult

__all__ = [
    "AnyData",
    "ValidationItem",
    "ValidationModel",
    "ValidationOutcome",
    "ValidationPlan",
    "iter_outcomes",
    "plan_validation",
    "summarize",
    "validate",
]

DEFAULT_PROMPTS = ("box", "click", "mask")
MAX_WARNINGS = 10
"""Warnings about broken samples when data is opened; further ones are counted."""

IMAGE_PROMPT_TYPES = frozenset({"box", "click"})
"""The prompts of an image: its mask would be the answer."""

DataSource: TypeAlias = "str | PathLike[str] | Dataset"
AnyData: TypeAlias = "DataSource | Mapping[DataSource, float] | Iterable[DataSource | tuple[DataSource, float]]"
"""A folder or file, also one that lists data sets, an opened data set, or several; weights are ignored."""


@dataclass(frozen=True)
class ValidationItem:
    """A sample, its name in the figures, and its source."""

    name: str
    source: str
    sample: Sample

    @property
    def is_video(self) -> bool:
        """Whether there is something to track."""
        return len(self.sample.frame_indices) > 1

    @property
    def num_frames(self) -> int:
        """Frames that are processed, at most."""
        return self.sample.frame_indices[-1] - self.sample.frame_indices[0] + 1 if self.is_video else 1


@dataclass(frozen=True)
class ValidationPlan:
    """The samples to evaluate, and those that were broken before anything was read, with the reasons."""

    items: tuple[ValidationItem, ...]
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """How often `on_progress` will be called."""
        return sum(item.num_frames for item in self.items)


@dataclass(frozen=True, eq=False)
class ValidationOutcome:
    """The outcome of one sample."""

    item: ValidationItem
    iou_N5: IouArray = field(default_factory=lambda: np.zeros((0, 5)))
    """Of an image; see `masklet.evaluate.image_prompts`."""
    tracking_results: tuple[ObjectResult, ...] = ()
    """Of a video."""
    skip_reason: str = ""
    """Why it was skipped; empty if it was not."""
    broken_objects: tuple[str, ...] = ()
    """What is wrong with the objects that were left out, one text each."""
    seconds: float = 0.0

    @property
    def is_measured(self) -> bool:
        """Whether it adds to the figures."""
        return len(self.iou_N5) > 0 or len(self.tracking_results) > 0


def validate(
    model: ValidationModel,
    data: AnyData,
    *,
    data_format: str | None = None,
    split: str | None = None,
    include_crowds: bool = False,
    prompts: Sequence[str] = DEFAULT_PROMPTS,
    max_objects: int = 10,
    limit: int | None = None,
    on_progress: Callable[[], None] | None = None,
) -> ValidationResult:
    """Measure a model on images and videos with known masks.

    Args:
        data: a path, a `masklet.datasets.Dataset`, or several of them.
        data_format: as `split` and `include_crowds`, those of `open_dataset`.
        prompts: "box", "click" (images: one, three and five of them) and "mask" (videos only).
        max_objects: of each sample, spread evenly.
        limit: samples at most, spread evenly.
        on_progress: called for every image and every frame of a video, `plan_validation(...).num_frames` times.

    Example:
        >>> print(validate(SAM(), "photos", prompts=["box"]))

    Raises:
        InputError: if a prompt or format is unknown, or the prompts do not fit this data.
        SourceError: if the data does not exist, or nothing in it could be measured. A single broken sample is skipped
            with a MaskletWarning.
        ModelError: if there are only videos and the model does not track. Among images its videos are skipped, with a
            warning.
    """
    plan = plan_validation(data, data_format=data_format, split=split, include_crowds=include_crowds, limit=limit)
    outcomes = iter_outcomes(model, plan, prompts=prompts, max_objects=max_objects, on_progress=on_progress)
    return summarize(outcomes, plan.broken)


def plan_validation(
    data: AnyData,
    *,
    data_format: str | None = None,
    split: str | None = None,
    include_crowds: bool = False,
    limit: int | None = None,
) -> ValidationPlan:
    """Choose what `validate` evaluates: `limit` samples at most, spread evenly over the data.

    Example:
        >>> plan = plan_validation("photos", limit=100)
        >>> result = summarize(iter_outcomes(model, plan))

    Raises:
        SourceError, InputError: as `validate`.
    """
    if limit is not None:
        validate_positive_int("limit", limit)
    datasets = _open_datasets(data, data_format, split, include_crowds)
    names = [dataset.root.resolve().name for dataset in datasets]
    items: list[ValidationItem] = []
    issues: list[tuple[str, str]] = []
    for short_name, dataset in zip(names, datasets, strict=True):
        name = short_name if names.count(short_name) == 1 else str(dataset.root)
        prefix = f"{name}/" if len(datasets) > 1 else ""
        for sample in dataset.samples:
            source = source_name(sample, name) if dataset.data_format == "native" else name
            items.append(ValidationItem(prefix + sample.name, source, sample))
        issues += [(prefix + issue.sample, issue.reason) for issue in dataset.issues]
    for dataset in datasets:
        if dataset.left_out:
            _warn(dataset.left_out_summary)
    measured = {item.name for item in items}  # only a part of these is broken: they are measured without it
    for name, reason in issues[:MAX_WARNINGS]:
        _warn(f"{name}: {reason}" if name in measured else f"{name} is left out: {reason}")
    if len(issues) > MAX_WARNINGS:
        _warn(f"{len(issues) - MAX_WARNINGS} more findings of that kind; masklet data check lists them all")
    broken = {name: reason for name, reason in issues if name not in measured}
    return ValidationPlan(tuple(items[i] for i in sample_evenly(len(items), limit or len(items))), broken)


def _warn(message: str) -> None:
    warnings.warn(message, MaskletWarning, stacklevel=4)


def _open_datasets(data: AnyData, data_format: str | None, split: str | None, include_crowds: bool) -> list[Dataset]:
    if isinstance(data, Dataset):
        if data_format is not None or split is not None or include_crowds:
            raise InputError(
                f"data_format={data_format!r}, split={split!r}, include_crowds={include_crowds} belong to a path; this "
                "data set is open: remove them"
            )
        return [data]
    if isinstance(data, (str, PathLike)):
        if (
            data_format is None and split is None and not include_crowds
        ):  # a file that lists data sets may be one path, too
            return [dataset for dataset, _ in open_mixture(data)]
        return [open_dataset(data, data_format=data_format, split=split, include_crowds=include_crowds)]
    sources = [item[0] if isinstance(item, tuple) else item for item in data]
    if not sources:
        raise InputError("data has no path; give at least one: a folder or file with images and masks")
    return [dataset for source in sources for dataset in _open_datasets(source, data_format, split, include_crowds)]


def iter_outcomes(
    model: ValidationModel,
    plan: ValidationPlan,
    *,
    prompts: Sequence[str] = DEFAULT_PROMPTS,
    max_objects: int = 10,
    on_progress: Callable[[], None] | None = None,
) -> Iterator[ValidationOutcome]:
    """Yield the outcome of each sample of a plan as soon as it is measured; see `validate`.

    Images are not part of it if `prompts` is "mask" alone. If the model does not track, the videos of a mixture are
    skipped, and its images are measured.
    """
    kinds = parse_prompt_types(prompts)
    validate_positive_int("max_objects", max_objects)
    items = plan.items
    if not IMAGE_PROMPT_TYPES & set(kinds):
        items = tuple(item for item in items if item.is_video)
        if plan.items and not items:
            raise InputError("prompts=('mask',) does not apply to images, their masks are the answer: add 'box'")
    mixed = any(not item.is_video for item in items)
    refusal = ""  # of a model that does not track: it would refuse every video
    for item in items:
        refused = item.is_video and bool(refusal)
        count = _ProgressCounter(item.num_frames, on_progress or (lambda: None))
        try:
            skipped = ValidationOutcome(item, skip_reason=refusal)
            outcome = skipped if refused else _evaluate_item(model, item, kinds, max_objects, count)
        except ModelError as problem:
            if not (mixed and item.is_video):
                raise
            refusal = str(problem)
            outcome = ValidationOutcome(item, skip_reason=refusal)
        while count.remaining:
            count()
        if outcome.skip_reason and not refused:
            _warn(f"{item.name} is left out: {outcome.skip_reason}")
        for reason in outcome.broken_objects[:MAX_WARNINGS]:
            _warn(f"{item.name}: an object is left out: {reason}")
        yield outcome


@dataclass
class _ProgressCounter:
    """Calls `on_progress` at most `remaining` times, whatever the number of frames turns out to be."""

    remaining: int
    on_progress: Callable[[], None]

    def __call__(self) -> None:
        if self.remaining:
            self.remaining -= 1
            self.on_progress()


class _ReadableSample:
    """A sample whose broken objects are empty instead of an error; `problems` has those that were met, by id."""

    def __init__(self, sample: Sample) -> None:
        self.name, self.frame_indices, self.source = sample.name, sample.frame_indices, sample.source
        self._sample = sample
        self._masks: list[ReadableMasks] = []

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """See `Sample`."""
        frames = []
        for frame in self._sample.read(frame_indices):
            self._masks.append(ReadableMasks(frame.masks, frame.size))
            frames.append(replace(frame, masks=self._masks[-1]))
        return frames

    @property
    def problems(self) -> dict[int, str]:
        """What is wrong with each broken object; of several frames the last."""
        return {number: text for masks in self._masks for number, text in masks.problems.items()}


def _evaluate_item(
    model: ValidationModel,
    item: ValidationItem,
    prompts: Sequence[str],
    max_objects: int,
    on_progress: Callable[[], None],
) -> ValidationOutcome:
    started = time.perf_counter()
    outcome, sample = ValidationOutcome(item), _ReadableSample(item.sample)
    try:
        if item.is_video:
            results = evaluate_video(model, sample, prompts, max_objects, on_progress)
            outcome = replace(outcome, tracking_results=tuple(one for one in results if one.id not in sample.problems))
        else:
            [frame] = sample.read(sample.frame_indices)
            outcome = replace(outcome, iou_N5=image_ious(model.predictor, frame, max_objects, prompts))
        outcome = replace(outcome, broken_objects=tuple(sample.problems.values()))
    except InputError as problem:  # of this sample: prompts were checked before
        outcome = replace(outcome, skip_reason=str(problem))
    except MaskletError:  # of the model, or of what is written
        raise
    except Exception as problem:  # one sample never ends a run
        outcome = replace(outcome, skip_reason=f"{item.name}: {type(problem).__name__}: {problem}")
    return replace(outcome, seconds=time.perf_counter() - started)


def summarize(outcomes: Iterable[ValidationOutcome], broken: Mapping[str, str] | None = None) -> ValidationResult:
    """Average the outcomes of `iter_outcomes`; `broken` are those of its plan.

    Raises:
        SourceError: if nothing could be measured.
    """
    outcomes = list(outcomes)
    skipped = {**(broken or {}), **{one.item.name: one.skip_reason for one in outcomes if one.skip_reason}}
    images = [one for one in outcomes if len(one.iou_N5)]
    videos = [one for one in outcomes if one.tracking_results]
    if not images and not videos and skipped:
        name, reason = next(iter(skipped.items()))
        raise SourceError(
            f"nothing could be measured; {len(skipped)} entries are broken: repair them, or name other data; the first "
            f"is {name}: {reason}"
        )
    if not images and not videos:
        raise SourceError(
            f"none of {len(outcomes)} entries has an object that can be measured; name data with masks that are not "
            "empty"
        )
    image_results = [ImageResult(o.item.name, o.item.source, tuple(map(tuple, o.iou_N5.tolist()))) for o in images]
    objects = sum(len(one.iou_N5) for one in images)
    objects += sum(len({result.id for result in one.tracking_results}) for one in videos)
    evaluated = sum(not one.skip_reason for one in outcomes)
    reports = {}
    for prompt in dict.fromkeys(result.prompt for one in videos for result in one.tracking_results):
        by_video = {
            one.item.name: [result for result in one.tracking_results if result.prompt == prompt] for one in videos
        }
        total = _mean_metrics([result for results in by_video.values() for result in results])
        reports[prompt] = TrackingReport(total, {name: _mean_metrics(results) for name, results in by_video.items()})
    return ValidationResult(
        images=image_report(image_results) if images else None,
        videos=reports,
        counts=SampleCounts(
            images=len(images),
            videos=len(videos),
            frames=sum(one.item.num_frames for one in videos),
            objects=objects,
            without_objects=evaluated - len(images) - len(videos),
        ),
        skipped=skipped,
        broken_objects=sum(len(one.broken_objects) for one in outcomes),
        seconds=sum(one.seconds for one in outcomes),
    )


def _mean_metrics(results: Sequence[ObjectResult]) -> TrackingMetrics:
    j, f = float(np.mean([one.j for one in results])), float(np.mean([one.f for one in results]))
    return TrackingMetrics(len(results), j, f, (j + f) / 2)
