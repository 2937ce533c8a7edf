"""Films: follow any number of objects, in memory that does not grow."""

from __future__ import annotations

from masklet.video.association import Finder, Found
from masklet.video.auto_tracker import Follower, Following, follow_everything
from masklet.video.live import Live
from masklet.video.memory_selection import History, Recall, RecallRule, Recent
from masklet.video.session import Session
from masklet.video.session_load import SavedSession
from masklet.video.track_history import Life, Lives
from masklet.video.track_options import FollowOptions, TrackOptions
from masklet.video.tracker import Stepper

__all__ = [
    "Finder",
    "FollowOptions",
    "Follower",
    "Following",
    "Found",
    "History",
    "Life",
    "Live",
    "Lives",
    "Recall",
    "RecallRule",
    "Recent",
    "SavedSession",
    "Session",
    "Stepper",
    "TrackOptions",
    "follow_everything",
]
