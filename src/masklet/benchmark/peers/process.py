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

from masklet.benchmark.peers.environments import environment_python, find_peer
from masklet.errors import InputError, StateError

__all__ = ["ADAPTERS_DIR", "MASKLET", "PeerProcess", "ProgramJob", "Timing", "resolve_interpreters"]

ADAPTERS_DIR = Path(__file__).parent / "adapters"
MASKLET = "masklet"
ProgramJob: TypeAlias = Mapping[str, object]
"""What a program is to do, by the names in `adapters/serving.py`."""
EXIT_TIMEOUT_S = 30.0
"""Seconds that a program has to end when it is asked nothing more."""


@dataclass(frozen=True)
class Timing:
    """What one verb took."""

    seconds: float
    cpu_seconds: float
    """Of all its threads."""
    rss_mb: float | None
    """Memory that the process has then; None where it is not known."""
    peak_mb: float | None
    """The most that it ever had."""
    masks: int | None = None
    """How many were found."""


def resolve_interpreters(peers: Sequence[str], overrides: Sequence[str] = ()) -> dict[str, Path]:
    """The interpreter of each program by name, masklet first; `given` are words such as sam2=/path/to/python.

    Example:
        >>> pythons_of(["sam2"])
        {'masklet': PosixPath('/usr/bin/python3'), 'sam2': PosixPath('/home/me/.cache/masklet/peers/.../python')}

    Raises:
        InputError: an unknown peer, or no interpreter where one was said to be.
        StateError: a peer's environment is not here.
    """
    said = dict(_parse_interpreter(word, peers) for word in overrides)
    found = {peer: said[peer] if peer in said else environment_python(find_peer(peer)) for peer in peers}
    return {MASKLET: Path(sys.executable)} | found


def _parse_interpreter(argument: str, peers: Sequence[str]) -> tuple[str, Path]:
    name, _, path = argument.partition("=")
    if name not in peers or not Path(path).is_file():
        raise InputError(
            f"--peer-python {argument!r} must be one of --peers ({', '.join(peers) or 'none'}), = and an interpreter that "  # noqa: E501
            "is there, such as sam2=/path/to/python"
        )
    return name, Path(path)


class PeerProcess:
    """A process that answers one question at a time; leaving its `with` block ends it.

    Example:
        >>> with Program("sam2", python, {"kind": "image", "model": "sam2.1_hiera_tiny", ...}, folder) as program:
        ...     program.do("load").seconds
        0.9

    Raises:
        StateError: the process ended early; what it said last is in the message.
    """

    def __init__(self, name: str, python: Path, job: ProgramJob, folder: Path) -> None:
        self.name, self.job = name, job
        self._log = folder / f"{name}.log"
        file = folder / f"{name}.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        self._process = self._start([str(python), str(ADAPTERS_DIR / f"{name}_adapter.py"), str(file)])
        try:
            hello = self._read_response("starting")
        except BaseException:
            self.stop(kill=True)
            raise
        self.version, self.torch = str(hello["version"]), str(hello["torch"])
        self.verbs = tuple(hello["verbs"])
        self.startup_mb: float | None = hello["rss_mb"]
        """Memory before there is a model."""

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop(kill=kind is not None)

    def supports(self, verb: str) -> bool:
        """Whether the program can be asked this."""
        return verb in self.verbs

    def run(self, verb: str, **payload: object) -> Timing:
        """What `verb` took; the program must have it."""
        assert self.supports(verb), f"{self.name} has no {verb}"
        told = self._request(verb, payload)
        return Timing(told["seconds"], told["cpu_s"], told["rss_mb"], told["peak_mb"], told.get("masks"))

    def save_results(self, path: Path) -> Path:
        """Have it write what it saw last of each verb: packed masks and logits, as .npz."""
        self._request("keep", {"path": str(path)})
        return path

    def stop(self, *, kill: bool = False) -> None:
        """Let the process end, or have it end at once."""
        if kill:
            self._process.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.communicate(timeout=EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        pipe, surroundings = subprocess.PIPE, self._environment()
        try:
            with self._log.open("w") as errors:
                return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=surroundings)
        except OSError as error:
            raise StateError(
                f"{self.name} could not be started by {command[0]} ({error.strerror or error}); name an interpreter of "
                "an environment that has it"
            ) from error

    def _request(self, verb: str, payload: Mapping[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"verb": verb, **payload}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; reading its answer says why
        return self._read_response(verb)

    def _read_response(self, action: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            last = ([line for line in self._log.read_text().splitlines() if line.strip()] or ["no word"])[-1]
            what = ", ".join(str(self.job[name]) for name in ("model", "precision") if name in self.job)
            raise StateError(f"{self.name} ({what}) ended with {code} while {action}: {last.strip()}")
        told: dict[str, Any] = json.loads(line)
        return told

    def _environment(self) -> dict[str, str]:
        """What leads one environment's Python to another's packages is left out; threads are the same for all."""
        threads = str(self.job.get("threads", 1))
        kept = {name: value for name, value in os.environ.items() if self.name == MASKLET or name != "PYTHONPATH"}
        return kept | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
