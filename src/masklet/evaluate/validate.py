"""How good a model is on data of one's own: `validate`, which `SAM.val` and `masklet val` call.

What has one annotated frame is a still and asked as `masklet.evaluate.image_prompts` says; what has more is a video and
followed as `masklet.evaluate.semi_supervised_vos` says. What is broken is named, left out and counted.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Protocol, TypeAlias

import numpy as np

from masklet.datasets import Dataset, Sample, open_dataset, open_mixture
from masklet.errors import InputError, MaskletWarning, ModelError, SourceError
from masklet.evaluate.image_prompts import IouArray, image_ious, image_report, source_name
from masklet.evaluate.prompts_from_masks import parse_prompt_types, sample_evenly
from masklet.evaluate.semi_supervised_vos import ObjectResult, VideoModel, evaluate_video
from masklet.evaluate.validation_result import SampleCounts, TrackingMetrics, TrackingReport, ValidationResult
from masklet.image import ImagePredictor

__all__ = [
    "AnyData",
    "ValidationItem",
    "ValidationOutcome",
    "ValidationPlan",
    "iter_outcomes",
    "plan_validation",
    "summarize",
    "validate",
]

DEFAULT_PROMPTS = ("box", "click", "mask")
MAX_WARNINGS = 10
"""Broken entries that are warned of when data is opened, the rest is counted."""

IMAGE_PROMPT_TYPES = frozenset({"box", "click"})
"""What a still can be asked by: its mask would be the answer."""

DataSource: TypeAlias = "str | PathLike[str] | Dataset"
AnyData: TypeAlias = "DataSource | Mapping[DataSource, float] | Iterable[DataSource | tuple[DataSource, float]]"
"""A folder or file, also one that lists data sets, an opened data set, or several; weights mean nothing here."""


class ValidationModel(VideoModel, Protocol):
    """What is validated: `SAM`, or anything that answers about images and follows through videos."""

    @property
    def predictor(self) -> ImagePredictor:
        """What images are asked with."""


@dataclass(frozen=True)
class ValidationItem:
    """An entry, its name in the figures, and the source it is counted with."""

    name: str
    source: str
    sample: Sample

    @property
    def is_video(self) -> bool:
        """Whether there is anything to follow."""
        return len(self.sample.frame_indices) > 1

    @property
    def num_frames(self) -> int:
        """How many frames are gone through, at most."""
        return self.sample.frame_indices[-1] - self.sample.frame_indices[0] + 1 if self.is_video else 1


@dataclass(frozen=True)
class ValidationPlan:
    """What is to be measured, and what was found broken before anything was read."""

    items: tuple[ValidationItem, ...]
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """How often `step` will be called."""
        return sum(sample.num_frames for sample in self.items)


@dataclass(frozen=True, eq=False)
class ValidationOutcome:
    """What one sample gave."""

    item: ValidationItem
    iou_N5: IouArray = field(default_factory=lambda: np.zeros((0, 5)))
    """Of a still; see `masklet.evaluate.image_prompts`."""
    tracking_results: tuple[ObjectResult, ...] = ()
    """Of a video."""
    skip_reason: str = ""
    """Why it was left out; empty: it was not."""
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
    prompts: Sequence[str] = DEFAULT_PROMPTS,
    max_objects: int = 10,
    limit: int | None = None,
    on_progress: Callable[[], None] | None = None,
) -> ValidationResult:
    """Measure a model on images and videos with known masks.

    `data` is a path, a `masklet.datasets.Dataset`, or several of them; `kind` and `split` are those of
    `open_dataset`. `prompts` are "box", "click" (stills: one, three and five of them) and "mask" (videos only).
    `objects` of an entry at most are asked for, and of `limit` entries at most, both spread evenly. `step` is called
    for every still and every frame of a video; `plan(...).frames` says how often.

    Example:
        >>> print(validate(SAM(), "photos", prompts=["box"]))

    Raises:
        InputError: unknown prompts or kinds, or prompts that ask nothing of this data.
        SourceError: there is no such data, or nothing in it could be measured. A single broken entry is left out
            with a MaskletWarning.
        ModelError: videos alone, and a model for images only. In a mixture its videos are left out, with a warning.
    """
    chosen = plan_validation(data, data_format=data_format, split=split, limit=limit)
    return summarize(
        iter_outcomes(model, chosen, prompts=prompts, max_objects=max_objects, on_progress=on_progress), chosen.broken
    )


def plan_validation(
    data: AnyData, *, data_format: str | None = None, split: str | None = None, limit: int | None = None
) -> ValidationPlan:
    """What `validate` will go through: `limit` entries at most, spread evenly over the data.

    Example:
        >>> chosen = plan("photos", limit=100)
        >>> results = summary(outcomes(model, chosen))

    Raises:
        SourceError, InputError: as `validate`.
    """
    if limit is not None:
        validate_positive_int("limit", limit)
    several = _open_datasets(data, data_format, split)
    names = _unique_names([dataset.root.resolve().name for dataset in several], several)
    samples: list[ValidationItem] = []
    found: list[tuple[str, str]] = []
    for name, dataset in zip(names, several, strict=True):
        prefix = f"{name}/" if len(several) > 1 else ""
        for entry in dataset.samples:
            source = source_name(entry, name) if dataset.data_format == "native" else name
            samples.append(ValidationItem(prefix + entry.name, source, entry))
        found += [(prefix + finding.sample, finding.reason) for finding in dataset.issues]
    known = {sample.name for sample in samples}  # of these a part is broken: they are measured without it
    _warn_broken(found, known)
    broken = {name: reason for name, reason in found if name not in known}
    return ValidationPlan(tuple(samples[i] for i in sample_evenly(len(samples), limit or len(samples))), broken)


def validate_positive_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r} must be a whole number, 1 or more; or leave it out")


def _warn_broken(issues: Sequence[tuple[str, str]], measured_names: Collection[str]) -> None:
    for name, reason in issues[:MAX_WARNINGS]:
        _warn(f"{name}: {reason}" if name in measured_names else f"{name} is left out: {reason}")
    if len(issues) > MAX_WARNINGS:
        _warn(f"{len(issues) - MAX_WARNINGS} more findings of that kind; masklet data check names them all")


def _warn(message: str) -> None:
    warnings.warn(message, MaskletWarning, stacklevel=4)


def _open_datasets(data: AnyData, data_format: str | None, split: str | None) -> list[Dataset]:
    if isinstance(data, Dataset):
        if data_format is not None or split is not None:
            raise InputError(
                f"kind={data_format!r}, split={split!r} belong to a path; this data set is open: leave them out"
            )
        return [data]
    if isinstance(data, (str, PathLike)):
        if data_format is None and split is None:  # a file that lists data sets may be one path too
            return [dataset for dataset, _ in open_mixture(data)]
        return [open_dataset(data, data_format=data_format, split=split)]
    places = [item[0] if isinstance(item, tuple) else item for item in data]
    if not places:
        raise InputError("data holds no path; give at least one: a folder or file with images and masks")
    return [dataset for place in places for dataset in _open_datasets(place, data_format, split)]


def _unique_names(names: Sequence[str], datasets: Sequence[Dataset]) -> list[str]:
    """Names of data sets; whole paths where two have one name."""
    return [n if names.count(n) == 1 else str(d.root) for n, d in zip(names, datasets, strict=True)]


def iter_outcomes(
    model: ValidationModel,
    plan: ValidationPlan,
    *,
    prompts: Sequence[str] = DEFAULT_PROMPTS,
    max_objects: int = 10,
    on_progress: Callable[[], None] | None = None,
) -> Iterator[ValidationOutcome]:
    """Yield what each sample of a plan gave, as soon as it is measured; see `validate`.

    Stills are passed over where `prompts` is "mask" alone. A model that follows nothing is still measured on the
    stills of a mixture: videos are then left out.
    """
    asked = parse_prompt_types(prompts)
    validate_positive_int("objects", max_objects)
    samples = _promptable_items(plan.items, asked)
    mixed, refused = any(not sample.is_video for sample in samples), ""
    for sample in samples:
        spared = refused if sample.is_video else ""  # a model that refused one video refuses them all
        with _ProgressCounter(sample.num_frames, on_progress or (lambda: None)) as count:
            try:
                outcome = (
                    ValidationOutcome(sample, skip_reason=spared)
                    if spared
                    else _evaluate_item(model, sample, asked, max_objects, count)
                )
            except ModelError as problem:
                if not (mixed and sample.is_video):
                    raise
                refused = str(problem)
                outcome = ValidationOutcome(sample, skip_reason=refused)
        if outcome.skip_reason and not spared:
            _warn(f"{sample.name} is left out: {outcome.skip_reason}")
        yield outcome


def _promptable_items(items: tuple[ValidationItem, ...], prompts: Sequence[str]) -> tuple[ValidationItem, ...]:
    """Those that can be asked so."""
    if IMAGE_PROMPT_TYPES & set(prompts):
        return items
    videos = tuple(sample for sample in items if sample.is_video)
    if items and not videos:
        raise InputError("prompts=('mask',) asks nothing of images, their masks are the answer: add 'box'")
    return videos


class _ProgressCounter:
    """Calls `step` `total` times in all, however many frames there turn out to be."""

    def __init__(self, total: int, on_progress: Callable[[], None]) -> None:
        self.remaining, self.on_progress = total, on_progress

    def __enter__(self) -> _ProgressCounter:
        return self

    def __exit__(self, *problem: object) -> None:
        while self.remaining and problem[0] is None:
            self()

    def __call__(self) -> None:
        if self.remaining:
            self.remaining -= 1
            self.on_progress()


def _evaluate_item(
    model: ValidationModel,
    item: ValidationItem,
    prompts: Sequence[str],
    max_objects: int,
    on_progress: Callable[[], None],
) -> ValidationOutcome:
    started = time.perf_counter()
    outcome = ValidationOutcome(item)
    try:
        if item.is_video:
            outcome = replace(
                outcome, tracking_results=evaluate_video(model, item.sample, prompts, max_objects, on_progress)
            )
        else:
            [image] = item.sample.read(item.sample.frame_indices)
            outcome = replace(outcome, iou_N5=image_ious(model.predictor, image, max_objects, prompts))
    except InputError as problem:  # of this entry: prompts were checked before
        outcome = replace(outcome, skip_reason=str(problem))
    return replace(outcome, seconds=time.perf_counter() - started)


def summarize(outcomes: Iterable[ValidationOutcome], broken: Mapping[str, str] | None = None) -> ValidationResult:
    """The figures of what `outcomes` yielded; `broken` are those of its plan.

    Raises:
        SourceError: nothing could be measured.
    """
    outcomes = list(outcomes)
    left_out = {**(broken or {}), **{one.item.name: one.skip_reason for one in outcomes if one.skip_reason}}
    stills = [one for one in outcomes if len(one.iou_N5)]
    videos = [one for one in outcomes if one.tracking_results]
    if not stills and not videos:
        raise SourceError(_nothing_measured_message(len(outcomes), left_out))
    return ValidationResult(
        images=image_report([(one.item.source, one.iou_N5) for one in stills]) if stills else None,
        videos=_reports_by_prompt(videos),
        counts=_count_samples(stills, videos, len(outcomes) - sum(bool(one.skip_reason) for one in outcomes)),
        skipped=left_out,
        seconds=sum(one.seconds for one in outcomes),
    )


def _nothing_measured_message(count: int, skipped: Mapping[str, str]) -> str:
    if not skipped:
        return f"none of {count} entries has an object that can be measured; name data with masks that are not empty"
    name, reason = next(iter(skipped.items()))
    return (
        f"nothing could be measured; {len(skipped)} entries are broken: mend them, or name other data; the first is "
        f"{name}: {reason}"
    )


def _count_samples(
    images: Sequence[ValidationOutcome], videos: Sequence[ValidationOutcome], total: int
) -> SampleCounts:
    objects = sum(len(one.iou_N5) for one in images) + sum(
        len({row.id for row in one.tracking_results}) for one in videos
    )
    return SampleCounts(
        images=len(images),
        videos=len(videos),
        frames=sum(one.item.num_frames for one in videos),
        objects=objects,
        without_objects=total - len(images) - len(videos),
    )


def _reports_by_prompt(videos: Sequence[ValidationOutcome]) -> dict[str, TrackingReport]:
    prompts = dict.fromkeys(row.prompt for one in videos for row in one.tracking_results)
    return {
        prompt: _tracked_report({o.item.name: _filter_by_prompt(o.tracking_results, prompt) for o in videos})
        for prompt in prompts
    }


def _filter_by_prompt(rows: Sequence[ObjectResult], prompt: str) -> list[ObjectResult]:
    return [row for row in rows if row.prompt == prompt]


def _tracked_report(rows: Mapping[str, Sequence[ObjectResult]]) -> TrackingReport:
    every = [row for own in rows.values() for row in own]
    return TrackingReport(
        _mean_tracking_metrics(every), {name: _mean_tracking_metrics(own) for name, own in rows.items()}
    )


def _mean_tracking_metrics(results: Sequence[ObjectResult]) -> TrackingMetrics:
    j, f = (float(np.mean([getattr(row, name) for row in results])) for name in ("j", "f"))
    return TrackingMetrics(len(results), j, f, (j + f) / 2)
