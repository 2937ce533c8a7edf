"""Measuring in a process of its own, so that its peak of memory is what the model took.

`python -m masklet.benchmark.subprocess_runner` reads a job as JSON from standard input and writes the answer as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from subprocess import PIPE
from tempfile import TemporaryFile
from typing import Any, TypeAlias

from masklet.benchmark.image import ImageBenchmarkJob, measure_image
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase, case_from_dict
from masklet.benchmark.video import VideoBenchmarkJob, measure_video
from masklet.errors import MaskletError, ModelError, StateError

__all__ = ["answer_request", "run_in_subprocess"]

CASE_PREFIX = "a case: "
"""What lines begin with that tell a case before the answer."""
CaseCallback: TypeAlias = Callable[[BenchmarkCase], None]


def run_in_subprocess(
    job: ImageBenchmarkJob | VideoBenchmarkJob, on_case: CaseCallback = lambda _: None
) -> BenchmarkAnswer:
    """`measure_image(job)` or `measure_video(job)` in a process of its own; `step` gets each case of a video at once.

    Example:
        >>> ask(ImageJob("builtin", "bf16")).cases[-1].name
        'peak memory'

    Raises:
        ModelError: what the process refused.
        StateError: the process ended without an answer.
    """
    told = _run_subprocess({"image" if isinstance(job, ImageBenchmarkJob) else "video": asdict(job)}, on_case)
    return BenchmarkAnswer(tuple(map(case_from_dict, told["cases"])))


def answer_request(request: str, on_case: CaseCallback = lambda _: None) -> str:
    """The answer to a job as a process gives it; what a user did wrong is an answer too. `step` is as for `ask`.

    Example:
        >>> answer('{"image": {"model": "sam7"}}')
        '{"error": "..."}'
    """
    try:
        return json.dumps(asdict(_run_job(json.loads(request), on_case)))
    except MaskletError as error:
        return json.dumps({"error": str(error)})


def _run_job(request: dict[str, Any], on_case: CaseCallback) -> BenchmarkAnswer:
    ((kind, job),) = request.items()
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in job.items()}
    return (
        measure_image(ImageBenchmarkJob(**given))
        if kind == "image"
        else measure_video(VideoBenchmarkJob(**given), on_case)
    )


def _run_subprocess(request: dict[str, Any], on_case: CaseCallback) -> dict[str, Any]:
    command = [sys.executable, "-m", "masklet.benchmark.subprocess_runner"]
    with TemporaryFile("w+") as asked, TemporaryFile("w+") as errors:
        asked.write(json.dumps(request))
        asked.seek(0)
        with subprocess.Popen(command, stdin=asked, stdout=PIPE, stderr=errors, text=True) as process:
            try:
                last = _read_lines(process, on_case)
            except BaseException:
                process.kill()
                raise
        errors.seek(0)
        said = (errors.read().strip().splitlines() or ["no word"])[-1]
    if process.returncode or not last:
        raise StateError(f"the process that measures ended with {process.returncode} ({said}); is there memory enough?")
    told: dict[str, Any] = json.loads(last)
    if "error" in told:
        raise ModelError(told["error"])
    return told


def _read_lines(process: subprocess.Popen[str], on_case: CaseCallback) -> str:
    """The last line that the process writes; cases come before it."""
    assert process.stdout is not None
    last = ""
    for line in filter(str.strip, process.stdout):
        last = line
        if line.startswith(CASE_PREFIX):
            on_case(case_from_dict(json.loads(line.removeprefix(CASE_PREFIX))))
    return last


def _print_case(case: BenchmarkCase) -> None:
    print(CASE_PREFIX + json.dumps(asdict(case)), flush=True)


if __name__ == "__main__":
    print(answer_request(sys.stdin.read(), _print_case))
