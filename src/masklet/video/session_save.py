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
from masklet.video.memory_bank import Kept, MemoryBank, TrackedObject
from masklet.video.memory_selection import RecallRule, Recent
from masklet.video.postprocess import HeldRows
from masklet.video.propagation import Pass
from masklet.video.track_options import TrackOptions

__all__ = [
    "KEY",
    "VERSION",
    "About",
    "HeldDoc",
    "KeptDoc",
    "Known",
    "ObjectDoc",
    "PassDoc",
    "PromptDoc",
    "SessionDoc",
    "SourceDoc",
    "model_of",
    "options_doc",
    "source_doc",
    "write_session",
]

KEY = "masklet-session"
"""Of the JSON in the header."""
VERSION = 1
SAMPLED = 16
"""Values of each tensor, from its beginning and its end, that a model is known by."""


class PromptDoc(TypedDict):
    """What was said about an object on a frame; `mask` is run lengths."""

    frame: int
    points: list[list[float]] | None
    labels: list[int] | None
    box: list[float] | None
    mask: str | None
    refine: bool


class KeptDoc(TypedDict):
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
    prompted: list[KeptDoc]
    tracked: list[KeptDoc]


class HeldDoc(TypedDict):
    """What was found of a frame looking back."""

    frame: int
    ids: list[int]
    scores: list[float]
    presence: list[float]
    states: list[str]
    masks: list[str]


class PassDoc(TypedDict):
    """A pass that is under way; what it holds is in the tensor `held`, as JSON: it may be long."""

    start: int
    stop: int | None
    reverse: bool
    next: int
    begun: list[int]
    both: bool
    held: bool


class SourceDoc(TypedDict):
    """Which film it was."""

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
    under_way: PassDoc | None
    changed: list[tuple[int, list[int]]]
    objects: list[ObjectDoc]


@dataclass(frozen=True)
class About:
    """What a session belongs to."""

    model: SAM2
    video: Video
    options: TrackOptions


@dataclass
class Known:
    """What a session knows."""

    objects: dict[int, TrackedObject]
    anchor: int
    next: int | None
    under_way: Pass | None
    changed: dict[int, list[int]]


def write_session(path: str | PathLike[str], about: About, known: Known) -> Path:
    """Write `known` to `path`, whole or not at all, and return the path.

    Example:
        >>> write_session("clip.safetensors", about, known)

    Raises:
        OutputError: the file cannot be written.
        StateError: frames of this source come only once, so nothing could be gone on with.
        InputError: a recall rule that cannot be named.
    """
    from safetensors.torch import save_file

    if not about.video.seekable:
        raise StateError(
            f"{about.video.path!r} is a stream whose frames come once, so a saved session could not be gone on with: "
            "save the stream to a file and open that"
        )
    tensors = dict(_tensors(known))
    header = {KEY: json.dumps(_session_doc(about, known), separators=(",", ":"), allow_nan=False)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=header)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a name must never come to stand for a file whose content is not there yet
    return Path(path)


def _tensors(known: Known) -> Iterator[tuple[str, Tensor]]:
    held = known.under_way.held if known.under_way is not None else None
    text = json.dumps([_held_doc(frame, rows) for frame, rows in (held or {}).items()], allow_nan=False)
    yield "held", torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    for one in known.objects.values():
        for part, bank in _parts(one.bank):
            for frame, kept in bank.items():
                for name, tensor in _tensors_of(kept).items():
                    own = tensor.detach().to("cpu", copy=True).contiguous()
                    yield f"{one.id}.{part}.{frame}.{name}", own


def _parts(bank: MemoryBank) -> tuple[tuple[str, dict[int, Kept]], ...]:
    return ("prompted", bank.prompted), ("tracked", bank.tracked)


def _tensors_of(kept: Kept) -> dict[str, Tensor]:
    named = {"pointer": kept.pointer_1C, "logits": kept.logits_11HW, "spatial": kept.spatial_1MHW}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def _session_doc(about: About, known: Known) -> SessionDoc:
    name, weights = model_of(about.model)
    return {
        "version": VERSION,
        "model": name,
        "weights": weights,
        "source": source_doc(about.video),
        "options": options_doc(about.options),
        "anchor": known.anchor,
        "next": known.next,
        "under_way": None if known.under_way is None else _pass_doc(known.under_way),
        "changed": list(known.changed.items()),
        "objects": [_object_doc(one) for one in known.objects.values()],
    }


def model_of(model: SAM2) -> tuple[str, str]:
    """The name of a model's config, and a sample of its weights as a hash."""
    name = next((name for name, config in CONFIGS.items() if config == model.config), "custom")
    state = model.state_dict()
    samples = [part for t in state.values() for part in (t.flatten()[:SAMPLED], t.flatten()[-SAMPLED:])]
    values = torch.cat([part.float() for part in samples]).cpu().numpy()
    named = json.dumps([(key, list(tensor.shape)) for key, tensor in state.items()]).encode()
    return name, hashlib.sha256(named + values.tobytes()).hexdigest()[:16]


def source_doc(video: Video) -> SourceDoc:
    """Which film `video` is."""
    path = os.path.abspath(video.path) if os.path.exists(video.path) else video.path
    return {"path": path, "size": list(video.size), "count": video.count}


def options_doc(options: TrackOptions) -> dict[str, object]:
    """Options as plain values."""
    plain = {field.name: getattr(options, field.name) for field in fields(options) if field.name != "recall"}
    return {**plain, "recall": _recall_doc(options.recall)}


def _recall_doc(rule: RecallRule) -> dict[str, object]:
    """A rule of one's own is known by its class and its text; it is handed in again when the session is resumed."""
    if type(rule) is Recent:
        return {"rule": "Recent", **asdict(rule)}
    kind, text = type(rule), repr(rule)
    if f" at 0x{id(rule):x}" in text.lower() or "<locals>" in kind.__qualname__:
        raise InputError(
            f"recall rule {text} cannot be told from others when the session is resumed: make it a dataclass at the "
            "top of a module, or give it a __repr__ that says what it does"
        )
    return {"rule": f"{kind.__module__}.{kind.__qualname__}", "text": text}


def _pass_doc(under_way: Pass) -> PassDoc:
    return {
        "start": under_way.start,
        "stop": under_way.stop,
        "reverse": under_way.reverse,
        "next": under_way.next,
        "begun": sorted(under_way.begun),
        "both": under_way.both,
        "held": under_way.held is not None,
    }


def _held_doc(frame: int, rows: HeldRows) -> HeldDoc:
    return {
        "frame": frame,
        "ids": rows.ids.tolist(),
        "scores": rows.scores.tolist(),
        "presence": rows.presence.tolist(),
        "states": list(rows.states),
        "masks": [code["counts"] for code in rows.masks],
    }


def _object_doc(one: TrackedObject) -> ObjectDoc:
    return {
        "id": one.id,
        "hidden": one.hidden,
        "stale": sorted(one.stale),
        "prompts": [_prompt_doc(frame, prompt) for frame, prompt in one.prompts.items()],
        "prompted": [_kept_doc(frame, kept) for frame, kept in one.bank.prompted.items()],
        "tracked": [_kept_doc(frame, kept) for frame, kept in one.bank.tracked.items()],
    }


def _prompt_doc(frame: int, prompt: ObjectPrompt) -> PromptDoc:
    points, box, mask = prompt.points, prompt.box, prompt.mask
    return {
        "frame": frame,
        "points": None if points is None else points.xy.tolist(),
        "labels": None if points is None else points.labels.tolist(),
        "box": None if box is None else [box.x1, box.y1, box.x2, box.y2],
        "mask": None if mask is None else rle.encode(mask.mask)["counts"],
        "refine": prompt.refine,
    }


def _kept_doc(frame: int, kept: Kept) -> KeptDoc:
    return {
        "frame": frame,
        "iou": kept.iou,
        "score": kept.score,
        "reverse": kept.reverse,
        "tensors": list(_tensors_of(kept)),
    }
