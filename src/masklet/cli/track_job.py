"""What `masklet track` does: a video through the model, every frame to the journal and the sinks, whatever happens."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from masklet.cli.console import defer_interrupt, format_paths, print_error, print_notice
from masklet.cli.progress import ProgressReporter
from masklet.cli.segment_job import open_model
from masklet.cli.track_outputs import DEFAULT_TRACK_FORMAT, TrackOutputs
from masklet.cli.track_prompts import PromptSpec
from masklet.cli.track_resume import JobRecord, ResumeLog
from masklet.errors import InputError, MaskletError, PromptError

if TYPE_CHECKING:
    from masklet.media import Video
    from masklet.results import Results
    from masklet.sam import SAM
    from masklet.video import Session
    from masklet.writers import FrameRecord

__all__ = [
    "EXIT_ERROR",
    "EXIT_INTERRUPTED",
    "TrackJob",
    "VideoJob",
    "ended_early",
    "output_stem",
    "parse_source",
    "run_track",
]

RETAIN_CHOICES = ("recent", "all")
STATES = ("visible", "occluded", "lost")
EXIT_ERROR, EXIT_INTERRUPTED = 2, 130


@dataclass(frozen=True, kw_only=True)
class VideoJob:
    """What every run over a video is told: which one, with what, and where the results go. `until` is the last frame."""  # noqa: E501

    source: str
    formats: tuple[str, ...] = (DEFAULT_TRACK_FORMAT,)
    out: Path = Path("masklet-out")
    start: int | None = None
    last_frame: int | None = None
    model: str | None = None
    device: str | None = None
    precision: str = "fp32"
    non_overlapping: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class TrackJob(VideoJob):
    """One run after prompts: what to follow, and how."""

    prompts: tuple[PromptSpec, ...]
    bidirectional: bool = False
    reverse: bool = False
    retain: str = "recent"
    resume: bool = False

    @property
    def first_frame(self) -> int:
        """The frame where tracking begins."""
        if self.start is not None:
            return self.start
        prompted = [said.frame_idx for said in self.prompts]
        return max(prompted) if self.reverse else 0 if self.bidirectional else min(prompted)

    @property
    def stop(self) -> int | None:
        """The frame before which it ends, in the direction of tracking; None: at the end of the video."""
        if self.last_frame is None:
            return None
        return (self.last_frame - 1 if self.last_frame else None) if self.reverse else self.last_frame + 1


def run_track(job: TrackJob, model: SAM | None = None) -> None:
    """Do `job`; what was written, and what became of each object, on standard output.

    `model` is the one that the job names, if it is there already. Stopped with Ctrl-C the exit code is 130, where
    the video or the disk gives out it is 2; the files then hold the frames before, and --resume goes on with them.

    Raises:
        MaskletError: what keeps it from beginning: no video, no model, prompts that do not fit.
    """
    from masklet.media import open_video

    _check_options(job)
    with open_video(parse_source(job.source)) as video:
        if not video.seekable:
            _check_stream(job, video)
        journal = ResumeLog(job.out, output_stem(job.source, video)) if video.seekable else None
        _TrackRun(job, video, journal).run(model)


def output_stem(source: str, video: Video) -> str:
    """What the files of a source are called: its name without suffix, of a glob that of its folder.

    Example:
        >>> stem_of("shots/*.jpg", video)
        'shots'
    """
    from masklet.writers.video_base import safe_stem

    if not video.seekable or "://" in source:
        return safe_stem(video.path)
    path = Path(source).expanduser()
    if not path.exists() and glob.has_magic(source):
        path = path.parent
    absolute = Path(os.path.abspath(path))
    return safe_stem(absolute.name if absolute.is_dir() else absolute.stem)


def parse_source(word: str) -> str | int:
    """What to open: a number is a camera, unless there is a file of that name.

    Example:
        >>> source_of("0")
        0
    """
    return int(word) if word.isascii() and word.isdigit() and not os.path.exists(word) else word


def ended_early(video: Video, last_frame: int | None) -> bool:
    """Whether a video that was gone through to its end, or to frame `until`, has fewer frames than it states; tells so.

    Example:
        >>> broke_off(video, until=None)
        False
    """
    count, stated = video.num_frames, video.expected_num_frames
    if count is None or stated is None or stated <= count or (last_frame is not None and last_frame < count):
        return False
    print_error(f"{video.path} broke off: it has {count} of {stated} frames, and these were tracked")
    return True


class _TrackRun:
    """A job while it is being done."""

    def __init__(self, job: TrackJob, video: Video, resume_log: ResumeLog | None) -> None:
        self.job, self.video, self.resume_log = job, video, resume_log
        self.stem = output_stem(job.source, video)
        self.outputs = TrackOutputs(job.out, self.stem, video, job.formats, resume_log)
        self.outputs.deferred = job.reverse
        self.outputs.check(said.object_id for said in job.prompts)
        self.state_counts = _StateCounter([said.object_id for said in job.prompts])
        self.progress = ProgressReporter(_expected_frames(job, video), quiet=job.quiet)
        self.resuming = False
        self.pending_prompts: list[PromptSpec] = []
        """Prompts on frames of a stream that have not come yet."""
        self.last_refined_frame: int | None = None

    def run(self, model: SAM | None) -> None:
        """From the first frame to the last, or as far as it goes."""
        try:
            self._open_resume_log()
            network = model or open_model(self.job.model, self.job.device, self.job.precision)
            with self.progress:
                session = self._open_session(network)
                self._process_frames(session)
            with defer_interrupt():
                self._finish(session)
        except KeyboardInterrupt:
            frames = self.state_counts.frames
            self._exit_early(
                f"stopped after {frames} frame(s)" if frames else "stopped before the first frame", EXIT_INTERRUPTED
            )
        except MaskletError as error:
            if self.state_counts.frames:
                self._exit_early(f"{error}; {self.state_counts.frames} frame(s) were tracked", EXIT_ERROR)
            self._abort()
            raise
        except BaseException:
            self._abort()
            raise
        self._tell_early_end()

    # before the first frame ---------------------------------------------------------------------------------------

    def _open_resume_log(self) -> None:
        """Have the journal to oneself, and find out whether there is something to go on with."""
        if self.resume_log is None:
            return
        self.resume_log.acquire()
        left_over = self.resume_log.is_interrupted
        if self.job.resume and left_over:
            self.resume_log.check(_job_record(self.job))
        self.resuming = self.job.resume and self.resume_log.can_resume
        if self.job.resume and not self.resuming:
            why = "the interrupted run had saved no state yet" if left_over else "there is no interrupted run"
            print_notice(f"nothing to resume in {self.resume_log.folder}, {why}: beginning with the first frame")
        elif left_over and not self.job.resume:
            print_notice(
                f"the interrupted run in {self.resume_log.folder} is replaced; --resume would have gone on with it"
            )
        self.resume_log.begin(_job_record(self.job), overwrite=not self.resuming)

    def _open_session(self, model: SAM) -> Session:
        """The interrupted one, or one that was told what to follow."""
        from masklet.video import TrackOptions

        job = self.job
        if self.resuming and self.resume_log is not None:
            state = self.resume_log.state_path
            options = TrackOptions(job.retain, non_overlapping=job.non_overlapping)  # type: ignore[arg-type]
            session = model.session(self.video, resume=state, options=options)
            if session.last_frame is not None and self.resume_log.has_frame(session.last_frame):
                self._restore_previous_run(session.last_frame)
                return session
            print_notice(f"lines are missing in {self.resume_log.folder}: beginning with the first frame")
            self.resuming = False
            self.resume_log.begin(_job_record(job), overwrite=True)
        options = TrackOptions(job.retain, non_overlapping=job.non_overlapping)  # type: ignore[arg-type]
        session = model.session(self.video, options=options)
        for said in job.prompts:
            if self.video.seekable or said.frame_idx == 0:
                _add_prompt(session, said)
            else:
                self.pending_prompts.append(said)
        return session

    def _restore_previous_run(self, last: int) -> None:
        """Count what the interrupted run had tracked, of which `last` is in its state, and write it again."""
        assert self.resume_log is not None
        passed = 0
        for record in self.resume_log.records():
            self.state_counts.add([track.id for track in record.objects], [track.state for track in record.objects])
            passed += record.frame_idx >= last if self.job.reverse else record.frame_idx <= last
        self.progress.skip(passed)
        print_notice(f"going on after frame {last}: {self.state_counts.frames} frame(s) were tracked before")
        self.outputs.restore_frames(self._report_records(self.resume_log.records()))

    def _report_records(self, records: Iterable[FrameRecord]) -> Iterator[FrameRecord]:
        for record in records:
            self.progress.show_message(f"writing again what was tracked before, frame {record.frame_idx}")
            yield record

    # frames -------------------------------------------------------------------------------------------------------

    def _process_frames(self, session: Session) -> None:
        self.progress.start()
        for frame in self._iterate_results(session):
            with defer_interrupt():
                self._record_frame(frame, session)
            self.progress.step(frame)
            self._add_pending_prompts(session, (frame.frame_idx or 0) + 1)

    def _iterate_results(self, session: Session) -> Iterator[Results]:
        job = self.job
        if self.resuming:
            return session.resume(progress=self._on_progress)
        return session.propagate(
            job.start, job.stop, reverse=job.reverse, bidirectional=job.bidirectional, progress=self._on_progress
        )

    def _record_frame(self, frame: Results, session: Session) -> None:
        """The journal has it first: what the sinks lack can be made from it."""
        if self.resume_log is None:
            self.state_counts.add(frame.ids.tolist(), frame.states or ())
            self.outputs.write(frame)
            return
        if not self.resume_log.has_frame(frame.frame_idx):
            self.resume_log.write(frame)
            self.state_counts.add(frame.ids.tolist(), frame.states or ())
            self.outputs.write(frame)
        self.resume_log.save_if_due(session)

    def _add_pending_prompts(self, session: Session, frame: int) -> None:
        """Prompts on the next frame of a stream."""
        for said in [said for said in self.pending_prompts if said.frame_idx <= frame]:
            self.pending_prompts.remove(said)
            _add_prompt(session, said)

    def _on_progress(self, frame: int) -> None:
        """Told of every frame; those of looking back come first, and descend. A state is saved after them."""
        if not self.resuming and (self.last_refined_frame is None or frame < self.last_refined_frame):
            self.last_refined_frame = frame
            self.progress.show_message(f"looking back, at frame {frame}")
            self.progress.start()

    # after the last -----------------------------------------------------------------------------------------------

    def _finish(self, session: Session) -> None:
        self.outputs.close()
        paths = self.outputs.paths
        if self.job.retain == "all" and self.resume_log is not None:
            paths = [*paths, session.save(self.job.out / f"{self.stem}_session.safetensors")]
        if not self.job.quiet:
            self._report(paths)
        if self.resume_log is not None:
            self.resume_log.remove()

    def _report(self, paths: Iterable[Path]) -> None:
        dropped = f", {self.video.dropped} dropped because they came too fast" if self.video.dropped else ""
        rate = f", {self.progress.fps:.1f} frames/s" if self.progress.fps else ""
        typer.echo(f"{self.video.path}: {self.state_counts.frames} frames{rate}{dropped} -> {format_paths(paths)}")
        for line in self.state_counts.lines():
            typer.echo(line)

    def _tell_early_end(self) -> None:
        """A video that has fewer frames than it states has given out."""
        if not self.job.reverse and ended_early(self.video, self.job.last_frame):
            raise typer.Exit(EXIT_ERROR)

    def _exit_early(self, reason: str, code: int) -> NoReturn:
        """Finish the files with what there is, say so, and go."""
        with defer_interrupt():
            try:
                self.outputs.close()
            except MaskletError as error:
                print_error(str(error))
            resumable = self.resume_log is not None and (self.state_counts.frames > 0 or self.resuming)
            if self.resume_log is not None:
                self.resume_log.close() if resumable else self.resume_log.remove()
        if not self.job.quiet and self.state_counts.frames:
            self._report(self.outputs.paths)
        print_error(f"{reason}; written: {format_paths(self.outputs.paths)}{'; --resume goes on' if resumable else ''}")
        raise typer.Exit(code)

    def _abort(self) -> None:
        """Leave no trace of a run that did not begin, and all of one that did."""
        with defer_interrupt():
            self.outputs.abort()
            if self.resume_log is not None:
                self.resume_log.close_or_remove()


class _StateCounter:
    """On how many frames each object was in which state."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.frames = 0
        self._counts: dict[int, Counter[str]] = {number: Counter() for number in ids}

    def add(self, ids: Iterable[int], states: Iterable[str | None]) -> None:
        """One frame."""
        self.frames += 1
        for number, state in zip(ids, states, strict=True):
            self._counts.setdefault(number, Counter())[state or "visible"] += 1

    def lines(self) -> Iterator[str]:
        """`object 2: visible on 240 frames, occluded on 9, lost on 0`."""
        for number, counts in self._counts.items():
            visible, *others = (f"{state} on {counts[state]}" for state in STATES)
            yield f"object {number}: {visible} frames, {', '.join(others)}"


def _check_options(job: TrackJob) -> None:
    """Refuse what cannot be meant, in the words of the options."""
    if job.bidirectional and job.reverse:
        raise InputError("--both and --reverse exclude each other: --both goes back and forward; leave one of them out")
    if job.retain not in RETAIN_CHOICES:
        raise InputError(f"--keep {job.retain!r} is unknown; choose {' or '.join(RETAIN_CHOICES)}")
    if job.last_frame is not None and (
        job.last_frame > job.first_frame if job.reverse else job.last_frame < job.first_frame
    ):
        way, first = "after" if job.reverse else "before", "it begins" if job.start is None else "--start"
        raise InputError(
            f"--until {job.last_frame} lies {way} frame {job.first_frame}, where {first}, so that no frame is left: choose one "  # noqa: E501
            f"{'up to' if job.reverse else 'from'} {job.first_frame}"
        )


def _check_stream(job: TrackJob, video: Video) -> None:
    """What only a video that can be read again allows."""
    wanted = {
        "--resume": job.resume,
        "--both": job.bidirectional,
        "--reverse": job.reverse,
        "--start": job.start is not None,
    }
    for option, given in wanted.items():
        if given:
            raise InputError(
                f"{option} needs a video that can be read again, and the frames of {video.path!r} come once: leave it "
                "out, or save the stream to a file and track that"
            )
    if job.first_frame > 0:
        raise InputError(
            f"the first prompt is on frame {job.first_frame}, and what comes before it on {video.path!r} could not be "
            "followed: prompt one object on frame 0"
        )


def _add_prompt(session: Session, prompt: PromptSpec) -> None:
    points, labels = prompt.points or None, prompt.labels or None
    try:
        session.add_prompt(
            prompt.object_id, frame_idx=prompt.frame_idx, points=points, labels=labels, box=prompt.box, mask=prompt.mask
        )
    except PromptError as error:
        raise PromptError(f"object {prompt.object_id} on frame {prompt.frame_idx}: {error}") from error


def _expected_frames(job: TrackJob, video: Video) -> int | None:
    """How many frames there will be, as far as that is known."""
    if job.reverse:
        return job.first_frame - (job.last_frame or 0) + 1
    ends = [end for end in (job.stop, video.expected_num_frames) if end is not None]
    return max(0, min(ends) - job.first_frame) if ends else None


def _job_record(job: TrackJob) -> JobRecord:
    path = os.path.abspath(os.path.expanduser(job.source))
    stat = os.stat(path) if os.path.isfile(path) else None
    model = "the built-in model" if job.model is None else job.model
    return {
        "source": path,
        "stamp": None if stat is None else [stat.st_size, stat.st_mtime_ns],
        "model": os.path.abspath(model) if os.path.isfile(model) else model,
        "precision": job.precision,
        "prompts": [said.to_dict() for said in job.prompts],
        "both": job.bidirectional,
        "reverse": job.reverse,
        "start": job.start,
        "until": job.last_frame,
        "exclusive": job.non_overlapping,
        "keep": job.retain,
    }
