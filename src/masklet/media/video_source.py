"""Open a video by any name a caller may use: files, folders, arrays, iterators, cameras and network streams."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TypeAlias

import numpy as np
from PIL import Image

from masklet.damaged_files import check_regular_file
from masklet.errors import SourceError
from masklet.media.image import AnyArray, Channels, SourceImage, from_array
from masklet.media.image_sequence import AnimatedImage, ImageSequence, is_animation
from masklet.media.image_source import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    ImageLike,
    ImageReader,
    has_suffix,
    image_readers,
    missing_path_message,
)
from masklet.media.prefetch import OverflowPolicy
from masklet.media.video import Frame, Video

__all__ = ["VideoSource", "open_video"]

VideoSource: TypeAlias = "ImageLike | int | Video | Iterable[ImageLike | Frame]"

_ALLOWED = (
    "a video file, a folder or glob of images, a list or iterator of images, an array (T, H, W, 3), "
    "a camera's number, or an rtsp, http or https address"
)
MAX_PREFETCH_FRAMES = 64


def open_video(
    source: VideoSource, *, channels: Channels = "rgb", prefetch_frames: int = 4, on_overflow: OverflowPolicy = "drop"
) -> Video:
    """Open a video: frames in order, read ahead on a thread, RGB uint8 (H, W, 3), upright.

    `source` is a video file that FFmpeg reads, an animated GIF or WebP, a folder or glob of images (in natural order),
    a list of images, paths or arrays, an array (T, H, W, 3), an iterator of images, a camera's number, or an rtsp, http
    or https address. One image is a video of one frame. `channels="bgr"` says that arrays are in OpenCV's order. At
    most `prefetch_frames` frames are read ahead. `on_overflow` is for cameras and live streams whose frames come
    faster than they are used: "drop" the oldest and count them, or "wait".

    Frames that cannot be read later are left out with a MaskletWarning.

    Example:
        >>> with open_video("clip.mp4") as video:  # doctest: +SKIP
        ...     print(video.num_frames, video.size, video[10].time)
        289 (720, 1280) 0.3336

    Raises:
        SourceError: if there is no such video, or an option is invalid.
    """
    if channels not in ("rgb", "bgr"):
        raise SourceError(f"channels={channels!r}; allowed are 'rgb' and 'bgr': OpenCV's order is 'bgr'")
    if on_overflow not in ("drop", "wait"):
        raise SourceError(
            f"on_overflow={on_overflow!r}; allowed are 'drop' (oldest first, counted) and 'wait': choose one of these"
        )
    is_integer = isinstance(prefetch_frames, int) and not isinstance(prefetch_frames, bool)
    if not is_integer or not 1 <= prefetch_frames <= MAX_PREFETCH_FRAMES:
        raise SourceError(
            f"prefetch_frames={prefetch_frames!r}; allowed are 1 to {MAX_PREFETCH_FRAMES} frames: "
            "4 is enough to keep a model busy"
        )
    if isinstance(source, Video):
        return source
    if isinstance(source, int) and not isinstance(source, bool):
        from masklet.media.video_stream import open_camera

        return open_camera(source, prefetch_frames, on_overflow)
    if isinstance(source, (str, os.PathLike)):
        return _open_path_or_url(os.fspath(source), prefetch_frames, on_overflow)
    if isinstance(source, np.ndarray):
        return _video_from_array(source, channels, prefetch_frames)
    if isinstance(source, (Image.Image, SourceImage, Frame)):
        name = source.path if not isinstance(source, Image.Image) else getattr(source, "filename", "") or "image0"
        return ImageSequence(_frame_readers([source], channels), os.fspath(name), prefetch_frames)
    if isinstance(source, (list, tuple)):
        readers = _frame_readers(source, channels)
        if not readers:
            raise SourceError(f"{source!r} holds no frames; a video has at least one: give {_ALLOWED}")
        return ImageSequence(readers, "list", prefetch_frames)
    kinds = (Mapping, bytes, bytearray, set, frozenset)
    is_tensor_or_file = type(source).__module__.startswith("torch") or hasattr(source, "read")
    if isinstance(source, kinds) or is_tensor_or_file or not isinstance(source, Iterable):
        raise SourceError(_wrong_type(source))
    from masklet.media.video_stream import open_iterator

    return open_iterator(source, channels, prefetch_frames)


def _open_path_or_url(name: str, prefetch_frames: int, on_overflow: OverflowPolicy) -> Video:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise SourceError(f"{name!r} is not a path; give {_ALLOWED}")
    scheme, separator, rest = name.partition("://")
    if separator and scheme.isalnum():
        if scheme.lower() == "file":
            return _open_file(rest, prefetch_frames)
        from masklet.media.video_stream import open_url

        return open_url(name, prefetch_frames, on_overflow)
    path = os.path.expanduser(name)
    if os.path.isdir(path) or (not os.path.exists(path) and glob.has_magic(path)):
        return ImageSequence(image_readers(path, count(), "rgb"), path, prefetch_frames)
    return _open_file(path, prefetch_frames)


def _open_file(path: str, prefetch_frames: int) -> Video:
    if not os.path.exists(path):
        raise SourceError(missing_path_message(path, "video or image"))
    check_regular_file(path, "video")
    animated = None if has_suffix(path, VIDEO_SUFFIXES) else is_animation(path)
    if animated:
        return AnimatedImage(path, prefetch_frames)
    head = b""
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(64)
    is_avif = any(brand in head[8:] for brand in (b"avif", b"avis"))  # an image, or an animation
    is_video = (head[4:8] == b"ftyp" and not is_avif) or head[:4] == b"\x1aE\xdf\xa3" or head[8:12] == b"AVI "
    if animated is False or (has_suffix(path, IMAGE_SUFFIXES) and not is_video):
        return ImageSequence(image_readers(path, count(), "rgb"), path, prefetch_frames)
    from masklet.media.video_file import VideoFile

    return VideoFile(path, prefetch_frames)


def _video_from_array(array: AnyArray, channels: Channels, prefetch_frames: int) -> ImageSequence:
    if array.ndim != 4:
        return ImageSequence([partial(from_array, array, "image0", channels=channels)], "image0", prefetch_frames)
    if array.size == 0:
        raise SourceError(
            f"array of shape {array.shape} has no frames or no pixels; a video is (T, H, W, 3) with T, H and W "
            "of at least 1: check how it was read"
        )
    readers = [partial(from_array, rgb, f"image{number}", channels=channels) for number, rgb in enumerate(array)]
    return ImageSequence(readers, "array", prefetch_frames)


def _frame_readers(items: Iterable[object], channels: Channels) -> list[ImageReader]:
    numbers: Iterator[int] = count()
    return [
        reader
        for item in items
        for reader in image_readers(
            SourceImage(item.rgb, item.path) if isinstance(item, Frame) else item,  # type: ignore[arg-type]
            numbers,
            channels,
        )
    ]


def _wrong_type(source: object) -> str:
    kind = f"{type(source).__module__}.{type(source).__qualname__}".removeprefix("builtins.")
    if kind.startswith("torch"):
        remedy = "for a tensor (T, 3, H, W) pass tensor.permute(0, 2, 3, 1).cpu().numpy()"
    elif isinstance(source, (bytes, bytearray)) or hasattr(source, "read"):
        remedy = "write the content to a file and pass its path"
    elif isinstance(source, (bool, float)):
        remedy = "a camera is a whole number, the first is 0"
    else:
        remedy = "pass the path of a video"
    return f"a source of type {kind} is not a video; allowed are {_ALLOWED}: {remedy}"
