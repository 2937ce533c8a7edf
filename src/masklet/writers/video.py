"""The overlay video of a tracked video: its frames with their masks drawn on them."""

from __future__ import annotations

import os
import warnings

from masklet.errors import InputError, MaskletWarning, OutputError, StateError
from masklet.results import Results
from masklet.writers.video_base import Sink, SinkOptions
from masklet.writers.video_encoding import (
    MAX_FRAME_DURATION_S,
    MIN_FRAME_DURATION_S,
    AudioTrack,
    FragmentedMp4,
    available_encoders,
    finalize_video,
    is_playable,
)

__all__ = ["VideoSink"]


class VideoSink(Sink):
    """Write STEM_overlay.mp4, a video that browsers play: H.264, yuv420p, index first, with the audio of the source.

    Frames come in ascending order. Each is shown at its `time`, so a variable frame rate is kept, or without one at
    `frame_idx` / fps; durations under 1/90000 s or over 6 h are bounded, with a MaskletWarning. The audio is cut to
    the frames that were written: AAC and MP3 are copied, other audio is encoded as AAC. An odd width or height gets
    one more column or row. Players stretch the pixels by `pixel_aspect`.

    While it is written the video is STEM_overlay.part.mp4, silent, which plays up to the last second or two even if
    the program is killed. If the disk has no space for the finished video, that part gets its name.

    Raises:
        OutputError: if PyAV has no H.264 encoder, or the video would replace its source.
        InputError: if a frame has another size than the first.
        StateError: if a frame is not after the one before.
    """

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._mp4: FragmentedMp4 | None = None
        self._write_failure: OutputError | None = None
        self._frame_duration = min(max(1 / self.options.fps, MIN_FRAME_DURATION_S), MAX_FRAME_DURATION_S)
        self._duration_bounded = False
        self._frame_size = (0, 0)
        self._last_frame_idx = -1
        self._last_time: float | None = None
        self._start_time = self._timestamp = 0.0
        available_encoders()
        source = self.options.source
        for path in (self._path("_overlay.mp4"), self._path("_overlay.part.mp4")):
            if source is not None and path.exists() and os.path.exists(source) and os.path.samefile(path, source):
                raise OutputError(
                    f"{path} is the video that is tracked and is not replaced: choose another folder or stem"
                )

    def _write(self, results: Results, frame_idx: int) -> None:
        if self._write_failure is not None:
            raise OutputError(str(self._write_failure)) from self._write_failure
        fps = self.options.fps
        if self._mp4 is None:
            self._frame_size = results.orig_shape
            part = self._path("_overlay.part.mp4")
            self._mp4 = FragmentedMp4(part, self._frame_size, fps, self.options.crf, self.options.pixel_aspect)
            self._start_time = frame_idx / fps if results.time is None else results.time
        else:
            if frame_idx <= self._last_frame_idx:
                raise StateError(
                    f"frame {frame_idx} came after frame {self._last_frame_idx}, but a video is written in ascending "
                    "order: track forward, or save coco and write the video from read_tracks afterwards"
                )
            if results.orig_shape != self._frame_size:
                (height, width), (first_height, first_width) = results.orig_shape, self._frame_size
                raise InputError(
                    f"frame {frame_idx} is {width}x{height} and the video is {first_width}x{first_height}; a video "
                    "has one size: track the part with another size separately"
                )
            if results.time is not None and self._last_time is not None:
                elapsed = results.time - self._last_time
            else:
                elapsed = (frame_idx - self._last_frame_idx) / fps
            if elapsed <= 0:  # a clock that stands still or jumps back
                elapsed = 1 / fps
            self._frame_duration = min(max(elapsed, MIN_FRAME_DURATION_S), MAX_FRAME_DURATION_S)
            if self._frame_duration != elapsed and not self._duration_bounded:
                self._duration_bounded = True
                warnings.warn(
                    f"frame {self._last_frame_idx} is shown for {elapsed:.3g} s; the frames of an MP4 are shown for "
                    f"1/90000 s to 6 h, so {self._path('_overlay.mp4')} is not as long as the video "
                    "(reported once per run)",
                    MaskletWarning,
                    stacklevel=3,
                )
            self._timestamp += self._frame_duration
        self._last_frame_idx, self._last_time = frame_idx, results.time
        image = results.plot(boxes=self.options.boxes, labels=self.options.labels, style=self.options.style)
        try:
            self._mp4.add_frame(image, self._timestamp)
        except OutputError as error:
            self._write_failure = error
            raise

    def _finalize(self) -> None:
        if self._mp4 is None:
            return
        part, path = self._mp4.path, self._path("_overlay.mp4")
        failure: OutputError | None = None
        if self._write_failure is not None:  # raised by the write
            self._mp4.abort()
        else:
            try:
                self._mp4.close(self._frame_duration)
            except OutputError as error:
                failure = error
        if is_playable(part):
            audio = None
            if self.options.source is not None and self.options.audio:
                stop = self._start_time + self._timestamp + self._frame_duration
                audio = AudioTrack(self.options.source, self._start_time, stop)
            try:
                finalize_video(part, path, audio)
            except OutputError:
                os.replace(part, path)
                self.paths.append(path)
                raise
            self.paths.append(path)
        part.unlink(missing_ok=True)  # not playable: the disk was full before the first second
        if failure is not None:
            raise failure
