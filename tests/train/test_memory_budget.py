"""Time and memory of a step, and advice if memory runs out."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

import pytest
import torch

from masklet.train import memory_budget
from masklet.train.memory_budget import is_out_of_memory, measure_step, memory_advice

CPU = torch.device("cpu")
MEBI = 1 << 20


def test_time_and_peak_of_a_step_are_measured() -> None:
    def step() -> None:
        with mmap.mmap(-1, 200 * MEBI) as region:  # the system has it back at once, as an allocator may not give it
            for start in range(0, 200 * MEBI, MEBI):
                region[start : start + MEBI] = bytes([1]) * MEBI
        time.sleep(0.05)

    idle, busy = measure_step(lambda: None, CPU), measure_step(step, CPU)
    assert 0.05 <= busy.seconds < 5
    if idle.peak_bytes is None or busy.peak_bytes is None:
        pytest.skip("this system does not let a process reset its peak memory")
    assert 150 * MEBI < busy.peak_bytes - idle.peak_bytes < 300 * MEBI
    assert measure_step(lambda: None, CPU).peak_bytes < busy.peak_bytes - 150 * MEBI, "an earlier peak was counted"


def test_if_the_peak_cannot_be_reset_only_a_new_peak_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_budget, "PROC_SELF", Path("/nowhere"))
    peaks = iter([500, 500])
    monkeypatch.setattr(memory_budget, "_peak_resident_bytes", lambda: next(peaks))
    assert measure_step(lambda: None, CPU).peak_bytes is None
    peaks = iter([500, 700])
    assert measure_step(lambda: None, CPU).peak_bytes == 700
    peaks = iter([None, None])
    assert measure_step(lambda: None, CPU).peak_bytes is None


def test_without_proc_the_resource_module_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resource", reason="Windows has no resource module")
    monkeypatch.setattr(memory_budget, "PROC_SELF", Path("/nowhere"))
    most = memory_budget._peak_resident_bytes()
    assert most is not None
    assert 10 * MEBI < most < 1 << 40


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you..."
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.5 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_errors_of_every_allocator_are_known(error: BaseException) -> None:
    assert is_out_of_memory(error)


def test_the_allocator_of_this_build_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyboardInterrupt()]
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_advice_names_the_next_values_with_the_largest_gain_first() -> None:
    text = memory_advice(4, 3, 8, 1024, 2, gradient_checkpointing=False, frozen_encoder=False)
    assert text.splitlines() == [
        "out of memory with batch 4, clip_length 8, objects 3, image_size 1024",
        "Lower one of these, largest gain first:",
        "  batch 4 -> 2, with grad_accum 2 -> 4 (the same steps)",
        "  clip_length 8 -> 4",
        "  image_size 1024 -> 768",
        "  objects 3 -> 1",
        "Or keep them, and:",
        "  turn gradient checkpointing on (the same steps, a third more time)",
        "  train adapters of low rank (LoRA): less for the optimizer",
        "  freeze the encoder: it keeps nothing",
    ]


def test_objects_come_first_if_the_encoder_is_frozen() -> None:
    lines = memory_advice(1, 5, 1, 512, 1, gradient_checkpointing=False, frozen_encoder=True).splitlines()
    assert lines[2:] == ["  objects 5 -> 2", "  image_size 512 -> 384"]


def test_options_in_use_are_not_advised() -> None:
    text = memory_advice(1, 1, 2, 64, 1, gradient_checkpointing=True, frozen_encoder=False)
    assert "clip_length 2 -> 1" in text
    assert not any(word in text for word in ("batch 1 ->", "objects 1 ->", "image_size 64 ->", "checkpointing"))
    assert "checkpointing" not in memory_advice(4, 3, 8, 1024, 2, gradient_checkpointing=None, frozen_encoder=False)
    assert "smaller model" in memory_advice(1, 1, 1, 64, 1, gradient_checkpointing=True, frozen_encoder=True)
    assert "freeze" in memory_advice(1, 1, 1, 64, 1, gradient_checkpointing=True, frozen_encoder=False)


def test_sizes_stay_multiples_of_the_coarsest_stride() -> None:
    size, seen = 1024, []
    while f"image_size {size} -> " in (
        text := memory_advice(1, 1, 1, size, 1, gradient_checkpointing=True, frozen_encoder=True)
    ):
        size = int(text.split(f"image_size {size} -> ")[1].split()[0])
        seen.append(size)
    assert seen == [768, 576, 416, 288, 192, 128, 96, 64]
