"""Files of a tracking job: the outputs a user asks for, and the folder that an interrupted run resumes from.

OUT/.STEM.track/ holds, while a job runs,
    job.json              the settings, compared with those of the run that resumes it
    STEM_masks.jsonl      a line per frame in the coco format, on disk as soon as the frame is tracked
    session.safetensors   the state of the session, saved every few seconds
    lock                  taken by the process that tracks
A job that reaches its end removes the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from filelock import FileLock, Timeout

from masklet.atomic_files import atomic_path, current_keys, write_text
from masklet.damaged_files import decoder_errors
from masklet.errors import InputError, MaskletError, OutputError, SourceError
from masklet.media import Video
from masklet.results import Results
from masklet.video.session import Session
from masklet.writers import FrameRecord, Sink, SinkOptions, open_sink, read_tracks, tracked_frames
from masklet.written_files import WrittenFiles

__all__ = ["TRACK_FORMATS", "JobRecord", "PromptRecord", "ResumeFolder", "TrackOutputs"]

TRACK_FORMATS = ("video", "masks", "png", "coco", "mots", "numpy")
"""In the order in which they are opened and written: masks clears its folder of label maps, which png fills."""
FILE_ENDINGS = {"video": "_overlay.mp4", "coco": "_masks.jsonl", "mots": "_mots.txt", "numpy": "_masks.npz"}
"""What follows the stem in the name of the file of a format."""
FOLDER_SUFFIXES = {"png": "_labels", "masks": "_masks"}
"""What follows the stem in the name of the folder of a format, if the folder STEM has the source images."""
SAVE_EVERY_FRAMES, SAVE_EVERY_S = 50, 10.0
"""The state is saved after so many frames or seconds, whichever comes first."""
SAVE_INTERVAL_FACTOR = 20
"""Saving waits for so many times as long as it took, so that it never takes more than a twentieth of the time."""
CHANGE_LABELS = {"stamp": "content of the source", "prompts": "prompts"}


class PromptRecord(TypedDict):
    """The prompt of one object on one frame, in JSON; a mask by its hash."""

    object: int
    frame: int
    points: list[list[float]]
    labels: list[int]
    box: list[float] | None
    mask: str | None


class JobRecord(TypedDict):
    """The settings of a job that its outcome depends on; `model` describes the model, see `track_to_files`."""

    source: str
    stamp: list[int] | None
    """Bytes and modification time in nanoseconds, of a file."""
    prompts: list[PromptRecord]
    bidirectional: bool
    reverse: bool
    start: int | None
    stop: int | None
    non_overlapping: bool | None
    retain: str
    memory: str
    scene_cuts: bool
    verify_returns: bool
    model: Mapping[str, object]


class ResumeFolder:
    """The folder of one running or interrupted job.

    Example:
        >>> resume_folder = ResumeFolder(Path("out"), "clip")
        >>> resume_folder.path
        PosixPath('out/.clip.track')
    """

    def __init__(self, out: Path, stem: str) -> None:
        self.path = out / f".{stem}.track"
        self.stem = stem
        self.jsonl_path = self.path / f"{stem}_masks.jsonl"
        self.state_path = self.path / "session.safetensors"
        self._job_path = self.path / "job.json"
        self._lock = FileLock(self.path / "lock", timeout=0)
        self._sink: Sink | None = None
        self._frames: set[int] = set()
        self._saved_at, self._min_interval_s, self._frames_since_save = time.monotonic(), 0.0, 0

    def acquire(self) -> None:
        """Lock the folder for this process.

        Raises:
            OutputError: if another process tracks into it, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another masklet track is writing {self.path} at this moment: wait for it, or choose another folder "
                "for the output"
            ) from None
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be made or written ({error.strerror or error}): choose another folder for the "
                "output"
            ) from error

    @property
    def is_interrupted(self) -> bool:
        """Whether an earlier run stopped before its end."""
        return self._job_path.exists()

    def check(self, record: JobRecord) -> None:
        """Compare the settings of the interrupted run with those of this one.

        Raises:
            InputError: if they differ; the message names the settings.
        """
        try:
            before = _read_job_record(self._job_path)
            changed = [name for name, value in _flat(record).items() if before.get(name) != value]
        except decoder_errors() as error:
            raise InputError(
                f"{self._job_path} cannot be read ({error}), so the settings of the interrupted run are unknown: start "
                "without resume to overwrite it"
            ) from error
        if changed:
            now = _flat(record)
            differences = "; ".join(
                f"other {CHANGE_LABELS[name]}"
                if name in CHANGE_LABELS
                else f"{name} {before.get(name)!r:.80}, now {now[name]!r:.80}"
                for name in changed
            )
            raise InputError(
                f"the interrupted run in {self.path} has other settings ({differences}): give the same settings to "
                "resume it, or start without resume to overwrite it"
            )

    def begin(self, record: JobRecord, *, overwrite: bool) -> None:
        """Open the lines for writing: empty, or after those of the interrupted run.

        Raises:
            OutputError: if they cannot be written.
        """
        self._frames = set()
        if overwrite:
            for path in (self._job_path, self.state_path, self.jsonl_path):
                path.unlink(missing_ok=True)
        else:
            self._frames = set(tracked_frames(self.jsonl_path))
        write_text(self._job_path, json.dumps(_flat(record)))
        self._sink = open_sink("coco", self.path, stem=self.stem, append=not overwrite)
        self._saved_at = time.monotonic()

    def has_frame(self, frame_idx: int | None) -> bool:
        """Whether the lines hold this frame."""
        return frame_idx in self._frames

    def write(self, frame: Results) -> None:
        """Append the line of a frame.

        Raises:
            OutputError: if it cannot be written; the lines before stay.
        """
        assert self._sink is not None
        self._sink.write(frame)
        assert frame.frame_idx is not None
        self._frames.add(frame.frame_idx)

    def save_if_due(self, session: Session) -> None:
        """Save the state if it is time to; the lines reach the disk before it.

        Raises:
            OutputError: if it cannot be written; the earlier state stays.
        """
        self._frames_since_save += 1
        passed = time.monotonic() - self._saved_at
        if passed < self._min_interval_s or (self._frames_since_save < SAVE_EVERY_FRAMES and passed < SAVE_EVERY_S):
            return
        begun = time.monotonic()
        if self.jsonl_path.exists():
            with open(self.jsonl_path, "rb") as file, suppress(OSError):
                os.fsync(file.fileno())  # a state never knows more than the lines, even after a power cut
        session.save(self.state_path)
        self._saved_at, self._frames_since_save = time.monotonic(), 0
        self._min_interval_s = SAVE_INTERVAL_FACTOR * (self._saved_at - begun)

    def records(self) -> Iterator[FrameRecord]:
        """Yield the frames tracked so far, in ascending order."""
        return read_tracks(self.jsonl_path) if self.jsonl_path.exists() else iter(())

    def close(self) -> None:
        """Release the folder and keep it."""
        try:
            if self._sink is not None:
                self._sink.close()
        finally:
            self._lock.release()

    def remove(self) -> None:
        """Release the folder and remove it, beginning with the file that marks an interrupted run."""
        if not self._lock.is_locked:  # the lock of another process
            return
        self.close()
        with suppress(OSError):
            self._job_path.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)


class TrackOutputs:
    """The sinks of one job.

    With a resume folder, coco is a copy of its lines; with `deferred` everything is written from them in `close`. Files
    that masklet did not write, or that were changed since, are kept unless `overwrite`; `extra_files` are names of
    further outputs in the folder.

    Example:
        >>> outputs = TrackOutputs(Path("out"), "clip", video, ("video", "png"), resume_folder)
        >>> outputs.write(frame)
        >>> outputs.close()

    Raises:
        OutputError: if a file of somebody else has the name of an output.
    """

    def __init__(
        self,
        out: Path,
        stem: str,
        video: Video,
        formats: Sequence[str],
        resume_folder: ResumeFolder | None,
        *,
        overwrite: bool = False,
        extra_files: Sequence[str] = (),
    ) -> None:
        self.video, self.resume_folder = video, resume_folder
        self.files = WrittenFiles(out, overwrite=overwrite)
        self.deferred = False
        """Write nothing before `close`, which reads the lines: for frames that come in descending order."""
        self._jsonl_path = out / f"{stem}_masks.jsonl" if resume_folder is not None and "coco" in formats else None
        unknown = [name for name in formats if name not in TRACK_FORMATS]
        names = [*unknown, *(name for name in TRACK_FORMATS if name in formats)]  # open_sink names an unknown one
        source = video.path if os.path.exists(video.path) else None
        options = SinkOptions(pixel_aspect=video.pixel_aspect)
        self.sinks: list[Sink] = [
            open_sink(name, out, stem=stem, fps=video.fps, source=source, options=options)
            for name in names
            if name != "coco" or resume_folder is None
        ]
        self._copied_paths: list[Path] = []
        self._empty = True
        self.files.check(*(out / f"{stem}{FILE_ENDINGS[name]}" for name in names if name in FILE_ENDINGS))
        self.files.check(*(out / name for name in extra_files))
        for name in set(names) & FOLDER_SUFFIXES.keys():
            folder = out / stem
            if video.path and folder.is_dir() and os.path.isdir(video.path) and folder.samefile(video.path):
                folder = out / f"{stem}{FOLDER_SUFFIXES[name]}"
            pattern = "*/*.png" if name == "masks" else "*.png"
            self.files.check(*(path for path in folder.glob(pattern) if path.stem.isdigit()))

    @property
    def paths(self) -> list[Path]:
        """Files and folders written so far."""
        return list(dict.fromkeys([path for sink in self.sinks for path in sink.paths] + self._copied_paths))

    def check_ids(self, ids: Iterable[int]) -> None:
        """Check that every format can hold these object ids.

        Raises:
            OutputError: if one cannot.
        """
        numbers = list(ids)
        for sink in self.sinks:
            sink.check_ids(numbers)

    def write(self, frame: Results) -> None:
        """Write one frame to every sink, unless frames are deferred."""
        self._empty = False
        if not self.deferred:
            with self.files.protect():
                for sink in self.sinks:
                    sink.write(frame)

    def restore_frames(self) -> Iterator[int]:
        """Write the frames of an interrupted run again; yields the number of each.

        Their images are read again, if any sink needs them.
        """
        self._empty = False
        if self.sinks and not self.deferred:
            yield from self._write_records()

    def close(self) -> None:
        """Finish all files; if one cannot be finished the others are, and the first error is raised.

        Raises:
            OutputError: if a file cannot be finished.
        """
        errors: list[MaskletError] = []
        try:
            if self.deferred and self.sinks and not self._empty:
                self.deferred = False
                for _ in self._write_records():
                    pass
        except MaskletError as error:
            errors.append(error)
        for sink in self.sinks:
            try:
                with self.files.protect():
                    sink.close()
            except OutputError as error:
                errors.append(error)
        try:
            if self._jsonl_path is not None and self.resume_folder is not None and not self._empty:
                with self.files.protect(), atomic_path(self._jsonl_path) as temporary:
                    shutil.copyfile(self.resume_folder.jsonl_path, temporary)
                self._copied_paths = [self._jsonl_path]
            self.files.record_existing(self.paths)  # those that a sink wrote in place
        except OutputError as error:
            errors.append(error)
        self.files.close()
        if errors:
            raise errors[0]

    def abort(self) -> None:
        """Close the sinks of a job that failed; what was written stays."""
        for sink in self.sinks:
            with self.files.protect(), sink:
                pass
        with suppress(OutputError):  # another error is on its way
            self.files.record_existing(self.paths)
        self.files.close()

    def _write_records(self) -> Iterator[int]:
        """Write the lines of the resume folder to the sinks, over the images of the video."""
        assert self.resume_folder is not None
        frames = None
        for record in self.resume_folder.records():
            frames = self.video.frames(record.frame_idx) if frames is None else frames
            frame = next((each for each in frames if each.index >= record.frame_idx), None)
            if frame is None or frame.index != record.frame_idx:
                raise SourceError(
                    f"{self.video.path!r}: frame {record.frame_idx}, which was tracked before, cannot be read any "
                    "more; the source has changed: start without resume to overwrite the interrupted run"
                )
            yield record.frame_idx
            with self.files.protect():
                for sink in self.sinks:
                    sink.write(record.to_results(frame.rgb, frame.path))


def _flat(record: JobRecord) -> dict[str, Any]:
    """The record as job.json holds it, with the description of the model beside the other settings."""
    settings: dict[str, Any] = {**record}
    return {**settings.pop("model"), **settings}


def _read_job_record(path: Path) -> dict[str, Any]:
    """Read job.json; one of an earlier version holds the last frame, `until`, in place of `stop`.

    It knows no default of the model for objects that overlap: its False is None now.
    """
    record: dict[str, Any] = current_keys(json.loads(path.read_text(encoding="utf-8")), "track_job")
    if "until" in record:
        last: int | None = record.pop("until")
        record["non_overlapping"] = record["non_overlapping"] or None
        record["stop"] = None if last is None else last + 1 if not record["reverse"] else last - 1 if last else None
    for setting, only in {"memory": "sam2", "scene_cuts": True, "verify_returns": True}.items():
        record.setdefault(setting, only)  # an earlier version knew no other
    for prompt in record["prompts"]:  # float32, as prompts hold them; an earlier version stored what was typed
        prompt["points"] = np.asarray(prompt["points"], np.float32).tolist()
    return record
