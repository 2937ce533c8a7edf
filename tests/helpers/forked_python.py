"""A process of this interpreter that is forked from one that has imported PyTorch, which spares it two seconds.

For tests of what processes do beside each other, or when they are killed. What a fresh process imports, how long it
takes to start and what of it is isolated is tested with fresh ones.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

PRELOADED = ["masklet.annotate.labeler", "masklet.evaluate.benchmark_predictions", "masklet.sam", "masklet.cli.main"]
"""What the process imports from which others are forked."""


def can_fork() -> bool:
    return sys.platform == "linux"


def python_process(words: Sequence[str], **options: Any) -> Any:
    """`subprocess.Popen` of `python WORDS`: `-m MODULE ...` or a script; forked where that is possible."""
    return ForkedPython(words, **options) if can_fork() else subprocess.Popen([sys.executable, *words], **options)


class ForkedPython:
    """What tests use of `subprocess.Popen`, in text; each stream is inherited or a pipe."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool = True,
        start_new_session: bool = False,
    ) -> None:
        assert text
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.stdin, self.stdout, self.stderr = None, None, None
        ends: list[int] = []
        streams: list[StreamEnd | None] = []
        for name, stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if stream == subprocess.PIPE:
                reading, writing = os.pipe()
                mine, its = (writing, reading) if name == "stdin" else (reading, writing)
                setattr(self, name, os.fdopen(mine, "w" if name == "stdin" else "r"))
                ends.append(its)
                streams.append(StreamEnd(its))
            else:
                number = stream if stream is None or isinstance(stream, int) else stream.fileno()
                streams.append(None if number is None else StreamEnd(number))
        given = (list(words), dict(os.environ if env is None else env), os.getcwd(), streams, start_new_session)
        self._process = context.Process(target=_run, args=given)
        try:
            self._process.start()
        finally:
            for end in ends:
                os.close(end)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("forked Python", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()
        texts: dict[str, str] = {}
        readers = [
            threading.Thread(target=lambda name=name, file=file: texts.setdefault(name, file.read()), daemon=True)
            for name, file in (("stdout", self.stdout), ("stderr", self.stderr))
            if file is not None and not file.closed
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        for file in (self.stdout, self.stderr):
            if file is not None:
                file.close()
        return texts.get("stdout"), texts.get("stderr")


class StreamEnd:
    """A file descriptor that is given to the process when it starts."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return _detach, (DupFd(self.number),)


def _detach(given: Any) -> int:
    number: int = given.detach()
    return number


def _run(
    words: list[str], env: dict[str, str], folder: str, streams: list[int | None], start_new_session: bool
) -> None:
    if start_new_session:
        os.setsid()
    for number, stream in enumerate(streams):
        if stream is not None:
            os.dup2(stream, number)
            os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    if words[0] == "-m":
        sys.argv = [words[1], *words[2:]]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
