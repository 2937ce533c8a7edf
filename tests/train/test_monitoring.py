"""The log, and curves and images for TensorBoard."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from masklet.errors import MaskletWarning, MissingExtraError, OutputError
from masklet.train.monitoring import TensorBoardLogger, truncate_log


def test_without_tensorboard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(MissingExtraError, match=r"tensorboard.*masklet\[board\]"):
        TensorBoardLogger(tmp_path)


def test_a_resumed_run_removes_later_and_damaged_rows(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(b"step,steps,rate\r\n1,9,0.5\r\n2,9,0.4\r\n3,9,0.3\r\n4,9,0.")
    truncate_log(log, 2)
    assert log.read_text() == "step,steps,lr\n1,9,0.5\n2,9,0.4\n"
    log.write_bytes(b"step,loss\n1,0.5\n\xff\xfe,0.4\n\n-3,1\n" + b"9" * 5000 + b",1\n2,0.3\n7,0.1\n")
    with pytest.warns(MaskletWarning, match="3 damaged rows"):
        truncate_log(log, 5)
    assert log.read_text() == "step,loss\n1,0.5\n2,0.3\n"


def test_a_log_of_something_else_is_kept(tmp_path: Path) -> None:
    for content in (b"name,age\nann,7\n", b"\x89PNG\r\n"):
        (tmp_path / "log.csv").write_bytes(content)
        with pytest.raises(OutputError, match=r"no log of a run.*move it away"):
            truncate_log(tmp_path / "log.csv", 5)
        assert (tmp_path / "log.csv").read_bytes() == content
    with pytest.raises(OutputError, match="cannot be read"):
        truncate_log(tmp_path, 5)


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
