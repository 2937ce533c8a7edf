"""Programs to compare with, each in a process of its own and in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from masklet.benchmark.peers.environments import find_peer, python_of
from masklet.errors import InputError, StateError

__all__ = ["ADAPTERS", "OURS", "Job", "Program", "Taken", "pythons_of"]

ADAPTERS = Path(__file__).parent / "adapters"
OURS = "masklet"
Job: TypeAlias = Mapping[str, object]
"""What a program is to do, by the names in `adapters/serving.py`."""
PATIENCE = 30.0
"""Seconds that a program has to end when it is asked nothing more."""


@dataclass(frozen=True)
class Taken:
    """What one verb took."""

    seconds: float
    cpu_s: float
    """Of all its threads."""
    rss_mb: float | None
    """Memory that the process has then; None where it is not known."""
    peak_mb: float | None
    """The most that it ever had."""
    masks: int | None = None
    """How many were found."""


def pythons_of(peers: Sequence[str], given: Sequence[str] = ()) -> dict[str, Path]:
    """The interpreter of each program by name, masklet first; `given` are words such as sam2=/path/to/python.

    Example:
        >>> pythons_of(["sam2"])
        {'masklet': PosixPath('/usr/bin/python3'), 'sam2': PosixPath('/home/me/.cache/masklet/peers/.../python')}

    Raises:
        InputError: an unknown peer, or no interpreter where one was said to be.
        StateError: a peer's environment is not here.
    """
    said = dict(_given(word, peers) for word in given)
    found = {peer: said[peer] if peer in said else python_of(find_peer(peer)) for peer in peers}
    return {OURS: Path(sys.executable)} | found


def _given(word: str, peers: Sequence[str]) -> tuple[str, Path]:
    name, _, path = word.partition("=")
    if name not in peers or not Path(path).is_file():
        raise InputError(
            f"--peer-python {word!r} must be one of --peers ({', '.join(peers) or 'none'}), = and an interpreter that "
            "is there, such as sam2=/path/to/python"
        )
    return name, Path(path)


class Program:
    """A process that answers one question at a time; leaving its `with` block ends it.

    Example:
        >>> with Program("sam2", python, {"kind": "picture", "model": "sam2.1_hiera_tiny", ...}, folder) as program:
        ...     program.do("load").seconds
        0.9

    Raises:
        StateError: the process ended early; what it said last is in the message.
    """

    def __init__(self, name: str, python: Path, job: Job, folder: Path) -> None:
        self.name, self.job = name, job
        self._log = folder / f"{name}.log"
        file = folder / f"{name}.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        self._process = self._start([str(python), str(ADAPTERS / f"{name}_adapter.py"), str(file)])
        try:
            hello = self._answer("starting")
        except BaseException:
            self.end(at_once=True)
            raise
        self.version, self.torch = str(hello["version"]), str(hello["torch"])
        self.verbs = tuple(hello["verbs"])
        self.before_mb: float | None = hello["rss_mb"]
        """Memory before there is a model."""

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end(at_once=kind is not None)

    def has(self, verb: str) -> bool:
        """Whether the program can be asked this."""
        return verb in self.verbs

    def do(self, verb: str, **more: object) -> Taken:
        """What `verb` took; the program must have it."""
        assert self.has(verb), f"{self.name} has no {verb}"
        told = self._ask(verb, more)
        return Taken(told["seconds"], told["cpu_s"], told["rss_mb"], told["peak_mb"], told.get("masks"))

    def keep(self, path: Path) -> Path:
        """Have it write what it saw last of each verb: packed masks and logits, as .npz."""
        self._ask("keep", {"path": str(path)})
        return path

    def end(self, *, at_once: bool = False) -> None:
        """Let the process end, or have it end at once."""
        if at_once:
            self._process.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        pipe, surroundings = subprocess.PIPE, self._surroundings()
        try:
            with self._log.open("w") as errors:
                return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=surroundings)
        except OSError as error:
            raise StateError(
                f"{self.name} could not be started by {command[0]} ({error.strerror or error}); name an interpreter of "
                "an environment that has it"
            ) from error

    def _ask(self, verb: str, more: Mapping[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"verb": verb, **more}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; reading its answer says why
        return self._answer(verb)

    def _answer(self, doing: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            last = ([line for line in self._log.read_text().splitlines() if line.strip()] or ["no word"])[-1]
            what = ", ".join(str(self.job[name]) for name in ("model", "precision") if name in self.job)
            raise StateError(f"{self.name} ({what}) ended with {code} while {doing}: {last.strip()}")
        told: dict[str, Any] = json.loads(line)
        return told

    def _surroundings(self) -> dict[str, str]:
        """What leads one environment's Python to another's packages is left out; threads are the same for all."""
        threads = str(self.job.get("threads", 1))
        kept = {name: value for name, value in os.environ.items() if self.name == OURS or name != "PYTHONPATH"}
        return kept | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
