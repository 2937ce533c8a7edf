"""What a run of `masklet track` keeps while it is under way, so that a crash loses nothing that was tracked.

OUT/.STEM.track/ holds
    job.json              what was asked, to compare with what is asked when it is resumed
    STEM_masks.jsonl      a line a frame, as the coco sink writes them: each is there when its frame is done
    session.safetensors   what the session knew, every few seconds
    lock                  held by the process that tracks
A run that ends well removes it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from filelock import FileLock, Timeout

from masklet.cli.track_prompts import PromptSpecDict
from masklet.errors import InputError, OutputError

if TYPE_CHECKING:
    from masklet.results import Results
    from masklet.video import Session
    from masklet.writers import FrameRecord, Sink

__all__ = ["SAVE_EVERY_FRAMES", "SAVE_EVERY_S", "JobRecord", "ResumeLog"]

SAVE_EVERY_FRAMES, SAVE_EVERY_S = 50, 10.0
"""The state is saved after so many frames or seconds, whichever comes first."""
SAVE_INTERVAL_FACTOR = 20
"""Saving waits for so many times as long as it took, so that it never takes more than a twentieth of the time."""


class JobRecord(TypedDict):
    """What was asked, as far as the outcome depends on it."""

    source: str
    stamp: list[int] | None
    """Bytes and nanoseconds of a file."""
    model: str
    precision: str
    prompts: list[PromptSpecDict]
    both: bool
    reverse: bool
    start: int | None
    until: int | None
    exclusive: bool
    keep: str


CHANGE_LABELS = {"stamp": "content of the source", "prompts": "prompts"}


class ResumeLog:
    """The folder of one run; made with `begin`, removed with `remove`.

    Example:
        >>> journal = Journal(Path("out"), "clip")
        >>> journal.folder
        PosixPath('out/.clip.track')
    """

    def __init__(self, out: Path, stem: str) -> None:
        self.folder = out / f".{stem}.track"
        self.stem = stem
        self.jsonl_path = self.folder / f"{stem}_masks.jsonl"
        self.state_path = self.folder / "session.safetensors"
        self._job_path = self.folder / "job.json"
        self._lock = FileLock(self.folder / "lock", timeout=0)
        self._sink: Sink | None = None
        self._frames: set[int] = set()
        self._saved_at, self._min_interval_s, self._frames_since_save = time.monotonic(), 0.0, 0

    def acquire(self) -> None:
        """Have the folder to oneself.

        Raises:
            OutputError: another process tracks into it, or it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another masklet track is writing {self.folder} at this moment: wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be made or written ({error.strerror or error}): choose another --out"
            ) from error

    @property
    def is_interrupted(self) -> bool:
        """Whether an earlier run stopped before its end."""
        return self._job_path.exists()

    @property
    def can_resume(self) -> bool:
        """Whether that run got as far as saving its state."""
        return self.is_interrupted and self.state_path.exists() and self.jsonl_path.exists()

    def check(self, record: JobRecord) -> None:
        """Whether the earlier run was asked the same.

        Raises:
            InputError: it was asked something else; the message says what.
        """
        try:
            before = json.loads(self._job_path.read_text(encoding="utf-8"))
            other = [name for name, value in record.items() if before.get(name) != value]
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self._job_path} cannot be read ({error}), so nothing says what the interrupted run was asked: leave "
                "--resume out to begin anew"
            ) from error
        if other:
            raise InputError(
                f"the interrupted run in {self.folder} was asked something else ("
                + "; ".join(_describe_change(name, before.get(name), record.get(name)) for name in other)
                + "): give the same command line to resume it, or leave --resume out to begin anew"
            )

    def begin(self, record: JobRecord, *, overwrite: bool) -> None:
        """Open the lines to write to: empty, or after those of the earlier run.

        Raises:
            OutputError: they cannot be written.
        """
        from masklet.atomic_files import write_text
        from masklet.writers import open_sink, tracked_frames

        self._frames = set()
        if overwrite:
            for path in (self._job_path, self.state_path, self.jsonl_path):
                path.unlink(missing_ok=True)
        else:
            self._frames = set(tracked_frames(self.jsonl_path))
        write_text(self._job_path, json.dumps(record))
        self._sink = open_sink("coco", self.folder, stem=self.stem, append=not overwrite)
        self._saved_at = time.monotonic()

    def has_frame(self, frame: int | None) -> bool:
        """Whether there is a line of this frame."""
        return frame in self._frames

    def write(self, frame: Results) -> None:
        """A line for a frame.

        Raises:
            OutputError: it cannot be written; the lines before stay.
        """
        assert self._sink is not None
        self._sink.write(frame)
        assert frame.frame_idx is not None
        self._frames.add(frame.frame_idx)

    def save_if_due(self, session: Session, *, force: bool = False) -> None:
        """Save the state if it is time to; the lines reach the disk before it.

        Raises:
            OutputError: it cannot be written; the one before stays.
        """
        self._frames_since_save += 1
        passed = time.monotonic() - self._saved_at
        if not force and (
            passed < self._min_interval_s or (self._frames_since_save < SAVE_EVERY_FRAMES and passed < SAVE_EVERY_S)
        ):
            return
        begun = time.monotonic()
        _fsync(self.jsonl_path)
        session.save(self.state_path)
        self._saved_at, self._frames_since_save = time.monotonic(), 0
        self._min_interval_s = SAVE_INTERVAL_FACTOR * (self._saved_at - begun)

    def records(self) -> Iterator[FrameRecord]:
        """What was tracked so far, in ascending order of frames."""
        from masklet.writers import read_tracks

        return read_tracks(self.jsonl_path) if self.jsonl_path.exists() else iter(())

    def copy_jsonl(self, path: Path) -> None:
        """The lines as a file of their own.

        Raises:
            OutputError: it cannot be written; the lines stay where they are.
        """
        from masklet.atomic_files import atomic_path

        with atomic_path(path) as temporary:
            shutil.copyfile(self.jsonl_path, temporary)

    def close(self) -> None:
        """Let go of the folder; it stays."""
        try:
            if self._sink is not None:
                self._sink.close()
        finally:
            self._lock.release()

    def close_or_remove(self) -> None:
        """Let go of the folder; it stays if it has a frame to go on with."""
        if self.jsonl_path.exists():
            self.close()
        else:
            self.remove()

    def remove(self) -> None:
        """Let go of the folder and remove it; first what says that there is something to go on with."""
        if not self._lock.is_locked:  # it is another process's
            return
        self.close()
        with suppress(OSError):
            self._job_path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _describe_change(name: str, before: object, now: object) -> str:
    if name in CHANGE_LABELS:
        return f"other {CHANGE_LABELS[name]}"
    return f"{name} {before!r:.80}, now {now!r:.80}"


def _fsync(path: Path) -> None:
    """Have what was written to `path` on the disk, whatever happens to the power."""
    if path.exists():
        with open(path, "rb") as file, suppress(OSError):
            os.fsync(file.fileno())
