"""Where pictures and films come from: `open_source` gives pictures, `open_video` the frames of a film."""

from __future__ import annotations

from masklet.media.image import Picture
from masklet.media.image_source import PICTURE_SUFFIXES, Pictures, Source, open_source
from masklet.media.video import Frame, Video
from masklet.media.video_source import VideoSource, open_video

__all__ = [
    "PICTURE_SUFFIXES",
    "Frame",
    "Picture",
    "Pictures",
    "Source",
    "Video",
    "VideoSource",
    "open_source",
    "open_video",
]
