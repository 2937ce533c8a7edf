"""Where images and videos come from: `open_source` gives images, `open_video` the frames of a video."""

from __future__ import annotations

from masklet.media.image import SourceImage
from masklet.media.image_source import IMAGE_SUFFIXES, ImageIterator, SourceLike, open_images
from masklet.media.video import Frame, Video
from masklet.media.video_source import VideoSource, open_video

__all__ = [
    "IMAGE_SUFFIXES",
    "Frame",
    "ImageIterator",
    "SourceImage",
    "SourceLike",
    "Video",
    "VideoSource",
    "open_images",
    "open_video",
]
