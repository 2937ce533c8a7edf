"""Everything in a picture: time and agreement beside facebookresearch/sam2's automatic mask generator.

    python scripts/bench_everything.py --peer-python PEER/bin/python --out everything.json

Both are processes of their own with the same threads, picture, weights file and options, and take turns. The weights
follow from the names of tensors alone (tests/golden/fill.py): masks mean nothing, but both must find the same ones.
Processor time is compared beside the clock's, because it says the same on a machine that is busy. See
docs/everything.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from masklet.masks import rle
from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.weights import shapes_of

ROOT = Path(__file__).resolve().parent.parent
WORKERS = ROOT / "scripts" / "bench_workers"
MODEL = "sam2.1_hiera_tiny"
CASES = {
    "thresholds": {"pred_iou_thresh": 0.45, "stability_score_thresh": 0.85},
    "small": {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.3, "mask_threshold": 25.0},
    "all": {"pred_iou_thresh": 0.4, "stability_score_thresh": 0.88, "box_nms_thresh": 1.0},
    "crops": {
        "pred_iou_thresh": 0.3,
        "stability_score_thresh": 0.2,
        "mask_threshold": 20.0,
        "crop_n_layers": 1,
        "crop_n_points_downscale_factor": 2,
    },
    "second pass": {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.7, "use_m2m": True, "box_nms_thresh": 1.0},
}
"""Options beside the grid. Scores of such weights are lower than those of trained ones, so thresholds are, too:
`thresholds` lets about as many masks through as a trained network does, of which nearly all overlap; `small` takes the
peaks of the maps, so that many masks stay; `all` drops none that overlap."""
SAME = 0.95


@dataclass
class Row:
    """One case: seconds of each turn, and how far both agree."""

    case: str
    options: dict
    ours_wall_s: list[float] = field(default_factory=list)
    ours_cpu_s: list[float] = field(default_factory=list)
    peer_wall_s: list[float] = field(default_factory=list)
    peer_cpu_s: list[float] = field(default_factory=list)
    ours_masks: int = 0
    peer_masks: int = 0
    ratio_wall: float | None = None
    ratio_cpu: float | None = None
    ours_in_peer: float | None = None
    """Share of our masks with one of the peer's at an IoU above 0.95."""
    peer_in_ours: float | None = None
    mean_iou: float | None = None
    """Of the peer's masks with the best of ours."""


class Worker:
    """A process that answers one case at a time."""

    def __init__(self, python: str, script: str, job: Path, threads: int) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [python, str(WORKERS / script), str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )
        self.hello = self._answer()

    def do(self, options: dict, keep: Path | None = None) -> dict:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"options": options, "keep": str(keep) if keep else ""}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=60)

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args} ended with code {self.process.wait()}")
        return json.loads(line)


def weights(path: Path) -> None:
    spec = importlib.util.spec_from_file_location("fill", ROOT / "tests" / "golden" / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.save({"model": module.fill_state_dict(shapes_of(CONFIGS[MODEL]))}, path)


def drawn_picture(path: Path) -> None:
    """Discs and boxes on a gradient, 640 x 480."""
    rows, columns = np.mgrid[:480, :640]
    rgb = np.stack([rows // 2, columns // 3, (rows + columns) // 5], axis=2).astype(np.uint8)
    for i in range(24):
        x, y, r = (i * 97) % 640, (i * 61) % 480, 12 + (i * 7) % 40
        inside = (columns - x) ** 2 + (rows - y) ** 2 < r * r if i % 2 else (abs(columns - x) < r) & (abs(rows - y) < r)
        rgb[inside] = ((i * 53) % 256, (i * 101) % 256, (i * 151) % 256)
    Image.fromarray(rgb).save(path)


def agreement(row: Row, ours: list[dict], peer: list[dict]) -> None:
    row.ours_masks, row.peer_masks = len(ours), len(peer)
    if not ours or not peer:
        return
    a, b = (np.stack([rle.decode(found["runs"]).ravel() for found in each]).astype(np.float32) for each in (ours, peer))
    shared = a @ b.T
    iou = shared / np.maximum(a.sum(1)[:, None] + b.sum(1) - shared, 1)
    row.ours_in_peer, row.peer_in_ours = float((iou.max(1) > SAME).mean()), float((iou.max(0) > SAME).mean())
    row.mean_iou = float(iou.max(0).mean())


def measure(args: argparse.Namespace, folder: Path) -> dict:
    job = {"model": MODEL, "weights": str(folder / "w.pt"), "image_size": args.image_size}
    job["picture"] = args.picture or str(folder / "picture.png")
    weights(folder / "w.pt")
    if not args.picture:
        drawn_picture(folder / "picture.png")
    (folder / "job.json").write_text(json.dumps(job))
    ours = Worker(sys.executable, "masklet_everything.py", folder / "job.json", args.threads)
    peer = (
        Worker(args.peer_python, "sam2_everything.py", folder / "job.json", args.threads) if args.peer_python else None
    )
    rows = []
    for name in args.cases:
        row = Row(name, {"points_per_side": args.points_per_side, **CASES[name]})
        for turn in range(args.turns):
            for side, worker in (("ours", ours), ("peer", peer)):
                if worker is None:
                    continue
                answer = worker.do(row.options, folder / f"{side}.json" if turn == 0 else None)
                getattr(row, f"{side}_wall_s").append(answer["wall_s"])
                getattr(row, f"{side}_cpu_s").append(answer["cpu_s"])
        if peer is not None:
            agreement(row, *(json.loads((folder / f"{side}.json").read_text()) for side in ("ours", "peer")))
            row.ratio_wall = median(row.peer_wall_s) / median(row.ours_wall_s)
            row.ratio_cpu = median(row.peer_cpu_s) / median(row.ours_cpu_s)
        rows.append(row)
        say(row)
    for worker in (ours, peer):
        if worker is not None:
            worker.close()
    height, width = np.asarray(Image.open(job["picture"])).shape[:2]
    return {
        "date": date.today().isoformat(),
        "command": " ".join(["python", "scripts/bench_everything.py", *sys.argv[1:]]),
        "processor": processor(),
        "load": os.getloadavg()[0],
        "threads": args.threads,
        "commit": commit(),
        "model": MODEL,
        "image_size": args.image_size,
        "picture": [width, height],
        "ours": ours.hello,
        "peer": peer.hello if peer else None,
        "rows": [asdict(row) for row in rows],
    }


def say(row: Row) -> None:
    line = f"{row.case:12} ours {median(row.ours_wall_s):.2f} s (cpu {median(row.ours_cpu_s):.2f})"
    if row.ratio_cpu is not None:
        line += (
            f", sam2 {median(row.peer_wall_s):.2f} s (cpu {median(row.peer_cpu_s):.2f}): x{row.ratio_wall:.1f} by the "
            f"clock, x{row.ratio_cpu:.1f} of processor; masks {row.ours_masks} and {row.peer_masks}"
        )
    if row.mean_iou is not None:
        line += f", alike {row.ours_in_peer:.1%} and {row.peer_in_ours:.1%}, mean IoU {row.mean_iou:.4f}"
    print(line, flush=True)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str:
    got = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return got.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="interpreter of an environment that has sam2")
    parser.add_argument("--picture", help="a picture; else one is drawn")
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--points-per-side", type=int, default=16)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["thresholds", "small", "all"])
    parser.add_argument("--out", type=Path, help="JSON with all figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, Path(folder))
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
