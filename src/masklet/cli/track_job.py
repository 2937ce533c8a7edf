"""What `masklet track` does: a film through the model, every frame to the journal and the sinks, whatever happens."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from masklet.cli.console import named, note, tell_failure, unbroken
from masklet.cli.progress import Watch
from masklet.cli.segment_job import open_model
from masklet.cli.track_outputs import DEFAULT_SAVE, Outputs
from masklet.cli.track_prompts import Said
from masklet.cli.track_resume import JobDoc, Journal
from masklet.errors import InputError, MaskletError, PromptError

if TYPE_CHECKING:
    from masklet.media import Video
    from masklet.results import Results
    from masklet.sam import SAM
    from masklet.video import Session
    from masklet.writers import FrameRecord

__all__ = ["STOPPED", "WRONG", "FilmJob", "TrackJob", "broke_off", "follow", "source_of", "stem_of"]

KEEPS = ("recent", "all")
STATES = ("visible", "occluded", "lost")
WRONG, STOPPED = 2, 130


@dataclass(frozen=True, kw_only=True)
class FilmJob:
    """What every run over a film is told: which one, with what, and where the results go. `until` is the last frame."""

    source: str
    saves: tuple[str, ...] = (DEFAULT_SAVE,)
    out: Path = Path("masklet-out")
    start: int | None = None
    until: int | None = None
    model: str | None = None
    device: str | None = None
    precision: str = "fp32"
    exclusive: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class TrackJob(FilmJob):
    """One run after prompts: what to follow, and how."""

    said: tuple[Said, ...]
    both: bool = False
    reverse: bool = False
    keep: str = "recent"
    resume: bool = False

    @property
    def first(self) -> int:
        """The frame where tracking begins."""
        if self.start is not None:
            return self.start
        prompted = [said.frame for said in self.said]
        return max(prompted) if self.reverse else 0 if self.both else min(prompted)

    @property
    def stop(self) -> int | None:
        """The frame before which it ends, in the direction of tracking; None: at the end of the film."""
        if self.until is None:
            return None
        return (self.until - 1 if self.until else None) if self.reverse else self.until + 1


def follow(job: TrackJob, model: SAM | None = None) -> None:
    """Do `job`; what was written, and what became of each object, on standard output.

    `model` is the one that the job names, if it is there already. Stopped with Ctrl-C the exit code is 130, where
    the film or the disk gives out it is 2; the files then hold the frames before, and --resume goes on with them.

    Raises:
        MaskletError: what keeps it from beginning: no film, no model, prompts that do not fit.
    """
    from masklet.media import open_video

    _check(job)
    with open_video(source_of(job.source)) as video:
        if not video.seekable:
            _check_stream(job, video)
        journal = Journal(job.out, stem_of(job.source, video)) if video.seekable else None
        _Run(job, video, journal).all(model)


def stem_of(source: str, video: Video) -> str:
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


def source_of(word: str) -> str | int:
    """What to open: a number is a camera, unless there is a file of that name.

    Example:
        >>> source_of("0")
        0
    """
    return int(word) if word.isascii() and word.isdigit() and not os.path.exists(word) else word


def broke_off(video: Video, until: int | None) -> bool:
    """Whether a film that was gone through to its end, or to frame `until`, has fewer frames than it states; tells so.

    Example:
        >>> broke_off(video, until=None)
        False
    """
    count, stated = video.count, video.expected
    if count is None or stated is None or stated <= count or (until is not None and until < count):
        return False
    tell_failure(f"{video.path} broke off: it has {count} of {stated} frames, and these were tracked")
    return True


class _Run:
    """A job while it is being done."""

    def __init__(self, job: TrackJob, video: Video, journal: Journal | None) -> None:
        self.job, self.video, self.journal = job, video, journal
        self.stem = stem_of(job.source, video)
        self.outputs = Outputs(job.out, self.stem, video, job.saves, journal)
        self.outputs.late = job.reverse
        self.outputs.check(said.object for said in job.said)
        self.tally = _Tally([said.object for said in job.said])
        self.watch = Watch(_total(job, video), quiet=job.quiet)
        self.going_on = False
        self.coming: list[Said] = []
        """Prompts on frames of a stream that have not come yet."""
        self.looked: int | None = None

    def all(self, model: SAM | None) -> None:
        """From the first frame to the last, or as far as it goes."""
        try:
            self._begin()
            network = model or open_model(self.job.model, self.job.device, self.job.precision)
            with self.watch:
                session = self._session(network)
                self._frames(session)
            with unbroken():
                self._finish(session)
        except KeyboardInterrupt:
            frames = self.tally.frames
            self._leave(f"stopped after {frames} frame(s)" if frames else "stopped before the first frame", STOPPED)
        except MaskletError as error:
            if self.tally.frames:
                self._leave(f"{error}; {self.tally.frames} frame(s) were tracked", WRONG)
            self._abandon()
            raise
        except BaseException:
            self._abandon()
            raise
        self._tell_early_end()

    # before the first frame ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Have the journal to oneself, and find out whether there is something to go on with."""
        if self.journal is None:
            return
        self.journal.hold()
        left_over = self.journal.is_left_over
        if self.job.resume and left_over:
            self.journal.check(_job_doc(self.job))
        self.going_on = self.job.resume and self.journal.can_go_on
        if self.job.resume and not self.going_on:
            why = "the interrupted run had saved no state yet" if left_over else "there is no interrupted run"
            note(f"nothing to resume in {self.journal.folder}, {why}: beginning with the first frame")
        elif left_over and not self.job.resume:
            note(f"the interrupted run in {self.journal.folder} is replaced; --resume would have gone on with it")
        self.journal.begin(_job_doc(self.job), anew=not self.going_on)

    def _session(self, model: SAM) -> Session:
        """The interrupted one, or one that was told what to follow."""
        job = self.job
        if self.going_on and self.journal is not None:
            state = self.journal.state
            session = model.session(self.video, resume=state, keep=job.keep, exclusive=job.exclusive)
            if session.last is not None and self.journal.has(session.last):
                self._take_over(session.last)
                return session
            note(f"lines are missing in {self.journal.folder}: beginning with the first frame")
            self.going_on = False
            self.journal.begin(_job_doc(job), anew=True)
        session = model.session(self.video, keep=job.keep, exclusive=job.exclusive)
        for said in job.said:
            if self.video.seekable or said.frame == 0:
                _tell(session, said)
            else:
                self.coming.append(said)
        return session

    def _take_over(self, last: int) -> None:
        """Count what the interrupted run had tracked, of which `last` is in its state, and write it again."""
        assert self.journal is not None
        passed = 0
        for record in self.journal.records():
            self.tally.add([track.id for track in record.objects], [track.state for track in record.objects])
            passed += record.frame >= last if self.job.reverse else record.frame <= last
        self.watch.skip(passed)
        note(f"going on after frame {last}: {self.tally.frames} frame(s) were tracked before")
        self.outputs.take_over(self._told(self.journal.records()))

    def _told(self, records: Iterable[FrameRecord]) -> Iterator[FrameRecord]:
        for record in records:
            self.watch.say(f"writing again what was tracked before, frame {record.frame}")
            yield record

    # frames -------------------------------------------------------------------------------------------------------

    def _frames(self, session: Session) -> None:
        self.watch.begin()
        for frame in self._results(session):
            with unbroken():
                self._keep(frame, session)
            self.watch.step(frame)
            self._tell_coming(session, (frame.frame or 0) + 1)

    def _results(self, session: Session) -> Iterator[Results]:
        job = self.job
        if self.going_on:
            return session.go_on(progress=self._look)
        return session.propagate(job.start, job.stop, reverse=job.reverse, both=job.both, progress=self._look)

    def _keep(self, frame: Results, session: Session) -> None:
        """The journal has it first: what the sinks lack can be made from it."""
        if self.journal is None:
            self.tally.add(frame.ids.tolist(), frame.states or ())
            self.outputs.write(frame)
            return
        if not self.journal.has(frame.frame):
            self.journal.write(frame)
            self.tally.add(frame.ids.tolist(), frame.states or ())
            self.outputs.write(frame)
        self.journal.save(session)

    def _tell_coming(self, session: Session, frame: int) -> None:
        """Prompts on the next frame of a stream."""
        for said in [said for said in self.coming if said.frame <= frame]:
            self.coming.remove(said)
            _tell(session, said)

    def _look(self, frame: int) -> None:
        """Told of every frame; those of looking back come first, and descend. A state is saved after them."""
        if not self.going_on and (self.looked is None or frame < self.looked):
            self.looked = frame
            self.watch.say(f"looking back, at frame {frame}")
            self.watch.begin()

    # after the last -----------------------------------------------------------------------------------------------

    def _finish(self, session: Session) -> None:
        self.outputs.close()
        paths = self.outputs.paths
        if self.job.keep == "all" and self.journal is not None:
            paths = [*paths, session.save(self.job.out / f"{self.stem}_session.safetensors")]
        if not self.job.quiet:
            self._report(paths)
        if self.journal is not None:
            self.journal.remove()

    def _report(self, paths: Iterable[Path]) -> None:
        dropped = f", {self.video.dropped} dropped because they came too fast" if self.video.dropped else ""
        rate = f", {self.watch.rate:.1f} frames/s" if self.watch.rate else ""
        typer.echo(f"{self.video.path}: {self.tally.frames} frames{rate}{dropped} -> {named(paths)}")
        for line in self.tally.lines():
            typer.echo(line)

    def _tell_early_end(self) -> None:
        """A film that has fewer frames than it states has given out."""
        if not self.job.reverse and broke_off(self.video, self.job.until):
            raise typer.Exit(WRONG)

    def _leave(self, reason: str, code: int) -> NoReturn:
        """Finish the files with what there is, say so, and go."""
        with unbroken():
            try:
                self.outputs.close()
            except MaskletError as error:
                tell_failure(str(error))
            resumable = self.journal is not None and (self.tally.frames > 0 or self.going_on)
            if self.journal is not None:
                self.journal.close() if resumable else self.journal.remove()
        if not self.job.quiet and self.tally.frames:
            self._report(self.outputs.paths)
        tell_failure(f"{reason}; written: {named(self.outputs.paths)}{'; --resume goes on' if resumable else ''}")
        raise typer.Exit(code)

    def _abandon(self) -> None:
        """Leave no trace of a run that did not begin, and all of one that did."""
        with unbroken():
            self.outputs.abandon()
            if self.journal is not None:
                self.journal.give_up()


class _Tally:
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


def _check(job: TrackJob) -> None:
    """Refuse what cannot be meant, in the words of the options."""
    if job.both and job.reverse:
        raise InputError("--both and --reverse exclude each other: --both goes back and forward; leave one of them out")
    if job.keep not in KEEPS:
        raise InputError(f"--keep {job.keep!r} is unknown; choose {' or '.join(KEEPS)}")
    if job.until is not None and (job.until > job.first if job.reverse else job.until < job.first):
        way, first = "after" if job.reverse else "before", "it begins" if job.start is None else "--start"
        raise InputError(
            f"--until {job.until} lies {way} frame {job.first}, where {first}, so that no frame is left: choose one "
            f"{'up to' if job.reverse else 'from'} {job.first}"
        )


def _check_stream(job: TrackJob, video: Video) -> None:
    """What only a film that can be read again allows."""
    wanted = {"--resume": job.resume, "--both": job.both, "--reverse": job.reverse, "--start": job.start is not None}
    for option, given in wanted.items():
        if given:
            raise InputError(
                f"{option} needs a film that can be read again, and the frames of {video.path!r} come once: leave it "
                "out, or save the stream to a file and track that"
            )
    if job.first > 0:
        raise InputError(
            f"the first prompt is on frame {job.first}, and what comes before it on {video.path!r} could not be "
            "followed: prompt one object on frame 0"
        )


def _tell(session: Session, said: Said) -> None:
    points, labels = said.points or None, said.labels or None
    try:
        session.add(said.object, frame=said.frame, points=points, labels=labels, box=said.box, mask=said.mask)
    except PromptError as error:
        raise PromptError(f"object {said.object} on frame {said.frame}: {error}") from error


def _total(job: TrackJob, video: Video) -> int | None:
    """How many frames there will be, as far as that is known."""
    if job.reverse:
        return job.first - (job.until or 0) + 1
    ends = [end for end in (job.stop, video.expected) if end is not None]
    return max(0, min(ends) - job.first) if ends else None


def _job_doc(job: TrackJob) -> JobDoc:
    path = os.path.abspath(os.path.expanduser(job.source))
    stat = os.stat(path) if os.path.isfile(path) else None
    model = "the built-in model" if job.model is None else job.model
    return {
        "source": path,
        "stamp": None if stat is None else [stat.st_size, stat.st_mtime_ns],
        "model": os.path.abspath(model) if os.path.isfile(model) else model,
        "precision": job.precision,
        "prompts": [said.doc() for said in job.said],
        "both": job.both,
        "reverse": job.reverse,
        "start": job.start,
        "until": job.until,
        "exclusive": job.exclusive,
        "keep": job.keep,
    }
