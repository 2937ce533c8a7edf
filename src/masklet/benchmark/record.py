"""What one run of `masklet bench` found, as it is kept: one JSON, written whole, read with care."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeAlias

from masklet.benchmark.machine import MachineInfo, git_commit
from masklet.benchmark.model_family import FamilyRow, row_from_dict
from masklet.benchmark.roofline import HardwareLimits, Work
from masklet.errors import InputError

__all__ = [
    "BenchmarkAnswer",
    "BenchmarkCase",
    "BenchmarkRecord",
    "OptionValue",
    "case_from_dict",
    "create_record",
    "parse_precision",
    "read_record",
]

OptionValue: TypeAlias = str | int | float | bool | list[int] | list[str] | None


@dataclass(frozen=True)
class BenchmarkCase:
    """One thing that was measured, in one setting: seconds or MB."""

    name: str
    setting: str
    """Such as "fp32" or "bf16, compiled"."""
    unit: str
    samples: tuple[float, ...] = ()
    lower_bound: float | None = None
    """What the machine's limit implies, in the same unit."""
    note: str | None = None
    """Why there are no samples, or what is to be said of them."""
    program: str = "masklet"
    peer_ratio: float | None = None
    """On a peer's row: masklet's time by its, in the same setting; below 1 masklet is faster."""
    min_iou: float | None = None
    """On a peer's row: of its masks and masklet's, the two that agree least."""
    max_logits_error: float | None = None
    """On a peer's row: the largest difference of a logit, in standard deviations of the peer's logits."""
    work: Work | None = None
    """What it takes at the very least."""
    limited_by: str | None = None
    """Which limit the floor is of: "operations" or "bytes"."""

    @property
    def median(self) -> float | None:
        """The middle of the samples."""
        return median(self.samples) if self.samples else None

    @property
    def minimum(self) -> float | None:
        """The least of the samples."""
        return min(self.samples, default=None)

    @property
    def iqr(self) -> float | None:
        """From the first to the third quarter of the samples; None of a single one."""
        if len(self.samples) < 2:
            return None
        first, _, third = quantiles(self.samples, method="inclusive")
        return third - first

    @property
    def fraction_of_limit(self) -> float | None:
        """How much of the machine's limit is reached: 1 is all of it."""
        return self.lower_bound / self.median if self.lower_bound is not None and self.median else None

    def with_lower_bound(self, limits: HardwareLimits) -> BenchmarkCase:
        """The same with the floor that its work has by these limits.

        Example:
            >>> case.with_floor(measure_limits()).share
            0.43
        """
        if self.work is None or not self.samples:
            return self
        floor = limits.lower_bound(self.work, parse_precision(self.setting))
        return replace(self, lower_bound=floor.seconds, limited_by=floor.limited_by)


@dataclass(frozen=True)
class BenchmarkAnswer:
    """What one process found."""

    cases: tuple[BenchmarkCase, ...]


@dataclass(frozen=True)
class BenchmarkRecord:
    """One run: how, where, by what, and what was found."""

    protocol: str
    model: str
    options: Mapping[str, OptionValue]
    machine: MachineInfo
    masklet_version: str
    commit: str | None
    date: str
    limits: HardwareLimits | None
    cases: tuple[BenchmarkCase, ...] = field(default=())
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
        told = asdict(self) | {"cases": [_case_to_dict(case) for case in self.cases]}
        return json.dumps(told, indent=2) + "\n"


def create_record(
    protocol: str,
    model: str,
    options: Mapping[str, OptionValue],
    machine: MachineInfo,
    limits: HardwareLimits | None,
    cases: tuple[BenchmarkCase, ...],
    version: str,
) -> BenchmarkRecord:
    """A record of now; `version` is that of the masklet that runs.

    Example:
        >>> new_record(PROTOCOL, "builtin", {}, this_machine(), None, (), "0.1.0").date
        '2026-11-23T12:22:00+00:00'
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    commit = git_commit(Path(__file__).parents[1])
    return BenchmarkRecord(protocol, model, dict(options), machine, version, commit, now, limits, cases)


def read_record(path: str | Path) -> BenchmarkRecord:
    """The record that `masklet bench` wrote to `path`.

    Example:
        >>> read_record("before.json").cases[0].median
        0.039

    Raises:
        InputError: no such file, or one that holds something else.
    """
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        return _record_from_dict(told)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); name a file that --json wrote") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no record of masklet bench; name a file that masklet bench image, video or another wrote with "
            "--json"
        ) from error


def _case_to_dict(case: BenchmarkCase) -> dict[str, Any]:
    figures = {"median": case.median, "lowest": case.minimum, "spread": case.iqr, "share": case.fraction_of_limit}
    return asdict(case) | figures


def _record_from_dict(data: dict[str, Any]) -> BenchmarkRecord:
    limits = None if data["limits"] is None else HardwareLimits(**data["limits"])
    rows = {
        "cases": tuple(map(case_from_dict, data["cases"])),
        "models": tuple(map(row_from_dict, data.get("models", ()))),
    }
    return BenchmarkRecord(**(data | rows | {"machine": MachineInfo(**data["machine"]), "limits": limits}))


def case_from_dict(data: Mapping[str, Any]) -> BenchmarkCase:
    """A case as `asdict` or a record in JSON tells it; figures that follow from others are not read.

    Example:
        >>> case_of({"name": "encode", "setting": "fp32", "unit": "s", "samples": [0.04]}).median
        0.04
    """
    given: dict[str, Any] = {name: str(data[name]) for name in ("name", "setting", "unit", "program") if name in data}
    given |= {name: _float_or_none(data.get(name)) for name in ("floor", "ratio", "lowest_iou", "logits_error")}
    work = None if data.get("work") is None else Work(**data["work"])
    return BenchmarkCase(
        samples=tuple(map(float, data["samples"])),
        note=data.get("note"),
        work=work,
        limited_by=data.get("bound"),
        **given,
    )


def parse_precision(setting: str) -> str:
    """The precision that a setting names, fp32 where it names none.

    Example:
        >>> precision_of("8 objects, bf16")
        'bf16'
    """
    return next((word for word in setting.split(", ") if word in ("bf16", "fp16")), "fp32")


def _float_or_none(value: float | None) -> float | None:
    return None if value is None else float(value)
