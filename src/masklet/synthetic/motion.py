"""Motion: smooth random paths, and the affine maps along them.

Shapes: T frames. Positions are x before y; a step is a fraction of the frame's side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Pose", "affine_matrices", "drift", "out_and_back", "random_walk", "sample_speed"]

Floats = npt.NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Pose:
    """The pose of an object in each frame: its center moves to `position_T2`, scaled and rotated."""

    center_T2: Floats
    """In pixels of the object."""
    position_T2: Floats
    """In pixels of the frame."""
    scale_T2: Floats
    angle_T: Floats
    """Radians."""


def sample_speed(rng: Random, min_speed: float = 0.006, max_speed: float = 0.08) -> float:
    """Sample a speed in fractions of the frame's side per frame, uniform on a log scale."""
    return float(np.exp(rng.uniform(np.log(min_speed), np.log(max_speed))))


def random_walk(rng: Random, frames: int, step: float) -> Floats:
    """Sample offsets (T, 2) from the first frame: a turning heading, a changing pace, a little shake."""
    time = np.arange(frames)
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.25) * time
    pace = step * (1 + 0.5 * np.sin(rng.uniform(0, 2 * np.pi) + rng.uniform(0.2, 1.2) * time))
    moves = pace[:, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    moves += rng.normal(0, 0.15 * step, (frames, 2))
    moves[0] = 0
    return np.asarray(moves.cumsum(0))


def out_and_back(rng: Random, frames: int) -> Floats:
    """Sample a path (T,) from 0 to 1 and back: 0 in the first frame, 1 in the middle of the clip."""
    last = max(frames - 1, 1)
    length = rng.uniform(0.5, 1.1) * last
    start = rng.uniform(0, max(last - 0.8 * length, 1e-6))
    phase = ((np.arange(frames) - start) / length).clip(0, 1)
    return np.asarray(np.sin(np.pi * phase) ** 0.8)


def drift(rng: Random, frames: int, rate: float) -> Floats:
    """Sample a slow change (T,) from 0: a linear trend with an oscillation."""
    time = np.arange(frames)
    swing = np.sin(rng.uniform(0.3, 1.2) * time + (phase := rng.uniform(0, 2 * np.pi))) - np.sin(phase)
    return np.asarray(rng.normal(0, rate) * time + rng.normal(0, rate) * swing)


def affine_matrices(pose: Pose) -> Floats:
    """The affine maps (T, 2, 3) from pixels of the object to those of the frame; scaled, then rotated."""
    cos, sin = np.cos(pose.angle_T), np.sin(pose.angle_T)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    linear = turn * pose.scale_T2[:, None, :]
    shift = pose.position_T2 - np.einsum("tij,tj->ti", linear, pose.center_T2)
    return np.concatenate([linear, shift[..., None]], axis=-1)
