"""Image segmentation: a predictor for prompts, and an automatic mask generator."""

from __future__ import annotations

from masklet.image.predictor import ImagePredictor, Prediction

__all__ = ["ImagePredictor", "Prediction"]
