"""Less memory attention for less time, as options: pooled memories, fewer of them, fewer pointers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.networks import CONVNET, HIERA, PLAIN_VIT, REPVIT, Trunk, random_image, small_network
from masklet import SAM
from masklet.benchmark import video as video_benchmark
from masklet.benchmark.video import VideoBenchmarkJob
from masklet.errors import InputError
from masklet.models.fast_cpu.memory_attention import FastMemoryAttention
from masklet.models.sam2 import SAM2
from masklet.models.types import MemoryContext


def conditioned(network: SAM2, memories: int, *, fast: bool = True) -> torch.Tensor:
    """The features of a frame conditioned on noise."""
    generator = torch.Generator().manual_seed(3)
    features = network.encode_image(random_image())
    spatial = tuple(torch.randn(1, 16, 4, 4, generator=generator) for _ in range(memories))
    pointers = tuple(torch.randn(1, 32, generator=generator) for _ in range(memories))
    context = MemoryContext(spatial, tuple(range(memories)), pointers, tuple(range(1, memories + 1)))
    condition = FastMemoryAttention(network) if fast else network.condition_on_memory
    return condition(features, context).embed_BCHW


@torch.inference_mode()
@pytest.mark.parametrize("trunk", [HIERA, CONVNET, PLAIN_VIT])
def test_pooled_memories_are_nearly_the_whole_ones(trunk: Trunk) -> None:
    network = small_network(trunk).eval()
    exact, single = conditioned(network, 5), conditioned(network, 1)
    network.pool_memories()
    pooled = conditioned(network, 5)
    torch.testing.assert_close(pooled, conditioned(network, 5, fast=False), atol=1e-4, rtol=1e-4)
    assert 0 < float((pooled - exact).abs().mean()) < 0.2 * float(exact.abs().mean())
    torch.testing.assert_close(conditioned(network, 1), single)  # a frame has as many tokens as one memory


def test_memories_that_are_no_maps_are_not_pooled() -> None:
    with pytest.raises(InputError, match="compresses its memories already: leave it out"):
        small_network(REPVIT).pool_memories()


def test_a_model_with_pooled_memories_tracks_other_masks(tracking_file: Path, small_video: np.ndarray) -> None:
    scores = []
    for pooling in (1, 2):
        model = SAM(tracking_file, precision="fp32", memory_pooling=pooling)
        network = model.predictor.model
        network.image_size, network.video_pixels, network.edge_radius = 96, 96**2, None
        frames = list(model.track(small_video, points=[20, 25]))
        assert len(frames) == len(small_video)
        scores.append([float(frame.object_scores[0]) for frame in frames])
    assert scores[0][:2] == scores[1][:2]  # nothing to pool yet
    assert scores[0][2:] != scores[1][2:]


@pytest.mark.parametrize("wrong", [0, 3, True, "2", None])
def test_other_poolings_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="must be 1, as the model was trained, or 2"):
        SAM(memory_pooling=wrong)


@pytest.mark.slow
def test_a_benchmark_names_what_it_changed(tracker: SAM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_benchmark, "SAM", lambda *_, **__: tracker)
    job = VideoBenchmarkJob("small", frames=1, frame_size=(48, 64), precision="fp32")
    few = VideoBenchmarkJob(
        "small", frames=1, frame_size=(48, 64), precision="fp32", memories=2, pointers=3, memory_pooling=2
    )
    cases = [video_benchmark.measure_video(one).cases[0] for one in (job, few)]
    assert [case.setting for case in cases] == [
        f"1 object, {tracker.video_precision}",
        f"1 object, {tracker.video_precision}, 2 memories, 3 pointers, pooled memories",
    ]
    assert cases[0].work is not None
    assert cases[1].work is not None
    assert cases[1].work.flops < cases[0].work.flops
