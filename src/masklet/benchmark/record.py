"""What one run of `masklet bench` found, as it is kept: one JSON, written whole, read with care."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeAlias

from masklet.benchmark.machine import Machine, commit_of
from masklet.benchmark.model_family import FamilyRow, row_of
from masklet.benchmark.roofline import Limits, Work
from masklet.errors import InputError

__all__ = ["Answer", "Case", "Option", "Record", "case_of", "new_record", "precision_of", "read_record"]

Option: TypeAlias = str | int | float | bool | list[int] | list[str] | None


@dataclass(frozen=True)
class Case:
    """One thing that was measured, in one setting: seconds or MB."""

    name: str
    setting: str
    """Such as "fp32" or "bf16, compiled"."""
    unit: str
    samples: tuple[float, ...] = ()
    floor: float | None = None
    """What the machine's limit implies, in the same unit."""
    note: str | None = None
    """Why there are no samples, or what is to be said of them."""
    program: str = "masklet"
    ratio: float | None = None
    """On a peer's row: masklet's time by its, in the same setting; below 1 masklet is faster."""
    lowest_iou: float | None = None
    """On a peer's row: of its masks and masklet's, the two that agree least."""
    logits_error: float | None = None
    """On a peer's row: the largest difference of a logit, in standard deviations of the peer's logits."""
    work: Work | None = None
    """What it takes at the very least."""
    bound: str | None = None
    """Which limit the floor is of: "operations" or "bytes"."""

    @property
    def median(self) -> float | None:
        """The middle of the samples."""
        return median(self.samples) if self.samples else None

    @property
    def lowest(self) -> float | None:
        """The least of the samples."""
        return min(self.samples, default=None)

    @property
    def spread(self) -> float | None:
        """From the first to the third quarter of the samples; None of a single one."""
        if len(self.samples) < 2:
            return None
        first, _, third = quantiles(self.samples, method="inclusive")
        return third - first

    @property
    def share(self) -> float | None:
        """How much of the machine's limit is reached: 1 is all of it."""
        return self.floor / self.median if self.floor is not None and self.median else None

    def with_floor(self, limits: Limits) -> Case:
        """The same with the floor that its work has by these limits.

        Example:
            >>> case.with_floor(measure_limits()).share
            0.43
        """
        if self.work is None or not self.samples:
            return self
        floor = limits.floor(self.work, precision_of(self.setting))
        return replace(self, floor=floor.seconds, bound=floor.bound)


@dataclass(frozen=True)
class Answer:
    """What one process found."""

    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Record:
    """One run: how, where, by what, and what was found."""

    protocol: str
    model: str
    options: Mapping[str, Option]
    machine: Machine
    masklet: str
    commit: str | None
    date: str
    limits: Limits | None
    cases: tuple[Case, ...] = field(default=())
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of peers, by program."""
    command: str | None = None
    """The command line that made it."""
    models: tuple[FamilyRow, ...] = ()
    """Of a table of the family, which has no cases."""

    def to_json(self) -> str:
        """The record as text; figures that follow from the samples are written too.

        Example:
            >>> write_text("before.json", record.to_json())
        """
        told = asdict(self) | {"cases": [_told(case) for case in self.cases]}
        return json.dumps(told, indent=2) + "\n"


def new_record(
    protocol: str,
    model: str,
    options: Mapping[str, Option],
    machine: Machine,
    limits: Limits | None,
    cases: tuple[Case, ...],
    version: str,
) -> Record:
    """A record of now; `version` is that of the masklet that runs.

    Example:
        >>> new_record(PROTOCOL, "builtin", {}, this_machine(), None, (), "0.1.0").date
        '2026-11-23T12:22:00+00:00'
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    commit = commit_of(Path(__file__).parents[1])
    return Record(protocol, model, dict(options), machine, version, commit, now, limits, cases)


def read_record(path: str | Path) -> Record:
    """The record that `masklet bench` wrote to `path`.

    Example:
        >>> read_record("before.json").cases[0].median
        0.039

    Raises:
        InputError: no such file, or one that holds something else.
    """
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        return _record(told)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); name a file that --json wrote") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no record of masklet bench; name a file that masklet bench image, video or another wrote with "
            "--json"
        ) from error


def _told(case: Case) -> dict[str, Any]:
    figures = {"median": case.median, "lowest": case.lowest, "spread": case.spread, "share": case.share}
    return asdict(case) | figures


def _record(told: dict[str, Any]) -> Record:
    limits = None if told["limits"] is None else Limits(**told["limits"])
    rows = {"cases": tuple(map(case_of, told["cases"])), "models": tuple(map(row_of, told.get("models", ())))}
    return Record(**(told | rows | {"machine": Machine(**told["machine"]), "limits": limits}))


def case_of(told: Mapping[str, Any]) -> Case:
    """A case as `asdict` or a record in JSON tells it; figures that follow from others are not read.

    Example:
        >>> case_of({"name": "encode", "setting": "fp32", "unit": "s", "samples": [0.04]}).median
        0.04
    """
    given: dict[str, Any] = {name: str(told[name]) for name in ("name", "setting", "unit", "program") if name in told}
    given |= {name: _figure(told.get(name)) for name in ("floor", "ratio", "lowest_iou", "logits_error")}
    work = None if told.get("work") is None else Work(**told["work"])
    return Case(
        samples=tuple(map(float, told["samples"])), note=told.get("note"), work=work, bound=told.get("bound"), **given
    )


def precision_of(setting: str) -> str:
    """The precision that a setting names, fp32 where it names none.

    Example:
        >>> precision_of("8 objects, bf16")
        'bf16'
    """
    return next((word for word in setting.split(", ") if word in ("bf16", "fp16")), "fp32")


def _figure(value: float | None) -> float | None:
    return None if value is None else float(value)
