"""Where the time of a frame goes when one object is followed: encode, track, remember, masks at full size, the rest.

    python scripts/bench_step.py                        the built-in model, a drawn film of 854 x 480, two threads
    python scripts/bench_step.py --frames 100 --threads 1 --model sam2.1_t.pt

The parts are those that every frame of a session carries (`speed`); the rest of a frame is reading, resizing and what
lies between. Figures are medians over the frames behind the first seven, when all memories are full. See
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from bench_image import machine

from masklet import SAM
from masklet.synth import DIFFICULTIES, Drawn
from masklet.synth.tree import store

SIZE = (480, 854)
WARM = 7
"""Frames until all memories are full."""
PARTS = {"encode": "encode", "track": "track", "remember": "remember", "postprocess": "masks at full size"}


def film_in(folder: Path, frames: int) -> tuple[Sequence[Path], Sequence[Path]]:
    """Pictures and label maps of a drawn scene whose first object stays in sight."""
    stored = store(folder, "film", DIFFICULTIES["small"](0, 0, SIZE, frames, Drawn()))
    return stored.frames, stored.masks


def milliseconds(model: SAM, pictures: Sequence[Path], mask: object) -> dict[str, list[float]]:
    """Of each part and of the whole, frame by frame."""
    found: dict[str, list[float]] = {name: [] for name in (*PARTS.values(), "all")}
    with model.session(list(pictures)) as session:
        session.add(1, frame=0, mask=mask)
        last = time.perf_counter()
        for results in session.propagate():
            now = time.perf_counter()
            found["all"].append(1e3 * (now - last))
            for key, name in PARTS.items():
                found[name].append(results.speed[key])
            last = now
    return {name: values[WARM:] for name, values in found.items()}


def main() -> None:
    from masklet.datasets.labels import read_labels

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name or a file; default: the built-in model")
    parser.add_argument("--frames", type=int, default=60, help="of the film; 8 at least")
    parser.add_argument("--threads", type=int, default=2)
    wanted = parser.parse_args()
    if wanted.frames <= WARM:
        parser.error(f"--frames {wanted.frames} leaves none to measure; {WARM} warm up: take more")
    torch.set_num_threads(wanted.threads)
    with TemporaryDirectory() as folder:
        pictures, maps = film_in(Path(folder), wanted.frames)
        found = milliseconds(SAM(wanted.model, device="cpu"), pictures, read_labels(maps[0]) == 1)
    parts = {name: median(values) for name, values in found.items()}
    whole = parts.pop("all")
    cells = {**parts, "rest (read, resize)": whole - sum(parts.values()), "all": whole}
    print(json.dumps(machine(wanted.threads)))
    print(f"{len(found['all'])} frames of {SIZE[1]} x {SIZE[0]}, one object; {1e3 / whole:.1f} frames a second")
    print("| " + " | ".join(cells) + " |\n|" + " --- |" * len(cells))
    print("| " + " | ".join(f"{value:.1f} ms" for value in cells.values()) + " |")


if __name__ == "__main__":
    main()
