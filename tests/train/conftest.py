"""Small data sets to train on, and a network that takes milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.networks import small_network
from helpers.train_data import store_discs, store_squares
from masklet.models.sam2 import CONFIGS


@pytest.fixture(scope="session")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of two colored discs each, in the source `discs`."""
    return store_discs(tmp_path_factory.mktemp("images") / "discs", 6).parent


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of a moving square."""
    return store_squares(tmp_path_factory.mktemp("videos"), 2)


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a Hiera network called "tiny"."""
    monkeypatch.setitem(CONFIGS, "tiny", small_network().config)


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep random weights in the built-in trunk, so that no other package is needed."""
    monkeypatch.setattr("masklet.train.initialization.load_pretrained_trunk", lambda trunk: None)
