"""Store the results of one run of `masklet bench` as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeAlias

from masklet.atomic_files import current_keys
from masklet.benchmark.machine import MachineInfo, git_commit
from masklet.benchmark.model_family import FamilyRow, row_from_dict
from masklet.benchmark.roofline import HardwareLimits, Work
from masklet.damaged_files import decoder_errors
from masklet.errors import InputError

__all__ = [
    "BenchmarkAnswer",
    "BenchmarkCase",
    "BenchmarkRecord",
    "OptionValue",
    "case_from_dict",
    "create_record",
    "read_record",
]

OptionValue: TypeAlias = str | int | float | bool | list[int] | list[str] | None


@dataclass(frozen=True)
class BenchmarkCase:
    """The measurements of one task in one setting, in seconds or MB."""

    name: str
    setting: str
    """Such as "fp32" or "bf16, compiled"."""
    unit: str
    samples: tuple[float, ...] = ()
    lower_bound: float | None = None
    """What the limits of the machine imply, in the same unit."""
    note: str | None = None
    """Why there are no samples, or a remark on them."""
    program: str = "masklet"
    peer_ratio: float | None = None
    """On a peer's row: masklet's time divided by the peer's; below 1 masklet is faster."""
    min_iou: float | None = None
    """On a peer's row: the lowest IoU between a mask of the peer and masklet's."""
    max_logits_error: float | None = None
    """On a peer's row: the largest difference of a logit, in standard deviations of the peer's logits."""
    work: Work | None = None
    limited_by: str | None = None
    """The limit that sets the lower bound: "operations" or "bytes"."""

    @property
    def median(self) -> float | None:
        """Median of the samples."""
        return median(self.samples) if self.samples else None

    @property
    def minimum(self) -> float | None:
        """Smallest sample."""
        return min(self.samples, default=None)

    @property
    def iqr(self) -> float | None:
        """Interquartile range of the samples; None for a single one."""
        if len(self.samples) < 2:
            return None
        first, _, third = quantiles(self.samples, method="inclusive")
        return third - first

    @property
    def fraction_of_limit(self) -> float | None:
        """Fraction of the machine's limit that is reached, up to 1."""
        return self.lower_bound / self.median if self.lower_bound is not None and self.median else None

    def with_lower_bound(self, limits: HardwareLimits) -> BenchmarkCase:
        """Add the lower bound of the work under these limits.

        Example:
            >>> case.with_lower_bound(measure_hardware_limits()).fraction_of_limit
            0.43
        """
        if self.work is None or not self.samples:
            return self
        precision = next((word for word in self.setting.split(", ") if word in ("bf16", "fp16")), "fp32")
        bound = limits.lower_bound(self.work, precision)
        return replace(self, lower_bound=bound.seconds, limited_by=bound.limited_by)


@dataclass(frozen=True)
class BenchmarkAnswer:
    """The results of one process."""

    cases: tuple[BenchmarkCase, ...]


@dataclass(frozen=True)
class BenchmarkRecord:
    """One run: protocol, options, machine, versions and results."""

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
    """Versions of the peers, by program."""
    command: str | None = None
    """The command line of the run."""
    models: tuple[FamilyRow, ...] = ()
    """Rows of a table of the model family, which has no cases."""

    def to_json(self) -> str:
        """Return the record as JSON, with the figures that follow from the samples.

        Example:
            >>> write_text("before.json", record.to_json())
        """
        cases = [
            asdict(case)
            | {
                "median": case.median,
                "minimum": case.minimum,
                "iqr": case.iqr,
                "fraction_of_limit": case.fraction_of_limit,
            }
            for case in self.cases
        ]
        return json.dumps(asdict(self) | {"cases": cases}, indent=2) + "\n"


def create_record(
    protocol: str,
    model: str,
    options: Mapping[str, OptionValue],
    machine: MachineInfo,
    limits: HardwareLimits | None,
    cases: tuple[BenchmarkCase, ...],
    version: str,
) -> BenchmarkRecord:
    """Build a record with the current date and commit; `version` is that of the running masklet.

    Example:
        >>> create_record(PROTOCOL, "builtin", {}, describe_machine(), None, (), "0.1.0").date
        '2026-11-23T12:22:00+00:00'
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    commit = git_commit(Path(__file__).parents[1])
    return BenchmarkRecord(protocol, model, dict(options), machine, version, commit, now, limits, cases)


def read_record(path: str | Path) -> BenchmarkRecord:
    """Read a record that `masklet bench` wrote, also one of an earlier version.

    Example:
        >>> read_record("before.json").cases[0].median
        0.039

    Raises:
        InputError: if the file is missing or no record.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        data = current_keys(stored, "benchmark_record")
        data["options"] = current_keys(stored["options"], "benchmark_options")
        data["cases"] = tuple(map(case_from_dict, data["cases"]))
        data["models"] = tuple(map(row_from_dict, data.get("models", ())))
        data["machine"] = MachineInfo(**data["machine"])
        data["limits"] = None if data["limits"] is None else HardwareLimits(**data["limits"])
        return BenchmarkRecord(**data)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); name a file that --report wrote"
        ) from error
    except decoder_errors() as error:
        raise InputError(
            f"{path} is no record of masklet bench; name a file that masklet bench image, video or another wrote with "
            "--report"
        ) from error


def case_from_dict(data: Mapping[str, Any]) -> BenchmarkCase:
    """Build a case from `asdict` or a record; figures that follow from the samples are ignored.

    Example:
        >>> case_from_dict({"name": "encode", "setting": "fp32", "unit": "s", "samples": [0.04]}).median
        0.04
    """
    given: dict[str, Any] = {name: str(data[name]) for name in ("name", "setting", "unit", "program") if name in data}
    given |= {
        name: None if data.get(name) is None else float(data[name])
        for name in ("lower_bound", "peer_ratio", "min_iou", "max_logits_error")
    }
    return BenchmarkCase(
        samples=tuple(map(float, data["samples"])),
        note=data.get("note"),
        work=None if data.get("work") is None else Work(**data["work"]),
        limited_by=data.get("limited_by"),
        **given,
    )
