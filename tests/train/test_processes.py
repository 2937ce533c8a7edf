"""Real runs: killed at any moment and resumed; and in two processes."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.forked_python import python_process
from helpers.train_data import different, weights_of
from masklet.checkpoints import read_metadata, read_tensors
from masklet.load_model import load

pytestmark = pytest.mark.slow

TIMEOUT_S = 240.0
SMALL = [
    "--image-size",
    "64",
    "--clip-length",
    "2",
    "--lr",
    "1e-3",
    "--workers",
    "0",
    "--device",
    "cpu",
    "--threads",
    "1",
]
OFTEN = ["--override", "save_every=2", "--override", "log_every=1"]
ROUNDS = ["--override", "stage.prompts.round_probs=[0.5,0.5]"]


def command(model: Path, data: list[Path], out: Path, *more: str) -> list[str]:
    arguments = [word for path in data for word in ("--data", str(path))]
    return [
        "-m",
        "masklet",
        "train",
        *arguments,
        "--out",
        str(out),
        "--model",
        str(model),
        *SMALL,
        *OFTEN,
        *ROUNDS,
        *more,
    ]


def start(words: list[str]) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASKLET_OFFLINE": "1"}
    environment.pop("WORLD_SIZE", None)
    return python_process(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Kill the process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def output_of(words: list[str]) -> str:
    """Return the output of a command that succeeds."""
    process = start(words)
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        kill(process)
    assert process.returncode == 0, errors
    return output


def logged(out: Path) -> list[int]:
    with (out / "log.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def run_and_kill(words: list[str], out: Path, steps: int, moment: float) -> None:
    """Kill the run `moment` seconds after the log holds `steps` steps."""
    process = start(words)
    try:
        clock = time.monotonic()
        while not (out / "log.csv").exists() or (out / "log.csv").read_text().count("\n") <= steps:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() - clock < TIMEOUT_S
            time.sleep(0.02)
        time.sleep(moment)
    finally:
        kill(process)
        process.communicate()


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(
    stills: Path, squares: Path, builtin_file: Path, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    moments = random.Random(seed)
    whole, cut = (
        command(builtin_file, [stills, squares], tmp_path / name, "--steps", "6") for name in ("whole", "cut")
    )
    output_of(whole)
    for steps in (moments.randrange(1, 3), moments.randrange(3, 5)):
        run_and_kill(cut, tmp_path / "cut", steps, moments.uniform(0, 0.6))
    output_of(cut)
    for which in ("ema", "model"):
        assert not different(weights_of(tmp_path / "whole", which), weights_of(tmp_path / "cut", which)), seed
    assert logged(tmp_path / "whole") == logged(tmp_path / "cut") == list(range(1, 7)), seed
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "cut")]
    assert not different(*(read_tensors(file) for file in files)), seed
    assert read_metadata(files[0]) == read_metadata(files[1])


def test_two_processes_equal_one_with_two_passes(
    stills: Path, squares: Path, builtin_file: Path, tmp_path: Path
) -> None:
    """The same batches by construction, so the same weights except for rounding."""
    data = [stills, squares]
    alone = command(builtin_file, data, tmp_path / "alone", "--steps", "2", "--grad-accum", "2")
    output_of(alone)
    together = command(builtin_file, data, tmp_path / "together", "--steps", "2")
    output = output_of(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *together])
    assert [line.split()[1] for line in output.splitlines() if line.startswith("step")] == ["1/2", "2/2"]
    assert output.count("done: ") == 1
    assert logged(tmp_path / "together") == [1, 2]
    assert load(tmp_path / "together" / "model.safetensors").name == "builtin"
    before = load(builtin_file).network.state_dict()
    one, two = weights_of(tmp_path / "alone", "model"), weights_of(tmp_path / "together", "model")
    moved = sum(float((one[name] - before[name]).square().sum()) for name in one) ** 0.5
    apart = sum(float((one[name] - two[name]).square().sum()) for name in one) ** 0.5
    assert moved > 0
    assert apart < 0.02 * moved, (apart, moved)
    assert all(bool(tensor.isfinite().all()) for tensor in two.values())
    assert torch.load(tmp_path / "together" / "state.pt", weights_only=True)["step"] == 2
