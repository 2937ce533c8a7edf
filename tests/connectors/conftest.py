"""The built-in model at 128 pixels as the model of every connector."""

from __future__ import annotations

import numpy as np
import pytest

from masklet import SAM
from masklet.connectors import host_requests


@pytest.fixture(scope="session")
def small_sam() -> SAM:
    sam = SAM(device="cpu", image_size=128)
    sam.keep_images(host_requests.KEPT_IMAGES)
    return sam


@pytest.fixture(autouse=True)
def host_model(small_sam: SAM, monkeypatch: pytest.MonkeyPatch) -> SAM:
    monkeypatch.setattr(host_requests, "_open_once", lambda name, device: small_sam)
    return small_sam


@pytest.fixture
def square(small_video: np.ndarray) -> np.ndarray:
    """An image (64, 96, 3): a red square in rows 15 to 39 and columns 10 to 34."""
    return small_video[0]
