"""Measure in a separate process, so that its peak memory is that of the model.

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

from masklet.benchmark.busy_machine import busy_machine
from masklet.benchmark.image import ImageBenchmarkJob, measure_image
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase, case_from_dict
from masklet.benchmark.video import VideoBenchmarkJob, measure_video
from masklet.errors import MaskletError, ModelError, StateError

__all__ = ["answer_request", "run_in_subprocess"]

CASE_PREFIX = "a case: "
"""Prefix of lines that report a case before the answer."""
CaseCallback: TypeAlias = Callable[[BenchmarkCase], None]


def run_in_subprocess(
    job: ImageBenchmarkJob | VideoBenchmarkJob, on_case: CaseCallback = lambda _: None
) -> BenchmarkAnswer:
    """Run `measure_image(job)` or `measure_video(job)` in a separate process; `on_case` gets each case of a video.

    Example:
        >>> run_in_subprocess(ImageBenchmarkJob("builtin", "bf16")).cases[-1].name
        'peak memory'

    Raises:
        ModelError: if the process reported an error.
        StateError: if the process ended without an answer.
    """
    request = {"image" if isinstance(job, ImageBenchmarkJob) else "video": asdict(job)}
    command = [sys.executable, "-m", "masklet.benchmark.subprocess_runner"]
    last = ""
    with TemporaryFile("w+") as stdin, TemporaryFile("w+") as stderr:
        stdin.write(json.dumps(request))
        stdin.seek(0)
        with subprocess.Popen(command, stdin=stdin, stdout=PIPE, stderr=stderr, text=True) as process:
            assert process.stdout is not None
            try:
                for line in filter(str.strip, process.stdout):
                    last = line
                    if line.startswith(CASE_PREFIX):
                        on_case(case_from_dict(json.loads(line.removeprefix(CASE_PREFIX))))
            except BaseException:
                process.kill()
                raise
        stderr.seek(0)
        error = (stderr.read().strip().splitlines() or ["no message"])[-1]
    if process.returncode or not last:
        raise StateError(
            f"the process that measures ended with {process.returncode} ({error}); is there memory enough?"
        )
    answer: dict[str, Any] = json.loads(last)
    if "error" in answer:
        raise ModelError(answer["error"])
    return BenchmarkAnswer(tuple(map(case_from_dict, answer["cases"])))


def answer_request(request: str, on_case: CaseCallback = lambda _: None) -> str:
    """Answer a job as the process does; an error of the user is an answer too.

    Example:
        >>> answer_request('{"image": {"model": "sam7"}}')
        '{"error": "..."}'
    """
    ((kind, job),) = json.loads(request).items()
    options: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in job.items()}
    try:
        made = ImageBenchmarkJob(**options) if kind == "image" else VideoBenchmarkJob(**options)
        with busy_machine(made.beside, made.cpu_quota):
            answer = measure_image(made) if isinstance(made, ImageBenchmarkJob) else measure_video(made, on_case)
    except MaskletError as error:
        return json.dumps({"error": str(error)})
    return json.dumps(asdict(answer))


if __name__ == "__main__":
    print(answer_request(sys.stdin.read(), lambda case: print(CASE_PREFIX + json.dumps(asdict(case)), flush=True)))
