"""Interleave programs, so that a machine that changes its speed affects all of them, and compare their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.process import MASKLET, PeerProcess, ProgramJob, Timing
from benchmarks.weights import ModelWeights, convert_weights
from masklet.benchmark.record import BenchmarkCase

__all__ = [
    "ComparisonResult",
    "MaskAgreement",
    "Timings",
    "mask_agreement",
    "max_logits_error",
    "min_iou",
    "peer_versions",
    "run_interleaved",
    "start_programs",
    "time_ratio",
]

Timings: TypeAlias = Mapping[str, Sequence[Timing]]
"""The timings by program; programs without the verb are missing."""
PackedMasks: TypeAlias = npt.NDArray[np.uint8]
"""Packed masks: eight pixels per byte."""
CHUNK_BYTES = 8192
"""Bytes of each mask that are compared at a time."""
MATCH_IOU = 0.95


@dataclass(frozen=True)
class ComparisonResult:
    """The results of all programs."""

    weights: ModelWeights
    cases: tuple[BenchmarkCase, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the peers."""


@contextmanager
def start_programs(pythons: Mapping[str, Path], job: ProgramJob, folder: Path) -> Iterator[list[PeerProcess]]:
    """Start all programs, each with its weights in its own format; they end with the block.

    Example:
        >>> with start_programs(resolve_interpreters(["sam2"]), job, folder) as programs:
        ...     run_interleaved(programs, "load", 1, warmup=0)
    """
    with ExitStack() as stack:
        programs = []
        for name, python in pythons.items():
            weights = convert_weights(name, str(job["model"]), Path(str(job["weights"])), folder)
            programs.append(stack.enter_context(PeerProcess(name, python, {**job, "weights": str(weights)}, folder)))
        yield programs


def run_interleaved(
    programs: Sequence[PeerProcess], verb: str, rounds: int, *, warmup: int = 1, **payload: object
) -> dict[str, list[Timing]]:
    """Send a request to each program, in reverse order in every second round, after `warmup` rounds.

    Example:
        >>> run_interleaved(programs, "encode", 5)["sam2"][0].seconds
        3.2
    """
    able = [program for program in programs if program.supports(verb)]
    timings: dict[str, list[Timing]] = {program.name: [] for program in able}
    for i in range(warmup + rounds):
        for program in able if i % 2 == 0 else able[::-1]:
            timings[program.name].append(program.run(verb, **payload))
    return {name: taken[warmup:] for name, taken in timings.items()}


def peer_versions(programs: Sequence[PeerProcess]) -> dict[str, str]:
    """Return the versions of the peers, with that of PyTorch if it differs from masklet's.

    Example:
        >>> peer_versions(programs)
        {'sam2': '1.1.0 with torch 2.12.0'}
    """
    torch_version = next((program.torch for program in programs if program.name == MASKLET), "")
    return {
        program.name: program.version
        if program.torch == torch_version
        else f"{program.version} with torch {program.torch}"
        for program in programs
        if program.name != MASKLET
    }


def time_ratio(timings: Timings, peer: str, *, cpu_time: bool = False) -> float | None:
    """Return the median over rounds of masklet's time divided by the peer's; None if one has no time.

    Example:
        >>> time_ratio(run_interleaved(programs, "click", 5), "sam2")
        0.8
    """
    pairs = list(zip(timings.get(MASKLET, ()), timings.get(peer, ()), strict=False))
    if cpu_time:
        return median(ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in pairs) if pairs else None
    return median(ours.seconds / theirs.seconds for ours, theirs in pairs) if pairs else None


def min_iou(masks: PackedMasks, reference: PackedMasks) -> float | None:
    """Return the lowest IoU over pairs of packed masks; two empty masks agree. None if their numbers differ.

    Example:
        >>> min_iou(np.packbits([[True, True]], axis=1), np.packbits([[True, False]], axis=1))
        0.5
    """
    if masks.shape != reference.shape or not len(masks):
        return None
    a, b = (np.unpackbits(side, axis=1) > 0 for side in (masks, reference))
    union = (a | b).sum(1)
    return float(np.where(union > 0, (a & b).sum(1) / np.maximum(union, 1), 1.0).min())


def max_logits_error(logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float | None:
    """Return the largest difference in standard deviations of the reference; None if the shapes differ.

    Example:
        >>> max_logits_error(np.float32([1, 2]), np.float32([1, 3]))
        1.0
    """
    return float(np.abs(logits - reference).max() / reference.std()) if logits.shape == reference.shape else None


@dataclass(frozen=True)
class MaskAgreement:
    """Agreement of two sets of masks of one image."""

    matched_ours: float
    """Fraction of masklet's masks that have one of the peer's at an IoU above 0.95."""
    matched_theirs: float
    """Fraction of the peer's masks that have one of masklet's."""
    mean_iou: float
    """Mean over the peer's masks of the IoU with the most similar one of masklet's."""
    min_iou: float


def mask_agreement(ours: PackedMasks, theirs: PackedMasks) -> MaskAgreement | None:
    """Match packed masks by their best IoU; None if one side has no masks.

    Example:
        >>> mask_agreement(masks, masks[::-1]).mean_iou
        1.0
    """
    if not len(ours) or not len(theirs):
        return None
    iou = _pairwise_iou(ours, theirs)
    best = iou.max(0)
    return MaskAgreement(
        float((iou.max(1) > MATCH_IOU).mean()), float((best > MATCH_IOU).mean()), float(best.mean()), float(best.min())
    )


def _pairwise_iou(a: PackedMasks, b: PackedMasks) -> npt.NDArray[np.float64]:
    intersection = np.zeros((len(a), len(b)))
    areas = np.zeros(len(a)), np.zeros(len(b))
    for start in range(0, a.shape[1], CHUNK_BYTES):  # unpacked at once, hundreds of masks are gigabytes
        parts = [np.unpackbits(side[:, start : start + CHUNK_BYTES], axis=1).astype(np.float32) for side in (a, b)]
        intersection += parts[0] @ parts[1].T
        for area, part in zip(areas, parts, strict=True):
            area += part.sum(1)
    union = areas[0][:, None] + areas[1] - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)
