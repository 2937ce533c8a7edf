"""Two processes that train one model. Run as a script, this file is one of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from masklet.errors import StateError
from masklet.train.distributed import DistributedContext, any_rank, average_gradients, broadcast_model, init_distributed

PATIENCE = 60.0


def small_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "mine": nn.Linear(4, 2), "never": nn.Linear(2, 2)})
    model["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    model.register_buffer("count", torch.tensor(seed))
    model.register_buffer("floats", torch.full((3,), float(seed), dtype=torch.float16))
    return model.to(memory_format=torch.channels_last)


def cost(model: nn.Module, rank: int) -> torch.Tensor:
    """The second process does not use the second layer."""
    torch.manual_seed(rank)
    seen = model["conv"](torch.randn(2, 3, 5, 5)).mean((2, 3))
    return (model["mine"](seen) if rank == 0 else seen).square().sum()


def averaged(own: DistributedContext) -> None:
    """Weights of the first, gradients as the mean of both."""
    model = small_model(seed=own.rank)
    broadcast_model(model, own)
    first = small_model(seed=0)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), first.state_dict().values(), strict=True))
    expected: dict[str, torch.Tensor] = {}
    for rank in range(own.world_size):
        first.zero_grad()
        cost(first, rank).backward()
        for name, parameter in first.named_parameters():
            if parameter.grad is not None:
                expected[name] = expected.get(name, torch.zeros_like(parameter)) + parameter.grad / own.world_size
    cost(model, own.rank).backward()
    average_gradients(model.parameters(), own)
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found.keys() == expected.keys(), "what nobody uses stays without a gradient"
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-6)
    assert any_rank(own.rank == 1, own)
    assert not any_rank(False, own)


def left_alone(own: DistributedContext) -> None:
    """The second process ends; the first one is told."""
    if own.rank == 1:
        raise KeyError("an accident")
    with pytest.raises(StateError, match="process 0 of 2"):
        any_rank(False, own)


def silent(own: DistributedContext) -> None:
    """The second process is stuck; the first one waits no longer than it was told."""
    if own.rank == 1:
        time.sleep(30)
        return
    clock = time.monotonic()
    with pytest.raises(StateError):
        any_rank(False, own)
    assert time.monotonic() - clock < 20


def start(job: str, port: int, rank: int) -> subprocess.Popen[str]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    told = {name: str(number) for name, number in numbers.items()}
    environment = {**os.environ, **told, "MASTER_ADDR": "127.0.0.1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(Path(__file__)), job]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ended(job: str, count: int = 2) -> list[tuple[int, str]]:
    """Exit status and complaints of the first `count` processes."""
    port = free_port()
    processes = [start(job, port, rank) for rank in range(2)]
    try:
        complaints = [process.communicate(timeout=PATIENCE)[1] for process in processes[:count]]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return [(process.returncode, text) for process, text in zip(processes, complaints, strict=False)]


def test_two_processes_take_the_same_step() -> None:
    found = ended("averaged")
    assert [status for status, _ in found] == [0, 0], found


def test_one_that_failed_does_not_keep_the_other() -> None:
    (first, said), (second, why) = ended("left_alone")
    assert first == 0, said
    assert second == 1
    assert "an accident" in why


def test_one_that_is_silent_does_not_keep_the_other() -> None:
    ((first, said),) = ended("silent", count=1)
    assert first == 0, said


def test_large_tensors_go_in_several_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    from masklet.train import distributed

    monkeypatch.setattr(distributed, "BUCKET_BYTES", 100)
    tensors = [torch.zeros(n) for n in (10, 10, 10, 200, 1)] + [torch.zeros(3, dtype=torch.float16)]
    buckets = list(distributed._buckets(tensors))
    assert [[t.numel() for t in bucket] for bucket in buckets] == [[10, 10], [10], [200], [1], [3]]


def test_alone_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad.clone()
    with init_distributed() as own:
        assert own == DistributedContext(0, 1, 0)
        assert own.is_main_process
        assert not torch.distributed.is_initialized()
        average_gradients(layer.parameters(), own)
        broadcast_model(layer, own)
        assert any_rank(True, own)
        assert not any_rank(False, own)
    assert torch.equal(layer.weight.grad, before)


@pytest.mark.parametrize("missing", ["RANK", "MASTER_ADDR"])
def test_half_of_what_torchrun_sets_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
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
    jobs = {"averaged": averaged, "left_alone": left_alone, "silent": silent}
    with init_distributed(patience=4.0 if sys.argv[1] == "silent" else 30.0) as this:
        jobs[sys.argv[1]](this)
