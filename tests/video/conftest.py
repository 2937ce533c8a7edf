"""A small network with deterministic weights, and videos made of integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers.reference import GOLDEN, encode_images_once, module_at, small_builtin
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.video import LiveSession, Session, TrackOptions


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FastSAM2:
    """The built-in network at 96 x 96 pixels, which encodes every frame once."""
    encode_images_once(monkeypatch)
    return small_builtin()


@pytest.fixture(scope="session")
def video() -> np.ndarray:
    """(24, 120, 160, 3): the scene of the golden clip at half size."""
    return np.ascontiguousarray(module_at(GOLDEN / "portable" / "scene.py").clip(24)[:, ::2, ::2])


@pytest.fixture
def session(network: FastSAM2) -> Callable[..., Session]:
    def opened(source: Any, **options: Any) -> Session:
        return Session(network, open_video(source), TrackOptions(**{"fill_hole_area": 0, **options}))

    return opened


@pytest.fixture
def live(network: FastSAM2) -> Callable[..., LiveSession]:
    return lambda length=None, **options: LiveSession(network, TrackOptions(**{"fill_hole_area": 0, **options}), length)
