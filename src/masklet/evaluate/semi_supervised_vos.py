"""Videos with known masks, followed from what the first mask says: the semi-supervised protocol of DAVIS.

The protocol. Every object of a sequence's first mask is followed through all frames, all objects together and
forwards only. What is said about it, on the first frame and nowhere else, is its mask, the tight box of its mask, or
one click on the pixel that lies deepest inside it. Where the answers overlap, the smaller one is kept, as in the
label maps that masklet writes. Each object is measured by J and F (`masklet.evaluate.metrics`) on every frame but
the first, which is given, and the last; its figure is the mean over those frames. A sequence's figure is the mean
over its objects, the figure of all is the mean over all objects of all sequences, and J&F is the mean of J and F.

In an annotation that has other objects, 255 is a place that nobody judges. A first mask of 0 and 255 alone (DAVIS
2016) is of one object. Videos of other data sets, whose objects may come late, are measured by
`masklet.evaluate.semi_supervised_vos`.

Beside its masks a tracker says whether an object is in sight; how often it is right is counted over the same frames
(`Presence`), and is no part of J and F.

Shapes: T frames, N objects, H height, W width.

Videos of any data set, followed from the first mask, box or click.

The protocol, for data where objects come late and only some frames are annotated (YouTube-VOS, SA-V, one's own):
every object is told on the first annotated frame that shows it, and nowhere else, and followed forwards from there
beside the others. It is measured by J and F (`masklet.evaluate.metrics`) on every annotated frame after that one, the
last included; where it is out of sight, nothing must be shown. Its figure is the mean over those frames. Each
object's mask is measured as it is: objects of such data may overlap, so overlaps are not settled. These are the ways
in which it differs from the protocol of DAVIS (`masklet.evaluate.semi_supervised_vos`).

All ways of asking are followed in one pass, as objects of their own: a frame is encoded once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from masklet.datasets import Sample
from masklet.errors import SourceError
from masklet.evaluate.davis_sequences import IGNORE_LABEL, DavisSequence, Labels, load_ground_truth
from masklet.evaluate.metrics import boundary_f_score, region_similarity
from masklet.evaluate.prompts_from_masks import (
    PROMPT_TYPES,
    parse_prompt_types,
    prompt_from_mask,
    sample_evenly,
    validate_prompt_type,
)
from masklet.media.image import format_size
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.video import Session
from masklet.writers.mask_images import label_map

__all__ = [
    "GroundTruth",
    "ObjectResult",
    "PresenceAccuracy",
    "SequenceResult",
    "VOSMetrics",
    "VOSReport",
    "evaluate_sequence",
    "evaluate_video",
    "first_visible",
    "load_masks",
    "validate_mask_size",
    "validate_prompt_type",
    "vos_report",
]

Mask = npt.NDArray[np.bool_]
GroundTruth = Sequence[Mapping[int, Mask]]

READ_BATCH_SIZE = 32
"""Frames read in one go: their images are not kept, and a video of an hour need not fit into memory."""


@dataclass(frozen=True)
class ObjectResult:
    """What one object had that was followed from one kind of prompt: means over `frames` measured frames, 0 to 1."""

    id: int
    prompt: str
    j: float
    f: float
    frames: int


def evaluate_video(
    model: VideoModel,
    sample: Sample,
    prompts: Sequence[str] = PROMPT_TYPES,
    max_objects: int = 10,
    on_progress: Callable[[], None] | None = None,
) -> tuple[ObjectResult, ...]:
    """Follow at most `objects` objects of a video, spread evenly over their ids, and measure them.

    `prompts` are what is said of each object on the first annotated frame that shows it: "mask", "box", "click", each
    followed by itself. `step` is called after every frame. A row for each object and prompt; none where no object is
    seen before the last annotated frame.

    Example:
        >>> [video] = open_dataset("videos").entries
        >>> evaluate_entry(model, video, ["box"])
        (TrackedRow(id=1, prompt='box', j=0.81, f=0.84, frames=19),)

    Raises:
        InputError: an unknown prompt.
        SourceError: an image or an annotation that cannot be read or has another size.
        ModelError: a model for images only.
    """
    asked = parse_prompt_types(prompts)
    truth = load_masks(sample)
    first = {number: at for number, at in first_visible(truth).items() if at + 1 < len(truth)}
    numbers = sorted(first)
    chosen = [numbers[i] for i in sample_evenly(len(numbers), max_objects)]
    if not chosen:
        return ()
    told = [_PromptedObject(number, first[number], prompt) for number in chosen for prompt in asked]
    _track_objects(model, sample, truth, told, on_progress or (lambda: None))
    return tuple(one.result for one in told)


class _PromptedObject:
    """An object that is followed from one prompt, and its measures so far."""

    def __init__(self, id: int, first_frame: int, prompt: str) -> None:
        self.id, self.first_frame, self.prompt = id, first_frame, prompt
        self.j: list[float] = []
        self.f: list[float] = []

    def add_frame(self, predicted: Mask, truth: Mask) -> None:
        """One more frame."""
        self.j.append(region_similarity(predicted, truth))
        self.f.append(boundary_f_score(predicted, truth))

    @property
    def result(self) -> ObjectResult:
        """Means over the frames."""
        return ObjectResult(self.id, self.prompt, float(np.mean(self.j)), float(np.mean(self.f)), len(self.j))


def load_masks(sample: Sample) -> GroundTruth:
    """The masks of every annotated frame, still to be decoded."""
    parts = [
        sample.frame_indices[start : start + READ_BATCH_SIZE]
        for start in range(0, len(sample.frame_indices), READ_BATCH_SIZE)
    ]
    return [frame.masks for part in parts for frame in sample.read(part)]


def first_visible(truth: GroundTruth) -> dict[int, int]:
    """By id, the first of the annotated frames that shows the object."""
    found: dict[int, int] = {}
    for at, masks in enumerate(truth):
        found.update({number: at for number in masks if number not in found and masks[number].any()})
    return found


def _track_objects(
    model: VideoModel,
    sample: Sample,
    truth: GroundTruth,
    objects: Sequence[_PromptedObject],
    on_progress: Callable[[], None],
) -> None:
    """Let `told` be followed to the last annotated frame, and measured."""
    number_of = {number: at for at, number in enumerate(sample.frame_indices)}
    left = set(sample.frame_indices[min(one.first_frame for one in objects) :])
    with model.session(sample.source) as session:
        _add_prompts(session, sample, truth, objects)
        for results in session.propagate(stop=sample.frame_indices[-1] + 1):
            assert results.frame_idx is not None
            if results.frame_idx in number_of:
                at = number_of[results.frame_idx]
                _score_frame(
                    results,
                    truth[at],
                    {n: one for n, one in enumerate(objects) if one.first_frame < at},
                    session.video.size,
                )
                left.discard(results.frame_idx)
            on_progress()
    if left:  # the reader leaves a damaged image out and goes on; figures without it would be of another video
        raise SourceError(
            f"frame {min(left)} of {sample.name} is damaged or is not there; every annotated frame counts: mend it, or "
            "take the video out"
        )


def _add_prompts(session: Session, sample: Sample, truth: GroundTruth, objects: Sequence[_PromptedObject]) -> None:
    for number, one in enumerate(objects):
        mask = truth[one.first_frame][one.id]
        validate_mask_size(mask, session.video.size, f"{sample.name}, frame {sample.frame_indices[one.first_frame]}")
        session._add_object_prompt(number, sample.frame_indices[one.first_frame], prompt_from_mask(mask, one.prompt))


def _score_frame(
    results: Results, truth: Mapping[int, Mask], objects: Mapping[int, _PromptedObject], size: tuple[int, int]
) -> None:
    """Measure `told`, by their number in the session, on one frame; what is not there is empty."""
    nothing = np.zeros(size, bool)
    shown = {} if results.masks is None else dict(zip(results.ids.tolist(), results.masks.data, strict=True))
    true = {id: truth.get(id, nothing) for id in {one.id for one in objects.values()}}
    for number, one in objects.items():
        validate_mask_size(true[one.id], size, f"object {one.id}, frame {results.frame_idx} of {results.path}")
        one.add_frame(shown.get(number, nothing), true[one.id])


def validate_mask_size(mask: Mask, size: tuple[int, ...], where: str) -> None:
    """Raise SourceError when a mask has not the size of its image."""
    if mask.shape != size:
        raise SourceError(
            f"{where}: the mask is {format_size(mask.shape)} and the image is {format_size(size)}; both have one size: "
            "mend it, or take it out"
        )


PresenceArray = npt.NDArray[np.bool_]
"""(T, N): whether an object is said to be in sight."""


class VideoModel(Protocol):
    """What is evaluated: `SAM`, or anything that opens a session on a list of images."""

    def session(self, source: Any) -> Session:
        """A video to work on."""


@dataclass(frozen=True)
class VOSMetrics:
    """Means over objects, 0 to 1, and pace."""

    objects: int
    frames: int
    j: float
    f: float
    jf: float
    fps: float
    """Frames a second, all objects of a video together: from opening it to its last frame, reading included."""


@dataclass(frozen=True)
class PresenceAccuracy:
    """Of the measured frames of all objects: how many, on how many the object is in sight, and said right whether.

    Example:
        >>> Presence(frames=100, in_sight=83, right=87).share
        0.87
    """

    frames: int = 0
    visible: int = 0
    correct: int = 0

    def __add__(self, other: PresenceAccuracy) -> PresenceAccuracy:
        return PresenceAccuracy(self.frames + other.frames, self.visible + other.visible, self.correct + other.correct)

    @property
    def accuracy(self) -> float:
        """What is said right, 0 to 1; nan of no frame."""
        return self.correct / self.frames if self.frames else float("nan")

    @property
    def majority_baseline(self) -> float:
        """What would be said right by always saying that the object is in sight."""
        return self.visible / self.frames if self.frames else float("nan")


@dataclass(frozen=True)
class SequenceResult:
    """What one sequence gave: J and F of each object, means over the measured frames."""

    name: str
    j: dict[int, float]
    f: dict[int, float]
    frames: int
    seconds: float
    presence: PresenceAccuracy = PresenceAccuracy()

    @property
    def metrics(self) -> VOSMetrics:
        """Means over the objects."""
        return _mean_metrics([self])


@dataclass(frozen=True)
class VOSReport:
    """Figures over all objects, by sequence, and what each object had."""

    total: VOSMetrics
    per_sequence: dict[str, VOSMetrics]
    results: tuple[SequenceResult, ...]


def evaluate_sequence(
    model: VideoModel, sequence: DavisSequence, prompt: str = "mask", on_progress: Callable[[], None] | None = None
) -> SequenceResult:
    """Follow the objects of one sequence from its first mask, and measure them.

    `prompt` is what is said of each object: "mask", "box" or "click". `step` is called after every frame.

    Example:
        >>> model = SAM("sam2.1_t.pt")
        >>> videos_report([evaluate_video(model, video) for video in davis_under(Path("DAVIS"))]).total.jf

    Raises:
        InputError: an unknown `prompt`.
        SourceError: an image or an annotation that cannot be read or has another size, or a first mask without
            objects.
        ModelError: a model for images only.
    """
    validate_prompt_type(prompt)
    truth_THW = load_ground_truth(sequence)
    ids = [int(label) for label in np.unique(truth_THW[0]) if label not in (0, IGNORE_LABEL)]
    if not ids:
        raise SourceError(
            f"{sequence.mask_paths[0]} has no object; the first annotation says what to follow: exclude it"
        )
    prompts = {number: prompt_from_mask(truth_THW[0] == number, prompt) for number in ids}
    started = time.perf_counter()
    found_THW, present_TN = _track_sequence(
        model, sequence, prompts, on_progress or (lambda: None), truth_THW.shape[1:]
    )
    seconds = time.perf_counter() - started
    row = _score_sequence(sequence.name, found_THW, truth_THW, ids, seconds)
    return replace(row, presence=_presence_accuracy(present_TN, truth_THW, ids))


def _track_sequence(
    model: VideoModel,
    sequence: DavisSequence,
    prompts: dict[int, ObjectPrompt],
    on_progress: Callable[[], None],
    size: tuple[int, ...],
) -> tuple[Labels, PresenceArray]:
    """Ids (T, H, W) of what was found, where objects overlap of the smaller one; and what was said to be in sight."""
    found = np.zeros((len(sequence.frame_paths), *size), np.uint8)
    present, column = np.zeros((len(found), len(prompts)), bool), {number: n for n, number in enumerate(prompts)}
    left = set(range(len(found)))
    with model.session(list(sequence.frame_paths)) as session:
        if session.video.size != size:
            raise SourceError(
                f"{sequence.frame_paths[0]} is {format_size(session.video.size)} and {sequence.mask_paths[0]} is "
                f"{format_size(size)}; an image and its annotation have one size: mend it, or exclude the sequence"
            )
        for number, prompt in prompts.items():
            session._add_object_prompt(number, 0, prompt)
        for results in session.propagate():
            assert results.frame_idx is not None
            assert results.object_scores is not None
            present[results.frame_idx, [column[number] for number in results.ids.tolist()]] = results.object_scores > 0
            found[results.frame_idx] = np.concatenate([[0], results.ids]).astype(np.uint8)[label_map(results)]
            left.discard(results.frame_idx)
            on_progress()
    if left:  # the reader leaves a damaged image out and goes on; figures without it would be of another video
        raise SourceError(
            f"{sequence.frame_paths[min(left)]} is damaged or was not reached; every image counts: mend it"
        )
    return found, present


def _score_sequence(
    name: str, predicted_THW: Labels, truth_THW: Labels, object_ids: Sequence[int], seconds: float
) -> SequenceResult:
    judged_THW = truth_THW != IGNORE_LABEL
    inner = range(1, len(truth_THW) - 1)
    j, f = {}, {}
    for number in object_ids:
        pairs = [((predicted_THW[t] == number) & judged_THW[t], truth_THW[t] == number) for t in inner]
        j[number] = float(np.mean([region_similarity(*pair) for pair in pairs]))
        f[number] = float(np.mean([boundary_f_score(*pair) for pair in pairs]))
    return SequenceResult(name, j, f, len(truth_THW), seconds)


def _presence_accuracy(predicted_TN: PresenceArray, truth_THW: Labels, object_ids: Sequence[int]) -> PresenceAccuracy:
    true_TN = np.array([[(labels == number).any() for number in object_ids] for labels in truth_THW])[1:-1]
    return PresenceAccuracy(true_TN.size, int(true_TN.sum()), int((true_TN == predicted_TN[1:-1]).sum()))


def vos_report(results: Sequence[SequenceResult]) -> VOSReport:
    """Means of what `evaluate_video` gave, at least one row."""
    return VOSReport(_mean_metrics(results), {row.name: row.metrics for row in results}, tuple(results))


def _mean_metrics(results: Sequence[SequenceResult]) -> VOSMetrics:
    j = float(np.mean([value for row in results for value in row.j.values()]))
    f = float(np.mean([value for row in results for value in row.f.values()]))
    frames, seconds = sum(row.frames for row in results), sum(row.seconds for row in results)
    return VOSMetrics(sum(len(row.j) for row in results), frames, j, f, (j + f) / 2, frames / seconds)
