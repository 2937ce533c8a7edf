"""Write a score as a page to read: `report.html` and `report.md`.

html                both files
sequence_tables     sequences, their curves, and the worst frames
frame_overlays      a frame with prediction and ground truth
published_results   published figures, and whether a score compares with them
"""

from __future__ import annotations

from masklet.evaluate.report.html import ReportOptions, write_report
from masklet.evaluate.report.published_results import PUBLISHED_RESULTS, PublishedResult

__all__ = ["PUBLISHED_RESULTS", "PublishedResult", "ReportOptions", "write_report"]
