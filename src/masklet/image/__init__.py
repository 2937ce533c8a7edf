"""Images: set once, ask many times."""

from __future__ import annotations

from masklet.image.predictor import ImagePredictor, Prediction

__all__ = ["ImagePredictor", "Prediction"]
