"""`open_video`: every way to name a film, as one `Video`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import count
from typing import TypeAlias

import numpy as np
from PIL import Image

from masklet.errors import SourceError
from masklet.media.image import AnyArray, Channels, Picture, from_array
from masklet.media.image_sequence import Animation, Slides, is_animation
from masklet.media.image_source import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    PictureLike,
    Reader,
    has_suffix,
    item_readers,
    missing,
)
from masklet.media.prefetch import LatePolicy
from masklet.media.video import Frame, Video

__all__ = ["VideoSource", "open_video"]

VideoSource: TypeAlias = "PictureLike | int | Video | Iterable[PictureLike | Frame]"

_ALLOWED = (
    "a film file, a folder or glob of pictures, a list or iterator of pictures, an array (T, H, W, 3), "
    "a camera's number, or an rtsp, http or https address"
)
MOST_AHEAD = 64


def open_video(
    source: VideoSource, *, channels: Channels = "rgb", read_ahead: int = 4, when_late: LatePolicy = "drop"
) -> Video:
    """The film that `source` names: frames in order, read ahead on a thread, RGB uint8 (H, W, 3), upright.

    `source` is a film file FFmpeg reads, an animated GIF or WebP, a folder or glob of pictures (in natural
    order), a list of pictures, paths or arrays, an array (T, H, W, 3), an iterator of pictures, a camera's
    number, or an rtsp, http or https address. One picture is a film of one frame. `channels="bgr"` says
    that arrays are in OpenCV's order. `read_ahead` frames wait at most. `when_late` is for cameras and live
    streams whose frames come faster than they are used: "drop" the oldest and count them, or "wait".

    Raises SourceError, naming the value, what is allowed and the remedy. Frames that cannot be read later
    are left out with a MaskletWarning.

    Example:
        >>> with open_video("clip.mp4") as video:  # doctest: +SKIP
        ...     print(video.count, video.size, video[10].time)
        289 (720, 1280) 0.3336
    """
    _check_options(channels, read_ahead, when_late)
    if isinstance(source, Video):
        return source
    if isinstance(source, int) and not isinstance(source, bool):
        from masklet.media.video_stream import open_camera

        return open_camera(source, read_ahead, when_late)
    if isinstance(source, (str, os.PathLike)):
        return _named(os.fspath(source), read_ahead, when_late)
    if isinstance(source, np.ndarray):
        return _from_array(source, channels, read_ahead)
    if isinstance(source, (Image.Image, Picture, Frame)):
        return Slides(_readers([source], channels), _name_of(source), read_ahead)
    if isinstance(source, (list, tuple)):
        return _from_list(source, channels, read_ahead)
    if _refused(source) or not isinstance(source, Iterable):
        raise SourceError(_wrong_type(source))
    from masklet.media.video_stream import open_iterator

    return open_iterator(source, channels, read_ahead)


def _check_options(channels: object, read_ahead: object, when_late: object) -> None:
    if channels not in ("rgb", "bgr"):
        raise SourceError(f"channels={channels!r}; allowed are 'rgb' and 'bgr': OpenCV's order is 'bgr'")
    if when_late not in ("drop", "wait"):
        raise SourceError(
            f"when_late={when_late!r}; allowed are 'drop' (oldest first, counted) and 'wait': choose one of these"
        )
    if not isinstance(read_ahead, int) or isinstance(read_ahead, bool) or not 1 <= read_ahead <= MOST_AHEAD:
        raise SourceError(
            f"read_ahead={read_ahead!r}; allowed are 1 to {MOST_AHEAD} frames: 4 is enough to keep a model busy"
        )


def _named(name: str, read_ahead: int, when_late: LatePolicy) -> Video:
    if not isinstance(name, str) or not name.strip():
        raise SourceError(f"{name!r} is not a path; give {_ALLOWED}")
    scheme, found, rest = name.partition("://")
    if found and scheme.isalnum():
        if scheme.lower() == "file":
            return _file(rest, read_ahead)
        from masklet.media.video_stream import open_address

        return open_address(name, read_ahead, when_late)
    path = os.path.expanduser(name)
    if os.path.isdir(path) or (not os.path.exists(path) and glob.has_magic(path)):
        return _pictures_at(path, read_ahead)
    return _file(path, read_ahead)


def _file(path: str, read_ahead: int) -> Video:
    if not os.path.exists(path):
        raise SourceError(missing(path, "film or picture"))
    animated = None if has_suffix(path, VIDEO_SUFFIXES) else is_animation(path)
    if animated:
        return Animation(path, read_ahead)
    if animated is False or (has_suffix(path, PICTURE_SUFFIXES) and not _begins_like_a_film(path)):
        return _pictures_at(path, read_ahead)
    from masklet.media.video_file import Film

    return Film(path, read_ahead)


def _begins_like_a_film(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or head[8:12] == b"AVI "


def _pictures_at(path: str, read_ahead: int) -> Slides:
    return Slides(item_readers(path, count(), "rgb"), path, read_ahead)


def _from_array(array: AnyArray, channels: Channels, read_ahead: int) -> Slides:
    if array.ndim != 4:
        return Slides([partial(from_array, array, "image0", channels=channels)], "image0", read_ahead)
    if array.size == 0:
        raise SourceError(
            f"array of shape {array.shape} has no frames or no pixels; a film is (T, H, W, 3) with T, H and W "
            "of at least 1: check how it was read"
        )
    readers = [partial(_plane, array, number, channels) for number in range(len(array))]
    return Slides(readers, "array", read_ahead)


def _plane(array: AnyArray, number: int, channels: Channels) -> Picture:
    return from_array(array[number], f"image{number}", channels=channels)


def _from_list(items: list[object] | tuple[object, ...], channels: Channels, read_ahead: int) -> Slides:
    readers = _readers(items, channels)
    if not readers:
        raise SourceError(f"{items!r} holds no frames; a film has at least one: give {_ALLOWED}")
    return Slides(readers, "list", read_ahead)


def _readers(items: Iterable[object], channels: Channels) -> list[Reader]:
    numbers: Iterator[int] = count()
    return [
        reader
        for item in items
        for reader in item_readers(
            Picture(item.rgb, item.path) if isinstance(item, Frame) else item,  # type: ignore[arg-type]
            numbers,
            channels,
        )
    ]


def _name_of(source: Image.Image | Picture | Frame) -> str:
    if isinstance(source, Image.Image):
        return os.fspath(getattr(source, "filename", "") or "image0")
    return source.path


def _refused(source: object) -> bool:
    kinds = (Mapping, bytes, bytearray, set, frozenset)
    return isinstance(source, kinds) or type(source).__module__.startswith("torch") or hasattr(source, "read")


def _wrong_type(source: object) -> str:
    kind = f"{type(source).__module__}.{type(source).__qualname__}".removeprefix("builtins.")
    if kind.startswith("torch"):
        remedy = "for a tensor (T, 3, H, W) pass tensor.permute(0, 2, 3, 1).cpu().numpy()"
    elif isinstance(source, (bytes, bytearray)) or hasattr(source, "read"):
        remedy = "write the content to a file and pass its path"
    elif isinstance(source, (bool, float)):
        remedy = "a camera is a whole number, the first is 0"
    else:
        remedy = "pass the path of a film"
    return f"a source of type {kind} is not a film; allowed are {_ALLOWED}: {remedy}"
