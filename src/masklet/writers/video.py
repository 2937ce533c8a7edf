"""The video of a tracked video: its frames with their masks painted on them."""

from __future__ import annotations

import os
from pathlib import Path

from masklet.errors import InputError, OutputError, StateError
from masklet.results import Results
from masklet.writers.video_base import Sink, SinkOptions
from masklet.writers.video_encoding import AudioTrack, FragmentedMp4, available_encoders, finalize_video, is_playable

__all__ = ["VideoSink"]


class VideoSink(Sink):
    """An overlay video that browsers play, STEM_overlay.mp4: H.264, yuv420p, index first, with the source's sound.

    Frames come in ascending order. Each is shown at its `time`, so a variable frame rate is kept, or without one at
    `frame` / fps. The sound is cut to the frames that were written: AAC and MP3 are copied, other sound is encoded
    as AAC. An odd width or height gets one more column or row.

    While it is written the video is STEM_overlay.part.mp4, silent, which plays up to the last second or two also
    when the program is killed. When the disk has no room for the finished video, that part gets its name.

    Example:
        >>> with VideoSink("out", "clip", SinkOptions(fps=25.0, source="clip.mp4")) as sink:
        ...     for frame in model.track("clip.mp4", points=[210, 350], labels=[1]):
        ...         sink.write(frame)
        >>> sink.paths
        [PosixPath('out/clip_overlay.mp4')]

    Raises:
        OutputError: PyAV has no H.264 encoder, or the video would replace its own source.
        InputError: a frame of another size than the first.
        StateError: a frame that is not after the one before.
    """

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._mp4: FragmentedMp4 | None = None
        self._write_failure: OutputError | None = None
        self._frame_duration = 1 / self.options.fps
        available_encoders()
        _check_not_source(self._path("_overlay.mp4"), self.options.source)
        _check_not_source(self._path("_overlay.part.mp4"), self.options.source)

    def _write(self, results: Results, frame_idx: int) -> None:
        if self._write_failure is not None:
            raise OutputError(str(self._write_failure)) from self._write_failure
        if self._mp4 is None:
            self._begin(results, frame_idx)
        else:
            self._advance_clock(results, frame_idx)
        self._last_frame_idx, self._last_time = frame_idx, results.time
        image = results.plot(boxes=self.options.boxes, labels=self.options.labels, style=self.options.style)
        assert self._mp4 is not None
        try:
            self._mp4.add_frame(image, self._timestamp)
        except OutputError as error:
            self._write_failure = error
            raise

    def _begin(self, results: Results, frame_idx: int) -> None:
        self._frame_size = results.orig_shape
        path = self._path("_overlay.part.mp4")
        self._mp4 = FragmentedMp4(path, self._frame_size, self.options.fps, self.options.crf)
        self._start_time = frame_idx / self.options.fps if results.time is None else results.time
        self._timestamp = 0.0

    def _advance_clock(self, results: Results, frame_idx: int) -> None:
        """Move on to the time of this frame; a clock that stands still or jumps back counts as one frame."""
        if frame_idx <= self._last_frame_idx:
            raise StateError(
                f"frame {frame_idx} came after frame {self._last_frame_idx}, but a video is written in ascending order: track "  # noqa: E501
                "forward, or save coco and write the video from read_tracks afterwards"
            )
        if results.orig_shape != self._frame_size:
            (height, width), (first_height, first_width) = results.orig_shape, self._frame_size
            raise InputError(
                f"frame {frame_idx} is {width}x{height} and the video is {first_width}x{first_height}; a video has one "
                "size: track the part with another size on its own"
            )
        known = results.time is not None and self._last_time is not None
        passed = (
            (results.time or 0.0) - (self._last_time or 0.0)
            if known
            else (frame_idx - self._last_frame_idx) / self.options.fps
        )
        self._frame_duration = passed if passed > 0 else 1 / self.options.fps
        self._timestamp += self._frame_duration

    def _finalize(self) -> None:
        if self._mp4 is None:
            return
        trouble = self._close_mp4(self._mp4)
        part, path = self._mp4.path, self._path("_overlay.mp4")
        if not is_playable(part):  # the disk was full before the first second
            part.unlink(missing_ok=True)
            if trouble is not None:
                raise trouble
            return
        try:
            finalize_video(part, path, self._audio_track())
            part.unlink(missing_ok=True)
        except OutputError:
            os.replace(part, path)
            self._add_path(path)
            raise
        self._add_path(path)
        if trouble is not None:
            raise trouble

    def _close_mp4(self, mp4: FragmentedMp4) -> OutputError | None:
        """End the part; what keeps it from being whole, unless that was said before."""
        if self._write_failure is not None:
            mp4.abort()
            return None
        try:
            mp4.close(self._frame_duration)
        except OutputError as error:
            return error
        return None

    def _audio_track(self) -> AudioTrack | None:
        if self.options.source is None or not self.options.audio:
            return None
        return AudioTrack(
            self.options.source, self._start_time, self._start_time + self._timestamp + self._frame_duration
        )


def _check_not_source(path: Path, source: str | os.PathLike[str] | None) -> None:
    """A video must not be written over the one it is made from."""
    if source is not None and path.exists() and os.path.exists(source) and os.path.samefile(path, source):
        raise OutputError(f"{path} is the video that is tracked and is not replaced: choose another folder or stem")
