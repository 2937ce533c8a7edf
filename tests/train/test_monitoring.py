"""The log, and curves and images for TensorBoard."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from masklet.errors import MissingExtraError
from masklet.train.monitoring import TensorBoardLogger


def test_without_tensorboard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(MissingExtraError, match=r"tensorboard.*masklet\[board\]"):
        TensorBoardLogger(tmp_path)


def test_a_resumed_run_hides_what_it_writes_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard (extra 'board') is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sheet = np.zeros((4, 6, 3), np.uint8)
    sheet[1, 2] = (255, 128, 0)
    with TensorBoardLogger(tmp_path / "board") as board:
        for step in (1, 2, 3, 4):
            board.add_scalars(step, {"loss": 1.0, "iou/box": math.nan})
        board.add_image(2, "predictions", sheet)
    with TensorBoardLogger(tmp_path / "board", resume_step=2) as board:
        board.add_scalars(3, {"loss": 0.5})
    seen = EventAccumulator(str(tmp_path / "board"))
    seen.Reload()
    assert [(event.step, event.value) for event in seen.Scalars("loss")] == [(1, 1.0), (2, 1.0), (3, 0.5)]
    assert seen.Tags()["scalars"] == ["loss"]
    (image,) = seen.Images("predictions")
    assert (image.step, image.width, image.height) == (2, 6, 4)


def test_curves_are_stored_after_an_exception(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard (extra 'board') is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KeyError), TensorBoardLogger(tmp_path) as board:  # noqa: PT012
        board.add_scalars(1, {"loss": 2.0})
        raise KeyError
    seen = EventAccumulator(str(tmp_path))
    seen.Reload()
    assert [event.value for event in seen.Scalars("loss")] == [2.0]
