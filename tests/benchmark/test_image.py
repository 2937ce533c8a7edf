"""`masklet bench image` on networks of milliseconds, and its separate process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers.networks import small_network
from masklet.benchmark import image, subprocess_runner
from masklet.benchmark import roofline as limits
from masklet.benchmark.image import ImageBenchmarkJob, measure_image
from masklet.benchmark.model_family import sample_image
from masklet.benchmark.roofline import measure_hardware_limits
from masklet.errors import ModelError, StateError
from masklet.models.fast_cpu.encoder import EagerEncoder

SMALL = ImageBenchmarkJob("small", repeats=2, points_per_side=2, sample_size=(60, 90))
CASES = ["encode", "1 prompt", "64 prompts", "everything 2 x 2", "encode, plain modules"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "load", lambda name: SimpleNamespace(network=small_network().requires_grad_(False)))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_case_has_its_samples(precision: str) -> None:
    found = measure_image(ImageBenchmarkJob("small", precision, repeats=2, points_per_side=2, sample_size=(60, 90)))
    times = [case for case in found.cases if case.unit == "s"]
    assert [case.name for case in times] == CASES
    assert all(len(case.samples) == 2 and min(case.samples) > 0 for case in times)
    assert {case.setting for case in found.cases} == {precision}
    assert all(case.work and case.work.flops > 0 for case in times)
    assert not any(case.work for case in found.cases if case.unit == "MB")


@pytest.mark.usefixtures("small")
def test_plain_modules_are_interleaved_with_the_encoder_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding takes two seconds, and by plain modules eight; both give the same features."""
    features: list[torch.Tensor] = []

    def timed(work: Callable[[], None], device: str) -> float:
        work()
        predictor = work.func.__self__  # type: ignore[attr-defined]
        features.append(predictor.features.embed_BCHW)
        return 8.0 if isinstance(predictor.encode, EagerEncoder) else 2.0

    monkeypatch.setattr(image, "time_call", timed)
    predictor = image.load_predictor("small")
    (case,) = image._measure_plain_encoder(predictor, sample_image((60, 90)), SMALL)
    assert (case.name, case.samples) == ("encode, plain modules", (8.0, 8.0))
    assert case.note == "interleaved with encode, which takes 0.25 of the time"
    assert torch.allclose(features[0], features[1], atol=1e-4)
    predictor.encode = EagerEncoder(predictor.model, None)
    assert image._measure_plain_encoder(predictor, sample_image((60, 90)), SMALL) == []


@pytest.mark.usefixtures("small")
def test_64_prompts_are_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    mask_counts: list[int] = []
    original = image.ImagePredictor.predict

    def predict(self: image.ImagePredictor, **options: object) -> image.ImagePredictor:
        found = original(self, **options)  # type: ignore[arg-type]
        mask_counts.append(found.masks.shape[0] * found.masks.shape[1])
        return found  # type: ignore[return-value]

    monkeypatch.setattr(image.ImagePredictor, "predict", predict)
    measure_image(SMALL)
    assert mask_counts[:6] == [3] * 3 + [64] * 3  # a warm-up round and two more of each; then work is counted


@pytest.mark.usefixtures("small")
def test_only_the_encoder_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda work: work)
    found = measure_image(ImageBenchmarkJob("small", repeats=1, sample_size=(60, 90), compiled=True))
    assert [case.name for case in found.cases if case.unit == "s"] == ["encode"]
    assert found.cases[0].setting == "fp32, compiled"


@pytest.mark.usefixtures("small")
def test_without_a_compiler_the_row_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(work: object) -> object:
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", refuse)
    (case,) = measure_image(ImageBenchmarkJob("small", sample_size=(60, 90), compiled=True)).cases
    assert (case.samples, case.note) == ((), "not here: RuntimeError: no C++ compiler")


def test_limits_are_rates() -> None:
    limits = measure_hardware_limits(side=32, megabytes=1, rounds=1)
    assert min(limits.fp32_gflops, limits.bf16_gflops, limits.copy_gbytes) > 0


def test_the_faster_of_two_products_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([4.0, 2.0, 3.0, 1.0])  # by PyTorch and by oneDNN in fp32, by PyTorch in bf16, copying
    monkeypatch.setattr(limits, "has_fused_operators", lambda weight: weight.dtype == torch.float32)
    monkeypatch.setattr(limits, "FusedLinear", lambda weight, bias, rows: lambda x: x)
    monkeypatch.setattr(limits, "_best_seconds", lambda work, device, rounds: next(took))
    found = measure_hardware_limits(side=1000, megabytes=1)
    assert (found.fp32_gflops, found.bf16_gflops) == (1.0, pytest.approx(2 / 3))


@pytest.mark.slow
def test_a_separate_process_answers(builtin_file: Path) -> None:
    job = ImageBenchmarkJob(
        str(builtin_file), repeats=1, points_per_side=2, threads=1, image_size=96, sample_size=(60, 90)
    )
    found = subprocess_runner.run_in_subprocess(job)
    assert [case.name for case in found.cases if case.unit == "s"] == CASES
    assert found.cases[0].work is not None


@pytest.mark.slow
def test_an_error_of_the_process_is_reported() -> None:
    with pytest.raises(ModelError, match="'sam7' is not a known model"):
        subprocess_runner.run_in_subprocess(ImageBenchmarkJob("sam7"))
    assert "sam7" in json.loads(subprocess_runner.answer_request('{"image": {"model": "sam7"}}'))["error"]


def test_a_killed_process_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess_runner.sys, "executable", "/bin/false")
    with pytest.raises(StateError, match="ended with 1"):
        subprocess_runner.run_in_subprocess(SMALL)
