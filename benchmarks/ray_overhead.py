"""Measure what Ray adds to a stage: seconds beside the plain loop, and the driver's memory over many rows.

    python benchmarks/ray_overhead.py --items 300 --seconds 0.2
    python benchmarks/ray_overhead.py --items 20000 --seconds 0 --actors 2

The stage sleeps, so that only what is around it is measured. Prints one line of JSON: `ray_s` has the start of Ray and
the measurement of the first item, `ray_s_from_first_item_to_last` has neither.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
from PIL import Image

from masklet.scale.batch_manifest import read_manifests
from masklet.scale.ray import RayOptions, run
from masklet.scale.stage_rows import StageInput, StageOutput
from masklet.scale.stages import Stage
from masklet.scale.storage import storage_of


@dataclass(frozen=True)
class SleepingStage(Stage):
    """Decode an image, and sleep."""

    seconds: float

    def process(self, rows: Sequence[StageInput]) -> list[StageOutput]:
        """See Stage."""
        outputs = []
        for row in rows:
            size = row.read_image().size
            time.sleep(self.seconds)
            outputs.append(StageOutput(row.name, size))
        return outputs


def resident_mb() -> float:
    """Return the memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    """Run the loop and the cluster, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--actors", type=int, default=1)
    options = parser.parse_args()
    ray.init(address="local", num_cpus=options.actors + 1, include_dashboard=False, log_to_driver=False)
    stage = SleepingStage(options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "images"
        source.mkdir()
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(source / "first.png")
        for number in range(options.items):
            (source / f"{number:06d}.png").hardlink_to(source / "first.png")
        (source / "first.png").unlink()
        paths = sorted(source.iterdir())

        began = time.monotonic()
        if options.seconds:
            for path in paths:
                stage({"item": [path.name], "path": [str(path)]})
        loop = time.monotonic() - began

        began, memory = time.monotonic(), list[float]()
        ray_options = RayOptions(actors=options.actors)
        for count, _ in enumerate(run(str(source), stage, Path(folder) / "out", ray_options), 1):
            if count % max(1, options.items // 10) == 0:
                memory.append(round(resident_mb(), 1))
        total = time.monotonic() - began
        out = str(Path(folder) / "out")
        times = sorted(row.at for row in read_manifests(storage_of(out), out))
    print(
        json.dumps(
            {
                "items": options.items,
                "loop_s": round(loop, 2),
                "ray_s": round(total, 2),
                "ray_s_from_first_item_to_last": round(times[-1] - times[0] + options.seconds, 2),
                "driver_mb": memory,
            }
        )
    )


if __name__ == "__main__":
    main()
