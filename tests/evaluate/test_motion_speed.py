"""Speeds of squares that move by known steps, and J and F by them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from evaluate.test_semi_supervised_vos import Oracle, store
from masklet.cli.main import run
from masklet.evaluate import evaluate_sequence, find_davis_sequences, vos_report
from masklet.evaluate.motion_speed import (
    SPEED_CLASSES,
    SpeedMetrics,
    mean_by_speed,
    metrics_by_speed,
    motion_speeds,
    speed_class,
)

SIDE = 20


def moving_square(steps: list[tuple[int, int]]) -> np.ndarray:
    """Masks (T, 100, 200) of a square of 20 x 20, which moves by these (x, y) from frame to frame."""
    masks = np.zeros((len(steps) + 1, 100, 200), bool)
    for t in range(len(masks)):
        x, y = 10 + sum(step[0] for step in steps[:t]), 10 + sum(step[1] for step in steps[:t])
        masks[t, y : y + SIDE, x : x + SIDE] = True
    return masks


def test_speed_is_the_step_over_the_side_of_the_object() -> None:
    speeds = motion_speeds(moving_square([(0, 0), (1, 0), (3, 4), (-5, 12), (40, 0)]))
    assert math.isnan(speeds[0])
    np.testing.assert_allclose(speeds[1:], [0, 1 / 20, 5 / 20, 13 / 20, 2])


def test_speed_is_relative_to_the_size_before_the_step() -> None:
    masks = moving_square([(4, 0), (0, 0)])
    masks[2] = False
    masks[2, 15:25, 19:29] = True  # half the side around the same center
    np.testing.assert_allclose(motion_speeds(masks)[1:], [4 / 20, 0])
    np.testing.assert_allclose(motion_speeds(masks[::-1])[1:], [0, 4 / 20])
    doubled = masks.repeat(2, 1).repeat(2, 2)
    np.testing.assert_allclose(motion_speeds(doubled), motion_speeds(masks))


def test_an_object_out_of_sight_has_no_speed_until_its_second_frame_back() -> None:
    masks = moving_square([(2, 0)] * 5)
    masks[2:4] = False
    assert np.isnan(motion_speeds(masks)).tolist() == [True, False, True, True, True, False]


@pytest.mark.parametrize(
    ("speed", "name"),
    [(0, "still"), (0.0199, "still"), (0.02, "slow"), (0.1, "fast"), (0.25, "very fast"), (40.0, "very fast")],
)
def test_classes_begin_at_their_limits(speed: float, name: str) -> None:
    assert speed_class(speed) == name


def test_frames_count_by_class_and_those_without_speed_in_none() -> None:
    found = metrics_by_speed([math.nan, 0.05, 0.5, 0.06], [0.0, 0.2, 0.9, 0.6], [0.0, 0.4, 0.7, 0.6])
    assert list(found) == ["slow", "very fast"]
    assert found["slow"] == SpeedMetrics(2, pytest.approx(0.4), pytest.approx(0.5), pytest.approx(0.45))
    assert metrics_by_speed([math.nan], [1.0], [1.0]) == {}


def test_means_weigh_by_frames_and_are_in_the_order_of_speed() -> None:
    fast, slow = {"fast": SpeedMetrics(1, 0.4, 0.6, 0.5)}, {"slow": SpeedMetrics(9, 1.0, 0.8, 0.9)}
    both = mean_by_speed([fast, slow, {"fast": SpeedMetrics(3, 0.8, 0.6, 0.7)}])
    assert list(both) == ["slow", "fast"]
    assert both["fast"] == SpeedMetrics(4, pytest.approx(0.7), pytest.approx(0.6), pytest.approx(0.65))
    assert mean_by_speed([]) == {}
    assert list(SPEED_CLASSES.values()) == sorted(SPEED_CLASSES.values())


def labels_that_accelerate() -> np.ndarray:
    """Label maps (7, 60, 80): object 1 stands, object 2, 10 x 10, moves by 0, 0, 3, 3, 3 and 3."""
    labels = np.zeros((7, 60, 80), np.uint8)
    labels[:, 40:50, 5:25] = 1
    for t in range(7):
        labels[t, 5:15, 10 + 3 * max(t - 2, 0) : 20 + 3 * max(t - 2, 0)] = 2
    return labels


def test_a_sequence_is_measured_by_speed(tmp_path: Path) -> None:
    labels = labels_that_accelerate()
    store(tmp_path, "accelerates", labels)
    late = labels.copy()
    for t in range(3, 7):
        late[t][late[t] == 2] = 0  # lost where it moves
    row = evaluate_sequence(Oracle(late), find_davis_sequences(tmp_path)[0])
    assert row.by_speed == {"still": SpeedMetrics(7, 1, 1, 1), "very fast": SpeedMetrics(3, 0, 0, 0)}
    assert vos_report([row, row]).by_speed["very fast"].frames == 6


def test_the_command_prints_the_table_and_the_report_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = labels_that_accelerate()
    store(tmp_path, "accelerates", labels)
    oracle = Oracle(labels)
    monkeypatch.setattr("masklet.SAM", lambda model, **_: oracle)
    command = ["eval", "vos", "--root", str(tmp_path)]
    with pytest.raises(SystemExit, match="0"):
        run([*command, "--report", str(tmp_path / "vos.json")])
    assert "still" not in capsys.readouterr().out
    stored = json.loads((tmp_path / "vos.json").read_text())
    assert stored["by_speed"]["still"] == {"frames": 7, "j": 1, "f": 1, "jf": 1}
    with pytest.raises(SystemExit, match="0"):  # finished: shows what is stored
        run([*command, "--by-speed", "--report", str(tmp_path / "vos.json")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[-2:]] == [
        ["still", "7", "1.000", "1.000", "1.000"],
        ["very", "fast", "3", "1.000", "1.000", "1.000"],
    ]
