"""How good a model is, by protocols that are written down."""

from __future__ import annotations

from masklet.evaluate.stills import Figures, StillsReport, evaluate_stills, report, stills_under

__all__ = ["Figures", "StillsReport", "evaluate_stills", "report", "stills_under"]
