"""What a score is made of, as a page to read: `report.html` and `report.md`.

comparing  whether a score is of what these are of
published  figures that others published, to lay beside ours
rows       sequences, their curves, and the frames that went worst
painting   a frame with what was predicted and what is true
page       both files
"""

from __future__ import annotations

from masklet.evaluate.report.html import ReportOptions, write_report
from masklet.evaluate.report.published_results import PUBLISHED_RESULTS, PublishedResult

__all__ = ["PUBLISHED_RESULTS", "PublishedResult", "ReportOptions", "write_report"]
