"""Figures in a file that is gone on with: the rows of what was measured so far, and what they were measured with.

The file is JSON. It begins with protocol, model and options, then come the figures of the rows so far, the rows, and
under "run" what it takes to go on: which units (films, pictures) are done, how many rows each has, and hashes of the
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

__all__ = ["Kept", "Made", "Option", "hash_of", "restored"]

Row = TypeVar("Row")
Option: TypeAlias = "int | float | str | bool | list[str] | None"
SHARE = 20
"""Writing waits for so many times as long as it took the last time."""
HASHED = 16
"""Digits of a hash."""
BLOCK = 1 << 20
"""Bytes of a file that are read at once."""


@dataclass(frozen=True)
class Made:
    """What figures are made with; `units` are the names of what is measured, in order."""

    protocol: str
    model: str
    weights: str
    options: Mapping[str, Option]
    units: tuple[str, ...]

    def differences(self, told: Mapping[str, Any]) -> list[str]:
        """What of a file's content was made with something else.

        Example:
            >>> made.differences({"protocol": "davis", ...})
            ["prompt 'mask', now 'box'"]
        """
        options, run = _table(told.get("options")), _table(told.get("run"))
        pairs: list[tuple[str, Any, Any]] = [("protocol", told.get("protocol"), self.protocol)]
        other_weights, model = run.get("weights") != self.weights, told.get("model")
        if other_weights:  # one model may have several names, as paths have
            pairs.append(("model", model, self.model))
        pairs += [(name, options.get(name), self._plain.get(name)) for name in sorted({*options, *self._plain})]
        found = [f"{name} {before!r}, now {now!r}" for name, before, now in pairs if before != now]
        found += ["other weights"] * (other_weights and model == self.model)
        return found or ["other data"] * (run.get("data") != self.data)  # other options have other data

    @property
    def data(self) -> str:
        """The list of units, as a hash."""
        return hashlib.sha256(json.dumps(self.units).encode()).hexdigest()[:HASHED]

    @property
    def _plain(self) -> dict[str, Any]:
        """Options as JSON gives them back."""
        plain: dict[str, Any] = json.loads(json.dumps(dict(self.options)))
        return plain


class Kept(Generic[Row]):
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
        self, file: Path | None, made: Made, row: type[Row], figures: Callable[[Sequence[Row]], Mapping[str, Any]]
    ) -> None:
        self.file, self.made, self._row, self._figures = file, made, row, figures
        self.by_unit: dict[int, tuple[Row, ...]] = {}
        self.done: set[int] = set()
        self._next = 0.0

    @property
    def rows(self) -> list[Row]:
        """All there are, in the order of their units."""
        return [row for number in sorted(self.by_unit) for row in self.by_unit[number]]

    @property
    def left(self) -> list[int]:
        """Units that are not done."""
        return [number for number in range(len(self.made.units)) if number not in self.done]

    def read(self) -> None:
        """Take over what the file has of an earlier run, where there is one.

        Raises:
            OutputError: it holds something else.
        """
        if self.file is None or not self.file.exists():
            return
        try:
            told = _table(json.loads(self.file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as problem:
            raise self._refused(f"cannot be read ({problem})") from problem
        if "run" not in told:
            raise self._refused("holds something that cannot be gone on with")
        other = self.made.differences(told)
        if other:
            raise self._refused(f"holds figures of something else ({'; '.join(other)})")
        try:
            self._take(told)
        except (AttributeError, KeyError, LookupError, TypeError, ValueError) as problem:
            raise self._refused(f"is damaged ({problem!r})") from problem

    def keep(self, number: int, rows: Sequence[Row], whole: bool) -> None:
        """The rows of a unit, and whether these are all; see `masklet.evaluate.parallel.Keep`."""
        if whole or len(rows) > len(self.by_unit.get(number, ())):  # not fewer than an earlier run left
            self.by_unit[number] = tuple(rows)
        if whole:
            self.done.add(number)
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Write the file, where there is one and something to write.

        Raises:
            OutputError: it cannot be written.
        """
        begun = time.monotonic()
        if self.file is not None and self.rows:
            write_text(self.file, json.dumps(self._whole(), indent=2, allow_nan=False))
            self._next = time.monotonic() + SHARE * (time.monotonic() - begun)

    def _whole(self) -> dict[str, Any]:
        head = {"protocol": self.made.protocol, "model": self.made.model, "options": dict(self.made.options)}
        figures = dict(self._figures(self.rows))
        rows = figures.pop("rows", None) or [asdict(row) for row in self.rows]  # type: ignore[call-overload]
        counts = [[number, len(self.by_unit[number]), number in self.done] for number in sorted(self.by_unit)]
        run = {"weights": self.made.weights, "data": self.made.data, "of": len(self.made.units), "units": counts}
        return {**head, **{name: figures[name] for name in figures if name not in head}, "rows": rows, "run": run}

    def _take(self, told: Mapping[str, Any]) -> None:
        rows = [restored(self._row, row) for row in told["rows"]]
        start = 0
        for number, count, whole in told["run"]["units"]:
            self.by_unit[number] = tuple(rows[start : start + count])
            start += count
            if whole:
                self.done.add(number)
        if start != len(rows):
            raise ValueError(f"{len(rows)} rows, where {start} are said")

    def _refused(self, why: str) -> OutputError:
        return OutputError(f"{self.file} {why}: name another file, give the same options, or measure anew with --anew")


def hash_of(file: str | Path) -> str:
    """Some digits that are others when the content of a file is another.

    Example:
        >>> hash_of("mine.safetensors")
        'e3b0c44298fc1c14'
    """
    found = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(BLOCK):
            found.update(block)
    return found.hexdigest()[:HASHED]


def restored(kind: Any, raw: Any) -> Any:
    """What `dataclasses.asdict` and JSON made of a dataclass of plain values, tuples, mappings and such dataclasses.

    Fields that are not there have their defaults, further ones are passed over.

    Example:
        >>> restored(Presence, {"frames": 3, "in_sight": 2, "right": 1})
        Presence(frames=3, in_sight=2, right=1)

    Raises:
        TypeError, ValueError, AttributeError: it is not that.
    """
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: restored(hints[f.name], raw[f.name]) for f in fields(kind) if f.name in raw})  # type: ignore[operator]
    origin, args = get_origin(kind), get_args(kind)
    if origin is tuple:
        return tuple(restored(args[0], item) for item in raw)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {restored(args[0], key): restored(args[1], value) for key, value in raw.items()}
    return kind(raw) if kind in (int, float) else raw


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
