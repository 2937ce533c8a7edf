"""Track a video to files: a job that yields its progress, survives Ctrl-C and errors, and resumes.

    track_to_files              objects that prompts name; with a resume folder, unless the video is a live stream
    track_everything_to_files   all objects, without prompts

Both return a `TrackingJob`: iterate over it to run it. Every frame is on disk when its event comes. However the job
ends, the files are finished with the frames so far, and `summary` names them.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
import warnings
from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np

from masklet.atomic_files import defer_interrupt, write_text
from masklet.errors import InputError, MaskletError, MaskletWarning, PromptError
from masklet.media import Video, open_video
from masklet.media.video_source import VideoSource
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.video.auto_tracker import AutoTrackStream
from masklet.video.doubts import Doubt, Observation, observe, rank_doubts
from masklet.video.job_files import JobRecord, PromptRecord, ResumeFolder, TrackOutputs
from masklet.video.session import Session
from masklet.video.track_history import TrackHistory
from masklet.video.track_options import TrackOptions
from masklet.writers.video_base import safe_stem

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AutoTrackOpener",
    "FramePrompts",
    "SessionOpener",
    "TrackProgress",
    "TrackSummary",
    "TrackingJob",
    "first_tracked_frame",
    "track_everything_to_files",
    "track_to_files",
]

FramePrompts: TypeAlias = Mapping[tuple[int, int], ObjectPrompt]
"""What each object is: prompts by (object id, frame index)."""
DOUBTS_LISTED, MIN_DOUBT = 3, 0.2
"""Doubts in the summary of a job, and the least score of one."""
NUM_FIELDS = len(fields(Observation))
OBSERVED_CELLS = 480
"""Longest side of the masks that doubts are computed from: of larger ones, every n-th row and column is taken."""


class SessionOpener(Protocol):
    """A model that tracks prompted objects; a `SAM` is one."""

    def session(self, source: Video, *, resume: Path | None = None, options: TrackOptions | None = None) -> Session:
        """Open a session on a video, or the saved one of the file `resume`."""


class AutoTrackOpener(Protocol):
    """A function that begins to track all objects of a video."""

    def __call__(self, video: Video, *, start: int | None, stop: int | None) -> AutoTrackStream:
        """Return the frames from `start` to before `stop`."""


@dataclass(frozen=True)
class TrackProgress:
    """One event of a tracking job.

    notice    `message` is worth showing, such as what happens to an interrupted run
    restore   a frame of the interrupted run is written again
    track     a frame was tracked and written
    """

    stage: Literal["notice", "restore", "track"]
    message: str = ""
    frame_idx: int | None = None
    states: tuple[str | None, ...] = ()
    """Of the objects on this frame."""
    frames_done: int = 0
    """Frames behind the job, those of an interrupted run included."""
    num_frames: int | None = None
    """Frames in total; None: unknown."""
    fps: float = 0.0
    """Frames tracked per second, in this run."""


@dataclass(frozen=True)
class TrackSummary:
    """The outcome of a tracking job so far."""

    frames: int
    """Frames on disk, those of an interrupted run included."""
    fps: float
    num_masks: int
    """Objects on all frames together."""
    object_states: Mapping[int, Mapping[str, int]]
    """By id of a prompted object, the number of frames in each state: visible, occluded, lost."""
    paths: tuple[Path, ...]
    """Files and folders written."""
    dropped_frames: int
    """Frames of a live stream that came faster than they were tracked."""
    missing_frames: tuple[int, int] | None = None
    """(frames found, frames declared) of a video that ended before its declared length."""
    resumable: bool = False
    """Whether the same job can resume from here."""
    history: TrackHistory | None = None
    """Start and end of each track, without prompts."""
    history_path: Path | None = None
    doubts: tuple[Doubt, ...] = ()
    """The frames of prompted objects to check first, at most three, once the job is done."""


class TrackingJob(Iterator[TrackProgress]):
    """A tracking job; iterating over it runs it, closing it early finishes the files with the frames so far.

    An error or Ctrl-C while the job runs finishes the files too, and is then raised.
    """

    def __init__(
        self, video: Video, outputs: TrackOutputs, *, num_frames: int | None, stop: int | None, ascending: bool
    ) -> None:
        self.video, self.outputs, self.num_frames = video, outputs, num_frames
        self._stop, self._ascending = stop, ascending
        self._state_counts: dict[int, Counter[str]] = {}
        self._frames = self._num_masks = self._done = self._done_before = 0
        self._started_at: float | None = None
        self._extra_paths: list[Path] = []
        self._finished = False
        self._events = self._run()

    def __next__(self) -> TrackProgress:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish the files if the job is under way, and release the video."""
        self._events.close()
        self.video.close()

    @property
    def summary(self) -> TrackSummary:
        """The outcome so far."""
        found, declared = self.video.num_frames, self.video.expected_num_frames
        ended_early = (
            self._finished
            and self._ascending
            and found is not None
            and declared is not None
            and found < declared
            and (self._stop is None or self._stop > found)
        )
        return TrackSummary(
            frames=self._frames,
            fps=self._fps(),
            num_masks=self._num_masks,
            object_states={object_id: dict(states) for object_id, states in self._state_counts.items()},
            paths=(*self.outputs.paths, *self._extra_paths),
            dropped_frames=self.video.dropped,
            missing_frames=(found or 0, declared or 0) if ended_early else None,
            resumable=self._resumable(),
        )

    def _run(self) -> Generator[TrackProgress, None, None]:
        try:
            yield from self._track()
            with defer_interrupt():
                self._finish()
        except BaseException as error:
            with defer_interrupt():
                if isinstance(error, (GeneratorExit, KeyboardInterrupt)) or (
                    isinstance(error, MaskletError) and self._frames
                ):
                    self._finish_early()
                else:
                    self._abort()
            raise

    @abstractmethod
    def _track(self) -> Iterator[TrackProgress]:
        """Track and write all frames."""

    def _finish(self) -> None:
        self.outputs.close()
        self._finished = True

    def _finish_early(self) -> None:
        """Finish the files with the frames so far, while an error or Ctrl-C is on its way."""
        if not self._finished:
            try:
                self.outputs.close()
            except MaskletError as error:
                warnings.warn(f"while the job was ending early: {error}", MaskletWarning, stacklevel=2)

    def _abort(self) -> None:
        """Leave no trace of a job that did not begin, and all of one that did."""
        self.outputs.abort()

    def _resumable(self) -> bool:
        return False

    def _fps(self) -> float:
        seconds = 0.0 if self._started_at is None else time.monotonic() - self._started_at
        return (self._done - self._done_before) / seconds if seconds > 0 else 0.0

    def _frame_event(self, frame: Results) -> TrackProgress:
        self._done += 1
        states = tuple(frame.states or ())
        return TrackProgress(
            "track", "", frame.frame_idx, states, self._done, num_frames=self.num_frames, fps=self._fps()
        )


def track_to_files(
    model: SessionOpener,
    source: VideoSource,
    prompts: FramePrompts,
    out: str | os.PathLike[str] = "masklet-out",
    formats: Sequence[str] = ("video",),
    *,
    resume: bool = False,
    options: TrackOptions | None = None,
    start: int | None = None,
    stop: int | None = None,
    reverse: bool = False,
    bidirectional: bool = False,
    save_session: bool = False,
    overwrite: bool = False,
    description: Mapping[str, object] | None = None,
    on_backward_frame: Callable[[int], None] | None = None,
) -> TrackingJob:
    """Track prompted objects through a video, and write every frame to files in the folder `out`.

    `formats` are those of `masklet.writers.SINKS`; `start`, `stop`, `reverse` and `bidirectional` as in
    `Session.propagate`. The model opens its session when the job runs, after files and settings have been checked.

    Args:
        resume: Continue an interrupted job of the same settings, if there is one; otherwise it is overwritten.
        save_session: Write STEM_session.safetensors too, with every frame in memory, to edit it later.
        overwrite: Replace files too that masklet did not write, or that were changed since.
        description: What identifies the model, such as its name and precision; a job resumes only with the same.
        on_backward_frame: Called with each frame that `bidirectional` tracks backward, before the first event.

    Example:
        >>> prompts = {(1, 0): ObjectPrompt(points=Points([[210, 350]], [1]))}
        >>> with track_to_files(SAM(), "clip.mp4", prompts, "out", ["video", "png"]) as job:  # doctest: +SKIP
        ...     for progress in job:
        ...         print(progress.frames_done, progress.num_frames)
        >>> job.summary.paths  # doctest: +SKIP
        (PosixPath('out/clip_overlay.mp4'), PosixPath('out/clip'))

    Raises:
        SourceError: if the video cannot be read.
        PromptError: if there are no prompts, or one does not fit the video.
        InputError: if a format is unknown, settings exclude each other, or the interrupted job has other settings.
        OutputError: if the folder cannot be written, or a file of somebody else has the name of an output.
    """
    if not prompts:
        raise PromptError("there are no prompts: give one, or use track_everything_to_files to track all objects")
    video, options = open_video(source), options or TrackOptions()
    if save_session:
        options = replace(options, retain="all")
    first = first_tracked_frame(prompts, start=start, reverse=reverse, bidirectional=bidirectional)
    try:
        if not video.seekable and resume:
            raise InputError(f"the frames of {video.path!r} come once, so no job can resume: set resume=False")
        if not video.seekable and first > 0:
            raise InputError(
                f"the first prompt is on frame {first}, and what comes before it on {video.path!r} could not be "
                "tracked: prompt one object on frame 0"
            )
        folder, stem = Path(out), _output_stem(video)
        resume_folder = ResumeFolder(folder, stem) if video.seekable else None
        extra = [f"{stem}_session.safetensors"] if save_session else []
        outputs = TrackOutputs(folder, stem, video, formats, resume_folder, overwrite=overwrite, extra_files=extra)
        outputs.deferred = reverse
        outputs.check_ids(object_id for object_id, _ in prompts)
    except BaseException:
        video.close()
        raise
    stat = os.stat(video.path) if os.path.isfile(video.path) else None
    record: JobRecord = {
        "source": os.path.abspath(video.path),
        "stamp": None if stat is None else [stat.st_size, stat.st_mtime_ns],
        "prompts": [_prompt_record(*key, prompt) for key, prompt in prompts.items()],
        "bidirectional": bidirectional,
        "reverse": reverse,
        "start": start,
        "stop": stop,
        "non_overlapping": options.non_overlapping,
        "retain": options.retain,
        "memory": options.memory,
        "scene_cuts": options.scene_cuts,
        "verify_returns": options.verify_returns,
        "model": description or {},
    }
    return _PromptedJob(model, video, outputs, prompts, record, options, first, resume, save_session, on_backward_frame)


def track_everything_to_files(
    open_stream: AutoTrackOpener,
    source: VideoSource,
    out: str | os.PathLike[str] = "masklet-out",
    formats: Sequence[str] = ("video",),
    *,
    start: int | None = None,
    stop: int | None = None,
    history: bool = True,
    overwrite: bool = False,
) -> TrackingJob:
    """Track all objects of a video, and write every frame to files in the folder `out`.

    `open_stream` is called when the job runs, after files have been checked. `history` writes STEM_tracks.json, the
    start and end of each track. With `overwrite`, files are replaced too that masklet did not write, or that were
    changed since.

    Raises:
        SourceError: if the video cannot be read.
        InputError: if a format is unknown.
        OutputError: if the folder cannot be written, or a file of somebody else has the name of an output.
    """
    video = open_video(source)
    try:
        stem = _output_stem(video)
        extra = [f"{stem}_tracks.json"] if history else []
        outputs = TrackOutputs(Path(out), stem, video, formats, None, overwrite=overwrite, extra_files=extra)
    except BaseException:
        video.close()
        raise
    return _UnpromptedJob(open_stream, video, outputs, Path(out), start, stop, history)


def first_tracked_frame(
    prompts: FramePrompts, *, start: int | None = None, reverse: bool = False, bidirectional: bool = False
) -> int:
    """Return the frame with which `track_to_files` begins."""
    if start is not None:
        return start
    prompted = [frame_idx for _, frame_idx in prompts]
    return max(prompted) if reverse else 0 if bidirectional else min(prompted)


class _PromptedJob(TrackingJob):
    """Prompted objects through one session; each frame is in the resume folder before the sinks have it."""

    def __init__(
        self,
        model: SessionOpener,
        video: Video,
        outputs: TrackOutputs,
        prompts: FramePrompts,
        record: JobRecord,
        options: TrackOptions,
        first_frame: int,
        resume: bool,
        save_session: bool,
        on_backward_frame: Callable[[int], None] | None,
    ) -> None:
        stop, reverse = record["stop"], record["reverse"]
        ends = [end for end in (stop, video.expected_num_frames) if end is not None]
        num_frames = max(0, min(ends) - first_frame) if ends else None
        if reverse:
            num_frames = first_frame - (-1 if stop is None else stop)
        super().__init__(video, outputs, num_frames=num_frames, stop=stop, ascending=not reverse)
        self.model, self.record, self.options = model, record, options
        self.resume, self.save_session, self.on_backward_frame = resume, save_session, on_backward_frame
        self.resume_folder = outputs.resume_folder
        self.resuming = False
        self.pending_prompts = dict(prompts)
        """Prompts that the session does not have yet: those on later frames of a stream."""
        self._state_counts = {object_id: Counter() for object_id, _ in prompts}
        self._last_backward_frame: int | None = None
        self._observed = array("d")
        """The fields of all observations, one after the other: memory hardly grows with the length of a video."""
        self._prompted_frames: dict[int, list[int]] = {}
        for object_id, frame_idx in prompts:
            self._prompted_frames.setdefault(object_id, []).append(frame_idx)

    @property
    def summary(self) -> TrackSummary:
        """The outcome so far; with doubts, once the job is done."""
        if not self._finished:
            return super().summary
        seen = []
        for start in range(0, len(self._observed), NUM_FIELDS):
            frame_idx, object_id, *values, prompted = self._observed[start : start + NUM_FIELDS]
            iou, score, area, x, y, contested = values
            one = Observation(int(frame_idx), int(object_id), iou, score, area, x, y, contested, bool(prompted))
            seen.append(one)
        doubts = tuple(one for one in rank_doubts(seen, DOUBTS_LISTED) if one.score >= MIN_DOUBT)
        return replace(super().summary, doubts=doubts)

    def _track(self) -> Iterator[TrackProgress]:
        yield from self._prepare_resume_folder()
        session = yield from self._open_session()
        record, folder = self.record, self.resume_folder
        if self.resuming:
            results = session.resume(progress=self._on_frame)
        else:
            results = session.propagate(
                record["start"],
                record["stop"],
                reverse=record["reverse"],
                bidirectional=record["bidirectional"],
                progress=self._on_frame,
            )
        self._started_at = time.monotonic()
        for frame in results:
            with defer_interrupt():
                if folder is None or not folder.has_frame(frame.frame_idx):
                    if folder is not None:
                        folder.write(frame)  # first: the sinks can be made from it
                    self._count(frame)
                    self.outputs.write(frame)
                if folder is not None:
                    folder.save_if_due(session)
            yield self._frame_event(frame)
            self._add_prompts(session, (frame.frame_idx or 0) + 1)
        if self.save_session and folder is not None:
            path = folder.path.parent / f"{folder.stem}_session.safetensors"
            with defer_interrupt(), self.outputs.files.protect():
                self._extra_paths = [session.save(path, overwrite=True)]

    def _prepare_resume_folder(self) -> Iterator[TrackProgress]:
        """Lock the resume folder, and find out whether an interrupted run resumes."""
        folder = self.resume_folder
        if folder is None:
            return
        folder.acquire()
        interrupted = folder.is_interrupted
        if self.resume and interrupted:
            folder.check(self.record)
        has_state = interrupted and folder.state_path.exists() and folder.jsonl_path.exists()
        self.resuming = self.resume and has_state
        folder.begin(self.record, overwrite=not self.resuming)
        if self.resume and not self.resuming:
            why = "the interrupted run had saved no state yet" if interrupted else "there is no interrupted run"
            yield TrackProgress("notice", f"nothing to resume in {folder.path}, {why}: starting with the first frame")
        elif interrupted and not self.resume:
            yield TrackProgress(
                "notice", f"the interrupted run in {folder.path} is overwritten; resume would have continued it"
            )

    def _open_session(self) -> Generator[TrackProgress, None, Session]:
        """Return the session of the interrupted run, or a new one with the prompts."""
        folder = self.resume_folder
        if self.resuming and folder is not None:
            session = self.model.session(self.video, resume=folder.state_path, options=self.options)
            last = session.last_frame
            if last is not None and folder.has_frame(last):
                for record in folder.records():
                    self._count(record.to_results(np.zeros((*record.size, 3), np.uint8)))
                    in_state = record.frame_idx >= last if self.record["reverse"] else record.frame_idx <= last
                    self._done += in_state
                self._done_before = self._done
                yield TrackProgress("notice", f"resuming after frame {last}: {self._frames} frame(s) were tracked")
                for frame_idx in self.outputs.restore_frames():
                    yield TrackProgress("restore", "", frame_idx, frames_done=self._done, num_frames=self.num_frames)
                return session
            yield TrackProgress("notice", f"lines are missing in {folder.path}: starting with the first frame")
            self.resuming = False
            folder.begin(self.record, overwrite=True)
        session = self.model.session(self.video, options=self.options)
        self._add_prompts(session, 0 if not self.video.seekable else None)
        return session

    def _add_prompts(self, session: Session, last_frame: int | None) -> None:
        """Hand the pending prompts up to a frame to the session; None: all."""
        if self.resuming:
            return
        for (object_id, frame_idx), prompt in list(self.pending_prompts.items()):
            if last_frame is not None and frame_idx > last_frame:
                continue
            del self.pending_prompts[object_id, frame_idx]
            points, box, mask = prompt.points, prompt.box, prompt.mask
            try:
                session.add_prompt(
                    object_id,
                    frame_idx=frame_idx,
                    points=None if points is None else points.xy,
                    labels=None if points is None else points.labels,
                    box=None if box is None else [box.x1, box.y1, box.x2, box.y2],
                    mask=None if mask is None else mask.mask,
                )
            except PromptError as error:
                raise PromptError(f"object {object_id} on frame {frame_idx}: {error}") from error

    def _on_frame(self, frame_idx: int) -> None:
        """Report the backward frames of `bidirectional`: they come first, and descend."""
        if self.resuming or (self._last_backward_frame is not None and frame_idx >= self._last_backward_frame):
            return
        self._last_backward_frame = frame_idx
        if self.on_backward_frame is not None:
            self.on_backward_frame(frame_idx)
        self._started_at = time.monotonic()  # they do not count as frames per second

    def _count(self, frame: Results) -> None:
        """Count the objects of a frame by their states, and observe them for doubts."""
        ids, frame_idx = frame.ids.tolist(), frame.frame_idx or 0
        self._frames += 1
        self._num_masks += len(ids)
        for object_id, state in zip(ids, frame.states or (), strict=True):
            self._state_counts.setdefault(object_id, Counter())[state or "visible"] += 1
        if frame.masks is None or frame.object_scores is None or not self.video.seekable:
            return
        step, prompted = -(-max(frame.orig_shape) // OBSERVED_CELLS), self._prompted_frames
        observations = observe(
            frame_idx,
            ids,
            frame.masks.data[:, ::step, ::step],
            frame.scores.tolist(),
            frame.object_scores.tolist(),
            [number for number in ids if frame_idx in prompted.get(number, ())],
        )
        for one in observations:
            self._observed.extend(astuple(one))

    def _finish(self) -> None:
        super()._finish()
        if self.resume_folder is not None:
            self.resume_folder.remove()

    def _finish_early(self) -> None:
        super()._finish_early()
        if self.resume_folder is not None and not self._finished:
            self.resume_folder.close() if self._resumable() else self.resume_folder.remove()

    def _abort(self) -> None:
        super()._abort()
        if self.resume_folder is not None and not self._finished:
            self.resume_folder.close() if self.resume_folder.jsonl_path.exists() else self.resume_folder.remove()

    def _resumable(self) -> bool:
        return self.resume_folder is not None and not self._finished and (self._frames > 0 or self.resuming)


class _UnpromptedJob(TrackingJob):
    """All objects of a video, as one stream of results."""

    def __init__(
        self,
        open_stream: AutoTrackOpener,
        video: Video,
        outputs: TrackOutputs,
        out: Path,
        start: int | None,
        stop: int | None,
        write_history: bool,
    ) -> None:
        ends = [end for end in (stop, video.expected_num_frames) if end is not None]
        num_frames = max(0, min(ends) - (start or 0)) if ends else None
        super().__init__(video, outputs, num_frames=num_frames, stop=stop, ascending=True)
        self.open_stream, self.start, self.stop = open_stream, start, stop
        self.history_path = out / f"{_output_stem(video)}_tracks.json" if write_history else None
        self.stream: AutoTrackStream | None = None

    @property
    def summary(self) -> TrackSummary:
        """The outcome so far, with the history of the tracks."""
        history = None if self.stream is None else self.stream.track_history
        return replace(super().summary, history=history, history_path=self.history_path)

    def _track(self) -> Iterator[TrackProgress]:
        self.stream = self.open_stream(self.video, start=self.start, stop=self.stop)
        self._started_at = time.monotonic()
        for frame in self.stream:
            with defer_interrupt():
                self.outputs.write(frame)
                self._frames += 1
                self._num_masks += len(frame)
            yield self._frame_event(frame)

    def _finish(self) -> None:
        try:
            super()._finish()
        finally:
            self._write_history()

    def _finish_early(self) -> None:
        super()._finish_early()
        if not self._finished:
            self._write_history()

    def _write_history(self) -> None:
        if self.history_path is not None and self.stream is not None and self._frames:
            text = json.dumps(self.stream.track_history.to_dicts(), indent=1) + "\n"
            with self.outputs.files.protect():
                self._extra_paths = [write_text(self.history_path, text)]


def _output_stem(video: Video) -> str:
    """The name that the files of a video begin with: without suffix; of a glob, the name of its folder."""
    if not video.seekable or "://" in video.path:
        return safe_stem(video.path)
    path = Path(video.path)
    if not path.exists() and glob.has_magic(video.path):
        path = path.parent
    absolute = Path(os.path.abspath(path))
    return safe_stem(absolute.name if absolute.is_dir() else absolute.stem)


def _prompt_record(object_id: int, frame_idx: int, prompt: ObjectPrompt) -> PromptRecord:
    points, box, mask = prompt.points, prompt.box, prompt.mask
    digest = None
    if mask is not None:
        digest = hashlib.sha256(repr(mask.mask.shape).encode() + mask.mask.tobytes()).hexdigest()[:16]
    return {
        "object": object_id,
        "frame": frame_idx,
        "points": [] if points is None else points.xy.tolist(),
        "labels": [] if points is None else points.labels.tolist(),
        "box": None if box is None else [box.x1, box.y1, box.x2, box.y2],
        "mask": digest,
    }
