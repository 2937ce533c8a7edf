"""Progress of a tracking job on standard error: a moving line on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from masklet.cli.console import print_notice

if TYPE_CHECKING:
    from masklet.video.jobs import TrackProgress

__all__ = ["PLAIN_INTERVAL_S", "ProgressReporter"]

PLAIN_INTERVAL_S = 10.0
"""Between two lines where there is no terminal."""


class ProgressReporter:
    """Shows the events of a tracking job; a context manager.

    Example:
        >>> with ProgressReporter(quiet=False) as reporter:
        ...     for progress in job:
        ...         reporter.show(progress)
    """

    def __init__(self, *, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._quiet = quiet
        self._console = Console(stderr=True)
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
        self._bar = Progress(*columns, console=self._console, transient=True, redirect_stdout=False)
        self._task = self._bar.add_task("", total=None)
        self._is_drawn = self._console.is_terminal and not quiet
        self._last_printed = time.monotonic()

    def __enter__(self) -> ProgressReporter:
        if self._is_drawn:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_drawn:  # elsewhere it would print an empty line
            self._bar.stop()

    def show(self, progress: TrackProgress) -> None:
        """Show one event: `12 of 289 frames, 3.1 frames/s, 0:01:29 left, 2 visible, 1 lost`."""
        if progress.stage == "notice":
            print_notice(progress.message)
            return
        done, total = progress.frames_done, progress.num_frames
        if progress.stage == "restore":
            self._show(f"rewriting frame {progress.frame_idx} of the interrupted run", done, total)
            return
        parts = [f"{done}{'' if total is None else f' of {total}'} frames", f"{progress.fps:.1f} frames/s"]
        if total is not None:
            left = round(max(0, total - done) / progress.fps) if progress.fps else 0
            parts.append(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left")
        counts = Counter(progress.states)
        states = [f"{counts[state]} {state}" for state in ("visible", "occluded", "lost") if counts[state]]
        self._show(", ".join([*parts, *(states or ["no object yet"])]), done, total)

    def show_backward_frame(self, frame_idx: int) -> None:
        """Show a frame that is tracked backward, before the first event."""
        self._show(f"tracking backward, frame {frame_idx}")

    def _show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        if self._is_drawn:
            self._bar.update(self._task, completed=done, total=total, description=text)
        elif not self._quiet and time.monotonic() - self._last_printed >= PLAIN_INTERVAL_S:
            self._console.print(Text(f"masklet: {text}"), soft_wrap=True)
            self._last_printed = time.monotonic()
