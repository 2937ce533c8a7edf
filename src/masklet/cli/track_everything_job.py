"""What `masklet track` does without prompts: everything there is in a video, found, followed, and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from masklet.cli.console import defer_interrupt, format_paths, print_error
from masklet.cli.progress import ProgressReporter
from masklet.cli.segment_job import open_model
from masklet.cli.track_job import EXIT_ERROR, EXIT_INTERRUPTED, VideoJob, ended_early, output_stem, parse_source
from masklet.cli.track_outputs import TrackOutputs
from masklet.errors import InputError, MaskletError

if TYPE_CHECKING:
    from masklet.media import Video
    from masklet.results import Results
    from masklet.sam import SAM
    from masklet.video import AutoTrackStream

__all__ = ["TrackEverythingJob", "reject_prompt_options", "run_track_everything"]

PRESET_NAMES = ("fast", "default", "fine")
MAX_OBJECTS_LISTED = 20
"""Objects that are named one by one; of more, how many there are: STEM_lives.json has them all."""


@dataclass(frozen=True, kw_only=True)
class TrackEverythingJob(VideoJob):
    """One run without prompts: how the video is looked at."""

    detect_every: int = 10
    max_objects: int = 32
    identities: bool = True
    preset: str = "fast"


def reject_prompt_options(**given: bool) -> None:
    """Raise where an option was given that only a video with prompts has; `both=True` stands for --both.

    Raises:
        InputError: there is one.
    """
    for name, value in given.items():
        if value:
            raise InputError(
                f"--{name} needs prompts, and there are none: say what to follow with --point 210,350, "
                "--box 300,0,500,400 or --mask mask.png, or leave it out to follow everything"
            )


def run_track_everything(job: TrackEverythingJob, model: SAM | None = None) -> None:
    """Do `job`; what was written, and what became of each object, on standard output.

    Stopped with Ctrl-C the exit code is 130, where the video or the disk gives out it is 2; the files then hold the
    frames before.

    Raises:
        MaskletError: what keeps it from beginning: no video, no model, options that cannot be meant.
    """
    from masklet.media import open_video

    _check_options(job)
    with open_video(parse_source(job.source)) as video:
        _TrackEverythingRun(job, video).run(model)


class _TrackEverythingRun:
    """A job while it is being done."""

    def __init__(self, job: TrackEverythingJob, video: Video) -> None:
        self.job, self.video, self.frame_count, self.object_count = job, video, 0, 0
        self.stem = output_stem(job.source, video)
        self.outputs = TrackOutputs(job.out, self.stem, video, job.formats, None)
        self.progress = ProgressReporter(_expected_frames(job, video), quiet=job.quiet)
        self.stream: AutoTrackStream | None = None
        self.history_paths: list[Path] = []

    def run(self, model: SAM | None) -> None:
        """From the first frame to the last, or as far as it goes."""
        try:
            network = model or open_model(self.job.model, self.job.device, self.job.precision)
            with self.progress:
                self._process_frames(network)
            with defer_interrupt():
                self._finish()
        except KeyboardInterrupt:
            self._exit_early(
                f"stopped after {self.frame_count} frame(s)" if self.frame_count else "stopped before the first",
                EXIT_INTERRUPTED,
            )
        except MaskletError as error:
            if not self.frame_count:
                self.outputs.abort()
                raise
            self._exit_early(f"{error}; {self.frame_count} frame(s) were followed", EXIT_ERROR)
        except BaseException:
            self.outputs.abort()
            raise
        if ended_early(self.video, self.job.last_frame):
            raise typer.Exit(EXIT_ERROR)

    def _process_frames(self, model: SAM) -> None:
        from masklet.video import AutoTrackOptions, TrackOptions

        job = self.job
        self.stream = model.track(
            self.video,
            everything=job.preset,
            auto_options=AutoTrackOptions(
                detect_every=job.detect_every, max_objects=job.max_objects, identities=job.identities
            ),
            options=TrackOptions(non_overlapping=job.non_overlapping),
            start=job.start,
            stop=None if job.last_frame is None else job.last_frame + 1,
        )
        self.progress.start()
        for frame in self.stream:
            with defer_interrupt():
                self._record_frame(frame)
            self.progress.step(frame)

    def _record_frame(self, frame: Results) -> None:
        self.outputs.write(frame)
        self.frame_count += 1
        self.object_count += len(frame)

    def _finish(self) -> None:
        """All files; where one cannot be finished the others are."""
        try:
            self.outputs.close()
        finally:
            self._write_track_history()
        if not self.job.quiet:
            self._report()

    def _write_track_history(self) -> None:
        from masklet.atomic_files import write_text

        if self.stream is not None and self.job.identities and self.frame_count:
            text = json.dumps(self.stream.track_history.to_dicts(), indent=1) + "\n"
            self.history_paths = [write_text(self.job.out / f"{self.stem}_lives.json", text)]

    @property
    def paths(self) -> list[Path]:
        """What was written."""
        return [*self.outputs.paths, *self.history_paths]

    def _report(self) -> None:
        dropped = f", {self.video.dropped} dropped because they came too fast" if self.video.dropped else ""
        rate = f", {self.progress.fps:.1f} frames/s" if self.progress.fps else ""
        typer.echo(f"{self.video.path}: {self.frame_count} frames{rate}{dropped} -> {format_paths(self.paths)}")
        for line in self._object_lines():
            typer.echo(line)

    def _object_lines(self) -> Iterator[str]:
        """What became of each object, or how many there were."""
        if not self.job.identities:
            yield f"{self.object_count} objects in {self.frame_count} frames, each frame by itself"
            return
        assert self.stream is not None
        lines = str(self.stream.track_history).splitlines()
        yield from lines[:MAX_OBJECTS_LISTED]
        if len(lines) > MAX_OBJECTS_LISTED:
            yield f"and {len(lines) - MAX_OBJECTS_LISTED} more, in {format_paths(self.history_paths)}"

    def _exit_early(self, reason: str, code: int) -> NoReturn:
        """Finish the files with what there is, say so, and go."""
        with defer_interrupt():
            try:
                self._finish()
            except MaskletError as error:
                print_error(str(error))
        print_error(f"{reason}; written: {format_paths(self.paths)}")
        raise typer.Exit(code)


def _check_options(job: TrackEverythingJob) -> None:
    if job.preset not in PRESET_NAMES:
        raise InputError(f"--preset {job.preset!r} is unknown; choose one of {', '.join(PRESET_NAMES)}")
    first = job.start or 0
    if job.last_frame is not None and job.last_frame < first:
        raise InputError(
            f"--until {job.last_frame} lies before frame {first}, where it begins, so that no frame is left: choose "
            f"one from {first}"
        )


def _expected_frames(job: TrackEverythingJob, video: Video) -> int | None:
    """How many frames there will be, as far as that is known."""
    ends = [
        end
        for end in (None if job.last_frame is None else job.last_frame + 1, video.expected_num_frames)
        if end is not None
    ]
    return max(0, min(ends) - (job.start or 0)) if ends else None
