"""Measuring in a process of its own, so that its peak of memory is what the model took.

`python -m masklet.bench.worker` reads a job as JSON from standard input and writes the answer as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from masklet.bench.image import ImageJob, measure_image
from masklet.bench.record import Answer, case_of
from masklet.bench.video import VideoJob, measure_video
from masklet.errors import MaskletError, ModelError, StateError

__all__ = ["answer", "ask"]


def ask(job: ImageJob | VideoJob) -> Answer:
    """`measure_image(job)` or `measure_video(job)` in a process of its own.

    Example:
        >>> ask(ImageJob("builtin", "bf16")).cases[-1].name
        'peak memory'

    Raises:
        ModelError: what the process refused.
        StateError: the process ended without an answer.
    """
    told = _ask({"image" if isinstance(job, ImageJob) else "video": asdict(job)})
    return Answer(tuple(map(case_of, told["cases"])))


def answer(question: str) -> str:
    """The answer to a job as a process gives it; what a user did wrong is an answer too.

    Example:
        >>> answer('{"image": {"model": "sam7"}}')
        '{"error": "..."}'
    """
    try:
        return json.dumps(asdict(_measure(json.loads(question))))
    except MaskletError as error:
        return json.dumps({"error": str(error)})


def _measure(told: dict[str, Any]) -> Answer:
    ((kind, job),) = told.items()
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in job.items()}
    return measure_image(ImageJob(**given)) if kind == "image" else measure_video(VideoJob(**given))


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "masklet.bench.worker"]
    done = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise StateError(f"the process that measures ended with {done.returncode} ({last}); is there memory enough?")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "error" in told:
        raise ModelError(told["error"])
    return told


if __name__ == "__main__":
    print(answer(sys.stdin.read()))
