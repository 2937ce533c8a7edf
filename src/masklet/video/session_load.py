"""A saved session read back: nothing in the file can run, and all of it is checked before any of it is believed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from masklet.checkpoints import read_metadata, read_tensors
from masklet.errors import CheckpointError, InputError
from masklet.masks import rle
from masklet.media import Video
from masklet.models.sam2 import SAM2
from masklet.prompts import Box, MaskPrompt, ObjectPrompt, Points
from masklet.video.memory_bank import FrameState, MemoryBank, TrackedObject, validate_object_id
from masklet.video.memory_selection import RecentFrames
from masklet.video.postprocess import CompressedResults
from masklet.video.propagation import PropagationState
from masklet.video.session_save import (
    FORMAT_VERSION,
    METADATA_KEY,
    CompressedResultsDoc,
    FrameStateDoc,
    ObjectDoc,
    PromptDoc,
    PropagationDoc,
    SessionContext,
    SessionDoc,
    SessionState,
    SourceDoc,
    model_fingerprint,
    options_to_dict,
    source_to_dict,
)
from masklet.video.track_options import TrackOptions

__all__ = ["SavedSession"]

OBJECT_STATES = ("visible", "occluded", "lost")

Value = TypeVar("Value")


@dataclass(frozen=True)
class SavedSession:
    """A file that `write_session` wrote, read but not yet believed.

    Example:
        >>> saved = SavedSession.read("clip.safetensors")
        >>> saved.options(None).keep
        'recent'
    """

    path: Path
    doc: SessionDoc
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: str | PathLike[str]) -> SavedSession:
        """Read a file.

        Raises:
            CheckpointError: missing, damaged, something else, or of a later version.
        """
        file = Path(path).expanduser()
        text = read_metadata(file).get(METADATA_KEY)
        if text is None:
            raise CheckpointError(f"{file} is no saved session: give a file that session.save(path) wrote")
        try:
            doc = json.loads(text, parse_constant=_reject_constant)
            version = doc["version"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise _damaged_error(file, error) from error
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{file} is a saved session of version {version!r:.20}, this masklet reads {FORMAT_VERSION}: "
                "resume it with the masklet that saved it"
            )
        return cls(file, cast(SessionDoc, doc), read_tensors(file))

    def options(self, given: TrackOptions | None) -> TrackOptions:
        """The options it was saved with; `given` must agree, and bring a recall rule of one's own.

        Raises:
            InputError: they differ.
            CheckpointError: they are none.
        """
        saved: dict[str, Any] = self._parse(lambda: dict(self.doc["options"].items()))
        if given is not None:
            now = options_to_dict(given)
            other = [f"{name}={saved.get(name)!r:.80}" for name in now if saved.get(name) != now[name]]
            if other:
                raise InputError(f"{self.path} was saved with {', '.join(other)}: leave options out, or give the same")
            return given
        if self._parse(lambda: saved["recall"]["rule"]) != "Recent":
            raise InputError(
                f"{self.path} was saved with a recall rule of your own, {saved['recall'].get('text')!r:.80}: "
                "hand it in again with TrackOptions(recall=...)"
            )
        return self._parse(lambda: _parse_options(saved))

    def load_state(self, context: SessionContext, device: torch.device) -> SessionState:
        """What the session knew, for the model and source of `about`.

        Raises:
            InputError: it was saved for another source.
            CheckpointError: damaged, or of another model.
        """
        self._check_source(context.video)
        self._check_model(context.model)
        return self._parse(lambda: _StateReader(self, context, device).read_state())

    def _check_source(self, video: Video) -> None:
        now, was = source_to_dict(video), self.doc.get("source")
        if was != now:
            raise InputError(
                f"{self.path} was saved for {_describe_source(was)}, and this is {_describe_source(now)}: resume it with the "  # noqa: E501
                "source it was saved for"
            )

    def _check_model(self, model: SAM2) -> None:
        name, weights = model_fingerprint(model)
        if self.doc.get("model") != name:
            raise CheckpointError(
                f"{self.path} was saved with the model {self.doc.get('model')!r:.60}, and this one is {name!r}: "
                "resume it with the same model"
            )
        if self.doc.get("weights") != weights:
            raise CheckpointError(
                f"{self.path} was saved with other weights of {name!r} than these: resume it with the same model file"
            )

    def _parse(self, read: Callable[[], Value]) -> Value:
        """What `read` gives; whatever a damaged document can make it stumble over is one clear error."""
        try:
            return read()
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            raise _damaged_error(self.path, error) from error


class _StateReader:
    """Checks and builds what a session knew."""

    def __init__(self, saved: SavedSession, context: SessionContext, device: torch.device) -> None:
        self.doc, self.tensors, self.device = saved.doc, saved.tensors, device
        self.size, config, side = context.video.size, context.model.config, context.model.image_size
        assert config.memory is not None
        self.shapes = {
            "pointer": ((1, config.width), torch.float32),
            "logits": ((1, 1, side // 4, side // 4), None),
            "spatial": ((1, config.memory.channels, side // 16, side // 16), torch.bfloat16),
        }

    def read_state(self) -> SessionState:
        """All of it."""
        objects = [self._object(doc) for doc in self.doc["objects"]]
        _require(len({one.id for one in objects}) == len(objects), "two objects of one id")
        _require(self.doc["next"] is None or _is_integer(self.doc["next"]), "next")
        changed = {validate_object_id(number): _frame_indices(frames) for number, frames in self.doc["changed"]}
        going = None if self.doc["under_way"] is None else self._propagation_state(self.doc["under_way"])
        anchor = _frame_index(self.doc["anchor"])
        return SessionState({one.id: one for one in objects}, anchor, self.doc["next"], going, changed)

    def _object(self, doc: ObjectDoc) -> TrackedObject:
        number = validate_object_id(doc["id"])
        prompts = {_frame_index(each["frame"]): self._prompt(each) for each in doc["prompts"]}
        bank = MemoryBank(
            {_frame_index(kept["frame"]): self._frame_state(kept, f"{number}.prompted") for kept in doc["prompted"]},
            {_frame_index(kept["frame"]): self._frame_state(kept, f"{number}.tracked") for kept in doc["tracked"]},
        )
        _require(all(frame in bank.prompted or frame in bank.tracked for frame in prompts), "a prompt without a mask")
        return TrackedObject(number, prompts, bank, _frame_index(doc["hidden"]), set(_frame_indices(doc["stale"])))

    def _prompt(self, doc: PromptDoc) -> ObjectPrompt:
        _require(isinstance(doc["refine"], bool), "refine")
        points = None if doc["points"] is None else Points(cast(Any, doc["points"]), cast(Any, doc["labels"]))
        box = None if doc["box"] is None else Box(*doc["box"])
        mask = None if doc["mask"] is None else MaskPrompt(rle.decode(self._rle(doc["mask"])))
        return ObjectPrompt(points, box, mask, refine=doc["refine"]).fit_to_image(self.size)

    def _rle(self, counts: object) -> rle.Rle:
        _require(isinstance(counts, str), "counts")
        return {"size": list(self.size), "counts": cast(str, counts)}

    def _frame_state(self, doc: FrameStateDoc, prefix: str) -> FrameState:
        _require(doc["reverse"] is None or isinstance(doc["reverse"], bool), "reverse")
        names = doc["tensors"]
        _require("pointer" in names and set(names) <= set(self.shapes), "tensors")
        found = {name: self._tensor(f"{prefix}.{doc['frame']}.{name}", name) for name in names}
        return FrameState(
            _finite_float(doc["iou"]),
            _finite_float(doc["score"]),
            found["pointer"],
            found.get("logits"),
            found.get("spatial"),
            doc["reverse"],
        )

    def _tensor(self, key: str, name: str) -> Tensor:
        tensor, (shape, dtype) = self.tensors[key], self.shapes[name]
        right = tensor.dtype == dtype if dtype is not None else tensor.is_floating_point()
        _require(tuple(tensor.shape) == shape and right, f"{key} is {tensor.dtype} {tuple(tensor.shape)}, not {shape}")
        return tensor.to(self.device, copy=True)

    def _propagation_state(self, doc: PropagationDoc) -> PropagationState:
        flags = (doc["reverse"], doc["both"], doc["held"])
        _require(all(isinstance(flag, bool) for flag in flags) and not (doc["reverse"] and doc["both"]), "a pass")
        _require(_is_integer(doc["next"]) and (doc["stop"] is None or _is_integer(doc["stop"])), "next or stop")
        held = json.loads(bytes(self.tensors["held"].numpy()), parse_constant=_reject_constant) if doc["held"] else None
        return PropagationState(
            _frame_index(doc["start"]),
            doc["stop"],
            doc["reverse"],
            doc["next"],
            frozenset(map(validate_object_id, doc["begun"])),
            None if held is None else {_frame_index(each["frame"]): self._compressed_results(each) for each in held},
            doc["both"],
        )

    def _compressed_results(self, doc: CompressedResultsDoc) -> CompressedResults:
        rows = CompressedResults(
            np.array([validate_object_id(number) for number in doc["ids"]], np.int32),
            np.array([_finite_float(score) for score in doc["scores"]], np.float32),
            np.array([_finite_float(score) for score in doc["presence"]], np.float32),
            tuple(doc["states"]),
            tuple(self._rle(counts) for counts in doc["masks"]),
        )
        columns = (rows.scores, rows.object_scores, rows.states, rows.masks)
        _require(len(rows.ids) > 0 and all(len(column) == len(rows.ids) for column in columns), "rows of a frame")
        _require(set(rows.states) <= set(OBJECT_STATES), "states")
        for code in rows.masks:
            rle.decode(code)
        return rows


def _parse_options(saved: dict[str, Any]) -> TrackOptions:
    recall = {name: value for name, value in saved["recall"].items() if name != "rule"}
    for value in recall.values():
        _require(value is None or _is_integer(value), "recall")
    return TrackOptions(**{**saved, "recall": RecentFrames(**recall)})


def _damaged_error(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    return CheckpointError(f"{path} is a damaged saved session ({reason}): begin anew, or take an earlier copy")


def _describe_source(source: object) -> str:
    try:
        doc = cast(SourceDoc, source)
        height, width = doc["size"]
        many = "" if doc["count"] is None else f", {doc['count']} frames"
        return f"{doc['path']!r:.300} ({width} x {height}{many})"
    except (TypeError, LookupError, ValueError):
        return "no source"


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no finite number")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"{what} cannot be meant")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _frame_index(value: object) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool) and value >= 0, f"frame {value!r:.40}")
    return cast(int, value)


def _frame_indices(values: list[int]) -> list[int]:
    return [_frame_index(value) for value in values]


def _finite_float(value: object) -> float:
    _require(isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value), f"{value!r:.40}")
    return float(cast(float, value))
