"""Track objects through videos, in memory that does not grow with the video's length.

Tracking with prompts: you say where each object is, on any frame.

    session             the verbs: prompt, propagate, correct, remove, save
    live                the same for frames that are handed in one by one
    tracker             one frame for all objects
    memory_bank         what is stored of each object, as plain records
    memory_selection    which stored frames the next frame attends to
    memory_policies     the published rules behind TrackOptions(memory=...)
    frame_scores        what these rules need to know of a frame
    box_motion          where the box of an object moves
    distractors         which frames show something similar beside an object
    exclusion           which of several objects a position belongs to
    scene_cuts          where the next frame shows another place
    color_histogram     how often each color is in an image, for both of these
    propagation         the state of a pass through the video
    repropagate         track again after corrections, as far as masks change
    doubts              which frames to check first, and why; session_doubts collects what it compares
    frame_cache         frames and their features
    postprocess         masks at the frame's size
    session_save, session_load    a session on disk

Tracking without prompts: a detector finds the objects, and they keep their ids.

    auto_tracker        detect, match, track
    association         match detections with tracks
    reidentification    recognize an object that was lost by its appearance
    track_history       when each track started and ended, and why
"""

from __future__ import annotations

from masklet.video.association import Detection, FrameDetector
from masklet.video.auto_tracker import AutoTracker, AutoTrackStream, auto_track
from masklet.video.doubts import Doubt
from masklet.video.live import LiveSession
from masklet.video.memory_selection import AvailableMemory, MemorySelection, MemorySelector, RecentFrames
from masklet.video.session import Session
from masklet.video.session_load import SavedSession
from masklet.video.track_history import Track, TrackHistory
from masklet.video.track_options import AutoTrackOptions, MemoryName, TrackOptions
from masklet.video.tracker import EncodedFrame, VideoNetwork

__all__ = [
    "AutoTrackOptions",
    "AutoTrackStream",
    "AutoTracker",
    "AvailableMemory",
    "Detection",
    "Doubt",
    "EncodedFrame",
    "FrameDetector",
    "LiveSession",
    "MemoryName",
    "MemorySelection",
    "MemorySelector",
    "RecentFrames",
    "SavedSession",
    "Session",
    "Track",
    "TrackHistory",
    "TrackOptions",
    "VideoNetwork",
    "auto_track",
]
