"""What ultralytics takes as a source: images and videos by any name, BGR arrays, and RGB tensors (B, 3, H, W)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from masklet.errors import SourceError
from masklet.media import SourceImage, SourceLike, Video, VideoSource, open_images, open_video
from masklet.media.image import from_array
from masklet.media.image_source import VIDEO_SUFFIXES, has_suffix, natural_key

__all__ = ["InputImage", "Source", "is_video", "open_source", "open_video_source"]

Source: TypeAlias = "SourceLike | VideoSource | Tensor"
STREAMS = ("rtsp", "rtmp", "tcp")


@dataclass(frozen=True, eq=False)
class InputImage:
    """An image, or a frame of a video, and its place among those of the source."""

    image: SourceImage
    number: int
    """From 1."""
    total: int | None
    """Images or frames; None if unknown."""
    frame_idx: int | None = None
    """The frame's number from 0; None for an image."""
    fps: float | None = None


def open_source(source: Source, vid_stride: int = 1) -> Iterator[InputImage]:
    """Read the images of a source one by one; of videos every frame, or every `vid_stride`-th.

    A text file lists one source a line.

    Raises:
        SourceError: if the source cannot be read.
    """
    if isinstance(source, Tensor):
        images = iter(_tensor_images(source))
        return (InputImage(image, i, len(source)) for i, image in enumerate(images, 1))
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if name.startswith("screen"):
            raise SourceError(f"{name!r}: the screen is not read; give images of it, such as PIL.ImageGrab.grab()")
        if has_suffix(name, (".txt", ".streams")) and os.path.isfile(name):
            lines = [line.strip() for line in Path(name).read_text(encoding="utf-8").splitlines()]
            return (image for line in lines if line for image in open_source(line, vid_stride))
        if is_video(name):
            return _frames(int(name) if name.isdecimal() else name, vid_stride)
        if os.path.isdir(name):
            names = sorted(os.listdir(name), key=natural_key)
            videos = [os.path.join(name, one) for one in names if has_suffix(one, VIDEO_SUFFIXES)]
            if videos:
                stills = [os.path.join(name, one) for one in names if os.path.join(name, one) not in videos]
                readable = [one for one in stills if os.path.isfile(one) and not is_video(one)]
                return (image for one in (*readable, *videos) for image in open_source(one, vid_stride))
    if isinstance(source, (int, Video)):
        return _frames(source, vid_stride)
    images_of = open_images(source, channels="bgr")  # type: ignore[arg-type]  # a tensor and a number are known by now
    return (InputImage(_named(image), i, images_of.total) for i, image in enumerate(images_of, 1))


def open_video_source(source: Source) -> VideoSource:
    """Return a source as `masklet.SAM.track` takes it.

    Raises:
        SourceError: if it is a tensor of another shape.
    """
    if isinstance(source, Tensor):
        return list(_tensor_images(source))
    return int(source) if isinstance(source, str) and source.isdecimal() else source


def is_video(name: str) -> bool:
    """Whether a name is that of a video file, a camera or a stream.

    Example:
        >>> is_video("clip.mp4"), is_video("0"), is_video("dog.jpg")
        (True, True, False)
    """
    scheme, separator, _ = name.partition("://")
    return has_suffix(name, VIDEO_SUFFIXES) or name.isdecimal() or bool(separator and scheme.lower() in STREAMS)


def _named(image: SourceImage) -> SourceImage:
    """Return the image of an array as image0.jpg, a name that results can be saved by."""
    has_name = "." in image.path or os.path.exists(image.path)
    return image if has_name else SourceImage(image.rgb, f"{image.path}.jpg")


def _frames(source: VideoSource, vid_stride: int) -> Iterator[InputImage]:
    video = open_video(source)  # at once, so that a missing file is known before a model works

    def frames() -> Iterator[InputImage]:
        with video:
            for frame in video:
                if frame.index % vid_stride == 0:
                    image = SourceImage(frame.rgb, video.path)
                    yield InputImage(image, frame.index + 1, video.num_frames, frame.index, video.fps)

    return frames()


def _tensor_images(tensor: Tensor) -> list[SourceImage]:
    if tensor.ndim != 4 or tensor.shape[1] != 3:
        raise SourceError(
            f"a tensor of shape {tuple(tensor.shape)} must be (B, 3, H, W), RGB in 0..1: add a dimension with "
            "tensor[None], or give an array (H, W, 3) in BGR"
        )
    values: npt.NDArray[np.float32] = tensor.detach().cpu().float().permute(0, 2, 3, 1).numpy()
    return [from_array(np.ascontiguousarray(image), f"image{i}.jpg") for i, image in enumerate(values)]
