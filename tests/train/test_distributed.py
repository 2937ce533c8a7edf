"""Two processes that train one model. Run as a script, this file is one of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helpers.forked_python import python_process
from masklet.errors import StateError
from masklet.train.distributed import DistributedContext, any_rank, average_gradients, broadcast_model, init_distributed

TIMEOUT_S = 60.0


def small_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "mine": nn.Linear(4, 2), "never": nn.Linear(2, 2)})
    model["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    model.register_buffer("count", torch.tensor(seed))
    model.register_buffer("floats", torch.full((3,), float(seed), dtype=torch.float16))
    return model.to(memory_format=torch.channels_last)


def loss_of(model: nn.Module, rank: int) -> torch.Tensor:
    """Return a loss; the second process does not use the second layer."""
    torch.manual_seed(rank)
    seen = model["conv"](torch.randn(2, 3, 5, 5)).mean((2, 3))
    return (model["mine"](seen) if rank == 0 else seen).square().sum()


def average(context: DistributedContext) -> None:
    """Check that weights are those of the first process, and gradients the mean of both."""
    model = small_model(seed=context.rank)
    broadcast_model(model, context)
    first = small_model(seed=0)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), first.state_dict().values(), strict=True))
    expected: dict[str, torch.Tensor] = {}
    for rank in range(context.world_size):
        first.zero_grad()
        loss_of(first, rank).backward()
        for name, parameter in first.named_parameters():
            if parameter.grad is not None:
                expected[name] = expected.get(name, torch.zeros_like(parameter)) + parameter.grad / context.world_size
    loss_of(model, context.rank).backward()
    average_gradients(model.parameters(), context)
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found.keys() == expected.keys(), "an unused parameter stays without a gradient"
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-6)
    assert any_rank(context.rank == 1, context)
    assert not any_rank(False, context)


def failed(context: DistributedContext) -> None:
    """End the second process; the first one raises."""
    if context.rank == 1:
        raise KeyError("an accident")
    with pytest.raises(StateError, match="process 0 of 2"):
        any_rank(False, context)


def silent(context: DistributedContext) -> None:
    """Block the second process; the first one raises after its timeout."""
    if context.rank == 1:
        time.sleep(30)
        return
    clock = time.monotonic()
    with pytest.raises(StateError):
        any_rank(False, context)
    assert time.monotonic() - clock < 20


def start(job: str, port: int, rank: int) -> Any:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    variables = {name: str(number) for name, number in numbers.items()}
    environment = {**os.environ, **variables, "MASTER_ADDR": "127.0.0.1", "PYTHONWARNINGS": "ignore"}
    return python_process([str(Path(__file__)), job], env=environment, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_job(job: str, count: int = 2) -> list[tuple[int, str]]:
    """Return exit status and error output of the first `count` processes."""
    port = free_port()
    processes = [start(job, port, rank) for rank in range(2)]
    try:
        errors = [process.communicate(timeout=TIMEOUT_S)[1] for process in processes[:count]]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return [(process.returncode, text) for process, text in zip(processes, errors, strict=False)]


@pytest.mark.slow
def test_two_processes_take_the_same_step() -> None:
    found = run_job("average")
    assert [status for status, _ in found] == [0, 0], found


@pytest.mark.slow
def test_a_failed_process_does_not_block_the_other() -> None:
    (first, error), (second, why) = run_job("failed")
    assert first == 0, error
    assert second == 1
    assert "an accident" in why


@pytest.mark.slow
def test_a_silent_process_does_not_block_the_other() -> None:
    ((first, error),) = run_job("silent", count=1)
    assert first == 0, error


def test_large_tensors_are_split_into_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    from masklet.train import distributed

    monkeypatch.setattr(distributed, "BUCKET_BYTES", 100)
    tensors = [torch.zeros(n) for n in (10, 10, 10, 200, 1)] + [torch.zeros(3, dtype=torch.float16)]
    buckets = list(distributed._buckets(tensors))
    assert [[t.numel() for t in bucket] for bucket in buckets] == [[10, 10], [10], [200], [1], [3]]


def test_a_single_process_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad.clone()
    with init_distributed() as context:
        assert context == DistributedContext(0, 1, 0)
        assert context.is_main_process
        assert not torch.distributed.is_initialized()
        average_gradients(layer.parameters(), context)
        broadcast_model(layer, context)
        assert any_rank(True, context)
        assert not any_rank(False, context)
    assert torch.equal(layer.weight.grad, before)


@pytest.mark.parametrize("missing", ["RANK", "MASTER_ADDR"])
def test_a_missing_variable_of_torchrun_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(StateError, match=rf"{missing}.*torchrun"), init_distributed():
        pass


if __name__ == "__main__":
    jobs = {"average": average, "failed": failed, "silent": silent}
    with init_distributed(timeout_s=4.0 if sys.argv[1] == "silent" else 30.0) as this:
        jobs[sys.argv[1]](this)
