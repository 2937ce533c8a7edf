"""Progress of a video on standard error: a moving line on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from masklet.results import Results

__all__ = ["PLAIN_INTERVAL_S", "ProgressReporter", "format_duration"]

PLAIN_INTERVAL_S = 10.0
"""Where there is no terminal."""


class ProgressReporter:
    """How far the work is; a context manager.

    Example:
        >>> with Watch(289, quiet=False) as watch:
        ...     for frame in frames:
        ...         watch.step(frame)
    """

    def __init__(self, total: int | None, *, quiet: bool) -> None:
        self.total, self.done = total, 0
        self._skipped = 0
        self._console = Console(stderr=True)
        self._bar = None if quiet or not self._console.is_terminal else _bar(self._console)
        self._quiet = quiet
        self._task = None if self._bar is None else self._bar.add_task("", total=total)
        self._started_at: float | None = None
        self._last_printed = time.monotonic()

    def __enter__(self) -> ProgressReporter:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def fps(self) -> float:
        """Frames a second since the first one was begun."""
        seconds = 0.0 if self._started_at is None else time.monotonic() - self._started_at
        return (self.done - self._skipped) / seconds if seconds > 0 else 0.0

    def start(self) -> None:
        """The first frame is begun now."""
        self._started_at = time.monotonic()

    def skip(self, frames: int) -> None:
        """So many frames were done before."""
        self.done += frames
        self._skipped += frames

    def show_message(self, text: str) -> None:
        """Something that is done before frames are given, such as looking back; `text` says how far it is."""
        self._show(text)

    def step(self, frame: Results) -> None:
        """One more frame."""
        self.done += 1
        self._show(f"{self._frames_text()}, {_states_text(frame)}")

    def _frames_text(self) -> str:
        rate = self.fps
        of = "" if self.total is None else f" of {self.total}"
        left = max(0, (self.total or 0) - self.done) / rate if rate else 0.0
        ahead = "" if self.total is None else f", {format_duration(left)} left"
        return f"{self.done}{of} frames, {rate:.1f} frames/s{ahead}"

    def _show(self, text: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, description=text)
        elif not self._quiet and time.monotonic() - self._last_printed >= PLAIN_INTERVAL_S:
            self._console.print(Text(f"masklet: {text}"), soft_wrap=True)
            self._last_printed = time.monotonic()


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> clock(75)
        '0:01:15'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _states_text(frame: Results) -> str:
    """`2 visible, 1 lost`."""
    counts = Counter(frame.states or ())
    return ", ".join(f"{counts[state]} {state}" for state in ("visible", "occluded", "lost") if counts[state]) or (
        "no object yet"
    )


def _bar(console: Console) -> Bar:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
    return Bar(*columns, console=console, transient=True, redirect_stdout=False)
