"""A small network with deterministic weights, and films made of integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from helpers.reference import GOLDEN, module_at, reference_model
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastEncoder
from masklet.video import Live, Session, Stepper, TrackOptions


@pytest.fixture
def stepper() -> Stepper:
    model = reference_model("builtin", 96, "v")
    return Stepper(model, FastEncoder(model), torch.device("cpu"))


@pytest.fixture(scope="session")
def film() -> np.ndarray:
    """(24, 120, 160, 3): the scene of the golden clip at half size."""
    return np.ascontiguousarray(module_at(GOLDEN / "portable" / "scene.py").clip(24)[:, ::2, ::2])


@pytest.fixture
def session(stepper: Stepper) -> Callable[..., Session]:
    def opened(source: Any, **options: Any) -> Session:
        return Session(stepper, open_video(source), TrackOptions(**{"clean": 0, **options}))

    return opened


@pytest.fixture
def live(stepper: Stepper) -> Callable[..., Live]:
    return lambda length=None, **options: Live(stepper, TrackOptions(**{"clean": 0, **options}), length)
