from __future__ import annotations

import numpy as np
import pytest

from masklet.masks.ops import box_iou
from masklet.video.box_motion import BoxMotion, MotionRule, predict_motion


def box(x: float, y: float, aspect: float, height: float) -> np.ndarray:
    width = aspect * height
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def test_one_step_by_hand() -> None:
    """Height 40: positions start with variance (2 * 2)^2 = 16, velocities with (10 / 4)^2 = 6.25."""
    start = BoxMotion.start(3, False, box(20, 40, 0.5, 40))
    np.testing.assert_allclose(start.mean_8, [20, 40, 0.5, 40, 0, 0, 0, 0])
    np.testing.assert_allclose(np.diag(start.covariance_88), [16, 16, 1e-4, 16, 6.25, 6.25, 1e-10, 6.25])
    predicted = start.predict(4)
    np.testing.assert_allclose(predicted.covariance_88[0, [0, 4]], [16 + 6.25 + 4, 6.25])
    found = predicted.update(box(24, 40, 0.5, 40))
    gain = 26.25 / (26.25 + 4)
    assert found.mean_8[0] == pytest.approx(20 + 4 * gain)
    assert found.mean_8[4] == pytest.approx(4 * 6.25 / 30.25)
    assert found.covariance_88[0, 0] == pytest.approx(26.25 * (1 - gain))


def test_four_steps_as_the_filter_of_samurai() -> None:
    """Figures of `KalmanFilter` in yangchris11/samurai at 76ba195 (Apache-2.0)."""
    motion = BoxMotion.start(0, False, box(20, 40, 0.5, 40))
    for frame, found in enumerate([(24, 42, 0.5, 40), (27, 44, 0.6, 41), (31, 46, 0.5, 40)], start=1):
        motion = motion.predict(frame).update(box(*found))
    expected_8 = [30.291460412, 45.658176291, 0.50276835823, 40.269353185, 2.4503439271, 1.3730800721, 2.73150053e-9]
    np.testing.assert_allclose(motion.mean_8, [*expected_8, 0.036025299881], rtol=1e-8)
    variances_8 = [3.1909433375, 3.1909433375, 3.7310533671e-4, 3.1909433375, *[2.0981222456] * 2, 3.9999995694e-10]
    np.testing.assert_allclose(np.diag(motion.covariance_88), [*variances_8, 2.0981222456], rtol=1e-8)
    predicted = motion.predict(4)
    np.testing.assert_allclose(predicted.mean_8[:4], [32.7418043395, 47.0312563635, 0.502768361, 40.3053784853])
    assert box_iou(predicted.box_4, [26, 30, 46, 70]) == pytest.approx(0.634213399030536)


def test_motion_is_predicted_over_short_gaps_in_one_direction() -> None:
    motion = BoxMotion.start(10, True, box(20, 40, 0.5, 40))
    assert predict_motion(motion, 9, reverse=True) is not None
    assert predict_motion(motion, 5, reverse=True) is not None
    assert predict_motion(motion, 4, reverse=True) is None
    assert predict_motion(motion, 10, reverse=True) is None
    assert predict_motion(motion, 11, reverse=False) is None
    assert predict_motion(None, 9, reverse=True) is None


def test_after_the_warm_up_the_candidate_on_the_predicted_box_wins_a_near_tie() -> None:
    rule, motion = MotionRule(warm_up=3), None
    boxes, ious = np.stack([box(x, 40, 0.5, 40) for x in (80, 20, 50)]), np.array([0.8, 0.7, 0.1])
    for frame in range(3):
        predicted = predict_motion(motion, frame, reverse=False)
        assert rule.agreements(predicted, boxes) is None
        assert rule.choose(predicted, boxes, ious) == 0
        motion = rule.measure(predicted, frame, False, boxes[1], 0.9)
    predicted = predict_motion(motion, 3, reverse=False)
    np.testing.assert_allclose(rule.agreements(predicted, boxes), [0, 1, 0], atol=1e-9)
    assert rule.choose(predicted, boxes, ious) == 1  # 0.15 + 0.85 * 0.7 > 0.85 * 0.8
    assert rule.choose(predicted, boxes, np.array([0.95, 0.7, 0.1])) == 0


def test_what_is_not_found_well_ends_the_motion() -> None:
    rule, empty = MotionRule(), np.zeros(4, np.float32)
    motion = rule.measure(None, 0, False, box(20, 40, 0.5, 40), 0.0)
    assert motion is not None
    predicted = predict_motion(motion, 1, reverse=False)
    assert rule.measure(predicted, 1, False, box(20, 40, 0.5, 40), 0.29) is None
    assert rule.measure(predicted, 1, False, empty, 0.9) is None
    assert rule.measure(None, 1, False, empty, 0.9) is None
