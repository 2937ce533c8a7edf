"""Films: follow any number of objects, in memory that does not grow."""

from __future__ import annotations

from masklet.video.live import Live
from masklet.video.options import TrackOptions
from masklet.video.recall import History, Recall, RecallRule, Recent
from masklet.video.restoring import SavedSession
from masklet.video.session import Session
from masklet.video.step import Stepper

__all__ = ["History", "Live", "Recall", "RecallRule", "Recent", "SavedSession", "Session", "Stepper", "TrackOptions"]
