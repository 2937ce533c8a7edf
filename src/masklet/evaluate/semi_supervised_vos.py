"""Semi-supervised video object segmentation: track objects from one prompt each, and measure them.

**Sequences of DAVIS** (`evaluate_sequence`). Every object of a sequence's first mask is tracked through all frames, all
objects together and forward only. Its prompt, given on the first frame and nowhere else, is its mask, the tight box of
its mask, or one click on the pixel deepest inside it. Where predictions overlap, the smaller object is on top, as in
the label maps that masklet writes. Each object is measured by J and F (`masklet.evaluate.metrics`) on every frame
except the first, which is given, and the last; its figure is the mean over those frames. A sequence's figure is the
mean over its objects, the total is the mean over all objects of all sequences, and J&F is the mean of J and F. In an
annotation that has other objects, pixels of 255 are not evaluated. A first mask of 0 and 255 alone (DAVIS 2016) is one
object. A tracker also predicts whether an object is visible; how often that is correct is counted over the same frames
(`PresenceAccuracy`), and is not part of J and F. The same frames are also averaged by how fast their objects move
(`masklet.evaluate.motion_speed`).

**Videos of any data set** (`evaluate_video`), where objects appear late and only some frames are annotated
(YouTube-VOS, SA-V, your own). Each object is prompted on the first annotated frame that shows it, and tracked forward
from there with the others. It is measured on every annotated frame after that one, the last included; where it is out
of sight, the prediction must be empty. Its figure is the mean over those frames. Objects of such data may overlap, so
each mask is measured as it is. All kinds of prompts are tracked in one pass, as separate objects: a frame is encoded
once.

Shapes: T frames, N objects, H height, W width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from masklet.datasets import Sample
from masklet.errors import SourceError
from masklet.evaluate.davis_sequences import IGNORE_LABEL, DavisSequence, Labels, load_ground_truth
from masklet.evaluate.metrics import boundary_f_score, region_similarity
from masklet.evaluate.motion_speed import SpeedMetrics, mean_by_speed, metrics_by_speed, motion_speeds
from masklet.evaluate.prompts_from_masks import (
    PROMPT_TYPES,
    parse_prompt_types,
    prompt_from_mask,
    sample_evenly,
    validate_prompt_type,
)
from masklet.evaluate.tracking import VideoModel, id_label_map, masks_by_id, require_frames, validate_mask_size
from masklet.media.image import format_size
from masklet.prompts import ObjectPrompt

__all__ = [
    "GroundTruth",
    "ObjectResult",
    "PresenceAccuracy",
    "SequenceResult",
    "VOSMetrics",
    "VOSReport",
    "VideoModel",
    "evaluate_sequence",
    "evaluate_video",
    "first_visible",
    "load_masks",
    "validate_prompt_type",
    "vos_report",
]

Mask = npt.NDArray[np.bool_]
GroundTruth = Sequence[Mapping[int, Mask]]
"""By annotated frame, the masks (H, W) by object id."""
PresenceArray = npt.NDArray[np.bool_]
"""(T, N): whether an object is predicted to be visible."""

READ_BATCH_SIZE = 32
"""Frames read at once: their images are not stored, and a video of an hour need not fit into memory."""


@dataclass(frozen=True)
class VOSMetrics:
    """Means over objects, 0 to 1, and speed."""

    objects: int
    frames: int
    j: float
    f: float
    jf: float
    fps: float
    """Frames per second, all objects of a video together: from opening it to its last frame, reading included."""


@dataclass(frozen=True)
class PresenceAccuracy:
    """Over the measured frames of all objects: how many show the object, and how many were predicted correctly.

    Example:
        >>> PresenceAccuracy(frames=100, visible=83, correct=87).accuracy
        0.87
    """

    frames: int = 0
    visible: int = 0
    correct: int = 0

    @property
    def accuracy(self) -> float:
        """The fraction of correct frames; nan without frames."""
        return self.correct / self.frames if self.frames else float("nan")

    @property
    def majority_baseline(self) -> float:
        """The accuracy of predicting "visible" on every frame; nan without frames."""
        return self.visible / self.frames if self.frames else float("nan")


@dataclass(frozen=True)
class SequenceResult:
    """J and F of each object of one sequence: means over the measured frames."""

    name: str
    j: dict[int, float]
    f: dict[int, float]
    frames: int
    seconds: float
    presence: PresenceAccuracy = PresenceAccuracy()
    by_speed: dict[str, SpeedMetrics] = field(default_factory=dict)
    """Means over the measured frames of all objects, by class of speed."""

    @property
    def metrics(self) -> VOSMetrics:
        """Means over the objects."""
        return _mean_metrics([self])


@dataclass(frozen=True)
class VOSReport:
    """Metrics over all objects and by sequence, and the results of every object."""

    total: VOSMetrics
    per_sequence: dict[str, VOSMetrics]
    by_speed: dict[str, SpeedMetrics]
    results: tuple[SequenceResult, ...]


def evaluate_sequence(
    model: VideoModel, sequence: DavisSequence, prompt: str = "mask", on_progress: Callable[[], None] | None = None
) -> SequenceResult:
    """Track the objects of one sequence from its first mask, and measure them.

    `prompt` is "mask", "box" or "click". `on_progress` is called after every frame.

    Example:
        >>> model = SAM("sam2.1_t.pt")
        >>> sequences = find_davis_sequences(Path("DAVIS"))
        >>> vos_report([evaluate_sequence(model, sequence) for sequence in sequences]).total.jf

    Raises:
        InputError: if `prompt` is unknown.
        SourceError: if an image or an annotation is unreadable or has another size, or the first mask has no object.
        ModelError: if the model does not track.
    """
    validate_prompt_type(prompt)
    truth_THW = load_ground_truth(sequence)
    ids = [int(label) for label in np.unique(truth_THW[0]) if label not in (0, IGNORE_LABEL)]
    if not ids:
        raise SourceError(
            f"{sequence.mask_paths[0]} has no object; the first annotation defines the objects: exclude the sequence"
        )
    prompts = {number: prompt_from_mask(truth_THW[0] == number, prompt) for number in ids}
    started = time.perf_counter()
    predicted_THW, present_TN = _track_sequence(model, sequence, prompts, truth_THW.shape[1:], on_progress)
    seconds = time.perf_counter() - started
    inner = range(1, len(truth_THW) - 1)
    evaluated_THW = truth_THW != IGNORE_LABEL
    j, f, by_speed = {}, {}, []
    for number in ids:
        true_THW = truth_THW == number
        pairs = [((predicted_THW[t] == number) & evaluated_THW[t], true_THW[t]) for t in inner]
        scores = [region_similarity(*pair) for pair in pairs], [boundary_f_score(*pair) for pair in pairs]
        j[number], f[number] = (float(np.mean(one)) for one in scores)
        by_speed.append(metrics_by_speed(motion_speeds(true_THW)[1:-1], *scores))
    visible_TN = np.array([[(labels == number).any() for number in ids] for labels in truth_THW])[1:-1]
    correct = int((visible_TN == present_TN[1:-1]).sum())
    presence = PresenceAccuracy(visible_TN.size, int(visible_TN.sum()), correct)
    return SequenceResult(sequence.name, j, f, len(truth_THW), seconds, presence, mean_by_speed(by_speed))


def _track_sequence(
    model: VideoModel,
    sequence: DavisSequence,
    prompts: Mapping[int, ObjectPrompt],
    size: tuple[int, ...],
    on_progress: Callable[[], None] | None,
) -> tuple[Labels, PresenceArray]:
    """Return predicted ids (T, H, W), and whether each object is predicted to be visible."""
    paths = sequence.frame_paths
    predicted_THW = np.zeros((len(paths), *size), np.uint8)
    present_TN = np.zeros((len(paths), len(prompts)), bool)
    column = {number: n for n, number in enumerate(prompts)}
    with model.session(list(paths)) as session:
        if session.video.size != size:
            raise SourceError(
                f"{paths[0]} is {format_size(session.video.size)} and {sequence.mask_paths[0]} is {format_size(size)}; "
                "an image and its annotation must have the same size: repair it, or exclude the sequence"
            )
        for number, prompt in prompts.items():
            session.add_object_prompt(number, 0, prompt)
        for results in require_frames(session.propagate(), range(len(paths)), paths.__getitem__):
            assert results.object_scores is not None
            columns = [column[number] for number in results.ids.tolist()]
            present_TN[results.frame_idx, columns] = results.object_scores > 0
            predicted_THW[results.frame_idx] = id_label_map(results)
            if on_progress is not None:
                on_progress()
    return predicted_THW, present_TN


def vos_report(results: Sequence[SequenceResult]) -> VOSReport:
    """Average the results of `evaluate_sequence`, at least one."""
    by_speed = mean_by_speed(one.by_speed for one in results)
    return VOSReport(_mean_metrics(results), {one.name: one.metrics for one in results}, by_speed, tuple(results))


def _mean_metrics(results: Sequence[SequenceResult]) -> VOSMetrics:
    j = float(np.mean([value for one in results for value in one.j.values()]))
    f = float(np.mean([value for one in results for value in one.f.values()]))
    frames, seconds = sum(one.frames for one in results), sum(one.seconds for one in results)
    return VOSMetrics(sum(len(one.j) for one in results), frames, j, f, (j + f) / 2, frames / seconds)


@dataclass(frozen=True)
class ObjectResult:
    """J and F of one object tracked from one kind of prompt: means over `frames` measured frames, 0 to 1."""

    id: int
    prompt: str
    j: float
    f: float
    frames: int


@dataclass
class _PromptedObject:
    """An object tracked from one prompt, and its scores so far; `first` counts annotated frames."""

    id: int
    first: int
    prompt: str
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)


def evaluate_video(
    model: VideoModel,
    sample: Sample,
    prompts: Sequence[str] = PROMPT_TYPES,
    max_objects: int = 10,
    on_progress: Callable[[], None] | None = None,
) -> tuple[ObjectResult, ...]:
    """Track at most `max_objects` objects of a video, spread evenly over their ids, and measure them.

    Each object is prompted on the first annotated frame that shows it, once by each of `prompts` ("mask", "box",
    "click"). `on_progress` is called after every frame. Returns a result for each object and prompt; none if no object
    is visible before the last annotated frame.

    Example:
        >>> [video] = open_dataset("videos").samples
        >>> evaluate_video(model, video, ["box"])
        (ObjectResult(id=1, prompt='box', j=0.81, f=0.84, frames=19),)

    Raises:
        InputError: if a prompt is unknown.
        SourceError: if an image or an annotation is unreadable or has another size.
        ModelError: if the model does not track.
    """
    kinds = parse_prompt_types(prompts)
    truth, frames = load_masks(sample), sample.frame_indices
    first = {number: at for number, at in first_visible(truth).items() if at + 1 < len(truth)}
    numbers = sorted(first)
    chosen = [numbers[i] for i in sample_evenly(len(numbers), max_objects)]
    if not chosen:
        return ()
    objects = [_PromptedObject(number, first[number], kind) for number in chosen for kind in kinds]
    index_of = {frame: at for at, frame in enumerate(frames)}
    required = frames[min(one.first for one in objects) :]
    with model.session(sample.source) as session:
        for number, one in enumerate(objects):
            mask, frame = truth[one.first][one.id], frames[one.first]
            validate_mask_size(mask, session.video.size, f"{sample.name}, frame {frame}")
            session.add_object_prompt(number, frame, prompt_from_mask(mask, one.prompt))
        empty = np.zeros(session.video.size, bool)
        passing = session.propagate(stop=frames[-1] + 1)
        for results in require_frames(passing, required, lambda frame: f"frame {frame} of {sample.name}"):
            assert results.frame_idx is not None
            at = index_of.get(results.frame_idx)
            if at is not None:
                predicted = masks_by_id(results)
                true = {one.id: truth[at].get(one.id, empty) for one in objects if one.first < at}
                for number, mask in true.items():
                    validate_mask_size(
                        mask, session.video.size, f"object {number}, frame {results.frame_idx} of {results.path}"
                    )
                for number, one in enumerate(objects):
                    if one.first < at:
                        one.j.append(region_similarity(predicted.get(number, empty), true[one.id]))
                        one.f.append(boundary_f_score(predicted.get(number, empty), true[one.id]))
            if on_progress is not None:
                on_progress()
    return tuple(
        ObjectResult(one.id, one.prompt, float(np.mean(one.j)), float(np.mean(one.f)), len(one.j)) for one in objects
    )


def load_masks(sample: Sample) -> GroundTruth:
    """Return the masks of every annotated frame, which are decoded when they are used."""
    frames = sample.frame_indices
    batches = [frames[start : start + READ_BATCH_SIZE] for start in range(0, len(frames), READ_BATCH_SIZE)]
    return [frame.masks for batch in batches for frame in sample.read(batch)]


def first_visible(truth: GroundTruth) -> dict[int, int]:
    """Return, by object id, which of the annotated frames is the first that shows the object."""
    first: dict[int, int] = {}
    for at, masks in enumerate(truth):
        first.update({number: at for number in masks if number not in first and masks[number].any()})
    return first
