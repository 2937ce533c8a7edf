"""A fixture for pages whose code opens models."""

from __future__ import annotations

from typing import Any

import pytest

from masklet.load_model import load


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that `SAM` opens sees images of 96 x 96 pixels: that the code of a page runs depends on no size."""

    def load_small(*given: Any, **options: Any) -> Any:
        loaded = load(*given, **options)
        network: Any = loaded.network
        network.image_size, network.video_pixels, network.edge_radius = 96, 96**2, None
        return loaded

    monkeypatch.setattr("masklet.sam.model.load", load_small)
