"""What each process of a cluster gets, from what an item took and what the cluster has."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cheap_stages import BrightPixels, make_images
from masklet.errors import InputError
from masklet.scale.actor_plan import LARGEST_MEMORY, MeasuredStage, RayOptions, measure_stage, plan_actors
from masklet.scale.items import Item, ItemSource

GB = 1 << 30
CPU = {"CPU": 16.0, "memory": 64.0 * GB}


def test_memory_bounds_the_processes() -> None:
    assert plan_actors(RayOptions(), MeasuredStage(1.0, 1 * GB), CPU, 10_000).actors == (1, 16)
    assert plan_actors(RayOptions(), MeasuredStage(1.0, 10 * GB), CPU, 10_000).actors == (1, 4)


def test_a_process_never_reserves_more_than_a_machine_has() -> None:
    plan = plan_actors(RayOptions(), MeasuredStage(1.0, 40 * GB), {**CPU, LARGEST_MEMORY: 32.0 * GB}, 100)
    assert plan.memory == 32 * GB


@pytest.mark.parametrize(("gpu_memory", "expected"), [(3, 0.125), (20, 0.333), (70, 1.0), (90, 1.0)])
def test_a_gpu_is_shared_by_what_fits_it(gpu_memory: int, expected: float) -> None:
    measured = MeasuredStage(1.0, GB, gpu_memory * GB, 80 * GB)
    plan = plan_actors(RayOptions(), measured, {**CPU, "GPU": 2.0}, 10_000)
    assert plan.gpus == expected
    assert plan.actors[1] == min(16, int(2 / expected + 1e-6))


@pytest.mark.parametrize(("seconds", "items", "expected"), [(0.0, 10_000, 157), (0.5, 10_000, 60), (100, 99, 1)])
def test_blocks_are_half_a_minute_and_leave_work_for_all(seconds: float, items: int, expected: int) -> None:
    assert plan_actors(RayOptions(), MeasuredStage(seconds, GB), CPU, items).block_items == expected


def test_what_is_given_is_kept() -> None:
    options = RayOptions(actors=(2, 5), cpus=4, threads=2, gpus=0.25, memory=GB, block_items=7)
    plan = plan_actors(options, MeasuredStage(1.0, 9 * GB, GB, 80 * GB), {**CPU, "GPU": 1.0}, 100)
    assert (plan.actors, plan.cpus, plan.threads, plan.gpus) == ((2, 5), 4, 2, 0.25)
    assert (plan.memory, plan.block_items) == (GB, 7)


def test_a_stage_is_measured_with_the_model_open(tmp_path: Path) -> None:
    [item] = ItemSource([make_images(tmp_path / "in", 1)])
    measured = measure_stage(BrightPixels(seconds=0.05), item)
    assert 0.05 <= measured.seconds < 1
    assert measured.memory > 10 << 20
    broken = measure_stage(BrightPixels(), Item("gone.png", str(tmp_path / "gone.png")))
    assert broken.seconds < 1


@pytest.mark.parametrize("options", [{"actors": 0}, {"actors": (3, 2)}, {"cpus": 0}, {"gpus": -1}, {"batch_size": 0}])
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="must be"):
        RayOptions(**options)
