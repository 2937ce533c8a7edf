"""Train the built-in model stage by stage, measure each stage, and keep it only if its figures are better.

    python scripts/builtin_train.py DATA RUNS --davis DAVIS                  # the stages after the shipped file
    python scripts/builtin_train.py DATA RUNS --davis DAVIS --from-scratch   # all stages, from an ImageNet-style trunk
    python scripts/builtin_train.py DATA RUNS --stages builtin_prior         # these stages

DATA is the folder that `scripts/builtin_data.py` makes. Each stage is a recipe of `masklet/train/recipes.py` that
starts from the best stage before it. Stopped, the same command resumes. RUNS/figures.json has the figures of every
stage, and RUNS/best.safetensors is the best model so far.

A stage is taken if the mean of its figures rises and none of them falls by more than `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from masklet.atomic_files import write_text
from masklet.train.recipes import FREEZE_PREFIXES, RECIPES

FROM_SCRATCH = ("builtin", "builtin_video", "builtin_more", "builtin_both", "builtin_images", "builtin_prior")
AFTER_SHIPPED = ("builtin_images", "builtin_both", "builtin_prior")
TOLERANCE = 0.005
"""Largest fall of one figure in a stage that is taken."""


def run_masklet(*arguments: object) -> None:
    """Run a `masklet` command; its output is that of this script."""
    subprocess.run([sys.executable, "-m", "masklet", *map(str, arguments)], check=True)


def train_stage(recipe: str, start: str, data: Path, folder: Path, rest: list[str]) -> Path:
    """Train `recipe` from `start` (empty: from nothing) in `folder`; return the weights.

    The projection of label matching is fitted again if the trunk learned.
    """
    result = folder / "model.safetensors"
    if not result.exists():
        overrides = ["--override", f"pretrained={start}"] if start else []
        run_masklet("train", "--data", data, "--out", folder, "--recipe", recipe, *overrides, *rest)
        if RECIPES[recipe]().lr_multiplier(FREEZE_PREFIXES["encoder"][0]) > 0:
            script = Path(__file__).parent / "fit_matching.py"
            subprocess.run([sys.executable, str(script), str(data / "COCO" / "images"), str(result)], check=True)
    return result


def measure(model: str, data: Path, davis: Path | None, folder: Path) -> dict[str, float]:
    """Return the figures that decide, 0 to 1: held-out images by prompt, synthetic videos, DAVIS."""
    folder.mkdir(parents=True, exist_ok=True)
    images, synthetic, sequences = (folder / f"{name}.json" for name in ("images", "synthetic", "davis"))
    run_masklet("eval", "images", data / "heldout", "--model", model, "--report", images)
    run_masklet("eval", "synthetic", "--model", model, "--report", synthetic)
    total = json.loads(images.read_text(encoding="utf-8"))["total"]
    figures = {name: total[name] for name in ("box", "click", "click_best", "clicks_5")}
    figures["synthetic"] = json.loads(synthetic.read_text(encoding="utf-8"))["mean_metrics"]["jf"]
    if davis is not None:
        run_masklet("eval", "vos", "--root", davis, "--model", model, "--report", sequences)
        figures["davis"] = json.loads(sequences.read_text(encoding="utf-8"))["total"]["jf"]
    return figures


def is_better(after: dict[str, float], before: dict[str, float]) -> bool:
    """Tell whether the mean rose and no figure fell by more than the tolerance."""
    changes = [after[name] - before[name] for name in before]
    return sum(changes) > 0 and min(changes) >= -TOLERANCE


def main() -> None:
    """Read the arguments and run the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--davis", type=Path, help="DAVIS in the owners' layout, for figures only")
    parser.add_argument("--from-scratch", action="store_true", help="all stages, not those after the shipped file")
    parser.add_argument("--stages", nargs="+", choices=RECIPES, help="these stages, in this order")
    parser.add_argument("--start", default="", help="weights to start from; default: the shipped file")
    arguments, rest = parser.parse_known_args()
    stages = arguments.stages or (FROM_SCRATCH if arguments.from_scratch else AFTER_SHIPPED)
    best = "" if arguments.from_scratch else arguments.start or "builtin"
    record = arguments.runs / "figures.json"
    table: dict[str, dict[str, float]] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    if best and "start" not in table:
        table["start"] = measure(best, arguments.data, arguments.davis, arguments.runs / "start")
    before = table.get("start")
    for number, recipe in enumerate(stages, 1):
        name = f"{number}_{recipe}"
        folder = arguments.runs / name
        weights = train_stage(recipe, best, arguments.data, folder, rest)
        if name not in table:
            table[name] = measure(str(weights), arguments.data, arguments.davis, folder / "figures")
            write_text(record, json.dumps(table, indent=2) + "\n")
        if before is None or is_better(table[name], before):
            best, before = str(weights), table[name]
            shutil.copyfile(weights, arguments.runs / "best.safetensors")
        print(f"{name}: {'taken' if best == str(weights) else 'not taken'}", table[name])


if __name__ == "__main__":
    main()
