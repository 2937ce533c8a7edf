"""Where pictures and films come from: `open_source` gives pictures, `open_video` the frames of a film."""

from __future__ import annotations

from masklet.media.opening import VideoSource, open_video
from masklet.media.pictures import Picture
from masklet.media.sources import PICTURE_SUFFIXES, Pictures, Source, open_source
from masklet.media.video import Frame, Video

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
