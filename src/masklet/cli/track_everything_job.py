"""What `masklet track` does without prompts: everything there is in a film, found, followed, and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from masklet.cli.console import named, tell_failure, unbroken
from masklet.cli.progress import Watch
from masklet.cli.segment_job import open_model
from masklet.cli.track_job import STOPPED, WRONG, FilmJob, broke_off, source_of, stem_of
from masklet.cli.track_outputs import Outputs
from masklet.errors import InputError, MaskletError

if TYPE_CHECKING:
    from masklet.media import Video
    from masklet.results import Results
    from masklet.sam import SAM
    from masklet.video import Following

__all__ = ["CrowdJob", "follow_all", "refuse_prompt_options"]

PRESETS = ("fast", "default", "fine")
ANSWERS = 20
"""Objects that are named one by one; of more, how many there are: STEM_lives.json has them all."""


@dataclass(frozen=True, kw_only=True)
class CrowdJob(FilmJob):
    """One run without prompts: how the film is looked at."""

    every: int = 10
    max_objects: int = 32
    identities: bool = True
    preset: str = "fast"


def refuse_prompt_options(**given: bool) -> None:
    """Raise where an option was given that only a film with prompts has; `both=True` stands for --both.

    Raises:
        InputError: there is one.
    """
    for name, value in given.items():
        if value:
            raise InputError(
                f"--{name} needs prompts, and there are none: say what to follow with --point 210,350, "
                "--box 300,0,500,400 or --mask mask.png, or leave it out to follow everything"
            )


def follow_all(job: CrowdJob, model: SAM | None = None) -> None:
    """Do `job`; what was written, and what became of each object, on standard output.

    Stopped with Ctrl-C the exit code is 130, where the film or the disk gives out it is 2; the files then hold the
    frames before.

    Raises:
        MaskletError: what keeps it from beginning: no film, no model, options that cannot be meant.
    """
    from masklet.media import open_video

    _check(job)
    with open_video(source_of(job.source)) as video:
        _Run(job, video).all(model)


class _Run:
    """A job while it is being done."""

    def __init__(self, job: CrowdJob, video: Video) -> None:
        self.job, self.video, self.frames, self.found = job, video, 0, 0
        self.stem = stem_of(job.source, video)
        self.outputs = Outputs(job.out, self.stem, video, job.saves, None)
        self.watch = Watch(_total(job, video), quiet=job.quiet)
        self.following: Following | None = None
        self.lives: list[Path] = []

    def all(self, model: SAM | None) -> None:
        """From the first frame to the last, or as far as it goes."""
        try:
            network = model or open_model(self.job.model, self.job.device, self.job.precision)
            with self.watch:
                self._frames(network)
            with unbroken():
                self._finish()
        except KeyboardInterrupt:
            self._leave(f"stopped after {self.frames} frame(s)" if self.frames else "stopped before the first", STOPPED)
        except MaskletError as error:
            if not self.frames:
                self.outputs.abandon()
                raise
            self._leave(f"{error}; {self.frames} frame(s) were followed", WRONG)
        except BaseException:
            self.outputs.abandon()
            raise
        if broke_off(self.video, self.job.until):
            raise typer.Exit(WRONG)

    def _frames(self, network: SAM) -> None:
        from masklet.video import FollowOptions, TrackOptions

        job = self.job
        self.following = network.follow(
            self.video,
            everything=job.preset,
            options=FollowOptions(every=job.every, max_objects=job.max_objects, identities=job.identities),
            track=TrackOptions(exclusive=job.exclusive),
            start=job.start,
            stop=None if job.until is None else job.until + 1,
        )
        self.watch.begin()
        for frame in self.following:
            with unbroken():
                self._keep(frame)
            self.watch.step(frame)

    def _keep(self, frame: Results) -> None:
        self.outputs.write(frame)
        self.frames += 1
        self.found += len(frame)

    def _finish(self) -> None:
        """All files; where one cannot be finished the others are."""
        try:
            self.outputs.close()
        finally:
            self._write_lives()
        if not self.job.quiet:
            self._report()

    def _write_lives(self) -> None:
        from masklet.atomic_files import write_text

        if self.following is not None and self.job.identities and self.frames:
            text = json.dumps(self.following.lives.records(), indent=1) + "\n"
            self.lives = [write_text(self.job.out / f"{self.stem}_lives.json", text)]

    @property
    def paths(self) -> list[Path]:
        """What was written."""
        return [*self.outputs.paths, *self.lives]

    def _report(self) -> None:
        dropped = f", {self.video.dropped} dropped because they came too fast" if self.video.dropped else ""
        rate = f", {self.watch.rate:.1f} frames/s" if self.watch.rate else ""
        typer.echo(f"{self.video.path}: {self.frames} frames{rate}{dropped} -> {named(self.paths)}")
        for line in self._answers():
            typer.echo(line)

    def _answers(self) -> Iterator[str]:
        """What became of each object, or how many there were."""
        if not self.job.identities:
            yield f"{self.found} objects in {self.frames} frames, each frame by itself"
            return
        assert self.following is not None
        lines = str(self.following.lives).splitlines()
        yield from lines[:ANSWERS]
        if len(lines) > ANSWERS:
            yield f"and {len(lines) - ANSWERS} more, in {named(self.lives)}"

    def _leave(self, reason: str, code: int) -> NoReturn:
        """Finish the files with what there is, say so, and go."""
        with unbroken():
            try:
                self._finish()
            except MaskletError as error:
                tell_failure(str(error))
        tell_failure(f"{reason}; written: {named(self.paths)}")
        raise typer.Exit(code)


def _check(job: CrowdJob) -> None:
    if job.preset not in PRESETS:
        raise InputError(f"--preset {job.preset!r} is unknown; choose one of {', '.join(PRESETS)}")
    first = job.start or 0
    if job.until is not None and job.until < first:
        raise InputError(
            f"--until {job.until} lies before frame {first}, where it begins, so that no frame is left: choose "
            f"one from {first}"
        )


def _total(job: CrowdJob, video: Video) -> int | None:
    """How many frames there will be, as far as that is known."""
    ends = [end for end in (None if job.until is None else job.until + 1, video.expected) if end is not None]
    return max(0, min(ends) - (job.start or 0)) if ends else None
