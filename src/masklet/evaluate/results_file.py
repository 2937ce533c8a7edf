"""Store the results of an evaluation in a file that a later run can resume.

The file is JSON. It begins with protocol, model and options; then come the figures of the results so far, the results
("rows"), and under "run" what resuming needs: which units (videos, images) are done, how many results each has, and
hashes of the weights and of the list of units. It is written atomically after every unit (less often if that would take
more than a twentieth of the time) and at the end. A file that was made with something else is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Generic, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from masklet.atomic_files import current_keys, write_text
from masklet.damaged_files import damage_errors, decoder_errors
from masklet.errors import OutputError

__all__ = ["OptionValue", "ResultsFile", "RunManifest", "from_dict", "hash_file"]

Row = TypeVar("Row")
OptionValue: TypeAlias = "int | float | str | bool | list[str] | None"
WRITE_INTERVAL_FACTOR = 20
"""Between two writes pass at least this many times as long as the last one took."""
HASH_DIGITS = 16
READ_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RunManifest:
    """What results are made with; `unit_names` are the names of the units, in order."""

    protocol: str
    model: str
    weights_hash: str
    options: Mapping[str, OptionValue]
    unit_names: tuple[str, ...]

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """Return what the content of a file was made with, where that differs.

        Example:
            >>> manifest.differences({"protocol": "davis", ...})
            ["prompt 'mask', now 'box'"]
        """
        before, run = current_keys(_as_dict(stored.get("options")), "results_options"), _as_dict(stored.get("run"))
        options = json.loads(json.dumps(dict(self.options)))  # as JSON returns them
        pairs: list[tuple[str, Any, Any]] = [("protocol", stored.get("protocol"), self.protocol)]
        other_weights, model = run.get("weights") != self.weights_hash, stored.get("model")
        if other_weights:  # one model may have several names, as paths have
            pairs.append(("model", model, self.model))
        pairs += [(name, before.get(name), options.get(name)) for name in sorted({*before, *options})]
        changed = [f"{name} {old!r}, now {new!r}" for name, old, new in pairs if old != new]
        changed += ["other weights"] * (other_weights and model == self.model)
        return changed or ["other data"] * (run.get("data") != self.data_hash)  # other options have other data

    @property
    def data_hash(self) -> str:
        """A hash of the list of units."""
        return hashlib.sha256(json.dumps(self.unit_names).encode()).hexdigest()[:HASH_DIGITS]


class ResultsFile(Generic[Row]):
    """The results of a run by the number of their unit, and the file that stores them.

    Args:
        path: the file; None stores nothing.
        result_type: the class of the results, a dataclass.
        summarize: returns the figures of results, as `json` can write them.

    Example:
        >>> file = ResultsFile(Path("clicks.json"), manifest, ClickResult, lambda rows: asdict(click_report(rows)))
        >>> file.load()
        >>> file.add(0, results, complete=True)

    Raises:
        OutputError: if the file cannot be written.
    """

    def __init__(
        self,
        path: Path | None,
        manifest: RunManifest,
        result_type: type[Row],
        summarize: Callable[[Sequence[Row]], Mapping[str, Any]],
    ) -> None:
        self.path, self.manifest, self._result_type, self._summarize = path, manifest, result_type, summarize
        self.results_by_unit: dict[int, tuple[Row, ...]] = {}
        self.done_units: set[int] = set()
        self._next_write = 0.0

    @property
    def results(self) -> list[Row]:
        """All results, in the order of their units."""
        return [row for number in sorted(self.results_by_unit) for row in self.results_by_unit[number]]

    @property
    def remaining_units(self) -> list[int]:
        """The numbers of the units that are not done."""
        return [number for number in range(len(self.manifest.unit_names)) if number not in self.done_units]

    def load(self) -> None:
        """Read the results of an earlier run, if the file exists.

        Raises:
            OutputError: if the file has something else.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            stored = _as_dict(json.loads(self.path.read_text(encoding="utf-8")))
        except damage_errors() as problem:
            raise self._mismatch_error(f"cannot be read ({problem})") from problem
        if "run" not in stored:
            raise self._mismatch_error("has no results to resume")
        if changed := self.manifest.differences(stored):
            raise self._mismatch_error(f"has the figures of something else ({'; '.join(changed)})")
        try:
            rows = [from_dict(self._result_type, row, "results_rows") for row in stored["rows"]]
            start, num_units = 0, len(self.manifest.unit_names)
            for number, count, complete in stored["run"]["units"]:
                if not (type(number) is type(count) is int and 0 <= number < num_units and 0 <= count <= len(rows)):
                    raise ValueError(f"unit {number!r:.40} of {num_units} with {count!r:.40} of {len(rows)} rows")
                self.results_by_unit[number] = tuple(rows[start : start + count])
                start += count
                if complete:
                    self.done_units.add(number)
            if start != len(rows):
                raise ValueError(f"{len(rows)} rows, expected {start}")
            if rows:
                self._summarize(self.results)  # rows that fit no report, such as lists of different lengths
        except decoder_errors() as problem:
            raise self._mismatch_error(f"is damaged ({problem!r})") from problem

    def add(self, unit: int, results: Sequence[Row], complete: bool) -> None:
        """Add the results of a unit; a `masklet.evaluate.parallel.ResultCallback`."""
        if complete or len(results) > len(self.results_by_unit.get(unit, ())):  # not fewer than an earlier run left
            self.results_by_unit[unit] = tuple(results)
        if complete:
            self.done_units.add(unit)
        if time.monotonic() >= self._next_write:
            self.write()

    def write(self) -> None:
        """Write the file, if there is one and there are results.

        Raises:
            OutputError: if it cannot be written.
        """
        started, manifest = time.monotonic(), self.manifest
        if self.path is None or not self.results:
            return
        head = {"protocol": manifest.protocol, "model": manifest.model, "options": dict(manifest.options)}
        figures = dict(self._summarize(self.results))
        rows = figures.pop("rows", None) or figures.pop("results", None)
        rows = rows or [asdict(row) for row in self.results]  # type: ignore[call-overload]
        units = [
            [number, len(self.results_by_unit[number]), number in self.done_units]
            for number in sorted(self.results_by_unit)
        ]
        run = {
            "weights": manifest.weights_hash,
            "data": manifest.data_hash,
            "of": len(manifest.unit_names),
            "units": units,
        }
        figures = {name: figures[name] for name in figures if name not in head}
        write_text(self.path, json.dumps({**head, **figures, "rows": rows, "run": run}, indent=2, allow_nan=False))
        self._next_write = time.monotonic() + WRITE_INTERVAL_FACTOR * (time.monotonic() - started)

    def _mismatch_error(self, reason: str) -> OutputError:
        return OutputError(
            f"{self.path} {reason}: name another file, give the same options, or overwrite it (--overwrite)"
        )


def hash_file(file: str | Path) -> str:
    """Return a hash of the content of a file.

    Example:
        >>> hash_file("mine.safetensors")
        'e3b0c44298fc1c14'
    """
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(READ_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()[:HASH_DIGITS]


def from_dict(cls: Any, raw: Any, old_keys: str | None = None) -> Any:
    """Restore what `dataclasses.asdict` and JSON made of a dataclass.

    Fields may be plain values, tuples, mappings, optional values and such dataclasses. Missing fields have their
    defaults, other keys are ignored, and null is nan in a field of floats. `old_keys` names a table of
    `masklet/old_keys`; only names of fields are renamed, never keys of mappings, which are data.

    Example:
        >>> from_dict(PresenceAccuracy, {"frames": 3, "visible": 2, "correct": 1})
        PresenceAccuracy(frames=3, visible=2, correct=1)

    Raises:
        TypeError, ValueError, AttributeError, OverflowError: if it is something else.
    """
    origin, args = get_origin(cls), get_args(cls)
    if NoneType in args:
        [cls] = (one for one in args if one is not NoneType)
        return None if raw is None else from_dict(cls, raw, old_keys)
    if is_dataclass(cls):
        names = raw if old_keys is None else current_keys(dict.fromkeys(raw), old_keys)
        values = dict(zip(names, raw.values(), strict=True))
        hints = get_type_hints(cls)
        known = {f.name: from_dict(hints[f.name], values[f.name], old_keys) for f in fields(cls) if f.name in values}
        return cls(**known)  # type: ignore[operator]
    if origin is tuple:
        return tuple(from_dict(args[0], item, old_keys) for item in raw)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {from_dict(args[0], key): from_dict(args[1], value, old_keys) for key, value in raw.items()}
    if cls is float and raw is None:
        return math.nan
    if cls in (str, bool) and not isinstance(raw, cls):
        raise TypeError(f"{raw!r:.40} is no {cls.__name__}")
    return cls(raw) if cls in (int, float) else raw


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
