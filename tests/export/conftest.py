from __future__ import annotations

from pathlib import Path

import pytest

from helpers.traced_graphs import trace_once


@pytest.fixture(autouse=True)
def _traced_once(traced_graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace_once(traced_graphs, monkeypatch)
