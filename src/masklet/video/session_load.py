"""Load a saved session: nothing in the file can run, and all of it is checked before it is used."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from masklet.atomic_files import current_keys
from masklet.checkpoints import read_metadata, read_tensors
from masklet.damaged_files import decoder_errors
from masklet.errors import CheckpointError, InputError
from masklet.exported import ExportedNetwork
from masklet.masks import rle
from masklet.prompts import Box, MaskPrompt, ObjectPrompt, Points
from masklet.tensors import Tensor, torch
from masklet.video.box_motion import BoxMotion
from masklet.video.color_histogram import LAB_BINS
from masklet.video.memory_bank import FrameState, MemoryBank, TrackedObject, validate_object_id
from masklet.video.memory_selection import RecentFrames
from masklet.video.postprocess import CompressedResults
from masklet.video.propagation import PropagationState
from masklet.video.reidentification import Appearance
from masklet.video.session_save import (
    FORMAT_VERSION,
    METADATA_KEY,
    CompressedResultsDoc,
    FrameStateDoc,
    MotionDoc,
    ObjectDoc,
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
MAX_INT = 2**31 - 1
"""The largest number of a frame, or of frames, that is read."""


@dataclass(frozen=True)
class SavedSession:
    """A file that `Session.save` wrote, read but not checked yet.

    Example:
        >>> saved = SavedSession.read("clip.safetensors")  # doctest: +SKIP
        >>> saved.options(None).retain  # doctest: +SKIP
        'recent'
    """

    path: Path
    doc: SessionDoc
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: str | PathLike[str]) -> SavedSession:
        """Read a file; keys and values of earlier versions become the current ones.

        Raises:
            CheckpointError: if it is missing, damaged, no saved session, or of a later version.
        """
        file = Path(path).expanduser()
        text = read_metadata(file).get(METADATA_KEY)
        if text is None:
            raise CheckpointError(f"{file} is no saved session: give a file that session.save(path) wrote")
        with _report_damage(file):
            doc = json.loads(text, parse_constant=_reject_constant)
            version = doc["version"]
            if version == 1:  # it had other names
                doc = current_keys(doc, "saved_session")
                options = doc["options"]
                if options["memory_selector"].get("rule") == "Recent":
                    options["memory_selector"]["rule"] = "RecentFrames"
                if options.get("corrections") == "published":
                    options["corrections"] = "sam2"
            if version in (1, 2):
                doc["options"] = {"memory": "sam2", "scene_cuts": True, "verify_returns": True, **doc["options"]}
                if doc["options"]["memory_selector"] == {"rule": "RecentFrames", **asdict(RecentFrames())}:
                    doc["options"]["memory_selector"] = None  # the default was written out
        if version not in (1, 2, FORMAT_VERSION):
            raise CheckpointError(
                f"{file} is a saved session of version {version!r:.20}, this masklet reads up to {FORMAT_VERSION}: "
                "resume it with the masklet that saved it"
            )
        tensors = read_tensors(file)
        if "held" in tensors:  # its name in version 1
            tensors = {**tensors, "backward_results": tensors["held"]}
        return cls(file, cast(SessionDoc, doc), tensors)

    def options(self, given: TrackOptions | None) -> TrackOptions:
        """Return the options it was saved with; `given` must agree, and bring a custom memory selector.

        Raises:
            InputError: if they differ.
            CheckpointError: if the file holds no valid options.
        """
        with _report_damage(self.path):
            saved: dict[str, Any] = dict(self.doc["options"].items())
        if given is not None:
            now = options_to_dict(given)
            other = [f"{name}={saved.get(name)!r:.80}" for name in now if saved.get(name) != now[name]]
            if other:
                raise InputError(f"{self.path} was saved with {', '.join(other)}: omit the options, or give the same")
            return given
        if saved.get("memory_selector") is None:
            with _report_damage(self.path):
                return TrackOptions(**saved)
        with _report_damage(self.path):
            selector_class = saved["memory_selector"]["rule"]
        if selector_class != "RecentFrames":
            raise InputError(
                f"{self.path} was saved with a custom memory selector, {saved['memory_selector'].get('text')!r:.80}: "
                "pass it again with TrackOptions(memory_selector=...)"
            )
        with _report_damage(self.path):
            rule = {name: value for name, value in saved["memory_selector"].items() if name != "rule"}
            for value in rule.values():
                _require(value is None or (_is_integer(value) and value >= 0), "memory_selector")
            return TrackOptions(**{**saved, "memory_selector": RecentFrames(**rule)})

    def load_state(self, context: SessionContext, device: torch.device) -> SessionState:
        """Return the state of the session, for the model and the source of `context`.

        Raises:
            InputError: if it was saved for another source.
            CheckpointError: if it is damaged, or of another model.
        """
        now, was = source_to_dict(context.video), self.doc.get("source")
        if was != now:
            raise InputError(
                f"{self.path} was saved for {_describe_source(was)}, and this is {_describe_source(now)}: "
                "resume it with the source it was saved for"
            )
        name, weights = model_fingerprint(context.model)
        if self.doc.get("model") != name:
            raise CheckpointError(
                f"{self.path} was saved with the model {self.doc.get('model')!r:.60}, and this one is {name!r}: "
                "resume it with the same model"
            )
        if self.doc.get("weights") != weights:
            raise CheckpointError(
                f"{self.path} was saved with other weights of {name!r} than these: resume it with the same model file"
            )
        height, width = context.model.frame_input_size(context.video.size)
        sizes = {tuple(t.shape[-2:]) for key, t in self.tensors.items() if key.endswith(".logits") and t.ndim == 4}
        if len(sizes) == 1 and (saved := sizes.pop()) != (height // 4, width // 4):
            raise CheckpointError(
                f"{self.path} was made with frames of {4 * saved[1]} x {4 * saved[0]} as the network's input, and now "
                f"they are {width} x {height}: open the model with the same image_size, or start over"
            )
        with _report_damage(self.path):
            return _StateReader(self, context, device).read_state()


class _StateReader:
    """Checks a document and its tensors, and builds the state of a session from them."""

    def __init__(self, saved: SavedSession, context: SessionContext, device: torch.device) -> None:
        self.doc, self.tensors, self.device = saved.doc, saved.tensors, device
        self.size, model = context.video.size, context.model
        matching = model.matching if isinstance(model, ExportedNetwork) else model.config.matching
        self.key_channels = 0 if matching is None else matching.channels
        height, width = context.model.frame_input_size(self.size)
        self.shapes = {
            "pointer": ((1, context.model.pointer_channels), torch.float32),
            "logits": ((1, 1, height // 4, width // 4), None),
            "spatial": ((1, *context.model.memory_shape((height, width))), torch.bfloat16),
            "label": ((1, 1, height // 8, width // 8), torch.float16),
        }

    def read_state(self) -> SessionState:
        """Build the complete state."""
        doc = self.doc
        objects = [self._object(each) for each in doc["objects"]]
        _require(len({one.id for one in objects}) == len(objects), "two objects of one id")
        _require(doc["next_frame"] is None or _is_integer(doc["next_frame"]), "next_frame")
        return SessionState(
            {one.id: one for one in objects},
            _frame_index(doc["propagation_start"]),
            doc["next_frame"],
            None if doc["propagation"] is None else self._propagation_state(doc["propagation"]),
            {validate_object_id(number): list(map(_frame_index, frames)) for number, frames in doc["changed_frames"]},
            tuple(map(_frame_index, doc.get("cuts", ()))),
        )

    def _object(self, doc: ObjectDoc) -> TrackedObject:
        number = validate_object_id(doc["id"])
        prompts = {}
        for each in doc["prompts"]:
            frame_idx = _frame_index(each["frame"])
            _require(isinstance(each["refine"], bool), "refine")
            points = None if each["points"] is None else Points(cast(Any, each["points"]), cast(Any, each["labels"]))
            box = None if each["box"] is None else Box(*each["box"])
            mask = None if each["mask"] is None else MaskPrompt(rle.decode(self._rle(each["mask"])))
            prompts[frame_idx] = ObjectPrompt(points, box, mask, refine=each["refine"]).fit_to_image(self.size)
        bank = MemoryBank(
            {_frame_index(each["frame"]): self._frame_state(each, f"{number}.prompted") for each in doc["prompted"]},
            {_frame_index(each["frame"]): self._frame_state(each, f"{number}.tracked") for each in doc["tracked"]},
        )
        _require(all(frame in bank.prompted or frame in bank.tracked for frame in prompts), "a prompt without a mask")
        corrected = set(map(_frame_index, doc["corrected_frames"]))
        motion = doc.get("motion")
        return TrackedObject(
            number,
            prompts,
            bank,
            _frame_index(doc["frames_unseen"]),
            corrected,
            None if motion is None else self._motion(motion),
            [self._look(f"{number}.looks.{i}") for i in range(_frame_index(doc.get("looks", 0)))],
        )

    def _look(self, prefix: str) -> Appearance:
        colors, features = self.tensors[f"{prefix}.colors"], self.tensors[f"{prefix}.features"]
        for vector, size in ((colors, math.prod(LAB_BINS)), (features, self.key_channels)):
            right = tuple(vector.shape) == (size,) and vector.dtype == torch.float32
            _require(right and math.isfinite(float(vector.sum())), prefix)
        return Appearance(colors.numpy().copy(), features.numpy().copy())

    def _motion(self, doc: MotionDoc) -> BoxMotion:
        _require(isinstance(doc["reverse"], bool) and _is_integer(doc["stable_frames"]), "motion")
        mean_8 = np.array([_finite_float(value) for value in doc["mean"]])
        covariance_88 = np.array([[_finite_float(value) for value in row] for row in doc["covariance"]])
        _require(mean_8.shape == (8,) and covariance_88.shape == (8, 8) and mean_8[3] > 0, "motion")
        return BoxMotion(_frame_index(doc["frame"]), doc["reverse"], mean_8, covariance_88, doc["stable_frames"])

    def _rle(self, counts: object) -> rle.Rle:
        _require(isinstance(counts, str), "counts")
        return {"size": list(self.size), "counts": cast(str, counts)}

    def _frame_state(self, doc: FrameStateDoc, prefix: str) -> FrameState:
        _require(doc["reverse"] is None or isinstance(doc["reverse"], bool), "reverse")
        names = doc["tensors"]
        _require("pointer" in names and set(names) <= set(self.shapes), "tensors")
        tensors = {}
        for name in names:
            key, (shape, dtype) = f"{prefix}.{doc['frame']}.{name}", self.shapes[name]
            tensor = self.tensors[key]
            right = tensor.dtype == dtype if dtype is not None else tensor.is_floating_point()
            what = f"{key} is {tensor.dtype} {tuple(tensor.shape)}, not {shape}"
            _require(tuple(tensor.shape) == shape and right, what)
            tensors[name] = tensor.to(self.device, copy=True)
        return FrameState(
            _finite_float(doc["iou"]),
            _finite_float(doc["score"]),
            tensors["pointer"],
            tensors.get("logits"),
            tensors.get("spatial"),
            doc["reverse"],
            tensors.get("label"),
            *self._frame_scores(doc),
        )

    def _frame_scores(self, doc: FrameStateDoc) -> tuple[int | None, float | None, bool]:
        area, agreement, is_anchor = doc.get("area"), doc.get("box_agreement"), doc.get("is_anchor", False)
        _require(area is None or _is_integer(area), "area")
        _require(isinstance(is_anchor, bool), "is_anchor")
        return area, None if agreement is None else _finite_float(agreement), is_anchor

    def _propagation_state(self, doc: PropagationDoc) -> PropagationState:
        flags = (doc["reverse"], doc["bidirectional"], doc["has_backward_results"])
        _require(all(isinstance(flag, bool) for flag in flags), "propagation")
        _require(not (doc["reverse"] and doc["bidirectional"]), "propagation")
        _require(_is_integer(doc["next_frame"]) and (doc["stop"] is None or _is_integer(doc["stop"])), "propagation")
        backward = None
        if doc["has_backward_results"]:
            text = bytes(self.tensors["backward_results"].numpy())
            rows = current_keys(json.loads(text, parse_constant=_reject_constant), "saved_session")
            backward = {_frame_index(each["frame"]): self._compressed_results(each) for each in rows}
        return PropagationState(
            _frame_index(doc["start"]),
            doc["stop"],
            doc["reverse"],
            doc["next_frame"],
            doc["bidirectional"],
            frozenset(map(validate_object_id, doc["initial_ids"])),
            backward,
        )

    def _compressed_results(self, doc: CompressedResultsDoc) -> CompressedResults:
        rows = CompressedResults(
            np.array([validate_object_id(number) for number in doc["ids"]], np.int32),
            np.array([_finite_float(score) for score in doc["scores"]], np.float32),
            np.array([_finite_float(score) for score in doc["object_scores"]], np.float32),
            tuple(doc["states"]),
            tuple(self._rle(counts) for counts in doc["masks"]),
        )
        columns = (rows.scores, rows.object_scores, rows.states, rows.masks)
        _require(len(rows.ids) > 0 and all(len(column) == len(rows.ids) for column in columns), "rows of a frame")
        _require(set(rows.states) <= set(OBJECT_STATES), "states")
        for code in rows.masks:
            rle.decode(code)
        return rows


@contextmanager
def _report_damage(path: Path) -> Generator[None, None, None]:
    """Turn whatever error a damaged document causes into one clear error."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:  # of the device, not of the file
        raise
    except decoder_errors() as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is a damaged saved session ({reason}): start over, or take an earlier copy"
        ) from error


def _describe_source(source: object) -> str:
    try:
        doc = cast(SourceDoc, source)
        height, width = doc["size"]
        many = "" if doc["count"] is None else f", {doc['count']} frames"
        return f"{doc['path']!r:.300} ({width} x {height}{many})"
    except decoder_errors():
        return "no source"


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no finite number")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"{what} is invalid")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value <= MAX_INT


def _frame_index(value: object) -> int:
    _require(_is_integer(value) and cast(int, value) >= 0, f"frame {value!r:.40}")
    return cast(int, value)


def _finite_float(value: object) -> float:
    _require(isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value), f"{value!r:.40}")
    return float(cast(float, value))
