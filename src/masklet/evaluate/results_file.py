"""Figures in a file that is gone on with: the rows of what was measured so far, and what they were measured with.

The file is JSON. It begins with protocol, model and options, then come the figures of the rows so far, the rows, and
under "run" what it takes to go on: which units (videos, images) are done, how many rows each has, and hashes of the
weights and of the list of units. It is written whole or not at all, after every unit (less often where that would take
more than a twentieth of the time) and at the end. A file that was made with something else is refused.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from masklet.atomic_files import write_text
from masklet.errors import OutputError

__all__ = ["OptionValue", "ResultsFile", "RunManifest", "from_dict", "hash_file"]

Row = TypeVar("Row")
OptionValue: TypeAlias = "int | float | str | bool | list[str] | None"
WRITE_INTERVAL_FACTOR = 20
"""Writing waits for so many times as long as it took the last time."""
HASH_DIGITS = 16
"""Digits of a hash."""
READ_BLOCK_BYTES = 1 << 20
"""Bytes of a file that are read at once."""


@dataclass(frozen=True)
class RunManifest:
    """What figures are made with; `units` are the names of what is measured, in order."""

    protocol: str
    model: str
    weights_hash: str
    options: Mapping[str, OptionValue]
    unit_names: tuple[str, ...]

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """What of a file's content was made with something else.

        Example:
            >>> made.differences({"protocol": "davis", ...})
            ["prompt 'mask', now 'box'"]
        """
        options, run = _as_dict(stored.get("options")), _as_dict(stored.get("run"))
        pairs: list[tuple[str, Any, Any]] = [("protocol", stored.get("protocol"), self.protocol)]
        other_weights, model = run.get("weights") != self.weights_hash, stored.get("model")
        if other_weights:  # one model may have several names, as paths have
            pairs.append(("model", model, self.model))
        pairs += [
            (name, options.get(name), self._json_options.get(name)) for name in sorted({*options, *self._json_options})
        ]
        found = [f"{name} {before!r}, now {now!r}" for name, before, now in pairs if before != now]
        found += ["other weights"] * (other_weights and model == self.model)
        return found or ["other data"] * (run.get("data") != self.data_hash)  # other options have other data

    @property
    def data_hash(self) -> str:
        """The list of units, as a hash."""
        return hashlib.sha256(json.dumps(self.unit_names).encode()).hexdigest()[:HASH_DIGITS]

    @property
    def _json_options(self) -> dict[str, Any]:
        """Options as JSON gives them back."""
        plain: dict[str, Any] = json.loads(json.dumps(dict(self.options)))
        return plain


class ResultsFile(Generic[Row]):
    """The rows of a run by the number of their unit, and the file that keeps them; None: they are not kept.

    `row` is the class of the rows, a dataclass; `figures` sums rows up, as something `json` can write.

    Example:
        >>> kept = Kept(Path("clicks.json"), made, ClickedObject, lambda rows: asdict(click_report(rows)))
        >>> kept.read()
        >>> kept.keep(0, rows, True)

    Raises:
        OutputError: the file cannot be written.
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
        """All there are, in the order of their units."""
        return [row for number in sorted(self.results_by_unit) for row in self.results_by_unit[number]]

    @property
    def remaining_units(self) -> list[int]:
        """Units that are not done."""
        return [number for number in range(len(self.manifest.unit_names)) if number not in self.done_units]

    def load(self) -> None:
        """Take over what the file has of an earlier run, where there is one.

        Raises:
            OutputError: it holds something else.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            told = _as_dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as problem:
            raise self._mismatch_error(f"cannot be read ({problem})") from problem
        if "run" not in told:
            raise self._mismatch_error("holds something that cannot be gone on with")
        other = self.manifest.differences(told)
        if other:
            raise self._mismatch_error(f"holds figures of something else ({'; '.join(other)})")
        try:
            self._restore(told)
        except (AttributeError, KeyError, LookupError, TypeError, ValueError) as problem:
            raise self._mismatch_error(f"is damaged ({problem!r})") from problem

    def add(self, unit: int, results: Sequence[Row], complete: bool) -> None:
        """The rows of a unit, and whether these are all; see `masklet.evaluate.parallel.Keep`."""
        if complete or len(results) > len(self.results_by_unit.get(unit, ())):  # not fewer than an earlier run left
            self.results_by_unit[unit] = tuple(results)
        if complete:
            self.done_units.add(unit)
        if time.monotonic() >= self._next_write:
            self.write()

    def write(self) -> None:
        """Write the file, where there is one and something to write.

        Raises:
            OutputError: it cannot be written.
        """
        begun = time.monotonic()
        if self.path is not None and self.results:
            write_text(self.path, json.dumps(self._to_dict(), indent=2, allow_nan=False))
            self._next_write = time.monotonic() + WRITE_INTERVAL_FACTOR * (time.monotonic() - begun)

    def _to_dict(self) -> dict[str, Any]:
        head = {
            "protocol": self.manifest.protocol,
            "model": self.manifest.model,
            "options": dict(self.manifest.options),
        }
        figures = dict(self._summarize(self.results))
        rows = figures.pop("rows", None) or [asdict(row) for row in self.results]  # type: ignore[call-overload]
        counts = [
            [number, len(self.results_by_unit[number]), number in self.done_units]
            for number in sorted(self.results_by_unit)
        ]
        run = {
            "weights": self.manifest.weights_hash,
            "data": self.manifest.data_hash,
            "of": len(self.manifest.unit_names),
            "units": counts,
        }
        return {**head, **{name: figures[name] for name in figures if name not in head}, "rows": rows, "run": run}

    def _restore(self, stored: Mapping[str, Any]) -> None:
        rows = [from_dict(self._result_type, row) for row in stored["rows"]]
        start = 0
        for number, count, whole in stored["run"]["units"]:
            self.results_by_unit[number] = tuple(rows[start : start + count])
            start += count
            if whole:
                self.done_units.add(number)
        if start != len(rows):
            raise ValueError(f"{len(rows)} rows, where {start} are said")

    def _mismatch_error(self, reason: str) -> OutputError:
        return OutputError(
            f"{self.path} {reason}: name another file, give the same options, or measure anew with --anew"
        )


def hash_file(file: str | Path) -> str:
    """Some digits that are others when the content of a file is another.

    Example:
        >>> hash_of("mine.safetensors")
        'e3b0c44298fc1c14'
    """
    found = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(READ_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()[:HASH_DIGITS]


def from_dict(cls: Any, raw: Any) -> Any:
    """What `dataclasses.asdict` and JSON made of a dataclass of plain values, tuples, mappings and such dataclasses.

    Fields that are not there have their defaults, further ones are passed over.

    Example:
        >>> restored(Presence, {"frames": 3, "in_sight": 2, "right": 1})
        Presence(frames=3, in_sight=2, right=1)

    Raises:
        TypeError, ValueError, AttributeError: it is not that.
    """
    if is_dataclass(cls):
        hints = get_type_hints(cls)
        return cls(**{f.name: from_dict(hints[f.name], raw[f.name]) for f in fields(cls) if f.name in raw})  # type: ignore[operator]
    origin, args = get_origin(cls), get_args(cls)
    if origin is tuple:
        return tuple(from_dict(args[0], item) for item in raw)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {from_dict(args[0], key): from_dict(args[1], value) for key, value in raw.items()}
    return cls(raw) if cls in (int, float) else raw


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
