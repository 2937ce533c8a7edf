"""What commands say: results on standard output, everything else on standard error.

Progress is for people: it is drawn on a terminal only, after `PATIENCE_S`, and leaves no trace behind.

Ctrl-C at a good moment: what is being written is written whole.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
import signal
import threading

__all__ = [
    "PROGRESS_DELAY_S",
    "ProgressCallback",
    "command_line",
    "defer_interrupt",
    "format_paths",
    "loading_progress",
    "one_line_warnings",
    "print_error",
    "print_notice",
    "progress_bar",
    "set_command_args",
]

PROGRESS_DELAY_S = 2.0
"""What takes longer than this shows its progress."""

_COMMAND_ARGS: ContextVar[tuple[str, ...]] = ContextVar("words", default=())
_ABSOLUTE_FOLDER = re.compile(r"(?:(?<=^)|(?<==))(?:/|[A-Za-z]:[\\/])\S*[\\/](?=[^\\/]+$)")
"""Of a word that is a path from the root, or ends in one behind =."""

ProgressCallback = Callable[[int, "int | None"], None]
"""Called with (bytes there, bytes in all or None)."""


def set_command_args(args: Iterable[str]) -> None:
    """Keep what was typed behind `masklet`, for `command_line`."""
    _COMMAND_ARGS.set(tuple(args))


def command_line() -> str | None:
    """The command as it was typed, without the folders of paths that begin at the root; None outside of one."""
    words = _COMMAND_ARGS.get()
    return shlex.join(("masklet", *(_ABSOLUTE_FOLDER.sub("", word) for word in words))) if words else None


def print_error(message: str, *, verbose: bool = False) -> None:
    """One red line on standard error: the first of `message`, or with `verbose` all of it."""
    lines = message.strip().splitlines() or ["failed without a word"]
    if len(lines) > 1 and not verbose:
        lines = [f"{lines[0].rstrip(':')} (--verbose tells more)"]
    _print_stderr("\n".join(["masklet: " + lines[0], *lines[1:]]), "red")


def print_notice(message: str) -> None:
    """One yellow line on standard error."""
    _print_stderr(f"masklet: {message}", "yellow")


def format_paths(paths: Iterable[Path]) -> str:
    """Paths as a sentence names them."""
    return ", ".join(map(str, paths)) or "nothing"


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Warnings of masklet as one line each; those of other libraries as they always look."""
    from masklet.errors import MaskletWarning

    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, MaskletWarning):
            print_notice(str(message))
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


@contextmanager
def loading_progress(name: str) -> Iterator[ProgressCallback | None]:
    """A moving line while a model is read, with bytes while it is downloaded; None where nobody would see it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"))
    with Bar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(f"loading {name}", total=None, amount="")

        def progress(done: int, total: int | None) -> None:
            of = f" / {total / 1e6:.1f}" if total else ""
            bar.update(
                task, description=f"downloading {name}", completed=done, total=total, amount=f"{done / 1e6:.1f}{of} MB"
            )

        yield progress


@contextmanager
def progress_bar(description: str, total: int | None, *, enabled: bool) -> Iterator[Callable[[], None]]:
    """A function to call after each of `total` things; the bar appears when they take longer than a moment."""
    console = Console(stderr=True)
    if not enabled or not console.is_terminal:
        yield lambda: None
        return
    bar, started, done = _bar(console), time.monotonic(), 0
    task = bar.add_task(description, total=total)

    def step() -> None:
        nonlocal done
        done += 1
        if time.monotonic() - started > PROGRESS_DELAY_S:
            bar.start()
        bar.update(task, completed=done)

    try:
        yield step
    finally:
        bar.stop()


def _bar(console: Console) -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    both = sys.stdout.isatty()  # what is said meanwhile goes above the bar, and not behind it; a file is left alone
    return Bar(*columns, console=console, transient=True, redirect_stdout=both)


def _print_stderr(message: str, style: str) -> None:
    Console(stderr=True).print(Text(message, style=style), soft_wrap=True)


@contextmanager
def defer_interrupt() -> Iterator[None]:
    """Ctrl-C inside the block takes effect when the block has ended.

    Example:
        >>> with unbroken():
        ...     sink.write(frame)

    Raises:
        KeyboardInterrupt: after the block, when Ctrl-C came inside.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
