"""How things move: smooth paths of a few frames, and the affine maps along them.

Shapes: T frames, S side of the image. Positions are x before y; a step is a share of the image's side.
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
    """Where each frame has a thing: its middle goes to `place_T2`, scaled by `scale_T2`, turned by `angle_T`."""

    center_T2: Floats
    """In the thing's own pixels."""
    position_T2: Floats
    """In the frame's pixels."""
    scale_T2: Floats
    angle_T: Floats
    """Radians."""


def sample_speed(random: Random, min_speed: float = 0.006, max_speed: float = 0.08) -> float:
    """Share of the image's side a frame; slow and fast are equally likely on a log scale."""
    return float(np.exp(random.uniform(np.log(min_speed), np.log(max_speed))))


def random_walk(random: Random, frames: int, step: float) -> Floats:
    """Offsets (T, 2) from the first frame: a heading that turns, a pace that changes, a little shake."""
    time = np.arange(frames)
    heading = random.uniform(0, 2 * np.pi) + random.normal(0, 0.25) * time
    pace = step * (1 + 0.5 * np.sin(random.uniform(0, 2 * np.pi) + random.uniform(0.2, 1.2) * time))
    moves = pace[:, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    moves += random.normal(0, 0.15 * step, (frames, 2))
    moves[0] = 0
    return np.asarray(moves.cumsum(0))


def out_and_back(random: Random, frames: int) -> Floats:
    """How far out (T,), 0 to 1 and back to 0: away in the middle of the clip, there in the first frame."""
    last = max(frames - 1, 1)
    length = random.uniform(0.5, 1.1) * last
    start = random.uniform(0, max(last - 0.8 * length, 1e-6))
    phase = ((np.arange(frames) - start) / length).clip(0, 1)
    return np.asarray(np.sin(np.pi * phase) ** 0.8)


def drift(random: Random, frames: int, rate: float) -> Floats:
    """A slow change (T,) from 0: steady, with a swing."""
    time = np.arange(frames)
    swing = np.sin(random.uniform(0.3, 1.2) * time + (phase := random.uniform(0, 2 * np.pi))) - np.sin(phase)
    return np.asarray(random.normal(0, rate) * time + random.normal(0, rate) * swing)


def affine_matrices(pose: Pose) -> Floats:
    """(T, 2, 3): from the thing's pixels to the frame's; scaled along its own axes, then turned."""
    cos, sin = np.cos(pose.angle_T), np.sin(pose.angle_T)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    linear = turn * pose.scale_T2[:, None, :]
    shift = pose.position_T2 - np.einsum("tij,tj->ti", linear, pose.center_T2)
    return np.concatenate([linear, shift[..., None]], axis=-1)
