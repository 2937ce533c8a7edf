"""Predict where the box of an object moves, with a Kalman filter of constant velocity.

The state is the box's center x and y, aspect (width / height) and height, and their velocities. Its noise is relative
to the height, so that units do not matter; the figures are those of SORT (Bewley et al. 2016) and DeepSORT (Wojke et
al. 2017). Boxes are xyxy, in cells at stride 4; tracking backward in time only flips the sign of velocities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from masklet.masks.ops import box_iou

__all__ = ["BoxMotion", "MotionRule", "predict_motion"]

Floats = npt.NDArray[np.float64]

POSITION_NOISE, VELOCITY_NOISE = 1 / 20, 1 / 160
"""Standard deviations as fractions of the height."""
ASPECT_NOISE, ASPECT_VELOCITY_NOISE, MEASURED_ASPECT_NOISE = 1e-2, 1e-5, 1e-1
"""Standard deviations of the aspect."""
INITIAL_POSITION_FACTOR, INITIAL_VELOCITY_FACTOR = 2, 10
"""How much less is known of the first box, and of a velocity that nothing was measured of."""
TRANSITION_88 = np.eye(8) + np.eye(8, k=4)
MAX_GAP = 5
"""Frames up to the next measurement, at most; motion is not predicted over more."""


@dataclass(frozen=True, eq=False)
class BoxMotion:
    """The filter of one object after a frame."""

    frame_idx: int
    reverse: bool
    mean_8: Floats
    covariance_88: Floats
    stable_frames: int = 1
    """Frames in a row on which the object was found well."""

    @classmethod
    def start(cls, frame_idx: int, reverse: bool, box_4: npt.NDArray[np.float32]) -> BoxMotion:
        """Start with the first box."""
        measured_4 = _measurement(box_4)
        position_4, velocity_4 = _noise(measured_4[3])
        factors = INITIAL_POSITION_FACTOR, 1, INITIAL_VELOCITY_FACTOR
        scale_8 = np.repeat([factors[0], factors[2]], 4).astype(float)
        scale_8[[2, 6]] = factors[1]
        deviation_8 = scale_8 * np.concatenate([position_4, velocity_4])
        return cls(frame_idx, reverse, np.concatenate([measured_4, np.zeros(4)]), np.diag(deviation_8**2))

    def continues_to(self, frame_idx: int, *, reverse: bool) -> bool:
        """Whether a frame follows soon enough, in the same direction."""
        distance = self.frame_idx - frame_idx if reverse else frame_idx - self.frame_idx
        return self.reverse == reverse and 0 < distance <= MAX_GAP

    def predict(self, frame_idx: int) -> BoxMotion:
        """Predict the state at a later frame in the direction of tracking."""
        mean_8, covariance_88 = self.mean_8, self.covariance_88
        for _ in range(abs(frame_idx - self.frame_idx)):
            noise_8 = np.concatenate(_noise(mean_8[3]))
            mean_8 = TRANSITION_88 @ mean_8
            covariance_88 = TRANSITION_88 @ covariance_88 @ TRANSITION_88.T + np.diag(noise_8**2)
        return replace(self, frame_idx=frame_idx, mean_8=mean_8, covariance_88=covariance_88)

    def update(self, box_4: npt.NDArray[np.float32]) -> BoxMotion:
        """Correct a prediction by the box that was found."""
        noise_4 = _noise(self.mean_8[3])[0]
        noise_4[2] = MEASURED_ASPECT_NOISE
        expected_44 = self.covariance_88[:4, :4] + np.diag(noise_4**2)
        gain_84 = np.linalg.solve(expected_44, self.covariance_88[:4]).T
        mean_8 = self.mean_8 + gain_84 @ (_measurement(box_4) - self.mean_8[:4])
        return replace(self, mean_8=mean_8, covariance_88=self.covariance_88 - gain_84 @ expected_44 @ gain_84.T)

    @property
    def box_4(self) -> Floats:
        """The box, xyxy."""
        x, y, aspect, height = self.mean_8[:4]
        return np.array([x - aspect * height / 2, y - height / 2, x + aspect * height / 2, y + height / 2])


@dataclass(frozen=True)
class MotionRule:
    """How the motion of an object takes part in the choice among candidate masks."""

    weight: float = 0.15
    """Share of the agreement with the predicted box, beside that of the predicted IoU."""
    min_iou: float = 0.3
    """Predicted IoU from which a mask was found well enough to measure motion by it."""
    warm_up: int = 15
    """Frames in a row that have to be found well before motion counts."""

    def agreements(self, predicted: BoxMotion | None, boxes_K4: npt.NDArray[np.float32]) -> Floats | None:
        """Return the IoU (K,) of boxes with the predicted one; None: motion does not count yet."""
        if predicted is None or predicted.stable_frames < self.warm_up:
            return None
        return np.array([box_iou(predicted.box_4, box) for box in boxes_K4])

    def choose(self, predicted: BoxMotion | None, boxes_K4: npt.NDArray[np.float32], ious_K: Floats) -> int:
        """Return the index of the candidate to take, by its box and its predicted IoU."""
        agreements_K = self.agreements(predicted, boxes_K4)
        if agreements_K is None:
            return int(ious_K.argmax())
        return int((self.weight * agreements_K + (1 - self.weight) * ious_K).argmax())

    def measure(
        self, predicted: BoxMotion | None, frame_idx: int, reverse: bool, box_4: npt.NDArray[np.float32], iou: float
    ) -> BoxMotion | None:
        """Return the motion after a frame on which a box was found; None: start again with the next one.

        An empty box (no mask), or one that was not found well, ends what was known of the motion.
        """
        found = bool((box_4[2:] > box_4[:2]).all())
        if predicted is None:
            return BoxMotion.start(frame_idx, reverse, box_4) if found else None
        if not found or iou < self.min_iou:
            return None
        stable = min(predicted.stable_frames + 1, self.warm_up)
        return replace(predicted.update(box_4), stable_frames=stable)


def predict_motion(motion: BoxMotion | None, frame_idx: int, *, reverse: bool) -> BoxMotion | None:
    """Return the motion of an object predicted at the next frame; None: nothing is known that leads there."""
    if motion is None or not motion.continues_to(frame_idx, reverse=reverse):
        return None
    return motion.predict(frame_idx)


def _measurement(box_4: npt.NDArray[np.float32]) -> Floats:
    """Return center x and y, aspect and height of a box."""
    x1, y1, x2, y2 = np.asarray(box_4, float)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / (y2 - y1), y2 - y1])


def _noise(height: float) -> tuple[Floats, Floats]:
    """Return the standard deviations of a state and of its velocities."""
    position, velocity = POSITION_NOISE * height, VELOCITY_NOISE * height
    return (
        np.array([position, position, ASPECT_NOISE, position]),
        np.array([velocity, velocity, ASPECT_VELOCITY_NOISE, velocity]),
    )
