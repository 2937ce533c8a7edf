"""A small network with deterministic weights, and videos made of integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from helpers.reference import GOLDEN, module_at, reference_model
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2Encoder
from masklet.video import LiveSession, ObjectBatcher, Session, TrackOptions


@pytest.fixture
def stepper() -> ObjectBatcher:
    model = reference_model("builtin", 96, "v")
    return ObjectBatcher(model, FastSAM2Encoder(model), torch.device("cpu"))


@pytest.fixture(scope="session")
def video() -> np.ndarray:
    """(24, 120, 160, 3): the scene of the golden clip at half size."""
    return np.ascontiguousarray(module_at(GOLDEN / "portable" / "scene.py").clip(24)[:, ::2, ::2])


@pytest.fixture
def session(stepper: ObjectBatcher) -> Callable[..., Session]:
    def opened(source: Any, **options: Any) -> Session:
        return Session(stepper, open_video(source), TrackOptions(**{"clean": 0, **options}))

    return opened


@pytest.fixture
def live(stepper: ObjectBatcher) -> Callable[..., LiveSession]:
    return lambda length=None, **options: LiveSession(stepper, TrackOptions(**{"clean": 0, **options}), length)
