"""Films: follow any number of objects, in memory that does not grow."""

from __future__ import annotations

from masklet.video.everything import Follower, Following, follow_everything
from masklet.video.finding import Finder, Found
from masklet.video.live import Live
from masklet.video.lives import Life, Lives
from masklet.video.options import FollowOptions, TrackOptions
from masklet.video.recall import History, Recall, RecallRule, Recent
from masklet.video.restoring import SavedSession
from masklet.video.session import Session
from masklet.video.step import Stepper

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
