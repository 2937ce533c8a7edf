"""Save a session to one safetensors file: tensors as tensors, everything else as JSON in the header.

The file names the model (with a fingerprint of its weights) and the source it belongs to; `session_load` reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from masklet.atomic_files import atomic_path, check_replaceable
from masklet.errors import InputError, StateError
from masklet.exported import ExportedNetwork
from masklet.masks import rle
from masklet.media import Video
from masklet.models.sam2.config import CONFIGS
from masklet.prompts import ObjectPrompt
from masklet.tensors import HAS_TORCH, Tensor, torch
from masklet.video.box_motion import BoxMotion
from masklet.video.memory_bank import FrameState, TrackedObject
from masklet.video.memory_selection import RecentFrames
from masklet.video.propagation import PropagationState
from masklet.video.track_options import TrackOptions

if TYPE_CHECKING:
    from masklet.models.sam1 import SAM1
    from masklet.models.sam2 import SAM2

__all__ = [
    "FORMAT_VERSION",
    "METADATA_KEY",
    "CompressedResultsDoc",
    "FrameStateDoc",
    "MotionDoc",
    "ObjectDoc",
    "PromptDoc",
    "PropagationDoc",
    "SessionContext",
    "SessionDoc",
    "SessionState",
    "SourceDoc",
    "model_fingerprint",
    "options_to_dict",
    "source_to_dict",
    "write_session",
]

METADATA_KEY = "masklet-session"
"""The header entry that holds the JSON."""
FORMAT_VERSION = 3
"""Version 1 has other keys (`old_keys/saved_session.json`) and other names of options, version 2 no memory policies."""
WEIGHT_SAMPLES = 16
"""Values of each tensor, from its beginning and its end, that go into the fingerprint of a model."""


class PromptDoc(TypedDict):
    """The prompt of an object on a frame; `mask` is run lengths."""

    frame: int
    points: list[list[float]] | None
    labels: list[int] | None
    box: list[float] | None
    mask: str | None
    refine: bool


class FrameStateDoc(TypedDict):
    """One object on one frame; `tensors` names those that are in the file."""

    frame: int
    iou: float
    score: float
    reverse: bool | None
    area: int | None
    box_agreement: float | None
    is_anchor: bool
    tensors: list[str]


class MotionDoc(TypedDict):
    """The motion of a box: the filter's mean and the rows of its covariance."""

    frame: int
    reverse: bool
    mean: list[float]
    covariance: list[list[float]]
    stable_frames: int


class ObjectDoc(TypedDict):
    """One object."""

    id: int
    frames_unseen: int
    corrected_frames: list[int]
    prompts: list[PromptDoc]
    prompted: list[FrameStateDoc]
    tracked: list[FrameStateDoc]
    motion: MotionDoc | None
    looks: int


class CompressedResultsDoc(TypedDict):
    """The results of one frame of the backward part of a pass."""

    frame: int
    ids: list[int]
    scores: list[float]
    object_scores: list[float]
    states: list[str]
    masks: list[str]


class PropagationDoc(TypedDict):
    """An unfinished pass; its backward results are JSON in the tensor `backward_results`, as they may be long."""

    start: int
    stop: int | None
    reverse: bool
    next_frame: int
    initial_ids: list[int]
    bidirectional: bool
    has_backward_results: bool


class SourceDoc(TypedDict):
    """The video."""

    path: str
    size: list[int]
    count: int | None


class SessionDoc(TypedDict):
    """The header of the file."""

    version: int
    model: str
    weights: str
    source: SourceDoc
    options: dict[str, object]
    propagation_start: int
    next_frame: int | None
    propagation: PropagationDoc | None
    changed_frames: list[tuple[int, list[int]]]
    cuts: list[int]
    objects: list[ObjectDoc]


@dataclass(frozen=True)
class SessionContext:
    """What a session belongs to."""

    model: SAM2 | ExportedNetwork
    video: Video
    options: TrackOptions


@dataclass
class SessionState:
    """The complete state of a session."""

    objects: dict[int, TrackedObject]
    propagation_start: int
    next_frame: int | None
    propagation: PropagationState | None
    changed_frames: dict[int, list[int]]
    cuts: tuple[int, ...] = ()


def write_session(
    path: str | PathLike[str], context: SessionContext, state: SessionState, *, overwrite: bool = False
) -> Path:
    """Write `state` to `path`, atomically, and return the path; without `overwrite`, only a saved session is replaced.

    Raises:
        OutputError: if the file cannot be written, or is there and no saved session.
        StateError: if frames of this source come only once, so that nothing could be resumed.
        InputError: if a custom memory selector cannot be recognized by its name.
    """
    if not context.video.seekable:
        raise StateError(
            f"{context.video.path!r} is a stream whose frames come once, so a saved session could not be resumed: "
            "save the stream to a file and open that"
        )
    if not overwrite:
        check_replaceable(path, METADATA_KEY.encode(), "saved session")
    name, weights = model_fingerprint(context.model)
    doc: SessionDoc = {
        "version": FORMAT_VERSION,
        "model": name,
        "weights": weights,
        "source": source_to_dict(context.video),
        "options": options_to_dict(context.options),
        "propagation_start": state.propagation_start,
        "next_frame": state.next_frame,
        "propagation": None if state.propagation is None else _propagation_doc(state.propagation),
        "changed_frames": list(state.changed_frames.items()),
        "cuts": list(state.cuts),
        "objects": [_object_doc(one) for one in state.objects.values()],
    }
    tensors = dict(_tensors(state))
    header = {METADATA_KEY: json.dumps(doc, separators=(",", ":"), allow_nan=False)}
    with atomic_path(path) as temporary:
        if HAS_TORCH:
            from safetensors.torch import save_file

            save_file(tensors, temporary, metadata=header)
        else:
            from masklet.tensors.safetensors_file import write_safetensors

            write_safetensors(tensors, Path(temporary), header)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # the name must never stand for a file whose content is not on the disk yet
    return Path(path)


def model_fingerprint(model: SAM2 | SAM1 | ExportedNetwork) -> tuple[str, str]:
    """Return the name of a model's config, and a hash over a sample of its weights."""
    if isinstance(model, ExportedNetwork):
        return model.fingerprint()
    name = next((name for name, config in CONFIGS.items() if config == model.config), "custom")
    state = model.state_dict()
    samples = [part for t in state.values() for part in (t.flatten()[:WEIGHT_SAMPLES], t.flatten()[-WEIGHT_SAMPLES:])]
    values = torch.cat([part.float() for part in samples]).cpu().numpy()
    named = json.dumps([(key, list(tensor.shape)) for key, tensor in state.items()]).encode()
    return name, hashlib.sha256(named + values.tobytes()).hexdigest()[:16]


def source_to_dict(video: Video) -> SourceDoc:
    """Return the path, size and number of frames of a video."""
    path = os.path.abspath(video.path) if os.path.exists(video.path) else video.path
    return {"path": path, "size": list(video.size), "count": video.num_frames}


def options_to_dict(options: TrackOptions) -> dict[str, object]:
    """Return options as plain values.

    A custom memory selector is stored by its class and its text; you pass it again when you resume the session.

    Raises:
        InputError: if a custom memory selector cannot be recognized by its text.
    """
    plain = {field.name: getattr(options, field.name) for field in fields(options) if field.name != "memory_selector"}
    selector = options.memory_selector
    if selector is None:
        return {**plain, "memory_selector": None}
    if type(selector) is RecentFrames:
        return {**plain, "memory_selector": {"rule": "RecentFrames", **asdict(selector)}}
    kind, text = type(selector), repr(selector)
    if f" at 0x{id(selector):x}" in text.lower() or "<locals>" in kind.__qualname__:
        raise InputError(
            f"memory selector {text} could not be recognized when the session is resumed: make it a dataclass "
            "at the top of a module, or give it a __repr__ with its parameters"
        )
    return {**plain, "memory_selector": {"rule": f"{kind.__module__}.{kind.__qualname__}", "text": text}}


def _tensors(state: SessionState) -> Iterator[tuple[str, Tensor]]:
    backward = state.propagation.backward_results if state.propagation is not None else None
    docs: list[CompressedResultsDoc] = [
        {
            "frame": frame_idx,
            "ids": results.ids.tolist(),
            "scores": results.scores.tolist(),
            "object_scores": results.object_scores.tolist(),
            "states": list(results.states),
            "masks": [code["counts"] for code in results.masks],
        }
        for frame_idx, results in (backward or {}).items()
    ]
    text = json.dumps(docs, allow_nan=False)
    yield "backward_results", torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    for one in state.objects.values():
        for part, frames in (("prompted", one.bank.prompted), ("tracked", one.bank.tracked)):
            for frame, frame_state in frames.items():
                for name, tensor in _frame_state_tensors(frame_state).items():
                    yield f"{one.id}.{part}.{frame}.{name}", tensor.detach().to("cpu", copy=True).contiguous()
        for number, look in enumerate(one.looks):
            yield f"{one.id}.looks.{number}.colors", torch.from_numpy(look.colors.copy())
            if look.features is not None:
                yield f"{one.id}.looks.{number}.features", torch.from_numpy(look.features.copy())


def _frame_state_tensors(frame_state: FrameState) -> dict[str, Tensor]:
    named = {
        "pointer": frame_state.pointer_1C,
        "logits": frame_state.logits_11HW,
        "spatial": frame_state.spatial_1MHW,
        "label": frame_state.label_11HW,
    }
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def _propagation_doc(propagation: PropagationState) -> PropagationDoc:
    return {
        "start": propagation.start,
        "stop": propagation.stop,
        "reverse": propagation.reverse,
        "next_frame": propagation.next_frame,
        "initial_ids": sorted(propagation.initial_ids or ()),
        "bidirectional": propagation.bidirectional,
        "has_backward_results": propagation.backward_results is not None,
    }


def _object_doc(obj: TrackedObject) -> ObjectDoc:
    return {
        "id": obj.id,
        "frames_unseen": obj.frames_unseen,
        "corrected_frames": sorted(obj.corrected_frames),
        "prompts": [_prompt_doc(frame, prompt) for frame, prompt in obj.prompts.items()],
        "prompted": [_frame_state_doc(frame, state) for frame, state in obj.bank.prompted.items()],
        "tracked": [_frame_state_doc(frame, state) for frame, state in obj.bank.tracked.items()],
        "motion": None if obj.motion is None else _motion_doc(obj.motion),
        "looks": len(obj.looks),
    }


def _motion_doc(motion: BoxMotion) -> MotionDoc:
    return {
        "frame": motion.frame_idx,
        "reverse": motion.reverse,
        "mean": motion.mean_8.tolist(),
        "covariance": motion.covariance_88.tolist(),
        "stable_frames": motion.stable_frames,
    }


def _prompt_doc(frame_idx: int, prompt: ObjectPrompt) -> PromptDoc:
    points, box, mask = prompt.points, prompt.box, prompt.mask
    return {
        "frame": frame_idx,
        "points": None if points is None else points.xy.tolist(),
        "labels": None if points is None else points.labels.tolist(),
        "box": None if box is None else [box.x1, box.y1, box.x2, box.y2],
        "mask": None if mask is None else rle.encode(mask.mask)["counts"],
        "refine": prompt.refine,
    }


def _frame_state_doc(frame_idx: int, frame_state: FrameState) -> FrameStateDoc:
    return {
        "frame": frame_idx,
        "iou": frame_state.iou,
        "score": frame_state.object_score,
        "reverse": frame_state.reverse,
        "area": frame_state.area,
        "box_agreement": frame_state.box_agreement,
        "is_anchor": frame_state.is_anchor,
        "tensors": list(_frame_state_tensors(frame_state)),
    }
