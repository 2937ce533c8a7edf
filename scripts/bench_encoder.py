"""One forward pass of the built-in model's image encoder at its native resolution, plain and as it is used.

    python scripts/bench_encoder.py [--threads 2] [--repeats 50]

The two take turns, ten passes at a time, so that a machine that changes its pace changes it for both.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from masklet import SAM
from masklet.models.sam2.inference import FastEncoder


def milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--model", help="a name or a file; default: the built-in model")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    network = SAM(wanted.model, device="cpu").predictor.model
    pixels = torch.randn(1, 3, network.image_size, network.image_size)
    fast = FastEncoder(network)
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: network.encode_image(pixels),
        "as used": lambda: fast(pixels),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in range(max(wanted.repeats // 10, 1)):
            for name, run in ways.items():
                for _ in range(3):
                    run()
                times[name] += [milliseconds(run) for _ in range(10)]
    print(
        f"{network.image_size} x {network.image_size}, {wanted.threads} threads, torch {torch.__version__}, "
        f"{platform.machine()}"
    )
    for name, found in times.items():
        print(f"{name:<8} median {statistics.median(found):6.1f} ms   lowest {min(found):6.1f} ms")


if __name__ == "__main__":
    main()
