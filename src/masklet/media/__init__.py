"""Open images and videos from any source: `open_images` reads images, `open_video` the frames of a video.

image           one image in memory
image_source    paths, folders, globs, arrays and lists as an iterator of images
video           the interface of videos
video_source    the same names as a video
video_file, video_decoder     files that FFmpeg reads
image_sequence  folders, lists, arrays, GIF and WebP as videos
video_stream    iterators, cameras and network streams, which only go forward
prefetch        reading ahead on a thread
"""

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
