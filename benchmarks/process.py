"""Run a program to compare with in its own process and environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.environments import environment_python, find_peer
from masklet.errors import InputError, StateError

__all__ = ["ADAPTERS_DIR", "MASKLET", "PeerProcess", "ProgramJob", "Timing", "resolve_interpreters"]

ADAPTERS_DIR = Path(__file__).parent / "adapters"
MASKLET = "masklet"
ProgramJob: TypeAlias = Mapping[str, object]
"""The job of a program, by the names in `adapters/serving.py`."""
EXIT_TIMEOUT_S = 30.0
"""Seconds that a program has to end after the last request."""


@dataclass(frozen=True)
class Timing:
    """Time and memory of one request."""

    seconds: float
    cpu_seconds: float
    """Of all threads."""
    rss_mb: float | None
    """Resident memory afterwards; None if unknown."""
    peak_mb: float | None
    """Peak memory so far."""
    masks: int | None = None
    """Number of masks found."""


def resolve_interpreters(peers: Sequence[str], overrides: Sequence[str] = ()) -> dict[str, Path]:
    """Return the interpreter of each program by name, masklet first; `overrides` are such as sam2=/path/to/python.

    Example:
        >>> resolve_interpreters(["sam2"])
        {'masklet': PosixPath('/usr/bin/python3'), 'sam2': PosixPath('/home/me/.cache/masklet/peers/.../python')}

    Raises:
        InputError: if a peer is unknown, or an interpreter is missing.
        StateError: if the environment of a peer is missing.
    """
    given = {}
    for override in overrides:
        name, _, path = override.partition("=")
        if name not in peers or not Path(path).is_file():
            raise InputError(
                f"--peer-python {override!r} must be one of --peers ({', '.join(peers) or 'none'}), = and an "
                "interpreter that exists, such as sam2=/path/to/python"
            )
        given[name] = Path(path)
    pythons = {peer: given[peer] if peer in given else environment_python(find_peer(peer)) for peer in peers}
    return {MASKLET: Path(sys.executable)} | pythons


class PeerProcess:
    """A process that answers one request at a time; leaving its `with` block ends it.

    Example:
        >>> with PeerProcess("sam2", python, {"kind": "image", "model": "sam2.1_hiera_tiny", ...}, folder) as program:
        ...     program.run("load").seconds
        0.9

    Raises:
        StateError: if the process ends early; its last message is in the error.
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
        """Tell whether the program supports this request."""
        return verb in self.verbs

    def run(self, verb: str, **payload: object) -> Timing:
        """Send a request that the program supports, and return its timing."""
        assert self.supports(verb), f"{self.name} has no {verb}"
        response = self._request(verb, payload)
        return Timing(
            response["seconds"], response["cpu_s"], response["rss_mb"], response["peak_mb"], response.get("masks")
        )

    def save_results(self, path: Path) -> Path:
        """Have it write the last result of each verb: packed masks and logits, as .npz."""
        self._request("keep", {"path": str(path)})
        return path

    def stop(self, *, kill: bool = False) -> None:
        """Wait for the process to end, or kill it."""
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
        pipe, variables = subprocess.PIPE, self._environment()
        try:
            with self._log.open("w") as errors:
                return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=variables)
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
            pass  # it ended; reading its response says why
        return self._read_response(verb)

    def _read_response(self, action: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            last = ([line for line in self._log.read_text().splitlines() if line.strip()] or ["no message"])[-1]
            what = ", ".join(str(self.job[name]) for name in ("model", "precision") if name in self.job)
            raise StateError(f"{self.name} ({what}) ended with {code} while {action}: {last.strip()}")
        response: dict[str, Any] = json.loads(line)
        return response

    def _environment(self) -> dict[str, str]:
        """Return the environment variables: the same threads for all, and no path to other packages."""
        threads = str(self.job.get("threads", 1))
        variables = {name: value for name, value in os.environ.items() if self.name == MASKLET or name != "PYTHONPATH"}
        return variables | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
