"""Programs take turns, so that a machine that changes its pace changes it for all; and what they found is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from masklet.benchmark.peers.process import MASKLET, PeerProcess, ProgramJob, Timing
from masklet.benchmark.peers.weight_formats import convert_weights
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.weights import ModelWeights

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
"""What each turn took, by program; one that does not have the verb is not in it."""
PackedMasks: TypeAlias = npt.NDArray[np.uint8]
"""Masks as they are kept: eight pixels a byte."""
CHUNK_BYTES = 8192
"""Bytes of each mask that are compared at once."""
MATCH_IOU = 0.95


@dataclass(frozen=True)
class ComparisonResult:
    """What was found of all programs."""

    weights: ModelWeights
    cases: tuple[BenchmarkCase, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the peers."""


@contextmanager
def start_programs(pythons: Mapping[str, Path], job: ProgramJob, folder: Path) -> Iterator[list[PeerProcess]]:
    """All programs, each with its weights in the form that it opens; they end with the block.

    Example:
        >>> with running(pythons_of(["sam2"]), job, folder) as programs:
        ...     take_turns(programs, "load", 1, uncounted=0)
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(PeerProcess(name, python, _program_job(name, job, folder), folder))
            for name, python in pythons.items()
        ]


def run_interleaved(
    programs: Sequence[PeerProcess], verb: str, rounds: int, *, warmup: int = 1, **payload: object
) -> dict[str, list[Timing]]:
    """Ask each program in turn, the last one first in every second round; `uncounted` rounds come before.

    Example:
        >>> take_turns(programs, "encode", 5)["sam2"][0].seconds
        3.2
    """
    able = [program for program in programs if program.supports(verb)]
    found: dict[str, list[Timing]] = {program.name: [] for program in able}
    for i in range(warmup + rounds):
        for program in able if i % 2 == 0 else able[::-1]:
            found[program.name].append(program.run(verb, **payload))
    return {name: taken[warmup:] for name, taken in found.items()}


def peer_versions(programs: Sequence[PeerProcess]) -> dict[str, str]:
    """Of all but masklet, which a record has of its own; with PyTorch's where theirs is another.

    Example:
        >>> versions_of(programs)
        {'sam2': '1.1.0 with torch 2.12.0'}
    """
    usual = next((program.torch for program in programs if program.name == MASKLET), "")
    return {
        program.name: program.version if program.torch == usual else f"{program.version} with torch {program.torch}"
        for program in programs
        if program.name != MASKLET
    }


def time_ratio(timings: Timings, peer: str, *, cpu_time: bool = False) -> float | None:
    """The median over rounds of masklet's time by the peer's; None where one of them has no time.

    Example:
        >>> ratio_of(take_turns(programs, "click", 5), "sam2")
        0.8
    """
    pairs = list(zip(timings.get(MASKLET, ()), timings.get(peer, ()), strict=False))
    if cpu_time:
        return median(ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in pairs) if pairs else None
    return median(ours.seconds / theirs.seconds for ours, theirs in pairs) if pairs else None


def min_iou(masks: PackedMasks, reference: PackedMasks) -> float | None:
    """Of pairs of packed masks, that of the two that agree least; two empty ones agree. None: other numbers of them.

    Example:
        >>> lowest_iou(np.packbits([[True, True]], axis=1), np.packbits([[True, False]], axis=1))
        0.5
    """
    if masks.shape != reference.shape or not len(masks):
        return None
    a, b = (np.unpackbits(side, axis=1) > 0 for side in (masks, reference))
    union = (a | b).sum(1)
    return float(np.where(union > 0, (a & b).sum(1) / np.maximum(union, 1), 1.0).min())


def max_logits_error(logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float | None:
    """The largest difference, in standard deviations of the reference; None where they have other shapes.

    Example:
        >>> logits_error(np.float32([1, 2]), np.float32([1, 3]))
        1.0
    """
    return float(np.abs(logits - reference).max() / reference.std()) if logits.shape == reference.shape else None


@dataclass(frozen=True)
class MaskAgreement:
    """How far two sets of masks of one image are the same."""

    matched_ours: float
    """Share of masklet's masks with one of the peer's at an IoU above 0.95."""
    matched_theirs: float
    """Share of the peer's masks with one of masklet's."""
    mean_iou: float
    """Of the peer's masks, each with the most similar one of masklet's."""
    min_iou: float


def mask_agreement(ours: PackedMasks, theirs: PackedMasks) -> MaskAgreement | None:
    """Match packed masks by their best IoU; None where one side has none.

    Example:
        >>> alike(masks, masks[::-1]).mean_iou
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
    shared = np.zeros((len(a), len(b)))
    areas = np.zeros(len(a)), np.zeros(len(b))
    for start in range(0, a.shape[1], CHUNK_BYTES):  # unpacked as a whole, hundreds of masks are gigabytes
        parts = [np.unpackbits(side[:, start : start + CHUNK_BYTES], axis=1).astype(np.float32) for side in (a, b)]
        shared += parts[0] @ parts[1].T
        for area, part in zip(areas, parts, strict=True):
            area += part.sum(1)
    union = areas[0][:, None] + areas[1] - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def _program_job(program: str, job: ProgramJob, folder: Path) -> ProgramJob:
    weights = convert_weights(program, str(job["model"]), Path(str(job["weights"])), folder)
    return {**job, "weights": str(weights)}
