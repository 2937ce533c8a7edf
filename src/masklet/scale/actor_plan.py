"""What each process of a Ray cluster gets: processors, a part of a GPU, memory, and items at a time."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from masklet.errors import InputError
from masklet.scale.items import Item
from masklet.scale.read_ahead import read_item
from masklet.scale.run_batch import StageFunction
from masklet.scale.stage_rows import InputColumns

__all__ = ["LARGEST_MEMORY", "ActorPlan", "MeasuredStage", "RayOptions", "measure_stage", "plan_actors"]

BLOCK_SECONDS = 30.0
"""How long a process works on what it is handed at once; Ray takes milliseconds to hand it over."""
MAX_BLOCK_ITEMS = 256
BLOCKS_PER_ACTOR = 4
"""At least, so that no process waits while another has many items."""
MEMORY_RESERVE = 1.3
MAX_ACTORS_PER_GPU = 8
LARGEST_MEMORY = "largest memory"
"""Key of a cluster's resources: bytes that the largest of its machines has, which no process can exceed."""


@dataclass(frozen=True)
class RayOptions:
    """What a run takes of a cluster; None is measured on the first item, or all there is.

    Args:
        address: Of the cluster, such as "auto" or ray://head:10001; None: RAY_ADDRESS, else a new one here.
        actors: Processes with a model, or the fewest and the most of them; None: as many as the cluster has room for.
        cpus: Processors of each.
        threads: Threads of PyTorch in each; None: its processors.
        gpus: GPUs of each, may be a fraction; None: none without GPUs, else what its memory needs.
        memory: Bytes that Ray reserves for each.
        block_items: Items that a process is handed at once.
        batch_size: Images that go into the stage together.
        max_crashes: How often an item may end the process that runs it alone, before it is a failed item.
        lease_s: Seconds after which the items of a machine that is gone are taken by another one.

    Raises:
        InputError: if a value is out of range.
    """

    address: str | None = None
    actors: int | tuple[int, int] | None = None
    cpus: float = 1
    threads: int | None = None
    gpus: float | None = None
    memory: int | None = None
    block_items: int | None = None
    batch_size: int = 1
    max_crashes: int = 3
    lease_s: float = 30.0

    def __post_init__(self) -> None:
        low, high = self.actor_range or (1, 1)
        if not 1 <= low <= high:
            raise InputError(f"actors={self.actors!r} must be 1 or more, or two such numbers: the fewest and the most")
        for name in ("cpus", "threads", "memory", "block_items", "batch_size", "max_crashes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{name}={value!r} must be above 0; leave it out for the default")
        if self.gpus is not None and self.gpus < 0:
            raise InputError(f"gpus={self.gpus!r} must be 0 or more; 0.25 lets four processes share one")

    @property
    def actor_range(self) -> tuple[int, int] | None:
        """The fewest and the most processes, if they are given."""
        return (self.actors, self.actors) if isinstance(self.actors, int) else self.actors


@dataclass(frozen=True)
class MeasuredStage:
    """What a stage took for one item, with its model open; memory in bytes, of the process at its peak."""

    seconds: float
    memory: int
    gpu_memory: int = 0
    gpu_total: int = 0


@dataclass(frozen=True)
class ActorPlan:
    """What every process of a run gets; `actors` are the fewest and the most."""

    actors: tuple[int, int]
    cpus: float
    gpus: float
    threads: int
    memory: int | None
    block_items: int


def measure_stage(stage: StageFunction, item: Item) -> MeasuredStage:
    """Run a stage twice on an image, and measure the second time, when its model is open."""
    import resource

    row: InputColumns = {"item": [item.name], "bytes": [None]}
    with suppress(InputError):  # a broken image is measured as one
        row = {"item": [item.name], "bytes": [read_item(item, Path()).content]}
    stage(row)
    start = time.perf_counter()
    stage(row)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return MeasuredStage(seconds, peak)
    return MeasuredStage(seconds, peak, torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[1])


def plan_actors(
    options: RayOptions, measured: MeasuredStage | None, cluster: Mapping[str, float], num_items: int
) -> ActorPlan:
    """Plan the processes of a run on a cluster of `CPU`, `GPU` and `memory` (bytes); options that are given are kept.

    Example:
        >>> measured = MeasuredStage(0.5, 2 << 30, gpu_memory=9 << 30, gpu_total=40 << 30)
        >>> plan = plan_actors(RayOptions(cpus=2), measured, {"CPU": 16, "GPU": 2, "memory": 64 << 30}, 10_000)
        >>> plan.actors, plan.gpus, plan.block_items
        ((1, 6), 0.333, 60)
    """
    cpus, num_gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    gpus, memory, block_items = options.gpus, options.memory, options.block_items
    if gpus is None:
        gpus = 1.0 if num_gpus else 0.0
        if measured is not None and num_gpus and measured.gpu_memory:
            sharing = int(measured.gpu_total / (measured.gpu_memory * MEMORY_RESERVE))
            gpus = math.floor(1000 / min(max(1, sharing), MAX_ACTORS_PER_GPU)) / 1000
    if memory is None and measured is not None:
        memory = int(min(measured.memory * MEMORY_RESERVE, cluster.get(LARGEST_MEMORY) or math.inf))
    rooms = [cpus / options.cpus]
    if gpus:
        rooms.append(num_gpus / gpus)
    if memory and "memory" in cluster:
        rooms.append(cluster["memory"] / memory)
    actors = options.actor_range or (1, max(1, int(min(rooms) + 1e-6)))
    if block_items is None:
        seconds = measured.seconds if measured is not None else 1.0
        shared = math.ceil(num_items / (actors[1] * BLOCKS_PER_ACTOR))
        block_items = max(1, min(round(BLOCK_SECONDS / max(seconds, 1e-3)), shared, MAX_BLOCK_ITEMS))
    return ActorPlan(actors, options.cpus, gpus, options.threads or max(1, int(options.cpus)), memory, block_items)
