"""As `ultralytics.models.sam`."""

from __future__ import annotations

from masklet.compat.ultralytics.model import SAM
from masklet.compat.ultralytics.models.sam.predict import (
    Predictor,
    SAM2DynamicInteractivePredictor,
    SAM2Predictor,
    SAM2VideoPredictor,
)

__all__ = ["SAM", "Predictor", "SAM2DynamicInteractivePredictor", "SAM2Predictor", "SAM2VideoPredictor"]
