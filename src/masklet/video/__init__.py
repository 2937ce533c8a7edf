"""Videos: follow any number of objects, in memory that does not grow."""

from __future__ import annotations

from masklet.video.association import Detection, FrameDetector
from masklet.video.auto_tracker import AutoTracker, AutoTrackStream, auto_track
from masklet.video.live import LiveSession
from masklet.video.memory_selection import AvailableMemory, MemorySelection, MemorySelector, RecentFrames
from masklet.video.session import Session
from masklet.video.session_load import SavedSession
from masklet.video.track_history import Track, TrackHistory
from masklet.video.track_options import AutoTrackOptions, TrackOptions
from masklet.video.tracker import ObjectBatcher

__all__ = [
    "AutoTrackOptions",
    "AutoTrackStream",
    "AutoTracker",
    "AvailableMemory",
    "Detection",
    "FrameDetector",
    "LiveSession",
    "MemorySelection",
    "MemorySelector",
    "ObjectBatcher",
    "RecentFrames",
    "SavedSession",
    "Session",
    "Track",
    "TrackHistory",
    "TrackOptions",
    "auto_track",
]
