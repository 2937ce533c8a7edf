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
from masklet.video.memory_bank import Kept, MemoryBank, TrackedObject, checked_id
from masklet.video.memory_selection import Recent
from masklet.video.postprocess import HeldRows
from masklet.video.propagation import Pass
from masklet.video.session_save import (
    KEY,
    VERSION,
    About,
    HeldDoc,
    KeptDoc,
    Known,
    ObjectDoc,
    PassDoc,
    PromptDoc,
    SessionDoc,
    SourceDoc,
    model_of,
    options_doc,
    source_doc,
)
from masklet.video.track_options import TrackOptions

__all__ = ["SavedSession"]

STATES = ("visible", "occluded", "lost")

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
        text = read_metadata(file).get(KEY)
        if text is None:
            raise CheckpointError(f"{file} is no saved session: give a file that session.save(path) wrote")
        try:
            doc = json.loads(text, parse_constant=_refuse)
            version = doc["version"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise _damaged(file, error) from error
        if version != VERSION:
            raise CheckpointError(
                f"{file} is a saved session of version {version!r:.20}, this masklet reads {VERSION}: "
                "resume it with the masklet that saved it"
            )
        return cls(file, cast(SessionDoc, doc), read_tensors(file))

    def options(self, given: TrackOptions | None) -> TrackOptions:
        """The options it was saved with; `given` must agree, and bring a recall rule of one's own.

        Raises:
            InputError: they differ.
            CheckpointError: they are none.
        """
        saved: dict[str, Any] = self._believe(lambda: dict(self.doc["options"].items()))
        if given is not None:
            now = options_doc(given)
            other = [f"{name}={saved.get(name)!r:.80}" for name in now if saved.get(name) != now[name]]
            if other:
                raise InputError(f"{self.path} was saved with {', '.join(other)}: leave options out, or give the same")
            return given
        if self._believe(lambda: saved["recall"]["rule"]) != "Recent":
            raise InputError(
                f"{self.path} was saved with a recall rule of your own, {saved['recall'].get('text')!r:.80}: "
                "hand it in again with TrackOptions(recall=...)"
            )
        return self._believe(lambda: _options_of(saved))

    def known(self, about: About, device: torch.device) -> Known:
        """What the session knew, for the model and source of `about`.

        Raises:
            InputError: it was saved for another source.
            CheckpointError: damaged, or of another model.
        """
        self._check_source(about.video)
        self._check_model(about.model)
        return self._believe(lambda: _Reader(self, about, device).known())

    def _check_source(self, video: Video) -> None:
        now, was = source_doc(video), self.doc.get("source")
        if was != now:
            raise InputError(
                f"{self.path} was saved for {_source_text(was)}, and this is {_source_text(now)}: resume it with the "
                "source it was saved for"
            )

    def _check_model(self, model: SAM2) -> None:
        name, weights = model_of(model)
        if self.doc.get("model") != name:
            raise CheckpointError(
                f"{self.path} was saved with the model {self.doc.get('model')!r:.60}, and this one is {name!r}: "
                "resume it with the same model"
            )
        if self.doc.get("weights") != weights:
            raise CheckpointError(
                f"{self.path} was saved with other weights of {name!r} than these: resume it with the same model file"
            )

    def _believe(self, read: Callable[[], Value]) -> Value:
        """What `read` gives; whatever a damaged document can make it stumble over is one clear error."""
        try:
            return read()
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            raise _damaged(self.path, error) from error


class _Reader:
    """Checks and builds what a session knew."""

    def __init__(self, saved: SavedSession, about: About, device: torch.device) -> None:
        self.doc, self.tensors, self.device = saved.doc, saved.tensors, device
        self.size, config, side = about.video.size, about.model.config, about.model.image_size
        assert config.memory is not None
        self.shapes = {
            "pointer": ((1, config.width), torch.float32),
            "logits": ((1, 1, side // 4, side // 4), None),
            "spatial": ((1, config.memory.channels, side // 16, side // 16), torch.bfloat16),
        }

    def known(self) -> Known:
        """All of it."""
        objects = [self._object(doc) for doc in self.doc["objects"]]
        _need(len({one.id for one in objects}) == len(objects), "two objects of one id")
        _need(self.doc["next"] is None or _is_whole(self.doc["next"]), "next")
        changed = {checked_id(number): _frames(frames) for number, frames in self.doc["changed"]}
        going = None if self.doc["under_way"] is None else self._pass(self.doc["under_way"])
        anchor = _frame(self.doc["anchor"])
        return Known({one.id: one for one in objects}, anchor, self.doc["next"], going, changed)

    def _object(self, doc: ObjectDoc) -> TrackedObject:
        number = checked_id(doc["id"])
        prompts = {_frame(each["frame"]): self._prompt(each) for each in doc["prompts"]}
        bank = MemoryBank(
            {_frame(kept["frame"]): self._kept(kept, f"{number}.prompted") for kept in doc["prompted"]},
            {_frame(kept["frame"]): self._kept(kept, f"{number}.tracked") for kept in doc["tracked"]},
        )
        _need(all(frame in bank.prompted or frame in bank.tracked for frame in prompts), "a prompt without a mask")
        return TrackedObject(number, prompts, bank, _frame(doc["hidden"]), set(_frames(doc["stale"])))

    def _prompt(self, doc: PromptDoc) -> ObjectPrompt:
        _need(isinstance(doc["refine"], bool), "refine")
        points = None if doc["points"] is None else Points(cast(Any, doc["points"]), cast(Any, doc["labels"]))
        box = None if doc["box"] is None else Box(*doc["box"])
        mask = None if doc["mask"] is None else MaskPrompt(rle.decode(self._code(doc["mask"])))
        return ObjectPrompt(points, box, mask, refine=doc["refine"]).fit(self.size)

    def _code(self, counts: object) -> rle.Rle:
        _need(isinstance(counts, str), "counts")
        return {"size": list(self.size), "counts": cast(str, counts)}

    def _kept(self, doc: KeptDoc, prefix: str) -> Kept:
        _need(doc["reverse"] is None or isinstance(doc["reverse"], bool), "reverse")
        names = doc["tensors"]
        _need("pointer" in names and set(names) <= set(self.shapes), "tensors")
        found = {name: self._tensor(f"{prefix}.{doc['frame']}.{name}", name) for name in names}
        return Kept(
            _finite(doc["iou"]),
            _finite(doc["score"]),
            found["pointer"],
            found.get("logits"),
            found.get("spatial"),
            doc["reverse"],
        )

    def _tensor(self, key: str, name: str) -> Tensor:
        tensor, (shape, dtype) = self.tensors[key], self.shapes[name]
        right = tensor.dtype == dtype if dtype is not None else tensor.is_floating_point()
        _need(tuple(tensor.shape) == shape and right, f"{key} is {tensor.dtype} {tuple(tensor.shape)}, not {shape}")
        return tensor.to(self.device, copy=True)

    def _pass(self, doc: PassDoc) -> Pass:
        flags = (doc["reverse"], doc["both"], doc["held"])
        _need(all(isinstance(flag, bool) for flag in flags) and not (doc["reverse"] and doc["both"]), "a pass")
        _need(_is_whole(doc["next"]) and (doc["stop"] is None or _is_whole(doc["stop"])), "next or stop")
        held = json.loads(bytes(self.tensors["held"].numpy()), parse_constant=_refuse) if doc["held"] else None
        return Pass(
            _frame(doc["start"]),
            doc["stop"],
            doc["reverse"],
            doc["next"],
            frozenset(map(checked_id, doc["begun"])),
            None if held is None else {_frame(each["frame"]): self._held(each) for each in held},
            doc["both"],
        )

    def _held(self, doc: HeldDoc) -> HeldRows:
        rows = HeldRows(
            np.array([checked_id(number) for number in doc["ids"]], np.int32),
            np.array([_finite(score) for score in doc["scores"]], np.float32),
            np.array([_finite(score) for score in doc["presence"]], np.float32),
            tuple(doc["states"]),
            tuple(self._code(counts) for counts in doc["masks"]),
        )
        columns = (rows.scores, rows.presence, rows.states, rows.masks)
        _need(len(rows.ids) > 0 and all(len(column) == len(rows.ids) for column in columns), "rows of a frame")
        _need(set(rows.states) <= set(STATES), "states")
        for code in rows.masks:
            rle.decode(code)
        return rows


def _options_of(saved: dict[str, Any]) -> TrackOptions:
    recall = {name: value for name, value in saved["recall"].items() if name != "rule"}
    for value in recall.values():
        _need(value is None or _is_whole(value), "recall")
    return TrackOptions(**{**saved, "recall": Recent(**recall)})


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    return CheckpointError(f"{path} is a damaged saved session ({reason}): begin anew, or take an earlier copy")


def _source_text(source: object) -> str:
    try:
        doc = cast(SourceDoc, source)
        height, width = doc["size"]
        many = "" if doc["count"] is None else f", {doc['count']} frames"
        return f"{doc['path']!r:.300} ({width} x {height}{many})"
    except (TypeError, LookupError, ValueError):
        return "no source"


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no finite number")


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"{what} cannot be meant")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _frame(value: object) -> int:
    _need(isinstance(value, int) and not isinstance(value, bool) and value >= 0, f"frame {value!r:.40}")
    return cast(int, value)


def _frames(values: list[int]) -> list[int]:
    return [_frame(value) for value in values]


def _finite(value: object) -> float:
    _need(isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value), f"{value!r:.40}")
    return float(cast(float, value))
