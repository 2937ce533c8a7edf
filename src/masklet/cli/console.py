"""Output of the commands: results on standard output, everything else on standard error.

Progress is drawn on a terminal only, after `PROGRESS_DELAY_S`, and leaves no trace behind.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.text import Text

__all__ = [
    "PROGRESS_DELAY_S",
    "ExitCode",
    "ProgressCallback",
    "ProgressStep",
    "command_line",
    "format_paths",
    "loading_progress",
    "one_line_warnings",
    "print_error",
    "print_notice",
    "progress_bar",
    "set_command_args",
    "show_log",
    "use_lenient_streams",
]

PROGRESS_DELAY_S = 2.0
"""What takes longer than this shows its progress."""

_COMMAND_ARGS: ContextVar[tuple[str, ...]] = ContextVar("command_args", default=())
_ABSOLUTE_FOLDER = re.compile(r"(?:(?<=^)|(?<==))(?:/|[A-Za-z]:[\\/])\S*[\\/](?=[^\\/]+$)")
"""The folder of an absolute path, which is one argument or follows =."""

ProgressCallback = Callable[[int, "int | None"], None]
"""Called with (bytes done, bytes in total or None)."""


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    BROKEN = 1
    """A check found broken data, or items of a batch failed. A fault in masklet itself, a traceback, has it too."""
    ERROR = 2
    """The command line, an input or a model is invalid, or some inputs failed; one line says what."""
    INTERRUPTED = 130
    """Stopped with Ctrl-C."""


class ProgressStep(Protocol):
    """Advance a progress bar by one; or set its numbers, where they do not count one by one."""

    def __call__(
        self, description: str | None = None, *, completed: int | None = None, total: int | None = None
    ) -> None:
        """Add one; or set the description, the number completed and the total."""


def set_command_args(args: Iterable[str]) -> None:
    """Store the words behind `masklet`, for `command_line`."""
    _COMMAND_ARGS.set(tuple(args))


def command_line() -> str | None:
    """Return the command as it was typed, without the folders of absolute paths; None outside of one."""
    words = _COMMAND_ARGS.get()
    return shlex.join(("masklet", *(_ABSOLUTE_FOLDER.sub("", word) for word in words))) if words else None


def print_error(message: str, *, verbose: bool = False) -> None:
    """Print one red line on standard error: the first of `message`, or with `verbose` all of it."""
    lines = message.strip().splitlines() or ["failed without a message"]
    if len(lines) > 1 and not verbose:
        lines = [f"{lines[0].rstrip(':')} (--verbose tells more)"]
    text = "\n".join(["masklet: " + lines[0], *lines[1:]])
    Console(stderr=True).print(Text(text, style="red"), soft_wrap=True)


def print_notice(message: str) -> None:
    """Print one yellow line on standard error."""
    Console(stderr=True).print(Text(f"masklet: {message}", style="yellow"), soft_wrap=True)


def show_log() -> None:
    """Print what masklet logs, such as which precision it tries, on standard error."""
    handler, log = logging.StreamHandler(), logging.getLogger("masklet")
    handler.setFormatter(logging.Formatter("masklet: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def format_paths(paths: Iterable[Path]) -> str:
    """Return paths as a sentence names them."""
    return ", ".join(map(str, paths)) or "nothing"


class _LenientFile(io.FileIO):
    """The file of a standard stream, whose loss does not end the command: a full disk, a reader that has gone."""

    def write(self, data: Any, /) -> int:
        """Write bytes, or drop them if they cannot be written."""
        try:
            return super().write(data)
        except OSError:
            return int(memoryview(data).nbytes)


def use_lenient_streams() -> None:
    """Make the standard streams of the process ready for any outcome: a command does its work without them too.

    A stream that is missing or closed becomes one that drops its text; characters that its encoding lacks are escaped.
    Streams that are not those of the process, as in tests and notebooks, are left alone.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
            continue
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue
        keeps_bytes = stream.errors == "surrogateescape" and stream.encoding.lower().replace("-", "") == "utf8"
        errors = "surrogateescape" if keeps_bytes else "backslashreplace"
        if stream.isatty():
            stream.reconfigure(errors=errors)
            continue
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        file = io.BufferedWriter(_LenientFile(stream.fileno(), "w", closefd=False))
        buffering = name == "stderr" or stream.line_buffering
        lenient = io.TextIOWrapper(file, stream.encoding, errors, line_buffering=buffering)
        setattr(sys, name, lenient)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings of masklet as one line each; those of other libraries as usual."""
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
    """Show a moving line while a model is read, with bytes while it is downloaded; yields None without a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"))
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(f"loading {name}", total=None, amount="")

        def progress(done: int, total: int | None) -> None:
            amount = f"{done / 1e6:.1f}{f' / {total / 1e6:.1f}' if total else ''} MB"
            bar.update(task, description=f"downloading {name}", completed=done, total=total, amount=amount)

        yield progress


@contextmanager
def progress_bar(description: str, total: int | None, *, enabled: bool) -> Iterator[ProgressStep]:
    """Yield a function to call after each of `total` items; the bar appears after `PROGRESS_DELAY_S`."""
    console = Console(stderr=True)
    if not enabled or not console.is_terminal:
        yield lambda description=None, *, completed=None, total=None: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    both = sys.stdout.isatty()  # results printed meanwhile go above the bar, and not behind it; a file is left alone
    bar, started = Progress(*columns, console=console, transient=True, redirect_stdout=both), time.monotonic()
    task = bar.add_task(description, total=total)

    def step(description: str | None = None, *, completed: int | None = None, total: int | None = None) -> None:
        if time.monotonic() - started > PROGRESS_DELAY_S:
            bar.start()
        bar.update(
            task, description=description, completed=completed, total=total, advance=1 if completed is None else None
        )

    try:
        yield step
    finally:
        bar.stop()
