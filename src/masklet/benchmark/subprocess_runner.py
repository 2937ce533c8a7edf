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

from masklet.benchmark.image import ImageJob, measure_image
from masklet.benchmark.record import Answer, Case, case_of
from masklet.benchmark.video import VideoJob, measure_video
from masklet.errors import MaskletError, ModelError, StateError

__all__ = ["answer", "ask"]

CASE = "a case: "
"""What lines begin with that tell a case before the answer."""
Step: TypeAlias = Callable[[Case], None]


def ask(job: ImageJob | VideoJob, step: Step = lambda _: None) -> Answer:
    """`measure_image(job)` or `measure_video(job)` in a process of its own; `step` gets each case of a film at once.

    Example:
        >>> ask(ImageJob("builtin", "bf16")).cases[-1].name
        'peak memory'

    Raises:
        ModelError: what the process refused.
        StateError: the process ended without an answer.
    """
    told = _ask({"image" if isinstance(job, ImageJob) else "video": asdict(job)}, step)
    return Answer(tuple(map(case_of, told["cases"])))


def answer(question: str, step: Step = lambda _: None) -> str:
    """The answer to a job as a process gives it; what a user did wrong is an answer too. `step` is as for `ask`.

    Example:
        >>> answer('{"image": {"model": "sam7"}}')
        '{"error": "..."}'
    """
    try:
        return json.dumps(asdict(_measure(json.loads(question), step)))
    except MaskletError as error:
        return json.dumps({"error": str(error)})


def _measure(told: dict[str, Any], step: Step) -> Answer:
    ((kind, job),) = told.items()
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in job.items()}
    return measure_image(ImageJob(**given)) if kind == "image" else measure_video(VideoJob(**given), step)


def _ask(question: dict[str, Any], step: Step) -> dict[str, Any]:
    command = [sys.executable, "-m", "masklet.benchmark.subprocess_runner"]
    with TemporaryFile("w+") as asked, TemporaryFile("w+") as errors:
        asked.write(json.dumps(question))
        asked.seek(0)
        with subprocess.Popen(command, stdin=asked, stdout=PIPE, stderr=errors, text=True) as process:
            try:
                last = _read(process, step)
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


def _read(process: subprocess.Popen[str], step: Step) -> str:
    """The last line that the process writes; cases come before it."""
    assert process.stdout is not None
    last = ""
    for line in filter(str.strip, process.stdout):
        last = line
        if line.startswith(CASE):
            step(case_of(json.loads(line.removeprefix(CASE))))
    return last


def _tell(case: Case) -> None:
    print(CASE + json.dumps(asdict(case)), flush=True)


if __name__ == "__main__":
    print(answer(sys.stdin.read(), _tell))
