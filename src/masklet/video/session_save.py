"""A session on disk: everything it knows in one safetensors file, tensors as tensors and the rest as JSON beside them.

The file names the model (and a sample of its weights) and the source it belongs to; `restoring` reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from masklet.atomic_files import atomic_path
from masklet.errors import InputError, StateError
from masklet.masks import rle
from masklet.media import Video
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.prompts import ObjectPrompt
from masklet.video.memory_bank import FrameState, MemoryBank, TrackedObject
from masklet.video.memory_selection import MemorySelector, RecentFrames
from masklet.video.postprocess import CompressedResults
from masklet.video.propagation import PropagationState
from masklet.video.track_options import TrackOptions

__all__ = [
    "FORMAT_VERSION",
    "METADATA_KEY",
    "CompressedResultsDoc",
    "FrameStateDoc",
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
"""Of the JSON in the header."""
FORMAT_VERSION = 1
WEIGHT_SAMPLES = 16
"""Values of each tensor, from its beginning and its end, that a model is known by."""


class PromptDoc(TypedDict):
    """What was said about an object on a frame; `mask` is run lengths."""

    frame: int
    points: list[list[float]] | None
    labels: list[int] | None
    box: list[float] | None
    mask: str | None
    refine: bool


class FrameStateDoc(TypedDict):
    """One object on one frame; `tensors` are those that are in the file."""

    frame: int
    iou: float
    score: float
    reverse: bool | None
    tensors: list[str]


class ObjectDoc(TypedDict):
    """One object."""

    id: int
    hidden: int
    stale: list[int]
    prompts: list[PromptDoc]
    prompted: list[FrameStateDoc]
    tracked: list[FrameStateDoc]


class CompressedResultsDoc(TypedDict):
    """What was found of a frame looking back."""

    frame: int
    ids: list[int]
    scores: list[float]
    presence: list[float]
    states: list[str]
    masks: list[str]


class PropagationDoc(TypedDict):
    """A pass that is under way; what it holds is in the tensor `held`, as JSON: it may be long."""

    start: int
    stop: int | None
    reverse: bool
    next: int
    begun: list[int]
    both: bool
    held: bool


class SourceDoc(TypedDict):
    """Which video it was."""

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
    anchor: int
    next: int | None
    under_way: PropagationDoc | None
    changed: list[tuple[int, list[int]]]
    objects: list[ObjectDoc]


@dataclass(frozen=True)
class SessionContext:
    """What a session belongs to."""

    model: SAM2
    video: Video
    options: TrackOptions


@dataclass
class SessionState:
    """What a session knows."""

    objects: dict[int, TrackedObject]
    propagation_start: int
    next_frame: int | None
    propagation: PropagationState | None
    changed_frames: dict[int, list[int]]


def write_session(path: str | PathLike[str], context: SessionContext, state: SessionState) -> Path:
    """Write `known` to `path`, whole or not at all, and return the path.

    Example:
        >>> write_session("clip.safetensors", about, known)

    Raises:
        OutputError: the file cannot be written.
        StateError: frames of this source come only once, so nothing could be gone on with.
        InputError: a recall rule that cannot be named.
    """
    from safetensors.torch import save_file

    if not context.video.seekable:
        raise StateError(
            f"{context.video.path!r} is a stream whose frames come once, so a saved session could not be gone on with: "
            "save the stream to a file and open that"
        )
    tensors = dict(_tensors(state))
    header = {METADATA_KEY: json.dumps(_session_doc(context, state), separators=(",", ":"), allow_nan=False)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=header)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a name must never come to stand for a file whose content is not there yet
    return Path(path)


def _tensors(state: SessionState) -> Iterator[tuple[str, Tensor]]:
    held = state.propagation.backward_results if state.propagation is not None else None
    text = json.dumps([_compressed_results_doc(frame, rows) for frame, rows in (held or {}).items()], allow_nan=False)
    yield "held", torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    for one in state.objects.values():
        for part, bank in _parts(one.bank):
            for frame, kept in bank.items():
                for name, tensor in _frame_state_tensors(kept).items():
                    own = tensor.detach().to("cpu", copy=True).contiguous()
                    yield f"{one.id}.{part}.{frame}.{name}", own


def _parts(bank: MemoryBank) -> tuple[tuple[str, dict[int, FrameState]], ...]:
    return ("prompted", bank.prompted), ("tracked", bank.tracked)


def _frame_state_tensors(frame_state: FrameState) -> dict[str, Tensor]:
    named = {"pointer": frame_state.pointer_1C, "logits": frame_state.logits_11HW, "spatial": frame_state.spatial_1MHW}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def _session_doc(context: SessionContext, state: SessionState) -> SessionDoc:
    name, weights = model_fingerprint(context.model)
    return {
        "version": FORMAT_VERSION,
        "model": name,
        "weights": weights,
        "source": source_to_dict(context.video),
        "options": options_to_dict(context.options),
        "anchor": state.propagation_start,
        "next": state.next_frame,
        "under_way": None if state.propagation is None else _propagation_doc(state.propagation),
        "changed": list(state.changed_frames.items()),
        "objects": [_object_doc(one) for one in state.objects.values()],
    }


def model_fingerprint(model: SAM2) -> tuple[str, str]:
    """The name of a model's config, and a sample of its weights as a hash."""
    name = next((name for name, config in CONFIGS.items() if config == model.config), "custom")
    state = model.state_dict()
    samples = [part for t in state.values() for part in (t.flatten()[:WEIGHT_SAMPLES], t.flatten()[-WEIGHT_SAMPLES:])]
    values = torch.cat([part.float() for part in samples]).cpu().numpy()
    named = json.dumps([(key, list(tensor.shape)) for key, tensor in state.items()]).encode()
    return name, hashlib.sha256(named + values.tobytes()).hexdigest()[:16]


def source_to_dict(video: Video) -> SourceDoc:
    """Which video `video` is."""
    path = os.path.abspath(video.path) if os.path.exists(video.path) else video.path
    return {"path": path, "size": list(video.size), "count": video.num_frames}


def options_to_dict(options: TrackOptions) -> dict[str, object]:
    """Options as plain values."""
    plain = {field.name: getattr(options, field.name) for field in fields(options) if field.name != "memory_selector"}
    return {**plain, "recall": _selector_doc(options.memory_selector)}


def _selector_doc(selector: MemorySelector) -> dict[str, object]:
    """A rule of one's own is known by its class and its text; it is handed in again when the session is resumed."""
    if type(selector) is RecentFrames:
        return {"rule": "Recent", **asdict(selector)}
    kind, text = type(selector), repr(selector)
    if f" at 0x{id(selector):x}" in text.lower() or "<locals>" in kind.__qualname__:
        raise InputError(
            f"recall rule {text} cannot be told from others when the session is resumed: make it a dataclass at the "
            "top of a module, or give it a __repr__ that says what it does"
        )
    return {"rule": f"{kind.__module__}.{kind.__qualname__}", "text": text}


def _propagation_doc(propagation: PropagationState) -> PropagationDoc:
    return {
        "start": propagation.start,
        "stop": propagation.stop,
        "reverse": propagation.reverse,
        "next": propagation.next_frame,
        "begun": sorted(propagation.initial_ids),
        "both": propagation.bidirectional,
        "held": propagation.backward_results is not None,
    }


def _compressed_results_doc(frame_idx: int, rows: CompressedResults) -> CompressedResultsDoc:
    return {
        "frame": frame_idx,
        "ids": rows.ids.tolist(),
        "scores": rows.scores.tolist(),
        "presence": rows.object_scores.tolist(),
        "states": list(rows.states),
        "masks": [code["counts"] for code in rows.masks],
    }


def _object_doc(obj: TrackedObject) -> ObjectDoc:
    return {
        "id": obj.id,
        "hidden": obj.frames_unseen,
        "stale": sorted(obj.corrected_frames),
        "prompts": [_prompt_doc(frame, prompt) for frame, prompt in obj.prompts.items()],
        "prompted": [_frame_state_doc(frame, kept) for frame, kept in obj.bank.prompted.items()],
        "tracked": [_frame_state_doc(frame, kept) for frame, kept in obj.bank.tracked.items()],
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
        "tensors": list(_frame_state_tensors(frame_state)),
    }
